"""Promises about company: a sample does not know its batch."""

from __future__ import annotations

from typing import Any

import torch

from ebm import rows
from ebm.solution import Solution, Status
from ebm.testing.case import Case, check, close, same
from ebm.testing.neighbours import FAILS, FINE, Troubled, settled_by, troubled

__all__ = [
    "a_failing_neighbour_changes_nothing",
    "a_sample_does_not_know_its_batch",
    "compaction_changes_no_answer",
    "frozen_means_frozen",
]

_PAST_REST = 30  # steps after which a sample at rest is judged as one


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
        check(_same_place(part, wanted), f"{who} ends elsewhere than in company.")


def _same_place(one: Solution, other: Solution) -> bool:
    """Whether latents agree to rounding; far past rest, where energies differ by rounding alone and choose the point that is kept, to its root."""
    root = 4 * torch.finfo(one.residual.dtype).eps ** 0.5
    resting = (torch.maximum(one.residual, other.residual) <= root) & (one.steps >= _PAST_REST)
    here, there = (solution.take(resting.nonzero().flatten()).z for solution in (one, other))
    apart = rows.rms(rows.map_rows(torch.sub, here, there))
    agree = bool((apart <= root * (1 + rows.rms(here))).all())
    going = (~resting).nonzero().flatten()
    return agree and close(one.take(going).z, other.take(going).z)


def a_failing_neighbour_changes_nothing(case: Case) -> None:
    """G10: beside a sample that turns to NaN the others go their way, and it keeps its last good latent."""
    before = case._infer(steps=0)
    batch, bad = len(before), 1
    start = before.carry.point.z
    kind = torch.where(torch.arange(batch) == bad, FAILS, FINE)
    failing = case._replace(model=Troubled(case.model), solver=settled_by(case))
    whole = failing._infer(steps=case.steps, x=troubled(case.x, torch.full_like(kind, FINE), start))
    spoilt = failing._infer(steps=case.steps, x=troubled(case.x, kind, start))
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
