"""The promises in coarser precisions, far past rest, and under wrappers of wrappers: a share in the slow suite, all in the product."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import ebm
from ebm import rows
from ebm.testing import PROMISES, Case
from tests.contracts.members import MODELS, SOLVERS
from tests.contracts.test_promises import fits, made

SHARE = 29  # no divisor of the number of promises: a share holds each of them
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COMPANY = ("a_sample_does_not_know_its_batch", "a_failing_neighbour_changes_nothing", "compaction_changes_no_answer")
CHOOSES = ("restarts", "temper")
REASON = "in half precision rounding decides which of several latents is chosen"

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

BOX = ebm.Box(-0.4, 0.6)
NESTS: dict[str, Callable[[ebm.Solver], ebm.Solver]] = {
    "project sweep": lambda solver: ebm.Project(ebm.Sweep(solver, blocks=2), BOX),
    "sweep project": lambda solver: ebm.Sweep(ebm.Project(solver, BOX), blocks=2),
    "restarts project": lambda solver: ebm.Restarts(2, ebm.Project(solver, BOX), spread=0.4),
    "project restarts": lambda solver: ebm.Project(ebm.Restarts(2, solver, spread=0.4), BOX),
    "downhill project": lambda solver: ebm.Downhill(ebm.Project(solver, BOX)),
    "restarts downhill sweep": lambda solver: ebm.Restarts(2, ebm.Downhill(ebm.Sweep(solver, blocks=2)), spread=0.4),
}


def nested() -> Iterable[tuple[str, str]]:
    """Every nest over every solver that it takes."""
    for nest, make in NESTS.items():
        for solver in SOLVERS:
            try:
                whole = make(SOLVERS[solver])
            except (TypeError, ValueError):  # what a wrapper refuses is tested with the wrapper
                continue
            if whole.needs <= made("quadratic").model.provides:
                yield nest, solver


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
    PROMISES[promise](made("quadratic")._replace(solver=SOLVERS[solver], steps=400))


@pytest.mark.parametrize(("nest", "solver", "promise"), shared((*pair, p) for pair in nested() for p in PROMISES))
def test_wrappers_of_wrappers(nest: str, solver: str, promise: str):
    PROMISES[promise](made("quadratic")._replace(solver=NESTS[nest](SOLVERS[solver])))


def test_what_is_left_out_is_said():
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "promises.md").read_text()
    assert REASON in " ".join(page.split())
    assert len(PROMISES) % SHARE
