"""A proposal that may be turned down, evaluated so that a bad one can never reach a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field

__all__ = ["Trial", "all_known", "evaluate_trial", "held", "pick"]


class Trial(NamedTuple):
    """An evaluated proposal: the same numbers with a graph as without.

    Attributes:
        point: the proposal. While a graph is kept, rows that are not finite or out of range have none.
        finite: bool (B,), which samples are finite.
        live: bool (B,), which samples' settings have a derivative; None: all.
        before: the point that the proposal left, to derive settings from: it has no graph where the settings have none.
        after: the proposal, to derive settings from.
        known: bool (B,), which samples' settings may be derived from the proposal; None: all.
    """

    point: Point
    finite: Tensor
    live: Tensor | None = None
    before: Any = None
    after: Any = None
    known: Tensor | None = None


def evaluate_trial(
    field: Field, z: Any, fallback: Point, judged: Tensor | None = None, calm: Tensor | None = None
) -> Trial:
    """Evaluate a proposal made at ``fallback``; while a graph is kept, bad rows are cut from it.

    A row masked out with `torch.where` still sends 0 * inf = nan into shared parameters. So rows that are not finite, and
    rows that are so far out that squares overflow, get their graph from a second evaluation that asks nothing improper,
    and that graph leads nowhere. Their numbers stay, since decisions rest on them.

    Args:
        field: where to evaluate.
        z: the proposal.
        fallback: the point that it leaves.
        judged: rows outside count as finite: they will be taken as they are, and the engine sees to those that are not.
        calm: rows at rest (see `settled`), whose settings get no derivative.
    """
    point = field(z)
    good = rows.finite(tuple(point))
    finite = good if judged is None else good | ~judged
    if not torch.is_grad_enabled():
        return Trial(point, finite, None, fallback, point)
    with torch.no_grad():
        limits = torch.finfo(rows.first_leaf(point.force).dtype)
        most = (limits.max * limits.eps) ** 0.5  # beyond, squares of what is computed from a latent overflow
        sound = finite & (rows.rms(z) < most)
        # settings are quotients of squares
        parts = (z, fallback.z, fallback.force, rows.where(good, point.force, fallback.force))
        live = torch.stack([rows.rms(part) for part in parts]).amax(0) < limits.max**0.25
        live = live if calm is None else live & ~calm
        known = live & good
    if not bool(sound.all()):
        near = rows.map_rows(lambda leaf: leaf.detach().clamp(-most, most), fallback.z)
        stand_in = rows.where(rows.rms(fallback.z) < most, fallback.z, near)
        again = field(rows.where(sound, z, stand_in))
        point = Point(*rows.where(sound, tuple(again), _detached(tuple(point))))
    return Trial(point, finite, live, held(fallback, known), held(point, known), known)


def held(tree: Any, live: Tensor | None) -> Any:
    """The same tree, of which only the rows ``live`` have a graph; the others send back zero, whatever reaches them."""
    if live is None or not torch.is_grad_enabled() or bool(live.all()):
        return tree
    return rows.where(live, tree, _detached(tree))


def _detached(tree: Any) -> Any:
    return rows.map_rows(lambda leaf: leaf.detach(), tree)


def all_known(mask: Tensor) -> bool:
    """Whether a mask holds for every sample, as far as one can tell without waiting for a device or breaking a graph."""
    return not torch.compiler.is_compiling() and mask.is_cpu and bool(mask.all())


def pick(mask: Tensor, yes: Any, no: Any) -> Any:
    """`rows.where`, at no cost where the mask is known to hold for every sample."""
    return yes if all_known(mask) else rows.where(mask, yes, no)
