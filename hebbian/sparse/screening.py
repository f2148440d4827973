"""Safe screening: atoms that are proven silent at the minimum."""

from __future__ import annotations

import torch
from torch import Tensor

import ebm
from ebm.objective import Lasso, Point
from hebbian.sparse.gap import duality_gap
from hebbian.sparse.penalties import polar

__all__ = ["silent"]


def silent(lasso: Lasso, point: Point) -> Tensor:
    r"""Which atoms cannot be active at the minimum, bool (B, K).

    The residual shrunk by :math:`\sigma` is a dual point, and the best dual point lies within :math:`\sqrt{2\,\text{gap}}` of it,
    since the dual energy is strongly concave with modulus one. An atom whose force stays below its weight all over that ball is
    zero at every minimum:

    .. math:: |\sigma F_i| + \sqrt{2\,\text{gap}}\,\|\phi_i\| < w_i

    A step with rounding to spare is left, so that an atom is never ruled out by the last bits of the gap.

    Args:
        lasso: what all samples share of the energy; its diagonal holds the squared lengths of the atoms.
        point: a code with its energy and force.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import SparseCoding, silent
        >>> model = SparseCoding(torch.eye(3), ebm.L1(0.5))
        >>> point = ebm.infer(model.eval(), torch.tensor([[2.0, 0.1, -1.0]]), steps=3).carry.point
        >>> silent(model.lasso(model.condition(torch.zeros(1, 3))), point)
        tensor([[False,  True, False]])

    Source: Ndiaye, Fercoq, Gramfort and Salmon (2017), Gap safe screening rules for sparsity enforcing penalties.
    """

    assert point.energy is not None
    term = ebm.L1(lasso.weight) if lasso.signed else ebm.NonNegative(lasso.weight)
    width, energy = duality_gap(term, point.z, point.energy, point.force)
    spare = 64 * torch.finfo(energy.dtype).eps
    radius = (2 * (width + spare * energy)).sqrt()
    force = (point.force.abs() if lasso.signed else point.force) / polar(term, point.force).clamp_min(1.0)[:, None]
    reach = force + radius[:, None] * lasso.gram.diagonal().clamp_min(0.0).sqrt()
    return reach < lasso.weight * (1 - spare)
