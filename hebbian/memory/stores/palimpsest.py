"""A palimpsest: new patterns are written over old ones, which fade."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hebbian import checks
from hebbian.memory.stores.base import Store

__all__ = ["Palimpsest"]


@dataclass(frozen=True)
class Palimpsest(Store):
    r"""A memory that is never full: the latest patterns are held, the oldest are lost.

    $$W_{ij} \leftarrow \mathrm{clip}\big( (1 - \lambda) \, W_{ij} + \tfrac{g}{N} \xi_i \xi_j, \, -A, A \big)$$

    pattern by pattern. Hebb's rule, filled beyond its capacity, loses everything at once; fading ($\lambda > 0$) or bounded ($A$)
    weights lose what is old. About $0.05 N$ of the latest random patterns can be recalled at the best settings, which are near
    $\lambda = 6 / N$, or a bound of $0.35 \, g / \sqrt N$.

    Args:
        decay: $\lambda$, from 0 to 1.
        bound: $A$, above 0; infinite for none.
        strength: $g$, above 0.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range, or neither a decay nor a bound, which is `HebbStore`.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import HopfieldMemory, Palimpsest
        >>> patterns = torch.randn(500, 100, generator=torch.Generator().manual_seed(0)).sign()
        >>> memory = HopfieldMemory(100, Palimpsest(decay=0.06))
        >>> memory.add(patterns)
        >>> bool((ebm.infer(memory, patterns[-1:]).answer == patterns[-1:]).all())
        True

    Source:
        Parisi (1986), A memory which forgets, J. Physics A 19, for bounds; Mezard, Nadal and Toulouse (1986), Solvable models of working
        memories, J. Physique 47, for fading.
    """

    decay: float = 0.0
    bound: float = math.inf
    strength: float = 1.0
    fills: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.part(self, "decay", self.decay)
        if self.bound != math.inf:
            checks.positive(self, "bound", self.bound)
        checks.positive(self, "strength", self.strength)
        if not self.decay and self.bound == math.inf:
            raise ValueError(
                "`Palimpsest()` with neither `decay` nor `bound` never forgets; give one of them, or use `HebbStore()`."
            )

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """Each pattern in turn; without a bound all at once, the older the fainter."""
        size = patterns.shape[1]
        if self.bound == math.inf:
            age = patterns.new_tensor(range(len(patterns) - 1, -1, -1))
            fresh = ((1 - self.decay) ** age)[:, None] * patterns
            kept = (1 - self.decay) ** len(patterns) * weight
            return (kept + self.strength * fresh.T @ patterns / size).fill_diagonal_(0)
        for pattern in patterns.unbind(0):
            written = (1 - self.decay) * weight + self.strength * pattern[:, None] * pattern / size
            weight = written.clamp(-self.bound, self.bound)
        return weight.clone().fill_diagonal_(0)
