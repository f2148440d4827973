"""A proposal that may be turned down, evaluated so that a bad one can never reach a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field

__all__ = ["Trial", "choose", "evaluate_trial"]


class Trial(NamedTuple):
    """An evaluated proposal, and which of its samples are finite (bool (B,))."""

    point: Point
    finite: Tensor


def evaluate_trial(field: Field, z: Any, fallback: Point, judged: Tensor | None = None) -> Trial:
    """Evaluate a proposal; rows that are not finite are evaluated again at ``fallback`` where a graph is kept.

    A row masked out with `torch.where` still sends 0 * inf = nan into shared parameters, so under grad mode the
    attempt is thrown away, and the second one asks nothing improper. Rows outside ``judged`` count as finite: they will
    be taken as they are, and the engine sees to those that are not.
    """
    point = field(z)
    finite = rows.finite(tuple(point))
    finite = finite if judged is None else finite | ~judged
    if torch.is_grad_enabled() and not bool(finite.all()):
        point = field(rows.where(finite, z, fallback.z))
    return Trial(point, finite)


def choose(accepted: Tensor, trial: Point, fallback: Point) -> Point:
    """The trial where it was accepted, the fallback elsewhere; no row is copied where all were."""
    if not torch.compiler.is_compiling() and bool(accepted.all()):
        return trial
    return Point(*rows.where(accepted, tuple(trial), tuple(fallback)))
