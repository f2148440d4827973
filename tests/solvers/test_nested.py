"""Solvers around solvers: what they hand on, that each runs within each, and constraints on solvers that learn from forces."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.solvers.base import Wrapper
from tests.contracts.members import AROUND, MODELS, SOLVERS, Decay
from tests.energies import Quadratic, numbers

X = numbers(4, 3, seed=9)
BOX = ebm.Box(-0.3, 0.5)
INSIDE = {
    "a sampler": ebm.Langevin(0.05),
    "a minimiser": ebm.NewtonCG(),
    "a fixed-point solver": ebm.Picard(),
    "one that does not compile": ebm.Restarts(3, ebm.Adam(), spread=0.4),
}


class Bare(Wrapper):
    """A wrapper whose author wrote nothing but a step."""

    def __init__(self, inner: ebm.Solver) -> None:
        self.inner = inner

    def step(self, field: Any, point: Any, memory: Any, draw: Any) -> Any:
        return self.inner.step(field, point, memory, draw)


@pytest.mark.parametrize("inner", INSIDE.values(), ids=INSIDE)
def test_a_wrapper_cannot_forget_what_the_solver_inside_is(inner: ebm.Solver):
    bare = Bare(inner)
    for name in ("needs", "keep", "noisy", "compiles", "samples", "learns", "recalls", "provides"):
        assert getattr(bare, name) == getattr(inner, name), name
    assert not bare.additive, "a wrapper may undo what is not finite"


def test_a_sampler_within_a_sweep_is_not_ended_by_the_rule_of_a_model():
    class Hasty(Quadratic):
        def default_stop(self) -> ebm.Stop:
            return ebm.AtRest(1e9)

    for solver in (ebm.Langevin(0.05), ebm.Sweep(ebm.Langevin(0.05), blocks=2), ebm.Project(ebm.Langevin(0.05), BOX)):
        assert ebm.infer(Hasty(), X, steps=5, solver=solver).steps.tolist() == [5] * 4
    assert ebm.infer(Hasty(), X, steps=5, solver=ebm.Downhill(ebm.Langevin(0.05))).steps.tolist() == [0] * 4


@pytest.mark.parametrize("inner", [ebm.Restarts(2, ebm.Descent(0.1), spread=0.1), ebm.Tempering(ebm.MALA(0.1))])
def test_a_sweep_refuses_solvers_that_keep_points_of_a_part(inner: ebm.Solver):
    with pytest.raises(ValueError, match=r"keeps of a part would be those of .* Turn them round"):
        ebm.Sweep(inner)


def tried(name: str, around: str) -> None:
    """Two steps end in finite numbers that fit the model, or the pair is refused in words of ours."""
    try:
        solver = AROUND[around](SOLVERS[name])
    except ValueError as refusal:
        if "`Sweep` " in str(refusal):
            return
        raise
    makers = ("quadratic", "least squares", "composite", "hopfield", "monotone cell", "ladder")
    case = next((MODELS[m]() for m in makers if solver.needs <= MODELS[m]().model.provides), None)
    if case is None:
        return  # what the wrapper and the solver need together no model has, and the door says so
    try:
        found = ebm.infer(case.model, case.x, steps=2, solver=solver)
    except (ValueError, TypeError) as refusal:
        if "`" in str(refusal):
            return
        raise
    assert all(leaf.isfinite().all() for leaf in rows.leaves(found.z))
    kept = case.model.point(found.z, case.model.condition(case.x))
    if kept.energy is not None:
        torch.testing.assert_close(found.energy, kept.energy.detach(), rtol=1e-9, atol=1e-9)


NESTED = [(name, around) for name in SOLVERS for around in AROUND]


@pytest.mark.parametrize(("name", "around"), NESTED[::7])
def test_solvers_run_within_wrappers_or_are_refused(name: str, around: str):
    tried(name, around)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "around"), NESTED)
def test_every_solver_runs_within_every_wrapper_or_is_refused(name: str, around: str):
    tried(name, around)


@pytest.mark.parametrize(
    "inner", [ebm.NewtonCG(forcing=1e-9, radius=1e6), ebm.GaussNewton(forcing=1e-9, damping=1e-12)], ids=repr
)
def test_a_sweep_of_newton_steps_minimises_over_each_block_in_turn(inner: ebm.Solver):
    """On a quadratic least-squares energy a Newton step of a block ends at its minimum: the method of Gauss and Seidel."""
    matrix = numbers(5, 4, seed=2)

    class Linear(ebm.LeastSquares):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c[:, :4])

        def residuals(self, z: Tensor, c: Tensor) -> Tensor:
            return z @ matrix.T - c

    x = numbers(3, 5, seed=3)
    found = ebm.infer(Linear(), x, steps=1, solver=ebm.Sweep(inner, blocks=2), keep="last").z
    first = torch.linalg.lstsq(matrix[:, :2], x.T).solution
    second = torch.linalg.lstsq(matrix[:, 2:], x.T - matrix[:, :2] @ first).solution
    torch.testing.assert_close(found, torch.cat([first, second]).T, rtol=1e-6, atol=1e-6)


class Bowl(ebm.LeastSquares):
    """(z - c)^T A (z - c) / 2 with curvatures from 0.03 to 1."""

    def __init__(self) -> None:
        super().__init__()
        basis = torch.linalg.qr(numbers(12, 12, seed=1)).Q
        self.root = basis * torch.logspace(-1.5, 0, 12, dtype=torch.float64).sqrt()

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return (z - c) @ self.root


@cache
def slowly(onto: Any) -> ebm.Solution:
    """Projected descent to rest, which needs hundreds of steps."""
    solver = ebm.Project(ebm.Descent(0.9), onto)
    return ebm.infer(Bowl(), numbers(5, 12, seed=2), steps=3000, solver=solver, stop=ebm.AtRest(1e-8), keep="last")


LEARNERS = [
    *(ebm.AdaptiveDescent(), ebm.Backtracking(), ebm.BarzilaiBorwein(), ebm.LBFGS(), ebm.NewtonCG(), ebm.GaussNewton()),
    *(ebm.Nesterov(), ebm.Anderson(), ebm.Broyden()),
]


@pytest.mark.parametrize("inner", LEARNERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("onto", [ebm.Box(-0.4, 1.0), ebm.Sphere(0.9)], ids=["box", "sphere"])
def test_every_solver_comes_to_rest_within_a_set(inner: ebm.Solver, onto: Any):
    model, x = Bowl(), numbers(5, 12, seed=2)
    plain = slowly(onto)
    found = ebm.infer(model, x, steps=150, solver=ebm.Project(inner, onto), stop=ebm.AtRest(1e-8), keep="last")
    assert plain.converged.all() and found.converged.all(), found
    assert rows.same_rows(found.z, onto(found.z)).all() or isinstance(onto, ebm.Sphere)
    if isinstance(onto, ebm.Box):
        walls = ((plain.z == -0.4) | (plain.z == 1.0)).double().mean()
        assert 0.2 < walls < 0.8
        torch.testing.assert_close(found.z, plain.z, rtol=0, atol=1e-5)
    point = model.point(found.z, x)
    torch.testing.assert_close(found.carry.point.force, point.force.detach(), rtol=1e-12, atol=1e-12)


def test_rest_within_a_box_is_not_what_single_precision_cannot_tell():
    """A force of a hundredth of an epsilon vanishes in z + F, but where the box cuts nothing it is the residual."""
    z, force = torch.ones(1, 2), torch.full((1, 2), 1e-9)
    point = ebm.Point(z, torch.zeros(1), force)
    assert float(ebm.Project(ebm.Descent(0.1), ebm.Box(0, 2)).residual(Quadratic(), point, None)) == pytest.approx(1e-9)


def test_products_within_a_box_are_those_of_the_projected_move():
    """Its Jacobian by differences, where nothing lies on a kink; on the walls it is minus one, at rest within them J H J."""
    from ebm.engine.field import CountedField
    from ebm.solvers.project import _Reduced

    model, x, box = Decay(), numbers(3, 3, seed=4), ebm.Box(0.2, 1.3)
    z = torch.tensor([[0.2, 0.7], [1.0, 1.3], [0.6, 0.9]], dtype=torch.float64)
    view = _Reduced(CountedField(model, x, 3), box, CountedField(model, x, 3)(z))
    product = view.curvature(z)
    free = torch.autograd.functional.jacobian(lambda t: box(t).sum(), z + model.point(z, x).force.detach())
    at = lambda i: torch.autograd.functional.hessian(lambda t: model(t[None], x[i : i + 1])[0], z[i])  # noqa: E731
    hessian = torch.stack([torch.as_tensor(at(i)) for i in range(3)])
    v = numbers(3, 2, seed=5)
    wanted = free * torch.einsum("bij,bj->bi", hessian, free * v) + (1 - free) * v
    torch.testing.assert_close(product(v), wanted.detach())
