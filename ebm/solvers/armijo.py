"""Line searches, sample by sample: when a trial has lowered the energy enough, and what length to try next.

A trial moves by d; with the force F before and F' after, ``drop`` is |d|^2 / a for a step size a (the decrease that a
straight line would give) and ``bend`` is (F - F') d, the curvature along the move times its squared length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.trial import Trial

__all__ = [
    "SUFFICIENT",
    "at_rounding",
    "curve",
    "energy_of",
    "extent",
    "longer",
    "shorter",
    "sufficient",
    "teaches",
    "unlearnt",
]

SUFFICIENT = 1e-4  # Armijo's constant
_ROUNDINGS = 10  # a force is known to so many roundings of the latent


def energy_of(point: Point) -> Tensor:
    """The energies of a point that has them, (B,)."""
    assert point.energy is not None  # `needs` says so at the door
    return point.energy


def sufficient(trial: Trial, point: Point, drop: Tensor, bend: Tensor, reference: Tensor | None = None) -> Tensor:
    """Whether a trial lowers the energy enough below ``reference`` (None: the energy of the point), bool (B,).

    Near rest the decrease vanishes in the rounding of the energies; there the curvature along the move, which does not,
    tells what the decrease must have been (the approximate condition of Hager and Zhang, 2005).
    """
    before, after = energy_of(point), energy_of(trial.point)
    lower = after <= (before if reference is None else reference) - SUFFICIENT * drop
    level = (after - before).abs() <= 4 * torch.finfo(before.dtype).eps * before.abs()
    # where the force is all rounding the slopes say nothing either: a sample at rest is not to stall by the toss of a bit
    straight = (bend <= 2 * (1 - SUFFICIENT) * drop) | (drop <= 1e4 * torch.finfo(before.dtype).eps ** 2 * before.abs())
    if reference is None:
        return trial.finite & torch.where(level, straight, lower)
    return trial.finite & (lower | (level & straight))


def longer(size: Tensor, squared: Tensor, bend: Tensor, growth: float) -> Tensor:
    """The step size ``squared / bend`` of Barzilai and Borwein, at most ``growth`` times the last one; so where it bends down."""
    most = (size * growth).clamp_max(torch.finfo(size.dtype).max ** 0.5)  # where it only ever bends down
    proposal = squared / torch.where(bend > 0, bend, torch.ones_like(bend))
    return torch.where(bend > 0, proposal.clamp(size * min(0.1, 1 / growth), most), most)


def curve(bend: Tensor, drop: Tensor, rise: Tensor) -> Tensor:
    """The quadratic part of the energy along a move: from the forces, whose change does not round away near rest, if they can tell."""
    return torch.where(bend > 0, 0.5 * bend, rise + drop)


def shorter(size: Tensor, drop: Tensor, curve: Tensor, finite: Tensor, least: Tensor | None = None) -> Tensor:
    """The minimum of the parabola with this slope and quadratic part, kept within ``least`` (None: a tenth) and a half."""
    up = finite & (curve > 0)
    lowest = 0.5 * size * torch.where(up, drop, torch.zeros_like(drop)) / torch.where(up, curve, torch.ones_like(curve))
    ratio = (lowest / size).clamp_max(0.5)
    ratio = ratio.clamp_min(0.1) if least is None else torch.maximum(ratio, least)
    return size * torch.where(up, ratio, torch.full_like(ratio, 0.1))


def extent(z: Any) -> Tensor:
    """The size of a latent, (B,), whose rounding limits what a move can do; it may be any, down to where its square vanishes."""
    limits = torch.finfo(rows.first_leaf(z).dtype)
    return rows.rms(z) + limits.tiny**0.5


def at_rounding(length: Tensor, size: Tensor) -> Tensor:
    """Whether a move of this root mean square (B,) would vanish in the rounding of a latent of this `extent`."""
    return length <= size * (0.1 * torch.finfo(size.dtype).eps)


def teaches(length: Tensor, size: Tensor) -> Tensor:
    """Whether a move of this root mean square (B,), from a latent of this `extent`, is long enough that the change of the force is no rounding.

    What a shorter one would teach is noise: a sample at rest passes every test, and its settings would wander off.
    """
    return length > size * (_ROUNDINGS * torch.finfo(size.dtype).eps)


def unlearnt(size: Tensor, first: float, growth: float) -> Tensor:
    """The step size after a move that teaches nothing: the same, or on its way back up to the first one."""
    return torch.maximum(size, (size * growth).clamp_max(first))
