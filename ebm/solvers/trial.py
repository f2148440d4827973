"""A proposal that may be turned down, evaluated so that a bad one can never reach a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field

__all__ = ["Trial", "all_known", "evaluate_trial", "pick"]


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


def all_known(mask: Tensor) -> bool:
    """Whether a mask holds for every sample, as far as one can tell without waiting for a device or breaking a graph."""
    return not torch.compiler.is_compiling() and mask.is_cpu and bool(mask.all())


def pick(mask: Tensor, yes: Any, no: Any) -> Any:
    """`rows.where`, at no cost where the mask is known to hold for every sample."""
    return yes if all_known(mask) else rows.where(mask, yes, no)
