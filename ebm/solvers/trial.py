"""A proposal that may be turned down, evaluated so that a bad one can never reach a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field

__all__ = [
    "SUFFICIENT",
    "Trial",
    "all_known",
    "at_rounding",
    "energy_of",
    "evaluate_trial",
    "lowered",
    "pick",
    "shorter",
]

SUFFICIENT = 1e-4  # Armijo's constant


class Trial(NamedTuple):
    """An evaluated proposal, and which of its samples are finite (bool (B,))."""

    point: Point
    finite: Tensor


def evaluate_trial(field: Field, z: Any, fallback: Point) -> Trial:
    """Evaluate a proposal; rows that are not finite are evaluated again at ``fallback`` where a graph is kept.

    A row masked out with `torch.where` still sends 0 * inf = nan into shared parameters, so under grad mode the
    attempt is thrown away, and the second one asks nothing improper.
    """
    point = field(z)
    finite = rows.finite(tuple(point))
    if torch.is_grad_enabled() and not bool(finite.all()):
        point = field(rows.where(finite, z, fallback.z))
    return Trial(point, finite)


def all_known(mask: Tensor) -> bool:
    """Whether a mask holds for every sample, as far as one can tell without waiting for a device or breaking a graph."""
    return not torch.compiler.is_compiling() and mask.is_cpu and bool(mask.all())


def pick(mask: Tensor, yes: Any, no: Any) -> Any:
    """`rows.where`, at no cost where the mask is known to hold for every sample."""
    return yes if all_known(mask) else rows.where(mask, yes, no)


def lowered(point: Point, trial: Trial, slope: Tensor, slope_there: Tensor) -> Tensor:
    r"""Which samples a move p lowered by enough, (B,): :math:`E' \le E - 10^{-4} F^T p`, judged by the slopes at rounding.

    Near rest the energies of both ends differ by their rounding, up or down. There the test is that of the parabola through the
    two slopes, :math:`F'^T p \ge -(1 - 2 \cdot 10^{-4}) F^T p`, which says the same of a quadratic.

    Args:
        point: where the move begins.
        trial: where it ends.
        slope: :math:`F^T p` at the beginning.
        slope_there: and at the end.

    Source: Armijo (1966); Hager and Zhang (2005), the approximate Wolfe condition.
    """
    before, after = energy_of(point), energy_of(trial.point)
    eps = torch.finfo(before.dtype).eps
    close = (after - before).abs() <= 4 * eps * before.abs()
    # where the force is all rounding the slopes say nothing either: a sample at rest is not to stall by the toss of a bit
    flatter = (slope_there >= (2 * SUFFICIENT - 1) * slope) | (slope <= 1e4 * eps**2 * before.abs())
    return trial.finite & torch.where(close, flatter, after <= before - SUFFICIENT * slope)


def energy_of(point: Point) -> Tensor:
    """The energy of a point that has one."""
    assert point.energy is not None  # `needs` says so at the door
    return point.energy


def shorter(size: Tensor, slope: Tensor, rise: Tensor, finite: Tensor, least: Tensor | None = None) -> Tensor:
    """The minimum of the parabola with the known value, slope and trial value, kept within ``least`` (a tenth) and a half."""
    bend = rise + size * slope
    best = 0.5 * size * size * slope / torch.where(bend > 0, bend, torch.ones_like(bend))
    ratio = (best / size).clamp_max(0.5)
    ratio = ratio.clamp_min(0.1) if least is None else torch.maximum(ratio, least)
    return size * torch.where(finite & (bend > 0), ratio, torch.full_like(ratio, 0.1))


def at_rounding(length: Tensor, z: Any) -> Tensor:
    """Whether a move of this root mean square would vanish in the rounding of the latent."""
    tiny = torch.finfo(length.dtype).eps
    return length <= 0.1 * tiny * (rows.rms(z) + tiny)
