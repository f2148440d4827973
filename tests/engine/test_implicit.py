"""The gradient of being at rest: against closed forms, differences, other adjoints, and its memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import Status, rows
from ebm.engine import door
from ebm.testing import kept_bytes
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, Wells, numbers
from tests.engine.test_adjoints import gradients, loss_of, slope_by_differences

X = numbers(4, 3, seed=9)
SOLVE = [ebm.ConjugateGradient(rtol=1e-12), ebm.GMRES(rtol=1e-12), ebm.AndersonLinear(rtol=1e-12, window=8)]
SETTLED = {"steps": 600, "stop": ebm.AtRest(1e-13), "solver": ebm.Picard(0.7), "keep": "last"}  # descent at 0.3


def at_rest(model: ebm.Objective, adjoint: ebm.Adjoint, **options: Any) -> list[Tensor]:
    found, solution = gradients(model, X, adjoint=adjoint, **{**SETTLED, **options})
    assert float(solution.residual.detach().max()) < 1e-11
    return found


@pytest.mark.parametrize("model", [Quadratic(), ClosedQuadratic()], ids=lambda m: type(m).__name__)
def test_the_closed_form(model: Quadratic):
    model.zero_grad()
    loss_of(model.settled(X)).backward()
    wanted = [p.grad.clone() for p in (model.matrix, model.weight)]  # type: ignore[union-attr]
    for found in (at_rest(model, ebm.Implicit(ebm.GMRES(rtol=1e-12))), at_rest(model, ebm.Implicit())):
        for got, want in zip(found[:2], wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model", [Quadratic(), Wells(3), Tree(3), Tanh(3)], ids=lambda m: type(m).__name__)
def test_unrolled_truncated_and_implicit_agree_at_rest(model: ebm.Objective):
    steps = {"steps": 400, "stop": None}
    wanted = at_rest(model, ebm.Unroll(), **steps)
    for adjoint in (ebm.Truncated(300), ebm.Implicit(ebm.GMRES(rtol=1e-12)), ebm.Unroll(checkpoint=20)):
        for got, want in zip(at_rest(model, adjoint, **steps), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("linear", [None, *SOLVE], ids=repr)
@pytest.mark.parametrize("model", [Quadratic(), Wells(3), Tree(3), Tanh(3)], ids=lambda m: type(m).__name__)
def test_finite_differences(model: ebm.Objective, linear: ebm.LinearSolver | None):
    symmetric = isinstance(model, ebm.Energy)
    if isinstance(linear, ebm.ConjugateGradient) and not symmetric:
        linear = ebm.GMRES(rtol=1e-12)
    found = at_rest(model, ebm.Implicit(linear))
    for seed, (parameter, gradient) in enumerate(zip(model.parameters(), found, strict=True)):
        direction = numbers(*parameter.shape, seed=100 + seed)
        wanted = slope_by_differences(lambda: loss_of(ebm.infer(model, X, **SETTLED).z), parameter, direction)
        torch.testing.assert_close(float((gradient * direction).sum()), wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("model", [Quadratic(), Tanh(3)], ids=lambda m: type(m).__name__)
def test_the_observation_gets_its_gradient(model: ebm.Objective):
    adjoint = ebm.Implicit(ebm.GMRES(rtol=1e-13))
    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ebm.infer(model, x, adjoint=adjoint, **SETTLED).z, (x,), eps=1e-5)


def test_the_energy_at_rest_has_its_whole_gradient():
    model = Quadratic()
    model.zero_grad()
    ebm.infer(model, X, adjoint=ebm.Implicit(), **SETTLED).energy.sum().backward()  # type: ignore[union-attr]
    found = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    model(model.settled(X), X @ model.weight).sum().backward()
    for got, want in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(got, want.grad, rtol=1e-6, atol=1e-8)


def test_a_constraint_is_part_of_the_condition():
    model = Quadratic()
    boxed = {"solver": ebm.Project(ebm.Descent(0.5), ebm.Box(-0.4, 0.4)), "steps": 500}
    wanted, solution = gradients(model, X, adjoint=ebm.Unroll(), **boxed)
    assert bool((solution.z.abs() == 0.4).any())
    assert bool((solution.z.abs() < 0.4).any())
    found, _ = gradients(model, X, adjoint=ebm.Implicit(ebm.GMRES(rtol=1e-12)), **boxed)
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


def test_samples_that_stop_at_different_steps():
    model, x = Tanh(3), X.clone() * torch.tensor([[0.01], [0.3], [1.0], [3.0]])
    options: Any = {"steps": 300, "stop": ebm.AtRest(1e-12), "solver": ebm.Picard(), "compact": True}
    adjoint = ebm.Implicit(ebm.GMRES(rtol=1e-13))
    for other in (adjoint, ebm.Unroll(), ebm.Unroll(checkpoint=4)):
        model.zero_grad()
        together = ebm.infer(model, x, adjoint=other, **options)
        assert len(set(together.steps.tolist())) > 1
        together.z.square().sum().backward()
        found, total = model.weight.grad.clone(), torch.zeros_like(model.weight)  # type: ignore[union-attr]
        for row in x.split(1):
            model.zero_grad()
            ebm.infer(model, row, adjoint=adjoint, **options).z.square().sum().backward()
            total += model.weight.grad  # type: ignore[arg-type]
        torch.testing.assert_close(found, total, rtol=1e-7, atol=1e-9)


def test_a_sample_that_failed_sends_nothing():
    class Fragile(Tanh):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return super().forward(z, c) * torch.where(c[:, :1] > 50, torch.inf, 1.0)

    model = Fragile(3)
    poisoned = torch.cat([X, torch.full((1, 3), 100.0, dtype=X.dtype)])
    wanted, _ = gradients(model, X, adjoint=ebm.Implicit(), **SETTLED)
    model.zero_grad()
    solution = ebm.infer(model, poisoned, adjoint=ebm.Implicit(), **SETTLED)
    assert solution.status.tolist()[-1] == Status.NONFINITE
    loss_of(solution.z[:4]).backward()
    torch.testing.assert_close(model.weight.grad, wanted[0], rtol=1e-7, atol=1e-9)


def bytes_of(adjoint: ebm.Adjoint, steps: int, solver: ebm.Solver) -> int:
    model = Tanh(16)
    x = numbers(8, 16)
    return kept_bytes(lambda: ebm.infer(model, x, steps=steps, solver=solver, adjoint=adjoint, keep="last"))


@pytest.mark.slow
def test_memory_does_not_grow_with_steps():
    found = {steps: bytes_of(ebm.Implicit(), steps, ebm.Picard(0.5)) for steps in (10, 50, 250)}
    assert len(set(found.values())) == 1
    # the measure sees what unrolling keeps
    assert bytes_of(ebm.Unroll(), 100, ebm.Picard(0.5)) > 8 * bytes_of(ebm.Unroll(), 10, ebm.Picard(0.5))
    assert bytes_of(ebm.Unroll(checkpoint=10), 100, ebm.Picard(0.5)) < 0.5 * bytes_of(
        ebm.Unroll(), 100, ebm.Picard(0.5)
    )


def test_float32():
    model = Quadratic().float()
    found, _ = gradients(model, X.float(), steps=300, adjoint=ebm.Implicit(), solver=ebm.Descent(0.5))
    exact = Quadratic()
    loss_of(exact.settled(X)).backward()
    for got, want in zip(found, exact.parameters(), strict=True):
        torch.testing.assert_close(got.double(), want.grad, rtol=2e-3, atol=2e-3)


def test_an_unfinished_linear_solve_warns():
    model = Quadratic(low=0.01)
    z = ebm.infer(model, X, adjoint=ebm.Implicit(ebm.ConjugateGradient(steps=1)), steps=200).z
    with pytest.warns(ebm.LinearSolveWarning, match=r"4 of 4 linear solves of ConjugateGradient ended above"):
        z.sum().backward()


def test_a_finished_one_does_not():
    model = Quadratic()
    z = ebm.infer(model, X, adjoint=ebm.Implicit(), **SETTLED).z
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z.sum().backward()


def test_no_linear_solver():
    with pytest.raises(TypeError, match=r"`Implicit\(linear_solver=...\)` is a linear solver or None; got str"):
        ebm.Implicit("cg")  # type: ignore[arg-type]


# The linear solvers


def systems(dtype: torch.dtype, symmetric: bool) -> tuple[Tensor, Tensor]:
    matrix = numbers(5, 12, 12, seed=3)
    basis = torch.linalg.qr(matrix).Q
    spread = torch.linspace(0.3, 1.7, 12, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.8, 0.5, 0.2])[:, None]
    bowl = basis @ torch.diag_embed(spread) @ basis.mT
    turned = bowl if symmetric else bowl + 0.3 * (matrix - matrix.mT) / matrix.shape[1] ** 0.5
    return turned.to(dtype), numbers(5, 12, seed=4).to(dtype) * torch.tensor([1.0, 1e-4, 1e4, 1.0, 0.0])[:, None].to(
        dtype
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("solver", "symmetric"),
    [
        (ebm.ConjugateGradient(), True),
        (ebm.GMRES(), True),
        (ebm.GMRES(), False),
        (ebm.GMRES(window=4, steps=400), False),
        (ebm.Neumann(steps=3000, step_size=0.5), False),
        (ebm.AndersonLinear(), True),
        (ebm.AndersonLinear(), False),
    ],
    ids=repr,
)
def test_linear_solvers_against_a_direct_one(solver: ebm.LinearSolver, symmetric: bool, dtype: torch.dtype):
    matrix, b = systems(dtype, symmetric)

    def product(v: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", matrix, v)

    found = solver.solve(product, b)
    error = torch.linalg.vector_norm(b - product(found), dim=1)
    assert bool((error <= 2 * solver.tolerance(dtype) * torch.linalg.vector_norm(b, dim=1)).all())
    wanted = torch.linalg.solve(matrix.double(), b.double())
    size = torch.linalg.vector_norm(wanted, dim=1, keepdim=True).clamp_min(1e-300)
    torch.testing.assert_close(found.double() / size, wanted / size, rtol=0, atol=50 * solver.tolerance(dtype))
    alone = torch.cat(
        [
            solver.solve(lambda v, m=m: torch.einsum("bij,bj->bi", m[None], v), r[None])
            for m, r in zip(matrix, b, strict=True)
        ]
    )
    torch.testing.assert_close(alone, found, rtol=1e-3 if dtype is torch.float32 else 1e-6, atol=1e-6)


def test_gmres_on_a_rotation_and_a_singular_system():
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    b = numbers(3, 2)
    torch.testing.assert_close(ebm.GMRES(rtol=1e-12).solve(lambda v: v @ turn.T, b) @ turn.T, b)
    flat = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = ebm.GMRES(steps=10).solve(lambda v: v * flat, torch.tensor([[2.0, 0.0], [2.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(found[:, 0], torch.full((2,), 2.0, dtype=torch.float64))
    assert bool(torch.isfinite(found).all())


def test_conjugate_gradients_stop_at_negative_curvature():
    curved = torch.tensor([[1.0, -1.0], [1.0, 2.0]], dtype=torch.float64)
    found = ebm.ConjugateGradient().solve(
        lambda v: v * curved, torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    )
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64))


def counted(product: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    calls: list[int] = []

    def asked(v: Tensor) -> Tensor:
        calls.append(len(v))
        return product(v)

    return asked, calls


def test_a_dead_end_is_not_asked_again():
    product, calls = counted(lambda v: v * torch.tensor([-1.0, 2.0]))
    ebm.ConjugateGradient().solve(product, torch.tensor([[1.0, 0.0]]))
    assert len(calls) == 1


def test_gmres_goes_on_while_a_new_direction_is_small_beside_its_image():
    """A new direction a hundredth of its image is no breakdown: two directions solve two unknowns."""
    matrix = torch.tensor([[1.0, 0.01], [0.01, 2.0]])
    product, calls = counted(lambda v: v @ matrix.T)
    b = torch.tensor([[1.0, 0.0]])
    found = ebm.GMRES(rtol=1e-6).solve(product, b)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=1e-7)
    assert len(calls) == 3  # and one for the residual


@pytest.mark.parametrize("seed", range(5))
def test_gmres_does_not_run_off_along_a_null_space(seed: int):
    """Eight numbers of rank six, and a right-hand side outside: the least residual is the part in the null space."""
    atoms, b = numbers(8, 6, seed=seed), numbers(1, 8, seed=100 + seed)
    gram = atoms @ atoms.T
    found = ebm.GMRES(rtol=1e-12, steps=400).solve(lambda v: v @ gram, b)
    least = torch.linalg.pinv(gram) @ b[0]
    assert float(found.norm()) < 1e3 * float(least.norm() + 1)
    error, best = (float(torch.linalg.vector_norm(b[0] - gram @ v)) for v in (found[0], least))
    assert error == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("solver", [*SOLVE[:2], ebm.AndersonLinear(window=8), ebm.Neumann(steps=200)], ids=repr)
@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float16, 2e-6), (torch.bfloat16, 1e-30), (torch.float32, 1e-30), (torch.float32, 1e30)]
)
def test_right_hand_sides_of_any_size(solver: ebm.LinearSolver, dtype: torch.dtype, size: float):
    """Their squares are below or above all numbers of the dtype."""
    solver = type(solver)(steps=200)
    scale = torch.tensor([0.5, 1.5])
    b = torch.tensor([[1.0, 2.0], [2.0, -1.0], [0.0, 0.0]])
    found = solver.solve(lambda v: v * scale.to(v.dtype), (b * size).to(dtype)).double() / size
    torch.testing.assert_close(found, (b / scale).double(), rtol=0.05 if dtype.itemsize == 2 else 1e-3, atol=0.05 * 2)


@pytest.mark.parametrize("size", [1.0, 1e-5])
def test_a_model_in_half_precision(size: float):
    """Cotangents of 1e-5 have squares that float16 does not know."""
    model = Quadratic(dtype=torch.float16)
    exact = Quadratic()
    loss_of(exact.settled(X)).backward()
    z = ebm.infer(model, X.half(), steps=60, solver=ebm.Descent(0.5), adjoint=ebm.Implicit()).z
    (loss_of(z) * size).backward()
    for got, want in zip(model.parameters(), exact.parameters(), strict=True):
        error = torch.linalg.vector_norm(got.grad.double() / size - want.grad)  # type: ignore[union-attr]
        assert float(error / torch.linalg.vector_norm(want.grad)) < 0.05  # type: ignore[arg-type]


def test_neumann_terms_are_backpropagation_through_as_many_steps():
    model = Tanh(3)
    rest = ebm.infer(model, X, **SETTLED).z
    z = ebm.infer(model, X, start=rest, steps=3, solver=ebm.Picard(), adjoint=ebm.Unroll()).z
    (wanted,) = torch.autograd.grad(z.sum(), model.weight)
    z = ebm.infer(model, X, adjoint=ebm.Implicit(ebm.Neumann(steps=3, rtol=1e-12)), **SETTLED).z
    with pytest.warns(ebm.LinearSolveWarning):
        (found,) = torch.autograd.grad(z.sum(), model.weight)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ebm.GMRES(steps=0), r"`GMRES\(steps=...\)` must be at least 1; got 0"),
        (lambda: ebm.ConjugateGradient(rtol=0.0), r"`ConjugateGradient\(rtol=...\)` must be above zero; got 0.0"),
        (lambda: ebm.GMRES(window=0), r"`GMRES\(window=...\)` must be at least 1; got 0"),
        (lambda: ebm.Neumann(step_size=0.0), r"`Neumann\(step_size=...\)` must be above zero; got 0.0"),
        (lambda: ebm.AndersonLinear(window=1), r"window=...\)` must be at least 2; got 1"),
    ],
)
def test_wrong_settings(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


class Judged(ebm.Descent):
    """Calls rest what it likes."""

    def residual(self, objective: ebm.Objective, point: ebm.Point, c: Any) -> Tensor:
        return 2 * super().residual(objective, point, c)


@pytest.mark.parametrize(
    "solver", [ebm.Langevin(0.1), ebm.Gibbs(), Judged(0.3), ebm.Project(ebm.MALA(0.1), ebm.Sphere())], ids=repr
)
def test_a_solver_that_knows_no_rest_is_refused(solver: ebm.Solver):
    with pytest.raises(ValueError, match="`Implicit` needs a solver that comes to rest and says what vanishes there"):
        door.check_adjoint(ebm.Implicit(), solver, Quadratic())


def test_the_latent_may_be_a_tree():
    model = Tree(3)
    assert len(list(rows.leaves(ebm.infer(model, X, adjoint=ebm.Implicit(), **SETTLED).z))) == 3
