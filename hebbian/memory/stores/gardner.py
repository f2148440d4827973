"""Storing by perceptrons: every unit learns to answer each pattern with room to spare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.memory.stores.base import Store

__all__ = ["Gardner"]


@dataclass(frozen=True)
class Gardner(Store):
    r"""Shows all patterns until each holds every unit in place by a margin.

    $$\Delta W_{ij} = \tfrac1N \sum_\mu (\epsilon_i^\mu + \epsilon_j^\mu) \, \xi_i^\mu \xi_j^\mu, \qquad
      \epsilon_i^\mu = 1 \text{ where } \xi_i^\mu (W \xi^\mu)_i \le \kappa \, |w_i|, \text{ else } 0$$

    A perceptron a unit, all units and patterns at once, with couplings that stay symmetric, so that recall has an
    energy. With a margin above zero patterns have basins. In theory random ones can be stored up to a load of 2 as $\kappa \to 0$, and of
    0.5 at $\kappa = 1$; how many sweeps that takes grows without bound towards these limits. With 60 and 150 units and no margin a load of 1.5 was
    reached in 5 of 6 memories, and 1.8 in none of 6 within 12,000 to 30,000 sweeps.

    Args:
        margin: $\kappa$, at least 0, in units of the length of a unit's weights.
        sweeps: over the patterns, at most; at least 1.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.
        RuntimeError: from `HopfieldMemory.add`, the margin is not reached within the sweeps; the memory is left as it was.

    Example:
        >>> import torch
        >>> from hebbian.memory import Gardner, HopfieldMemory
        >>> patterns = torch.tensor([[1.0, 1, 1, -1, -1, -1], [1.0, -1, 1, -1, 1, -1]])
        >>> memory = HopfieldMemory(6, Gardner(margin=0.5))
        >>> memory.add(patterns)
        >>> margins = patterns * (patterns @ memory.weight) / memory.weight.norm(dim=1)
        >>> bool((margins > 0.5).all())
        True

    Source:
        Diederich and Opper (1987), Learning of correlated patterns in spin-glass networks by local learning rules, Physical
        Review Letters 58; Gardner (1988), The space of interactions in neural network models, J. Physics A 21, for margins over the length
        of the weights and for symmetric couplings. There one pattern at a time; here all that fall short at once.
    """

    margin: float = 0.5
    sweeps: int = 1_000
    keeps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "margin", self.margin, low=0)
        checks.whole(self, "sweeps", self.sweeps, 1)

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """Learn the old and the new patterns together, from the weight as it is."""
        shown = torch.cat([held, patterns])
        for _ in range(self.sweeps):
            short = (shown * (shown @ weight) <= self.margin * weight.norm(dim=1)).to(weight.dtype)
            if not bool(short.any()):
                return weight
            change = (short * shown).T @ shown / shown.shape[1]
            weight = (weight + change + change.T).fill_diagonal_(0)
        worst = float((shown * (shown @ weight) / weight.norm(dim=1)).amin())
        raise RuntimeError(
            f"`Gardner(margin={self.margin})` did not reach its margin for {len(shown)} patterns in {self.sweeps} sweeps: the smallest is "
            f"{worst:.3g}. Store fewer patterns, ask for a smaller margin, or allow more sweeps. The memory is as it was."
        )
