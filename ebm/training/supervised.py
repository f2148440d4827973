"""The door by which models that are not settled train like those that are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Supervised"]


@dataclass(frozen=True)
class Supervised:
    r"""The loss of one pass, :math:`L = \ell(\text{model}(x), y)`, for a feed-forward baseline beside a settled model.

    Args:
        loss: ``loss(answer, y)``, a scalar: the task's own, say.

    Raises:
        TypeError: ``loss`` cannot be called.

    Example:
        >>> import torch
        >>> from ebm.tasks import PrefixSums
        >>> from ebm.training import Recipe, Supervised, train
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Conv1d(1, 2, 5, padding=2)
        >>> train(net, Supervised(PrefixSums(8).loss), PrefixSums(8), Recipe(updates=5)).history[-1].update
        5
    """

    loss: Callable[[Any, Any], Tensor]

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise TypeError(
                f"`Supervised(loss)` must be callable as loss(answer, y); got {type(self.loss).__name__}. Pass `task.loss`, say."
            )

    def __call__(self, model: nn.Module, x: Any, y: Any, generator: torch.Generator) -> Tensor:
        """The loss of one batch, a scalar; nothing is drawn from the generator."""
        return self.loss(model(x), y)
