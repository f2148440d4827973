"""A step that is taken only where it does not raise the energy."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, finfo

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field
from ebm.solvers.trial import evaluate_trial

__all__ = ["Descent", "descend"]

_ROUNDING = 4  # times eps, relative to an energy


class Descent(NamedTuple):
    """Where a step ended.

    Attributes:
        point: the new points, or the old ones where those were turned down.
        good: which were taken, bool (B,).
        idle: which energies did not fall by more than rounding, bool (B,).
    """

    point: Point
    good: Tensor
    idle: Tensor


def descend(field: Field, new: Any, old: Point) -> Descent:
    """Evaluate proposals, and turn down those that are not finite or raise the energy beyond rounding.

    Near a minimum energies differ by rounding alone while the force still gets better, so a rise within rounding is taken.
    """
    trial = evaluate_trial(field, new, old)
    good = trial.finite & _no_higher(trial.point, old)
    idle = ~good | _no_higher(old, trial.point)
    point = trial.point if bool(good.all()) else Point(*rows.where(good, tuple(trial.point), tuple(old)))
    return Descent(point, good, idle)


def _no_higher(one: Point, other: Point) -> Tensor:
    assert one.energy is not None and other.energy is not None
    return one.energy <= other.energy * (1 + _ROUNDING * finfo(other.energy.dtype).eps)
