"""Stop rules that ask a learned halting head."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm.engine.stop import Look, Stop

__all__ = ["Halts", "HaltsByChance", "HaltsBySum"]


class _Asking(Stop):
    """What the rules share: a level, read off the halting head, against a threshold in (0, 1]."""

    threshold: float
    reads: ClassVar[bool] = True
    threshold_name: ClassVar[str | None] = "threshold"
    larger_is_stricter: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"`{type(self).__name__}(threshold=...)` must lie in (0, 1]; got {self.threshold}. Try 0.9."
            )

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        level, memory = self.followed(look, memory)
        return level >= self.threshold, memory


class _Adding(_Asking):
    """A rule whose level adds up over steps; the start is no step, and leaves the memory as it is."""

    def followed(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.full_like(memory, -torch.inf), memory) if look.previous is None else self._added(look, memory)

    @abstractmethod
    def _added(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The level after a step, and the next memory."""


@dataclass(frozen=True)
class Halts(_Asking):
    r"""Done when the halting head is sure now: :math:`\sigma(\text{halt}) \ge` threshold.

    The look before the first step is left aside: no loss teaches the head there.

    Args:
        threshold: in (0, 1].

    Raises:
        ValueError: a threshold outside (0, 1]; at the call, a model without a halting head.

    Example:
        >>> import ebm
        >>> ebm.Halts(0.9)
        Halts(threshold=0.9)

    Source: the Q-head of Wang et al. (2025), Hierarchical reasoning model, read as the probability that the answer is right.
    """

    threshold: float = 0.5

    def strictest(self, look: Look) -> Tensor:
        chance = _chance(self, look)
        return torch.full_like(chance, -torch.inf) if look.previous is None else chance


@dataclass(frozen=True)
class HaltsBySum(_Adding):
    r"""Done when the halting probabilities of the steps so far add up: :math:`\sum_{s \le t} \sigma(\text{halt}_s) \ge` threshold.

    Args:
        threshold: in (0, 1]; one minus the small constant of the paper.

    Raises:
        ValueError: a threshold outside (0, 1]; at the call, a model without a halting head.

    Example:
        >>> import ebm
        >>> ebm.HaltsBySum()
        HaltsBySum(threshold=0.99)

    Source: Graves (2016), Adaptive computation time for recurrent neural networks, eq. 5-6.
    """

    threshold: float = 0.99

    def init(self, look: Look) -> Tensor:
        return torch.zeros_like(_chance(self, look))

    def _added(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        total = memory + _chance(self, look)
        return total.clamp(max=1), total


@dataclass(frozen=True)
class HaltsByChance(_Adding):
    r"""Done when a sample that halts by lot at each step would have: :math:`1 - \prod_{s \le t} (1 - \sigma(\text{halt}_s)) \ge` threshold.

    At one half this is the median of the steps that drawing lots would take; nothing is drawn.

    Args:
        threshold: in (0, 1].

    Raises:
        ValueError: a threshold outside (0, 1]; at the call, a model without a halting head.

    Example:
        >>> import ebm
        >>> ebm.HaltsByChance(0.5)
        HaltsByChance(threshold=0.5)

    Source: Banino et al. (2021), PonderNet: learning to ponder, section 2.1, where lots are drawn.
    """

    threshold: float = 0.5

    def init(self, look: Look) -> Tensor:
        return torch.ones_like(_chance(self, look))

    def _added(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        going = memory * (1 - _chance(self, look))
        return 1 - going, going


def _chance(rule: Stop, look: Look) -> Tensor:
    """The probability of halting now, (B,)."""
    halt = getattr(look.answer, "halt", None)
    if isinstance(halt, Tensor):
        return halt.detach().float().sigmoid()
    raise ValueError(
        f"`{type(rule).__name__}` asks the halting head of `ebm.Halting(model, head)`; got a model whose read-out is "
        f"{type(look.answer).__name__}. Wrap the model, or use `AtRest`."
    )
