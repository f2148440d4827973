"""An objective whose marked samples fail or run away, to see what they do to the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.stop import Stop
from ebm.noise import Draw
from ebm.objective import Flip, Gap, Lasso, Objective, Point, Update
from ebm.solvers import AdaptiveDescent, Picard
from ebm.solvers.base import Solver
from ebm.testing.case import Case

__all__ = ["FAILS", "FINE", "RUNS_AWAY", "Troubled", "settled_by", "troubled"]

FINE, FAILS, RUNS_AWAY = 0, 1, 2


def troubled(x: Any, kind: Tensor, start: Any) -> dict[str, Any]:
    """The observation of a `Troubled` objective.

    Args:
        x: the observation of the objective inside.
        kind: int64 (B,), `FINE`, `FAILS` or `RUNS_AWAY` for each sample.
        start: latents; a sample that fails is fine there and nowhere else.
    """
    return {"x": x, "kind": kind, "from": start}


def settled_by(case: Case) -> Solver:
    """The solver that the call itself would choose: a `Troubled` update is no `Update`, so it would be given another."""
    safe = Picard() if isinstance(case.model, Update) else AdaptiveDescent()
    return case.solver or case.model.default_solver() or safe


class Troubled(Objective):
    r"""An objective inside, but for marked samples.

    A sample that `FAILS` turns to NaN as soon as it has moved. One that `RUNS_AWAY` has a further energy
    :math:`-\sum_i \cosh(10 z_i)`, or for an update a further move of its negative gradient: it leaves for infinity, and its derivatives overflow
    before its numbers do.

    Args:
        inner: the objective; the others settle as they would in it.
    """

    def __init__(self, inner: Objective) -> None:
        super().__init__()
        self.inner = inner
        self.provides = inner.provides

    def condition(self, x: Any) -> Any:
        return {"x": self.inner.condition(x["x"]), "kind": x["kind"], "from": x["from"]}

    def init_latent(self, c: Any, draw: Draw) -> Any:
        return self.inner.init_latent(c["x"], draw)

    def point(self, z: Any, c: Any) -> Point:
        point = self.inner.point(z, c["x"])
        moved = ~rows.same_rows(point.z, c["from"])
        if bool((c["kind"] == RUNS_AWAY).any()):
            point = _run_away(point, c["kind"] == RUNS_AWAY)
        spoilt = torch.where(moved & (c["kind"] == FAILS), float("nan"), 1.0).to(moved.device)
        energy = None if point.energy is None else point.energy * spoilt.to(point.energy.dtype)
        return Point(point.z, energy, rows.scale(point.force, spoilt.to(next(rows.leaves(z)).dtype)))

    def conditional(self, z: Any, c: Any, block: Tensor) -> Tensor:
        inner: Any = self.inner
        return inner.conditional(z, c["x"], block)

    def sweep(self, z: Any, c: Any) -> Any:
        inner: Any = self.inner
        return inner.sweep(z, c["x"])

    def flip(self, z: Any, c: Any, block: Tensor) -> Flip:
        inner: Any = self.inner
        return inner.flip(z, c["x"], block)

    def residuals(self, z: Any, c: Any) -> Tensor:
        inner: Any = self.inner
        return inner.residuals(z, c["x"])

    def prox(self, z: Any, size: float | Tensor, c: Any) -> Any:
        inner: Any = self.inner
        return inner.prox(z, size, c["x"])

    def resolvent(self, z: Any, size: float, c: Any) -> Any:
        inner: Any = self.inner
        return inner.resolvent(z, size, c["x"])

    def lasso(self, c: Any) -> Lasso:
        inner: Any = self.inner
        return inner.lasso(c["x"])

    def bend(self, direction: Any, c: Any) -> Any:
        inner: Any = self.inner
        return inner.bend(direction, c["x"])

    def gap(self, point: Point, c: Any) -> Gap:
        inner: Any = self.inner
        return inner.gap(point, c["x"])

    def readout(self, z: Any, c: Any) -> Any:
        return self.inner.readout(z, c["x"])

    def residual(self, point: Point, c: Any) -> Tensor:
        return self.inner.residual(point, c["x"])

    def move(self, point: Point, c: Any) -> Any:
        return self.inner.move(point, c["x"])

    @property
    def tells_rest(self) -> bool:
        return self.inner.tells_rest

    def default_solver(self) -> Solver | None:
        return self.inner.default_solver()

    def default_stop(self) -> Stop | None:
        return self.inner.default_stop()


def _run_away(point: Point, away: Tensor) -> Point:
    """The point with the further energy and force of the samples that run away; the others as they are, bit for bit."""
    z = rows.where(away, point.z, rows.map_rows(torch.zeros_like, point.z))
    force = rows.map_rows(lambda leaf: 10 * (10 * leaf).sinh(), z)
    force = rows.where(away, rows.add(point.force, force), point.force)
    if point.energy is None:
        return Point(point.z, None, force)
    further = sum(
        leaf.flatten(1).sum(1) if leaf.ndim > 1 else leaf
        for leaf in rows.leaves(rows.map_rows(lambda leaf: (10 * leaf).cosh(), z))
    )
    return Point(point.z, torch.where(away, point.energy - further, point.energy), force)
