"""Penalties of a code: the count of its active atoms, and how far others can be driven before an atom wakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm import rows

__all__ = ["L0", "admits_gap", "polar", "worth"]


class L0(ebm.Term):
    r"""The number of active atoms, :math:`g(z) = w \, |\{i : z_i \ne 0\}|`; its proximal map is hard thresholding.

    The one term here that is not convex: `Proximal` lowers the energy at every step and comes to rest at a point that no single
    proximal step improves, which need not be the best one; there is no duality gap, and `FISTA` promises nothing.

    Args:
        weight: w >= 0, in units of the energy: an atom is kept where it lowers the energy by more than that.

    Raises:
        ValueError: a weight below zero, or not finite.

    Example:
        >>> import torch
        >>> from hebbian.sparse import L0
        >>> L0(0.5).prox(torch.tensor([[2.0, -0.3]]), 1.0)
        tensor([[2., 0.]])

    Source: Blumensath and Davies (2008), iterative hard thresholding in its form with a penalty.
    """

    separable = True

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`L0(weight)` is a finite number of at least zero; got {weight}. Try 0.1.")
        self.weight = weight

    def extra_repr(self) -> str:
        return str(self.weight)

    def forward(self, z: Any) -> Tensor:
        return self.weight * (rows.flatten(z) != 0).to(rows.first_leaf(z).dtype).sum(1)

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """A number is kept where half its square over the step size exceeds the weight."""

        def keep(leaf: Tensor) -> Tensor:
            each = size.view(-1, *[1] * (leaf.ndim - 1)) if isinstance(size, Tensor) and size.ndim == 1 else size
            return torch.where(leaf.square() > 2 * self.weight * each, leaf, torch.zeros_like(leaf))

        return rows.map_rows(keep, z)


def admits_gap(term: nn.Module) -> bool:
    """Whether the duality gap under a term is known, and goes to zero: it is convex, and bites on every number."""
    if not isinstance(term, (ebm.L1, ebm.GroupL1, ebm.NonNegative)):
        return False
    weight = term.weight
    return bool((weight > 0).all()) if isinstance(weight, Tensor) else weight > 0


def polar(term: nn.Module, force: Tensor) -> Tensor:
    r"""How many times the force exceeds what the term can hold at zero, (B,); at rest it is one, or less where all is zero.

    :math:`\max_i |F_i| / w_i` for `L1`, without the modulus for `NonNegative`, over the lengths of groups for `GroupL1`.
    """
    weight: Any = term.weight
    if isinstance(term, ebm.GroupL1):
        each = torch.linalg.vector_norm(force, dim=-1, keepdim=True)
    else:
        each = force.abs() if isinstance(term, ebm.L1) else force
    if isinstance(weight, Tensor):
        return (each / weight).flatten(1).amax(1).clamp_min(0.0)
    return each.flatten(1).amax(1).clamp_min(0.0) / weight


def worth(term: nn.Module, code: Tensor) -> Tensor:
    """The term itself, (B,); one weight for all is taken out of the sum, which spares a pass over the numbers."""
    weight: Any = getattr(term, "weight", None)
    if isinstance(term, ebm.L1) and not isinstance(weight, Tensor):
        return weight * code.abs().flatten(1).sum(1)
    return term(code)
