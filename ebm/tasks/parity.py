"""Parity of the positive signs among zeros: how many steps it takes depends on the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, constant, linear, whole

__all__ = ["Parity"]


@dataclass(frozen=True)
class Parity(Task):
    r"""A vector of zeros and signs: is the number of plus ones odd?

    The number of non-zeros is :math:`m \sim U\{\text{least}, \ldots, \text{most}\}`, their places and signs are fair.
    ``x`` is (B, 1, length), ``y`` is (B,), int64 in {0, 1}; an answer is (B, 2), the scores of the two classes.

    Training on few non-zeros and testing on many asks for more steps of the same computation.

    Args:
        length: places, at least 1.
        least: the fewest non-zeros, at least 1.
        most: the most non-zeros; None: all places.

    Raises:
        TypeError: a setting that is no whole number.
        ValueError: unless 1 <= least <= most <= length.

    Example:
        >>> import torch
        >>> from ebm.tasks import Parity
        >>> x, y = Parity(length=6).sample(1, torch.Generator().manual_seed(5))
        >>> x[0, 0].int().tolist(), int(y[0])
        ([1, -1, -1, 1, -1, 1], 1)

    Source: Banino et al. (2021), PonderNet: learning to ponder, the parity task of Graves (2016); there with 64 or 96 places.
    """

    metric: ClassVar[str] = "accuracy"

    length: int = 64
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        whole(self, "length", 1)
        whole(self, "least", 1, self.length)
        if self.most is not None:
            whole(self, "most", self.least, self.length)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Vectors and the parity of their plus ones."""
        device = generator.device
        most = self.length if self.most is None else self.most
        nonzeros = torch.randint(self.least, most + 1, (count, 1), generator=generator, device=device)
        rank = torch.rand(count, self.length, generator=generator, device=device).argsort(1).argsort(1)
        signs = 2 * torch.randint(2, (count, self.length), generator=generator, device=device) - 1
        x = signs * (rank < nonzeros)
        return Problems(x[:, None].float(), (x == 1).sum(1) % 2)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(answer, y)

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One where the class is right, else zero."""
        return (answer.argmax(1) == y).to(answer.dtype)

    def baselines(self) -> tuple[Baseline, ...]:
        """The commoner class; the best linear predictor of the class."""
        signed = linear(lambda y: 2.0 * y[:, None] - 1, lambda flat, x: torch.cat([-flat, flat], dim=1))
        return (constant("the commoner answer", _commoner), signed)


def _commoner(train: Problems) -> Tensor:
    share = train.y.float().mean()
    return torch.stack([1 - share, share])
