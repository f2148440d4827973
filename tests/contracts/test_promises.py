"""Every promise of the anytime call, for every solver on every model that fits, and for every stop rule."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from ebm.testing import PROMISES, Case, check_objective, check_solver
from tests.contracts.members import ALIKE, EVERYWHERE, MODELS, SOLVERS, STOPS


@cache
def made(model: str) -> Case:
    return MODELS[model]()


def fits(solver: str, model: str) -> bool:
    return SOLVERS[solver].needs <= made(model).model.provides


FITTING = [(solver, model) for solver in SOLVERS for model in MODELS if fits(solver, model)]
RARE = {
    "conditional",
    "flip",
    "levels",
    "prox",
    "residuals",
}  # a solver that needs one of these fits no model of `EVERYWHERE`
PAIRS = [(solver, model) for solver, model in FITTING if model in EVERYWHERE or SOLVERS[solver].needs & RARE]
OTHERS = [pair for pair in FITTING if pair not in PAIRS and pair[1] not in ALIKE]
SHARES = 6


def shared(turn: int) -> list[tuple[str, str, str]]:
    """A share of all promises on all other pairs: every pair, every promise of each solver, and every promise on each model stands in each share."""
    number = {name: place for names in (SOLVERS, MODELS, PROMISES) for place, name in enumerate(names)}
    return [
        (promise, solver, model)
        for solver, model in OTHERS
        for promise in PROMISES
        if (number[promise] + number[solver] + number[model]) % SHARES == turn
    ]


def test_no_part_is_left_out():
    assert {solver for solver, _ in PAIRS} == set(SOLVERS)
    assert {model for _, model in FITTING} == set(MODELS)


def marked(pairs: list[tuple[str, str]]) -> list[Any]:
    """All promises on the pairs; fast are those on the quadratic and a quarter of the others, in the slow suite the rest, with the wells, which take the longest."""
    every = [(promise, *pair) for pair in pairs for promise in PROMISES]
    fast = [case[2] == "quadratic" or (case[2] != "wells" and place % 4 == 0) for place, case in enumerate(every)]
    return [case if now else pytest.param(*case, marks=pytest.mark.slow) for case, now in zip(every, fast, strict=True)]


@pytest.mark.parametrize(("promise", "solver", "model"), marked(PAIRS))
def test_every_solver(promise: str, solver: str, model: str):
    PROMISES[promise](made(model)._replace(solver=SOLVERS[solver]))


def test_a_share_covers_every_two_of_solver_model_and_promise():
    whole = {(promise, solver, model) for solver, model in OTHERS for promise in PROMISES}
    assert sorted(each for turn in range(SHARES) for each in shared(turn)) == sorted(whole)
    for turn in range(SHARES):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            here, everywhere = ({(each[first], each[second]) for each in some} for some in (shared(turn), whole))
            assert here == everywhere


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "solver", "model"), shared(0))
def test_every_solver_on_every_other_model(promise: str, solver: str, model: str):
    PROMISES[promise](made(model)._replace(solver=SOLVERS[solver]))


@pytest.mark.product
@pytest.mark.parametrize(("promise", "solver", "model"), [each for turn in range(1, SHARES) for each in shared(turn)])
def test_every_promise_of_every_solver_on_every_other_model(promise: str, solver: str, model: str):
    PROMISES[promise](made(model)._replace(solver=SOLVERS[solver]))


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_its_own_solver(promise: str, model: str):
    PROMISES[promise](made(model))


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_rule(promise: str, stop: str):
    PROMISES[promise](made("closed")._replace(stop=STOPS[stop], solver=SOLVERS["momentum"]))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_is_settings(solver: str):
    case = made("ladder") if "levels" in SOLVERS[solver].needs else Case(None, None)  # type: ignore[arg-type]
    check_solver(SOLVERS[solver], case.model, case.x)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_an_objective(model: str):
    case = made(model)
    check_objective(case.model, case.x)
