"""The promises in coarser precisions, far past rest, and under wrappers of wrappers: a share in the slow suite, all in the product."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from ebm import rows
from ebm.testing import PROMISES, Case
from tests.contracts.members import AROUND, MODELS, SOLVERS
from tests.contracts.test_promises import fits, made

SHARE = 29  # no divisor of the number of promises: a share holds each of them
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COMPANY = ("a_sample_does_not_know_its_batch", "a_failing_neighbour_changes_nothing", "compaction_changes_no_answer")
CHOOSES = ("restarts", "temper")
REASON = "in half precision rounding decides which of several latents is chosen"
SEARCHES_AT_REST, SEARCHING = ("sweep of adaptive",), "Near rest some solvers decide by numbers that are rounding"

# each takes a number of steps that grows no faster than what is asked for
LINEAR = (
    "always_an_answer",
    "best_so_far_never_rises",
    "facts_are_of_the_point_returned",
    "going_on_is_never_stopping",
    "frozen_means_frozen",
    "a_sample_does_not_know_its_batch",
    "a_failing_neighbour_changes_nothing",
    "compaction_changes_no_answer",
    "same_noise_same_bits",
    "inference_leaves_no_trace",
    "history_changes_nothing",
)

NESTS = {
    (outer, inner): lambda solver, outer=outer, inner=inner: AROUND[outer](AROUND[inner](solver))
    for outer, inner in permutations(AROUND, 2)
}


def nested() -> Iterable[tuple[str, str, str]]:
    """Every wrapper around every other around every solver that both take."""
    for nest, make in NESTS.items():
        for solver in SOLVERS:
            try:
                whole = make(SOLVERS[solver])
            except (TypeError, ValueError):  # what a wrapper refuses is tested with the wrapper
                continue
            if whole.needs <= made("quadratic").model.provides:
                yield *nest, solver


def cast(case: Case, dtype: torch.dtype) -> Case:
    def leaf(known: torch.Tensor) -> torch.Tensor:
        return known.to(dtype) if known.is_floating_point() else known

    return case._replace(model=case.model.to(dtype), x=rows.map_rows(leaf, case.x))


def shared(cases: Iterable[Any]) -> list[Any]:
    """The cases, of which one in twenty-nine is in the slow suite and the others in the product."""
    return [
        pytest.param(*case, marks=pytest.mark.product if place % SHARE else pytest.mark.slow)
        for place, case in enumerate(cases)
    ]


ON_QUADRATIC = [solver for solver in SOLVERS if fits(solver, "quadratic")]


@pytest.mark.parametrize(
    ("dtype", "solver", "promise"), shared((d, s, p) for d in DTYPES for s in ON_QUADRATIC for p in PROMISES)
)
def test_coarser_precisions(dtype: str, solver: str, promise: str):
    if dtype != "float32" and promise in COMPANY and any(name in solver for name in CHOOSES):
        pytest.skip(REASON)
    own = MODELS["quadratic"]()  # a cast changes it
    PROMISES[promise](cast(own, DTYPES[dtype])._replace(solver=SOLVERS[solver]))


@pytest.mark.parametrize(("steps", "solver", "promise"), shared((40, s, p) for s in ON_QUADRATIC for p in LINEAR))
def test_forty_steps(steps: int, solver: str, promise: str):
    PROMISES[promise](made("quadratic")._replace(solver=SOLVERS[solver], steps=steps))


@pytest.mark.product
@pytest.mark.parametrize("promise", LINEAR)
@pytest.mark.parametrize("solver", ON_QUADRATIC)
def test_four_hundred_steps(solver: str, promise: str):
    if solver in SEARCHES_AT_REST and promise in COMPANY:
        pytest.xfail(SEARCHING)
    PROMISES[promise](made("quadratic")._replace(solver=SOLVERS[solver], steps=400))


@pytest.mark.parametrize(
    ("outer", "inner", "solver", "promise"), shared((*nest, p) for nest in nested() for p in PROMISES)
)
def test_wrappers_of_wrappers(outer: str, inner: str, solver: str, promise: str):
    PROMISES[promise](made("quadratic")._replace(solver=NESTS[outer, inner](SOLVERS[solver])))


def test_what_is_left_out_is_said_and_nests_are_there():
    assert {(outer, inner) for outer, inner, _ in nested()} == set(NESTS) - {("sweep", "restarts")}  # refused
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "promises.md").read_text()
    assert REASON in " ".join(page.split()) and SEARCHING in " ".join(page.split())
    assert len(PROMISES) % SHARE
