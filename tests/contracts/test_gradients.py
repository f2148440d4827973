"""The gradient contract, for every solver, adjoint and model that fit: fast on one model, the rest in shares."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import ebm
from ebm.testing import GRADIENT_PROMISES, Case
from ebm.testing.neighbours import settled_by
from tests.contracts.members import ADJOINTS, ALIKE, EVERYWHERE, MODELS, SOLVERS
from tests.contracts.test_promises import FITTING, made

PAST_REST = 50
DIFFERENTIATED = {name: adjoint for name, adjoint in ADJOINTS.items() if adjoint.graph}
SHARES = 7  # no divisor of the number of promises: a share holds each of them

# What is excepted, by promise and member; each reason stands in docs/concepts/promises.md.
EXCEPTED = {
    ("gradients_are_right", "searching mala"): "the step size that a warm-up finds is held constant",
    ("gradients_are_right", "searching hmc"): "the step size that a warm-up finds is held constant",
    ("gradients_are_right", "tempered hmc"): "the step size that a warm-up finds is held constant",
    (
        "latents_do_not_depend_on_the_gradient",
        "completion",
    ): "singular values are found by another routine where a graph is kept",
    (
        "latents_do_not_depend_on_the_gradient",
        "modern hopfield",
    ): "without a graph, weights below rounding are left out of a product",
    (
        "latents_do_not_depend_on_the_gradient",
        "softmax memory",
    ): "without a graph, weights below rounding are left out of a product",
    ("gradients_are_right", "message cell"): "a maximum over equal neighbours has no single derivative",
    ("gradients_are_right", "boxed flow"): "the step sizes of an adaptive flow are held constant",
    ("gradients_are_right", "adaptive flow", "tree"): "the step sizes of an adaptive flow are held constant",
    ("gradients_are_right", "sequence memory"): "a sign has no derivative where it flips",
    ("gradients_are_right", "delayed sequence"): "a sign has no derivative where it flips",
}

# What is promised and was seen not to hold, by promise, adjoint (None: any) and model; docs/concepts/promises.md says so.
MISSED = {
    (
        "gradients_do_not_know_their_batch",
        "truncated",
        "tree",
    ): "a sample that ends before the truncated tail sends no gradient",
    (
        "float32_is_as_right_as_it_can_be",
        "truncated",
        "least squares",
    ): "in float32 a short tail near rest loses digits",
    ("float32_is_as_right_as_it_can_be", None, "completion"): "in float32 derivatives of singular values lose digits",
}


def hold(promise: str, solver: str | None, model: str, adjoint: str, steps: int) -> None:
    """Check one promise; a reason why it is not made is looked up first."""
    for member in ((solver,), (model,), (solver, model)):
        if (promise, *member) in EXCEPTED:
            pytest.skip(EXCEPTED[(promise, *member)])
    for who in (adjoint, None):
        if solver is None and steps == PAST_REST and (promise, who, model) in MISSED:
            pytest.xfail(MISSED[promise, who, model])
    case: Case = made(model)
    case = case if solver is None else case._replace(solver=SOLVERS[solver])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ebm.LinearSolveWarning)
        warnings.simplefilter("ignore", ebm.ReversalWarning)
        GRADIENT_PROMISES[promise](case, DIFFERENTIATED[adjoint], steps)


def fits(adjoint: str, solver: ebm.Solver | None, model: str) -> bool:
    """Whether an adjoint goes with a solver and a model."""
    case = made(model)
    used = settled_by(case._replace(solver=solver or case.solver))
    needs = DIFFERENTIATED[adjoint].needs
    return needs <= used.provides and ("rest" not in needs or case.model.tells_rest)


ON_ONE = [solver for solver, model in FITTING if model == "quadratic"]
UNROLLED = [(solver, model) for solver, model in FITTING if model not in ALIKE]
OTHERS = [
    (adjoint, solver, model)
    for adjoint in DIFFERENTIATED
    if adjoint != "unroll"
    for solver, model in UNROLLED
    if fits(adjoint, SOLVERS[solver], model)
]
OWN = [(adjoint, model) for adjoint in DIFFERENTIATED for model in MODELS if fits(adjoint, None, model)]


def share(cases: list[tuple[str, ...]], turn: int) -> list[tuple[str, ...]]:
    """Every seventh of all promises on all cases."""
    every = [(promise, *case) for case in cases for promise in GRADIENT_PROMISES]
    return every[turn::SHARES]


FAST = ("latents_do_not_depend_on_the_gradient", "gradients_are_right")
EACH = [p if p in FAST else pytest.param(p, marks=pytest.mark.slow) for p in GRADIENT_PROMISES]


@pytest.mark.parametrize("promise", EACH)
@pytest.mark.parametrize("solver", ON_ONE)
def test_every_solver_unrolled(solver: str, promise: str):
    hold(promise, solver, "quadratic", "unroll", 5)


@pytest.mark.parametrize(("adjoint", "model"), OWN)
def test_every_adjoint_on_every_model_is_right(adjoint: str, model: str):
    hold("gradients_are_right", None, model, adjoint, 5)


@pytest.mark.parametrize(
    ("promise", "adjoint", "solver", "model"),
    [
        ("gradients_do_not_know_their_batch", "truncated", "broyden by default", "sum"),
        ("neighbours_harm_no_gradient", "truncated", "restarts by agreement", "held layered net"),
        ("gradients_are_finite", "unroll", "boxed broyden", "layered net"),
    ],
)
def test_what_the_whole_product_found(promise: str, adjoint: str, solver: str, model: str):
    hold(promise, solver, model, adjoint, PAST_REST)


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "solver"), [(p, s) for p in GRADIENT_PROMISES for s in ON_ONE])
def test_every_solver_unrolled_past_rest(promise: str, solver: str):
    hold(promise, solver, "quadratic", "unroll", PAST_REST)


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "adjoint", "model"), share(OWN, 0))
def test_every_adjoint_on_every_model(promise: str, adjoint: str, model: str):
    hold(promise, None, model, adjoint, PAST_REST)


# several latents a sample take as many times as long: seconds each, and no other derivative than the solver inside has
LONG = [pytest.param(s, marks=pytest.mark.product if "restarts" in s else pytest.mark.slow) for s in ON_ONE]


@pytest.mark.parametrize("solver", LONG)
def test_five_hundred_steps_unrolled(solver: str):
    hold("gradients_are_finite", solver, "quadratic", "unroll", 500)


@pytest.mark.product
@pytest.mark.parametrize(("promise", "solver", "model"), [each for t in range(SHARES) for each in share(UNROLLED, t)])
def test_every_solver_on_every_model(promise: str, solver: str, model: str):
    for steps in (1, 5, PAST_REST):
        hold(promise, solver, model, "unroll", steps)


@pytest.mark.product
@pytest.mark.parametrize(("promise", "adjoint", "solver", "model"), share(OTHERS, 0))
def test_every_other_adjoint(promise: str, adjoint: str, solver: str, model: str):
    hold(promise, solver, model, adjoint, PAST_REST)


def test_a_share_holds_every_promise_and_all_shares_every_case():
    for turn in range(SHARES):
        some = share(OWN, turn)
        assert {promise for promise, *_ in some} == set(GRADIENT_PROMISES)
        assert {adjoint for _, adjoint, _ in some} == {adjoint for adjoint, _ in OWN}
    whole = [case for turn in range(SHARES) for case in share(OWN, turn)]
    assert {(adjoint, model) for _, adjoint, model in whole} == set(OWN)
    assert len(whole) == len(set(whole)) == len(OWN) * len(GRADIENT_PROMISES)


def test_what_is_excepted_is_said():
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "promises.md").read_text()
    missing = {reason for reason in (*EXCEPTED.values(), *MISSED.values()) if reason not in " ".join(page.split())}
    assert not missing
    assert set(EVERYWHERE) <= set(MODELS)
