"""The pseudo-inverse rule: the projection onto the span of the patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.memory.stores.base import Store

__all__ = ["PseudoInverse"]


@dataclass(frozen=True)
class PseudoInverse(Store):
    r"""Every linearly independent set of up to $N$ patterns is a fixed point, however they correlate.

    $$W = \Xi \, \Xi^+, \qquad W \xi^\mu = \xi^\mu,$$

    the projection onto the span of the patterns. A new pattern adds $r r^\top / |r|^2$ of what the memory cannot
    explain of it, $r = \xi - W \xi$; several are added at once through an orthonormal basis of what they leave over. Nothing is inverted
    and no pattern is shown twice. The memory recalls without the diagonal of $W$, which holds every bit in place that it finds: patterns stay fixed
    points, and basins are wider. Where $W_{ii}$ reaches 1 the unit feels no other: it keeps the state that it is given.

    Args:
        tolerance: a pattern of which less than this share (in length) is new adds nothing; from 0 to 1.

    Raises:
        TypeError: the tolerance is no number.
        ValueError: it is not from 0 to 1.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import HopfieldMemory, PseudoInverse
        >>> alike = torch.ones(3, 8)
        >>> alike[0, 0] = alike[1, 1] = alike[2, 2] = -1
        >>> memory = HopfieldMemory(8, PseudoInverse())
        >>> memory.add(alike)
        >>> bool((ebm.infer(memory, alike).answer == alike).all())
        True

    Source:
        Personnaz, Guyon and Dreyfus (1985), Information storage and retrieval in spin-glass like neural networks, J. Physique
        Lettres 46; without the diagonal, Kanter and Sompolinsky (1987), Associative recall of memory without errors, Physical
        Review A 35; pattern by pattern, Greville (1960).
    """

    tolerance: float = 1e-4
    keeps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.part(self, "tolerance", self.tolerance)

    def rounding(self, weight: Tensor) -> float:
        """That of ones: where W_ii nears 1, the other weights of the unit are what their differences leave, however small."""
        worked = torch.finfo(torch.float64).eps
        return (torch.finfo(weight.dtype).eps + worked / max(self.tolerance, worked)) * weight.shape[0] ** 0.5

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """The projection with what is new in the patterns, in float64, less its diagonal."""
        precise, size = patterns.double(), patterns.shape[1]
        projection = weight.double()
        if len(held):  # W xi = xi gives the diagonal that the memory leaves out
            pattern = held[0].double()
            projection = projection + torch.diag(1 - pattern * (projection @ pattern))
        left = precise - precise @ projection
        left = left - left @ projection  # once more: what rounding has left of the known directions
        _, lengths, directions = torch.linalg.svd(left, full_matrices=False)
        fresh = directions[lengths > self.tolerance * size**0.5]
        return (projection + fresh.T @ fresh).fill_diagonal_(0).to(weight.dtype)
