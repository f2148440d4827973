"""Every promise of the anytime call for sparse codes, the solvers and the stop rule made for them, and of their learning rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

import ebm
from ebm.testing import PROMISES, Case, check_objective, check_solver
from hebbian import Dense
from hebbian.sparse import (
    L0,
    LCA,
    LISTA,
    ActiveSet,
    Convolved,
    CoordinateDescent,
    DualityGap,
    ResidualHebb,
    SparseCoding,
)
from hebbian.testing import Case as RuleCase
from hebbian.testing import check_rule
from tests.energies import numbers


def atoms(*shape: int, seed: int = 1) -> torch.Tensor:
    raw = numbers(*shape, seed=seed)
    return raw / raw.flatten(1).norm(dim=1).view(-1, *[1] * (raw.ndim - 1))


X = 2 * numbers(5, 6, seed=2)
X[4] *= 0.05  # an easy sample among harder ones


def coding(penalty: ebm.Term, **settings: object) -> SparseCoding:
    return SparseCoding(atoms(10, 6), penalty, **settings)  # type: ignore[arg-type]


MODELS: dict[str, Callable[[], Case]] = {
    "lasso": lambda: Case(coding(ebm.L1(0.2)), X),
    "lasso with weights": lambda: Case(coding(ebm.L1(torch.linspace(0.1, 0.6, 10).double())), X),
    "non-negative": lambda: Case(coding(ebm.NonNegative(0.2)), X),
    "groups": lambda: Case(coding(ebm.GroupL1(0.3), group=2), X),
    "count": lambda: Case(coding(L0(0.1)), X),
    "guessed": lambda: Case(coding(ebm.L1(0.2), start=ebm.Amortised(LISTA(atoms(10, 6), ebm.L1(0.2), 2))), X),
    "convolved": lambda: Case(SparseCoding(atoms(3, 2, 4), ebm.L1(0.2), stride=2, padding=1), numbers(4, 2, 9, seed=3)),
    "circuit": lambda: Case(LCA(coding(ebm.L1(0.2)), 0.2), X),
    "hard circuit": lambda: Case(LCA(coding(L0(0.2)), 0.2), X),
}
SOLVERS: dict[str, ebm.Solver] = {
    "active set": ActiveSet(),
    "round by round": ActiveSet(0.9, rounds=1),
    "careful start": ActiveSet(0.05, rounds=3),
    "coordinate descent": CoordinateDescent(2),
    "unscreened": CoordinateDescent(1, active=False, screen=False),
    "fista": ebm.FISTA(),
    "ista": ebm.Proximal(),
}
STOPS: dict[str, ebm.Stop] = {"gap": DualityGap(1e-2), "both": ebm.AllOf(DualityGap(1e-3), ebm.AtRest(1e-2))}


@cache
def made(name: str) -> Case:
    return MODELS[name]()


FITTING = [(s, m) for s in SOLVERS for m in MODELS if SOLVERS[s].needs <= made(m).model.provides]
FAST = [
    (s, m) for s, m in FITTING if m == "lasso" or (m == "non-negative" and s in ("active set", "coordinate descent"))
]


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_its_own_solver(promise: str, model: str):
    PROMISES[promise](made(model))


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize(("solver", "model"), FAST)
def test_every_solver(promise: str, solver: str, model: str):
    PROMISES[promise](made(model)._replace(solver=SOLVERS[solver]))


@pytest.mark.slow
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize(("solver", "model"), [pair for pair in FITTING if pair not in FAST])
def test_every_solver_on_every_other_model(promise: str, solver: str, model: str):
    PROMISES[promise](made(model)._replace(solver=SOLVERS[solver]))


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_rule(promise: str, stop: str):
    PROMISES[promise](made("lasso")._replace(stop=STOPS[stop], solver=ebm.FISTA()))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_is_settings(solver: str):
    case = made("lasso")
    check_solver(SOLVERS[solver], case.model, case.x[:4])  # the easy sample is at rest where it starts


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_an_objective(model: str):
    case = made(model)
    check_objective(case.model, case.x)


@pytest.mark.parametrize("per_atom", [True, False])
def test_the_rule_keeps_the_promises_of_rules(per_atom: bool):
    code = torch.where(numbers(7, 4, seed=5) > 0, numbers(7, 4, seed=6), 0.0)
    check_rule(
        ResidualHebb(0.3, per_atom), RuleCase(Dense(3, 4), pre=numbers(7, 3, seed=7), post=code, weight=atoms(4, 3))
    )


def test_the_rule_keeps_them_over_places():
    synapse = Convolved(3, 2, (4,), stride=2, padding=1)
    code = torch.where(numbers(5, 3, 4, seed=5) > 0, numbers(5, 3, 4, seed=6), 0.0)
    check_rule(ResidualHebb(0.3), RuleCase(synapse, pre=numbers(5, 2, 9, seed=7), post=code, weight=atoms(3, 2, 4)))
