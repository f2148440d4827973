"""A first guess at which atoms are active, by accelerated proximal steps in single precision."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm.objective import Lasso
from ebm.solvers.base import Field

__all__ = ["sketched"]

_POWERS = 10
_SAFE = 1.1  # over what some rounds of the power method find of the largest eigenvalue


def sketched(lasso: Lasso, start: Tensor, force: Tensor, field: Field, steps: int) -> Tensor:
    """Codes (B, K) after some accelerated steps from a start, whose force is given; the start where that did not lower the energy.

    Only a guess, so nothing here is exact, and the products are those of the narrow Gram matrix. The momentum of a sample begins
    anew when it points away from where its last step went.
    """
    step = 1 / _steepest(lasso.gram.to(force.dtype))
    kink = (step * lasso.weight).to(force.dtype)
    code = ahead = start
    speed = force.new_ones(force.shape[0], 1)
    for _ in range(steps):
        moved = torch.add(ahead, force - field.bend(ahead - start), alpha=step)
        shrunk = moved - moved.clamp(-kink, kink) if lasso.signed else (moved - kink).clamp_min_(0.0)
        change = shrunk - code
        away = torch.linalg.vecdot(ahead - shrunk, change)[:, None] > 0
        faster = (1 + (1 + 4 * speed.square()).sqrt()) / 2
        ahead = torch.addcmul(shrunk, change, torch.where(away, 0.0, (speed - 1) / faster))
        speed, code = torch.where(away, 1.0, faster), shrunk
    way, weight = code - start, lasso.weight.to(force.dtype)
    rise = torch.linalg.vecdot(way, 0.5 * field.bend(way) - force) + (code.abs() - start.abs()) @ weight
    return torch.where((rise < 0)[:, None], code, start)


def _steepest(gram: Tensor) -> float:
    """A little over the largest eigenvalue."""
    vector = gram.abs().sum(0)
    for _ in range(_POWERS):
        vector = gram @ (vector / vector.norm())
    return _SAFE * float(vector.norm())
