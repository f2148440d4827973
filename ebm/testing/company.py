"""Promises about company: a sample does not know its batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.stop import Stop
from ebm.noise import Draw
from ebm.objective import Flip, Gap, Lasso, Objective, Point, Update
from ebm.solution import Solution, Status
from ebm.solvers import AdaptiveDescent, Picard
from ebm.solvers.base import Solver
from ebm.testing.case import Case, check, close, same

__all__ = [
    "a_failing_neighbour_changes_nothing",
    "a_sample_does_not_know_its_batch",
    "compaction_changes_no_answer",
    "frozen_means_frozen",
]


def a_sample_does_not_know_its_batch(case: Case) -> None:
    """Promise 1, G10: alone or in another order, a sample takes the same steps to the same place."""
    before = case._infer(steps=0)
    whole = case._infer(steps=case.steps, resume=before)
    batch = len(whole)
    for chosen in ([0], [batch - 1], list(reversed(range(batch)))):
        index = torch.tensor(chosen)
        part = case._infer(x=rows.take(case.x, index), steps=case.steps, resume=before.take(index))
        wanted = whole.take(index)
        who = f"sample {chosen[0]} alone" if len(chosen) == 1 else "the batch turned round"
        check(
            torch.equal(part.steps, wanted.steps),
            f"{who} takes {part.steps.tolist()} steps; in company {wanted.steps.tolist()}.",
        )
        check(
            torch.equal(part.status, wanted.status),
            f"{who} ends with status {part.status.tolist()}; in company {wanted.status.tolist()}.",
        )
        check(close(part.z, wanted.z), f"{who} ends elsewhere than in company.")


class _Failing(Objective):
    """An objective whose marked samples turn to NaN as soon as they have moved."""

    def __init__(self, inner: Objective) -> None:
        super().__init__()
        self.inner = inner
        self.provides = inner.provides

    def condition(self, x: Any) -> Any:
        return {"x": self.inner.condition(x["x"]), "bad": x["bad"], "from": x["from"]}

    def init_latent(self, c: Any, draw: Draw) -> Any:
        return self.inner.init_latent(c["x"], draw)

    def point(self, z: Any, c: Any) -> Point:
        point = self.inner.point(z, c["x"])
        moved = rows.rms(rows.map_rows(torch.sub, point.z, c["from"])) > 0
        spoilt = torch.where(moved & c["bad"], float("nan"), 1.0).to(moved.device)
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


def a_failing_neighbour_changes_nothing(case: Case) -> None:
    """G10: beside a sample that turns to NaN the others go their way, and it keeps its last good latent."""
    before = case._infer(steps=0)
    batch, bad = len(before), 1
    model = _Failing(case.model)
    marks = torch.zeros(batch, dtype=torch.bool)
    x = {"x": case.x, "bad": marks, "from": before.carry.point.z}
    failing = case._replace(model=model, x=x, solver=_solver(case))
    whole = failing._infer(steps=case.steps)
    x["bad"] = marks.scatter(0, torch.tensor([bad]), True)
    spoilt = failing._infer(steps=case.steps)
    good = torch.tensor([row for row in range(batch) if row != bad])
    left, wanted = spoilt.take(good), whole.take(good)
    check(
        torch.equal(left.steps, wanted.steps),
        f"Beside a NaN the others take {left.steps.tolist()} steps; otherwise {wanted.steps.tolist()}.",
    )
    check(
        torch.equal(left.status, wanted.status),
        f"Beside a NaN the others end with status {left.status.tolist()}; otherwise {wanted.status.tolist()}.",
    )
    check(close(left.z, wanted.z), "Beside a NaN the others end elsewhere.")
    index = torch.tensor([bad])
    check(
        same(rows.take(spoilt.z, index), rows.take(before.carry.point.z, index)),
        "The sample that failed did not keep its last good latent.",
    )
    if int(whole.steps[bad]) and not _turns_down(spoilt, bad):
        check(
            spoilt.status[bad] == Status.NONFINITE,
            f"The sample that failed ends {Status(int(spoilt.status[bad])).name}.",
        )


def _solver(case: Case) -> Solver:
    """The solver the call itself would choose: the wrapper is no `Update`, so it would be given another."""
    safe = Picard() if isinstance(case.model, Update) else AdaptiveDescent()
    return case.solver or case.model.default_solver() or safe


def _turns_down(spoilt: Solution, row: int) -> bool:
    """Whether the solver turned the bad proposals down, which is no failure."""
    return int(spoilt.status[row]) in (Status.STALLED, Status.OUT_OF_STEPS)


def frozen_means_frozen(case: Case) -> None:
    """Promise 2, G9: once a sample has ended, nothing of it changes by a bit."""
    limits = torch.arange(len(case._infer(steps=0))) % (case.steps + 1)
    ended: dict[int, Any] = {}
    for item in case._stream(steps=limits, keep="last"):
        for row in (item.status != Status.RUNNING).nonzero().flatten().tolist():
            facts = item.take([row])
            said = (
                facts.z,
                facts.energy,
                facts.status,
                facts.steps,
                facts.evals,
                facts.carry.memory,
                facts.flops_per_sample,
            )
            check(same(ended.setdefault(row, said), said), f"Sample {row} changed after it had ended.")
    check(len(ended) == len(limits), "A stream ended with samples that still run.")


def compaction_changes_no_answer(case: Case) -> None:
    """G11: finished samples leave the computation, and no answer changes."""
    limits = torch.arange(len(case._infer(steps=0))) % (case.steps + 1)
    kept, packed = (case._infer(steps=limits, compact=compact) for compact in (False, True))
    for name in ("steps", "status", "evals", "flops_per_sample"):
        one, other = getattr(kept, name).tolist(), getattr(packed, name).tolist()
        check(one == other, f"`{name}` is {one} without compaction and {other} with it.")
    check(close(kept.z, packed.z), "Compaction changes the latents.")
    check(packed.flops <= kept.flops, f"Compaction costs {packed.flops} FLOPs; without it {kept.flops}.")
