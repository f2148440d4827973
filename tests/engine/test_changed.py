"""Going on after something has changed: the facts are those of the model as it is now."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ebm
from ebm import Status
from ebm.testing.case import evaluations
from tests.energies import Quadratic, numbers
from tests.engine.test_resume import same

X = numbers(3, 3, seed=4)
SOLVERS = [
    ebm.AdaptiveDescent(),
    ebm.LBFGS(3),
    ebm.NewtonCG(),
    ebm.BarzilaiBorwein(),
    ebm.Backtracking(),
    ebm.Nesterov(),
    ebm.Descent(0.3, momentum=0.5),
]


class Pull(ebm.Energy):
    """At rest at t x, with energy zero."""

    def __init__(self) -> None:
        super().__init__()
        self.t = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return torch.zeros_like(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return 0.5 * (z - self.t * c).square().sum(1)


def changed(model: Pull, x: torch.Tensor, what: str, part: ebm.Solution) -> tuple[torch.Tensor, ebm.Solution]:
    """The model, the observation or the solution, changed as one of its users would."""
    if what == "weights":
        with torch.no_grad():
            model.t.fill_(3.0)
    elif what == "a new parameter":
        model.t = torch.nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    elif what == "x":
        return 3 * x, part
    elif what == "x in place":
        x *= 3
    elif what == "z in place":
        part.z.add_(1.0)
    elif what == "z of a part":
        part.z.add_(1.0)
        part = part.take([0, 1, 2])
    return x, part


WHAT = ["weights", "a new parameter", "x", "x in place", "z in place", "z of a part"]


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_changed_problem_is_settled_anew(solver: ebm.Solver, what: str):
    model, x = Pull(), X.clone()
    part = ebm.infer(model, x, steps=60, solver=solver, stop=ebm.AtRest(1e-6))
    assert bool(part.converged.all())
    x, part = changed(model, x, what, part)
    at_once = ebm.infer(model, x, steps=0, solver=solver, stop=ebm.AtRest(1e-6), resume=part)
    torch.testing.assert_close(at_once.energy, model(at_once.z, x).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(at_once.residual, ebm.rows.rms((at_once.z - model.t * x).detach()))
    if what != "z of a part":  # there the running point may still be at rest, and is the better one
        assert at_once.status.tolist() == [Status.OUT_OF_STEPS] * 3
    found = ebm.infer(model, x, steps=60, solver=solver, stop=ebm.AtRest(1e-6), resume=part)
    assert bool(found.converged.all())
    torch.testing.assert_close(found.z, (model.t * x).detach(), rtol=0, atol=2e-6)
    torch.testing.assert_close(found.energy, model(found.z, x).detach(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_what_a_solver_remembers_of_another_problem_is_forgotten(solver: ebm.Solver):
    model = Pull()
    part = ebm.infer(model, X, steps=3, solver=solver, keep="last")
    with torch.no_grad():
        model.t.fill_(3.0)
    found = ebm.infer(model, X, steps=3, solver=solver, keep="last", resume=part)
    anew = ebm.infer(model, X, steps=3, solver=solver, keep="last", start=part.z)
    assert torch.equal(found.z, anew.z) and found.steps.tolist() == [int(part.steps[0]) + 3] * 3


@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2), ebm.Implicit()], ids=repr)
def test_a_changed_problem_has_the_gradient_of_what_it_is_now(adjoint: ebm.Adjoint):
    model = Pull()
    options: dict[str, Any] = {"solver": ebm.Descent(0.5), "stop": ebm.AtRest(1e-6)}
    part = ebm.infer(model, X, steps=60, **options)
    with torch.no_grad():
        model.t.fill_(3.0)
    found = ebm.infer(model, X, steps=60, resume=part, adjoint=adjoint, **options)
    torch.testing.assert_close(found.z.detach(), 3 * X, rtol=0, atol=1e-5)
    assert found.energy is not None and float(found.energy.detach().max()) < 1e-9


def test_a_best_point_is_judged_by_the_model_as_it_is():
    model = Pull()
    part = ebm.infer(model, X, steps=2, solver=ebm.Descent(2.5), keep="best")  # away from rest: the start is best
    assert part.z.abs().max() == 0
    with torch.no_grad():
        model.t.fill_(-3.0)
    found = ebm.infer(model, X, steps=0, solver=ebm.Descent(2.5), keep="best", resume=part)
    energies = [model(z, X).detach() for z in (part.z, part.carry.point.z)]
    torch.testing.assert_close(found.energy, torch.minimum(*energies))


def test_samples_that_are_as_they_were_go_on_to_the_bit():
    model, solver = Pull(), ebm.Descent(0.1, momentum=0.7)
    whole = ebm.infer(model, X, steps=9, solver=solver)
    part = ebm.infer(model, X, steps=4, solver=solver)
    x = X.clone()
    x[1] += 1.0
    found = ebm.infer(model, x, steps=5, solver=solver, resume=part)
    assert torch.equal(found.z[[0, 2]], whole.z[[0, 2]]) and not torch.equal(found.z[1], whole.z[1])
    assert found.evals.tolist() == [10, 11, 10], "to find out is on the account of the one that changed"


@pytest.mark.parametrize(
    ("copied", "asks"),
    [
        (lambda part, path: part, 0),
        (lambda part, path: part.take([0, 1, 2]), 0),
        (lambda part, path: ebm.cat([part.take([0]), part.take([1, 2])]), 0),
        (lambda part, path: (part.save(path), ebm.Solution.load(path))[1], 0),
        (lambda part, path: (part.save(path), ebm.Solution.load(path))[1].take([0, 1, 2]), 0),
        (lambda part, path: pickle.loads(pickle.dumps(part)), 1),
        (lambda part, path: copy.deepcopy(part), 1),
    ],
    ids=["itself", "taken", "joined", "loaded", "a part of it loaded", "pickled", "copied"],
)
@pytest.mark.parametrize("how", ["the same model", "a copy of it", "a copy, the model gone"])
def test_what_has_not_changed_goes_on_to_the_bit(copied: Callable[..., Any], asks: int, how: str, tmp_path: Path):
    """And nothing is evaluated to find out, where it is known: by versions, by numbers, or by the digest in a file."""
    model, solver = Quadratic(), ebm.Descent(0.2, momentum=0.7)
    whole = ebm.infer(model, X, steps=9, solver=solver)
    part = copied(ebm.infer(model, X, steps=4, solver=solver), tmp_path / "part.pt")
    other = model if how == "the same model" else copy.deepcopy(model)
    ebm.infer(other, X, steps=0, solver=solver)
    if how.endswith("gone"):
        del model
        asks = 1 if asks or part.provenance.source.digest is None else 0
    with evaluations(other) as sizes:
        found = ebm.infer(other, X.clone(), steps=5, solver=solver, resume=part)
    same(found, whole)
    assert sum(sizes) == 3 * (5 + asks)
    assert found.fixed_flops == whole.fixed_flops + asks * 3 * int(whole.flops_per_sample[0]) // 10


def test_a_shared_leaf_of_the_observation_that_was_written_over_is_another():
    class Joined(ebm.Energy):
        def init_latent(self, c: Any, draw: Any) -> torch.Tensor:
            return torch.zeros_like(c["x"])

        def forward(self, z: torch.Tensor, c: Any) -> torch.Tensor:
            return 0.5 * (z - c["x"] @ c["links"].value).square().sum(1)

    links = torch.eye(3, dtype=torch.float64)
    x = {"x": X, "links": ebm.Shared(links)}  # what belongs to no sample is not copied at the door
    first = ebm.infer(Joined(), x, steps=5)
    links *= 3
    found = ebm.infer(Joined(), x, steps=5, resume=first)
    torch.testing.assert_close(found.z, 3 * X)
    assert float(found.energy.max()) < 1e-12  # pyright: ignore[reportOptionalMemberAccess]


def test_a_file_of_other_weights_is_not_taken_for_the_same(tmp_path: Path):
    model = Pull()
    ebm.infer(model, X, steps=60, stop=ebm.AtRest(1e-6)).save(tmp_path / "rest.pt")
    with torch.no_grad():
        model.t.fill_(3.0)
    found = ebm.infer(model, X, steps=60, stop=ebm.AtRest(1e-6), resume=ebm.Solution.load(tmp_path / "rest.pt"))
    torch.testing.assert_close(found.z, 3 * X, rtol=0, atol=1e-5)


def test_weights_that_move_in_a_callback_are_other_weights():
    model = Pull()

    def move(solution: ebm.Solution) -> None:
        with torch.no_grad():
            model.t.fill_(3.0 if int(solution.steps[0]) == 5 else float(model.t))

    part = ebm.infer(model, X, steps=5, solver=ebm.Descent(0.5), callback=move)
    found = ebm.infer(model, X, steps=0, solver=ebm.Descent(0.5), resume=part)
    torch.testing.assert_close(found.energy, model(found.z, X).detach())


def test_products_in_another_precision_are_another_model():
    model, x = Quadratic(dtype=torch.float32), X.float()
    part = ebm.infer(model, x, steps=5, solver=ebm.Descent(0.3), precision=torch.bfloat16)
    found = ebm.infer(model, x, steps=0, solver=ebm.Descent(0.3), resume=part)
    torch.testing.assert_close(found.energy, model(found.z, model.condition(x)).detach(), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found.energy, part.energy)


def test_a_model_in_another_dtype_is_refused(tmp_path: Path):
    part = ebm.infer(Quadratic(dtype=torch.float32), X.float(), steps=1, solver=ebm.Descent(0.3))
    part.save(tmp_path / "part.pt")
    for held in (part, ebm.Solution.load(tmp_path / "part.pt")):
        with pytest.raises(ValueError, match=r"`resume=` was made in torch.float32, but the model is in torch.float64"):
            ebm.infer(Quadratic(), X, steps=1, solver=ebm.Descent(0.3), resume=held)


@pytest.mark.parametrize("steps", [0, 2])
def test_an_answer_shares_no_memory_with_what_was_given(steps: int):
    class Begun(Pull):
        def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
            return c

    model, x, start = Begun(), X.clone(), X.clone()
    for options in ({}, {"start": start}):
        ebm.infer(model, x, steps=steps, **options).z.add_(5.0)
    assert torch.equal(x, X) and torch.equal(start, X)
