"""Explicit Runge-Kutta methods by their Butcher tableaux, and one step of any of them over a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field

__all__ = ["ADAPTIVE", "FIXED", "Tableau", "blend", "runge_kutta"]


class Tableau(NamedTuple):
    r"""An explicit method for :math:`\dot z = F(z)`: :math:`z_i = z + h \sum_j a_{ij} k_j` and :math:`k_i = F(z_i)`.

    The last row gives the next latent, whose force is the first slope of the next step. So a step asks for as many
    evaluations as there are rows, and a method whose last stage is its answer ("first same as last") saves one.

    Attributes:
        order: of the error over a fixed time in the step size.
        rows: the weights of the slopes known so far, a row an evaluation.
        error: the weights of all slopes, that of the answer included, in the difference to an answer of one order less;
            None where there is none.
    """

    order: int
    rows: tuple[tuple[float, ...], ...]
    error: tuple[float, ...] | None = None


EULER = Tableau(1, ((1.0,),))
MIDPOINT = Tableau(2, ((1 / 2,), (0.0, 1.0)))
RK4 = Tableau(4, ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0), (1 / 8, 3 / 8, 3 / 8, 1 / 8)))
"""Kutta's three-eighths rule, as torchdiffeq has it under this name."""

BOGACKI_SHAMPINE = Tableau(
    3,
    ((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
)
DORMAND_PRINCE = Tableau(
    5,
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)

FIXED = {"euler": EULER, "midpoint": MIDPOINT, "rk4": RK4}
ADAPTIVE = {"dopri5": DORMAND_PRINCE, "bosh3": BOGACKI_SHAMPINE}


def runge_kutta(field: Field, point: Point, size: float | Tensor, tableau: Tableau) -> tuple[Point, list[Any]]:
    """One step of a size for all, or one a sample (B,): the next point, and the slopes, its own force the last of them."""
    slopes = [point.force]
    new = point
    for weights in tableau.rows:
        new = field(rows.add(point.z, blend(weights, slopes), size))
        slopes.append(new.force)
    return new, slopes


def blend(weights: Sequence[float], slopes: Sequence[Any]) -> Any:
    """The weighted sum of row trees."""
    used = [(weight, slope) for weight, slope in zip(weights, slopes, strict=True) if weight]
    (first, _), *others = used

    def mixed(leaf: Tensor, *leaves: Tensor) -> Tensor:
        total = leaf * first
        for (weight, _), other in zip(others, leaves, strict=True):
            total = torch.add(total, other, alpha=weight)
        return total

    return rows.map_rows(mixed, *(slope for _, slope in used))
