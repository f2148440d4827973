"""Promises about resources: what is granted, what is used, and what is counted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from ebm import rows
from ebm.engine.budget import Budget
from ebm.solution import Solution, Status
from ebm.testing.case import Case, check, evaluations, same

__all__ = [
    "always_an_answer",
    "flops_are_a_limit",
    "more_budget_is_never_worse",
    "seconds_are_soft",
    "steps_are_exact",
    "the_pot_is_shared",
    "work_is_what_was_executed",
]


class _Ticking:
    """A clock that moves by one second at each reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def always_an_answer(case: Case) -> None:
    """G1: with any limit at zero the answer is the start, finite."""
    start = case._infer(steps=0)
    for limit in ({"seconds": 0.0}, {"flops": 0}, {"budget": Budget(steps=0)}):
        found = case._infer(**limit)
        word = next(iter(limit))
        check((found.steps == 0).all(), f"`{word}` of zero still took {found.steps.tolist()} steps.")
        check(same(found.z, start.z), f"With `{word}` of zero the answer is not the start.")
        check(rows.finite(found.z).all(), f"With `{word}` of zero the answer is not finite.")


def steps_are_exact(case: Case) -> None:
    """G2: a sample takes exactly the steps granted, unless it ends before; also with a limit a sample."""
    for limit in (1, case.steps):
        with evaluations(case.model) as sizes:
            found = case._infer(steps=limit, compact=False)
        check(found.steps.max() <= limit, f"{int(found.steps.max())} steps were taken; {limit} were granted.")
        out = found.status == Status.OUT_OF_STEPS
        check((found.steps[out] == limit).all(), "A sample is out of steps before it took them all.")
        most = 1 + limit * _most_evals(case, found)
        check(
            len(sizes) <= most + 1,
            f"{len(sizes)} evaluations in {limit} steps; {most} at most, and one to price the call.",
        )
    limits = torch.arange(len(found)) % (case.steps + 1)
    uneven = case._infer(steps=limits)
    check(
        (uneven.steps <= limits).all(),
        f"Limits of {limits.tolist()} steps were granted; {uneven.steps.tolist()} were taken.",
    )
    out = uneven.status == Status.OUT_OF_STEPS
    check(
        (uneven.steps[out] == limits[out]).all(), "With a limit a sample, one is out of steps before it took them all."
    )


def _most(case: Case, found: Solution) -> dict[str, int]:
    solver = case.solver or case.model.default_solver()
    return {"point": 1} if solver is None else solver.most(found.z)


def _most_evals(case: Case, found: Solution) -> int:
    return _most(case, found).get("point", 0)


def _always_asks_the_most(case: Case, found: Solution) -> bool:
    """Whether no step costs less than planned; inner solvers stop early, and further evaluations may not be needed."""
    return _most_evals(case, found) == 1 and not _most(case, found).keys() & {"bend", "curvature", "gauss_newton"}


def seconds_are_soft(case: Case) -> None:
    """G3: no step is started if the time gone and the longest step so far exceed the limit."""
    for limit in (3.0, 20.0):
        clock = _Ticking()
        found = case._infer(seconds=limit, steps=50, clock=clock)
        check(
            found.seconds <= limit + 4,
            f"{limit:g} s were granted, {found.seconds:g} s used, on a clock of one second a reading.",
        )


def flops_are_a_limit(case: Case) -> None:
    """No step is started that would exceed the FLOPs granted, and a sample that had enough is not cut short."""
    whole = case._infer(steps=case.steps, compact=True)
    start = case._infer(steps=0)
    if whole.flops == start.flops:
        return
    for share in (0.3, 0.7, 1.0):
        limit = start.flops + int(share * (whole.flops - start.flops))
        found = case._infer(flops=limit, steps=case.steps, compact=True)
        check(found.flops <= limit, f"{limit} FLOPs were granted; {found.flops} were executed.")
        check(not (found.status == Status.RUNNING).any(), "A call ended with samples that still run.")
    if _always_asks_the_most(case, whole):
        check((found.steps == whole.steps).all(), "With the FLOPs of a whole call not all of its steps were taken.")


