"""Conjugate gradients for every sample by itself: the inner solver of the truncated Newton methods."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Product
from ebm.solvers.trial import all_known

__all__ = ["Inner", "conjugate_gradients", "forcing_after"]


class Inner(NamedTuple):
    """What the inner solver found, (B, D) and (B,).

    Attributes:
        move: the step p.
        gain: how much the quadratic model :math:`F^T p - p^T A p / 2` promises that it lowers the energy.
        edge: bool, whether the step ends at the edge of the trust region.
        damping: what was added to the diagonal.
    """

    move: Tensor
    gain: Tensor
    edge: Tensor
    damping: Tensor


def conjugate_gradients(
    product: Product,
    force: Tensor,
    like: object,
    forcing: Tensor,
    products: int,
    radius: Tensor | None = None,
    damping: Tensor | None = None,
) -> Inner:
    r"""Steps p with :math:`(A + \mu I) p \approx F`, each no longer than its radius, by at most so many products.

    A sample is done when its residual :math:`\|F - (A + \mu I) p\|` is within ``forcing`` of :math:`\|F\|`, when it meets
    the edge of its trust region, or when the model bends down along its direction, which it then follows to the edge.

    Args:
        product: the product with A, a row tree to a row tree; also given which samples still need it, bool (B,).
        force: F, (B, D).
        like: the latent, whose structure a direction is given.
        forcing: (B,).
        products: >= 1.
        radius: (B,) > 0; None: no limit, and a sample is done where the model does not bend up.
        damping: (B,), relative: :math:`\mu` is this times :math:`F^T A F / F^T F`; None: none.

    Source: Hestenes and Stiefel (1952); Steihaug (1983); Nocedal and Wright (2006), algorithm 7.2.
    """
    # in units of the force: squares of what is large or small would leave the range of single precision
    unit = force.detach().abs().amax(1) if force.shape[1] else force.new_zeros(len(force))
    unit = torch.where((unit > 0) & torch.isfinite(unit), unit, torch.ones_like(unit))
    force = force / unit[:, None]
    radius = None if radius is None else radius / unit
    square = _dot(force, force)
    goal = forcing.square() * square
    active = square > 0
    move, rest, along = torch.zeros_like(force), force, force
    edge, added = torch.zeros_like(active), torch.zeros_like(square)
    for k in range(products):
        if _over(active):
            break
        bent = rows.flatten(product(rows.unflatten(along, like), active))
        if damping is not None:
            # at the first product the direction is the force, and its Rayleigh quotient sets the scale
            added = damping * _dot(along, bent) / _positive(square) if k == 0 else added
            bent = torch.addcmul(bent, added[:, None], along)
        curve = _dot(along, bent)
        up = active & (curve > 0)
        # where a quotient is not used its parts are replaced, too: the derivative of 0 / 0 would pass through a mask as nan
        length = torch.where(up, square, torch.zeros_like(square)) / torch.where(up, curve, torch.ones_like(curve))
        out = active & ~up
        if radius is not None:
            out = out | (up & (_length(move + length[:, None] * along) > radius))
            if not all_known(~out):
                length = torch.where(out, _to_edge(move, along, radius, out), length)
        move = torch.addcmul(move, length[:, None], along)
        rest = torch.addcmul(rest, length[:, None], bent, value=-1)
        new = _dot(rest, rest)
        ratio = torch.where(active, new, torch.zeros_like(new)) / torch.where(active, square, torch.ones_like(square))
        along = torch.addcmul(rest, ratio[:, None], along)
        square, edge = torch.where(active, new, square), edge | out
        active = active & ~out & (new > goal)
    gain = 0.5 * (_dot(move, force + rest) + added * _dot(move, move))
    return Inner(move * unit[:, None], gain * unit * unit, edge, added)


def forcing_after(before: Tensor, force: Tensor, new: Tensor, accepted: Tensor, most: float) -> Tensor:
    """How exactly the next inner system is solved: 0.9 times the squared ratio of the forces, (B,), at most ``most``.

    Source: Eisenstat and Walker (1996), choice 2 with their safeguard.
    """
    unit = _positive(force.detach().abs().amax(1) if force.shape[1] else before)[:, None]
    force, new = force / unit, new / unit
    old = _dot(force, force)
    ratio = 0.9 * _dot(new, new) / _positive(old)
    guard = 0.9 * before.square()
    ratio = torch.where(guard > 0.1, torch.maximum(ratio, guard), ratio)
    return torch.where(accepted & torch.isfinite(ratio), ratio.clamp_max(most), before)


def _over(active: Tensor) -> bool:
    """Whether no sample needs another product; a compiled step does not wait to know, and makes them all."""
    return not torch.compiler.is_compiling() and not bool(active.any())


def _to_edge(move: Tensor, along: Tensor, radius: Tensor, out: Tensor) -> Tensor:
    r"""The positive t with :math:`\|p + t d\| = r` where ``out``, written so that nothing cancels; zero elsewhere."""
    reach = radius[:, None]  # the unit of length, so that no square overflows
    move, along = torch.where(out[:, None], move, 0.0) / reach, torch.where(out[:, None], along, 0.0) / reach
    square, overlap = _dot(along, along), _dot(move, along)
    left = (1 - _dot(move, move)).clamp_min(0)
    inside = overlap.square() + square * left
    root = torch.where(inside > 0, inside, torch.ones_like(inside)).sqrt()
    ahead = overlap > 0
    above = torch.where(ahead, left, root - overlap)
    below = torch.where(ahead, overlap + root, square)
    return torch.where(inside > 0, above, 0.0) / torch.where(inside > 0, below, 1.0)


def _positive(value: Tensor) -> Tensor:
    """The value where it may be divided by, one elsewhere."""
    return torch.where(value > 0, value, torch.ones_like(value))


def _length(flat: Tensor) -> Tensor:
    return torch.linalg.vector_norm(flat.detach(), dim=1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
