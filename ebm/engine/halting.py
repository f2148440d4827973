"""Stop rules that ask a learned halting head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm.engine.stop import Look, Stop

__all__ = ["Halts", "HaltsByChance", "HaltsBySum"]


@dataclass(frozen=True)
class Halts(Stop):
    r"""Done when the halting head is sure now: :math:`\sigma(\text{halt}) \ge` threshold.

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
    reads: ClassVar[bool] = True
    threshold_name: ClassVar[str | None] = "threshold"
    larger_is_stricter: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        return self.strictest(look) >= self.threshold, None

    def strictest(self, look: Look) -> Tensor:
        return _chance(self, look)


@dataclass(frozen=True)
class HaltsBySum(Stop):
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
    reads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)

    def init(self, look: Look) -> Tensor:
        return torch.zeros_like(look.residual, dtype=torch.float32)

    def check(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        if look.previous is None:  # the start is no step
            return torch.zeros_like(memory, dtype=torch.bool), memory
        memory = memory + _chance(self, look)
        return memory >= self.threshold, memory


@dataclass(frozen=True)
class HaltsByChance(Stop):
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
    reads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)

    def init(self, look: Look) -> Tensor:
        return torch.ones_like(look.residual, dtype=torch.float32)

    def check(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        if look.previous is None:  # the start is no step
            return torch.zeros_like(memory, dtype=torch.bool), memory
        memory = memory * (1 - _chance(self, look))
        return 1 - memory >= self.threshold, memory


def _chance(rule: Stop, look: Look) -> Tensor:
    """The probability of halting now, (B,)."""
    halt = getattr(look.answer, "halt", None)
    if isinstance(halt, Tensor):
        return halt.detach().float().sigmoid()
    raise ValueError(
        f"`{type(rule).__name__}` asks the halting head of `ebm.Halting(model, head)`; got a model whose read-out is "
        f"{type(look.answer).__name__}. Wrap the model, or use `AtRest`."
    )


def _check(rule: Halts | HaltsBySum | HaltsByChance) -> None:
    if not 0 < rule.threshold <= 1:
        raise ValueError(f"`{type(rule).__name__}(threshold=...)` must lie in (0, 1]; got {rule.threshold}. Try 0.9.")
