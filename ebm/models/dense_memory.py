"""The dense associative memory: binary patterns, many more than units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm.models.binary import BinaryMemory, check_patterns, check_query, hold, rounding
from ebm.models.separation import Exponential, Polynomial, RectifiedPolynomial, Separation, check_range
from ebm.objective import Flip, Point

__all__ = ["DenseMemory", "Exponential", "Polynomial", "RectifiedPolynomial"]

_EXPONENTIAL = Exponential()


class DenseMemory(BinaryMemory):
    r"""A memory of binary patterns whose steep function of the overlaps keeps many of them apart.

    With the patterns :math:`\xi^\mu \in \{-1, 1\}^N` and states :math:`s \in \{-1, 1\}^N`:

    .. math:: E(s) = -\sum_\mu F(\xi^\mu \cdot s), \qquad
              s_i \leftarrow \text{sgn}\sum_\mu \Big[F\big(\xi_i^\mu + \textstyle\sum_{j\ne i}\xi_j^\mu s_j\big)
              - F\big(-\xi_i^\mu + \textstyle\sum_{j\ne i}\xi_j^\mu s_j\big)\Big]

    one unit at a time: each takes the sign with the lower energy, and keeps its own where both are equal (to rounding). So no
    flip raises E. Each conditional costs one product with all patterns, N of them a sweep in random order; in cyclic order
    (``Asynchronous("cyclic")``) a sweep carries the overlaps along and costs about two products in all.

    Args:
        patterns: (P, N), +-1, one a row; stored as they are. A parameter stays one; any other tensor becomes a buffer.
        separation: F: `Exponential()`, which holds most, `Polynomial(n)` or `RectifiedPolynomial(n)`.

    Raises:
        ValueError: patterns of another shape or with other numbers, or a power whose numbers do not fit the dtype; at the
            call, a query of another shape or with numbers other than +-1.
        TypeError: ``separation`` is none.

    Example:
        >>> import torch, ebm
        >>> patterns = torch.tensor([[1.0, 1, 1, 1, 1], [1.0, -1, 1, -1, 1], [-1.0, 1, 1, -1, -1]])
        >>> memory = ebm.DenseMemory(patterns, ebm.Exponential())
        >>> ebm.infer(memory, torch.tensor([[-1.0, -1, 1, -1, 1]])).answer
        tensor([[ 1., -1.,  1., -1.,  1.]])

    Source: Krotov and Hopfield (2016); Demircigil et al. (2017) for the exponential, whose energy is reported here as
    minus the logarithm of the sum.
    """

    provides = BinaryMemory.provides | {"sweep"}
    patterns: Tensor

    def __init__(self, patterns: Tensor, separation: Separation = _EXPONENTIAL) -> None:
        super().__init__()
        patterns = check_patterns("DenseMemory(patterns)", patterns, binary=True)
        if not isinstance(separation, Separation):
            raise TypeError(
                f"`DenseMemory(separation=...)` wants a separation; got {separation!r}. Pass `Polynomial(3)` or `Exponential()`, say."
            )
        check_range(separation, patterns.shape[1], patterns.shape[0], patterns.dtype)
        hold(self, "patterns", patterns)
        self.units = patterns.shape[1]
        self.separation = separation

    def condition(self, x: Tensor) -> dict[str, Tensor]:
        """The query."""
        check_query("DenseMemory", x, self.units)
        return {"query": x}

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The energy, (B,)."""
        return self.separation.energy(z @ self.patterns.T)

    def point(self, z: Tensor, c: Any) -> Point:
        """Energy and force from two products, whatever the number of units."""
        overlap = z @ self.patterns.T
        even, odd, slack = self._rise(overlap)
        rise = even.sum(1, keepdim=True) + z * (odd @ self.patterns)
        return Point(z, self.separation.energy(overlap), torch.where(rise < -slack, -2 * z, torch.zeros_like(z)))

    def conditional(self, z: Tensor, c: Any, block: Tensor) -> Tensor:
        """The state of lower energy of one unit of each sample, (B,); its own where both are equal."""
        even, odd, slack = self._rise(z @ self.patterns.T)
        signs = self.patterns.index_select(1, block).T
        own = z.gather(1, block[:, None]).flatten()
        rise = even.sum(1) + own * torch.bmm(odd.unsqueeze(1), signs.unsqueeze(2)).flatten()
        return torch.where(rise < -slack.flatten(), -own, own)

    def sweep(self, z: Tensor, c: Any, held: Tensor | None = None) -> Tensor:
        """Every unit that is not ``held``, bool (B, N), takes the state of lower energy in turn; overlaps are carried along, as whole numbers they stay exact."""
        overlap, units = z @ self.patterns.T, list(z.unbind(1))
        for k, own in enumerate(units):
            signs = self.patterns[:, k]
            even, odd, slack = self._rise(overlap)
            flips = even.sum(1) + own * (odd @ signs) < -slack.flatten()
            units[k] = torch.where(flips if held is None else flips & ~held[:, k], -own, own)
            overlap = torch.addr(overlap, units[k] - own, signs)
        return torch.stack(units, dim=1)

    def flip(self, z: Tensor, c: Any, block: Tensor) -> Flip:
        """The other sign of one unit of each sample, and the rise of the energy."""
        overlap, own = z @ self.patterns.T, z.gather(1, block[:, None])
        moved = overlap - 2 * own * self.patterns.index_select(1, block).T
        return Flip(-own.flatten(), self.separation.energy(moved) - self.separation.energy(overlap))

    def _rise(self, overlap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Even and odd part (B, P) of the energy's rise under a flip, and the rise (B, 1) that counts as zero.

        Flipping unit i moves overlap mu by -2 if xi_i s_i = 1 and by +2 otherwise, so its rise is even + xi_i s_i odd, summed
        over patterns.
        """
        below, here, above = self.separation.around(overlap)
        even, odd = here - 0.5 * (below + above), 0.5 * (above - below)
        return even, odd, rounding(overlap) * (even.abs() + odd.abs()).sum(1, keepdim=True).detach()