def more_budget_is_never_worse(case: Case) -> None:
    """G14: a larger limit never gives fewer steps or a worse kept point."""
    items = [case._infer(steps=limit, keep="best") for limit in range(case.steps + 1)]
    budgets = sorted({item.flops for item in items})
    for ladder in (items, [case._infer(flops=flops, steps=case.steps, keep="best") for flops in budgets]):
        for less, more in pairwise(ladder):
            check(
                (less.steps <= more.steps).all(),
                f"With more budget a sample took fewer steps: {less.steps.tolist()}, {more.steps.tolist()}.",
            )
            worse = _rank(more) > _rank(less)
            check(
                not worse.any(),
                f"With more budget the kept point of samples {worse.nonzero().flatten().tolist()} is worse.",
            )


def _rank(solution: Solution) -> torch.Tensor:
    return solution.residual if solution.energy is None else solution.energy


def the_pot_is_shared(case: Case) -> None:
    """G16: once a pot is empty no step is started, and every batch is still answered."""
    whole = case._infer(steps=case.steps)
    taken = int(whole.steps.sum())
    pot = Budget(steps=3 * taken)
    found = [case._infer(steps=case.steps, budget=pot) for _ in range(5)]
    used = sum(int(item.steps.sum()) for item in found)
    check(used <= 3 * taken, f"A pot of {3 * taken} sample-steps gave {used}.")
    check(pot.steps is not None and pot.steps >= 0, f"The pot is overdrawn: {pot.steps}.")
    check(all(rows.finite(item.z).all() for item in found), "A batch that found the pot empty has no answer.")
    check(same(found[0].z, whole.z), "A pot that is full enough changes the answer.")


def work_is_what_was_executed(case: Case) -> None:
    """Promise 9, G11: FLOPs are a fixed part and the samples' own, exactly so if finished samples leave at once.

    Also where nobody watches: then the engine makes several steps before it looks, and must not run what it throws away.
    """
    start = case._infer(steps=0)
    price = _price(case, start)
    watched = {"steps": case.steps}
    for options in ({**watched, "compact": True}, {**watched, "compact": False}, _UNWATCHED):
        with evaluations(case.model) as sizes:
            found = case._infer(**options)
        executed, own = found.flops - found.fixed_flops, int(found.flops_per_sample.sum())
        check(executed >= own, f"{executed} FLOPs are reported as executed, but the samples' own are {own}.")
        # a failure shows at the end of several steps alone; on an accelerator so does a sample that has stalled
        sure = options is not _UNWATCHED or _all_seen(found)
        if options["compact"] and sure:
            # in an inner iteration rows that need no more products ride along to its end
            riding = bool(_kinds(case, start) & {"curvature", "gauss_newton"})
            words = f"{executed} FLOPs beyond the fixed part, but the samples' own add up to {own}."
            check(executed == own or riding, words)
            check(
                sum(sizes) == int(found.evals.sum()),
                f"{sum(sizes)} rows were evaluated; `evals` adds up to {int(found.evals.sum())}.",
            )
        if price is not None:
            check(
                executed == price * sum(sizes),
                f"{sum(sizes)} rows at {price} FLOPs were evaluated, but {executed} FLOPs reported.",
            )


_UNWATCHED: dict[str, Any] = {"steps": 23, "compact": True, "keep": "last"}  # more than two strides of the engine


def _all_seen(found: Solution) -> bool:
    return found.status.device.type == "cpu" and not bool((found.status == Status.NONFINITE).any())


def _price(case: Case, start: Solution) -> int | None:
    """FLOPs of an evaluation of one sample, where nothing else is charged to samples."""
    reads = "reads" in start.origin.stop or "Confident" in start.origin.stop
    each: Any = start.flops_per_sample
    return None if reads or _kinds(case, start) - {"point"} or not len(each) else int(each[0])


def _kinds(case: Case, found: Solution) -> set[str]:
    """The kinds of questions that a step asks."""
    solver = case.solver or case.model.default_solver()
    return {"point"} if solver is None else set(solver.most(found.z))
