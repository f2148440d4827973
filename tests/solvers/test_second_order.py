"""Solvers that use curvature: against closed forms, a textbook recursion, scipy, and the promises they make themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.solvers.armijo import sufficient
from ebm.solvers.conjugate import conjugate_gradients
from ebm.solvers.lbfgs import Pair, two_loops
from ebm.solvers.trial import Trial
from tests.contracts.members import Decay
from tests.energies import Quadratic, Tree, Wells, numbers

X = numbers(5, 3, seed=9)
ALL = [ebm.LBFGS(3), ebm.LBFGS(5, first=0.1), ebm.NewtonCG(), ebm.NewtonCG(products=2, radius=0.1)]


class Valley(ebm.LeastSquares):
    """Rosenbrock's valley, its floor at (c, c^2)."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.stack([-1.2 * torch.ones_like(c[:, 0]), torch.ones_like(c[:, 0])], 1)

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.stack([math.sqrt(200) * (z[:, 1] - z[:, 0].square()), math.sqrt(2) * (c[:, 0] - z[:, 0])], 1)


class Saddle(ebm.Energy):
    """Flat at the origin, which is a saddle; two floors at (0, +-1)."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * z[:, 0].square() + 0.25 * z[:, 1].square().square() - 0.5 * z[:, 1].square()


class Scaled(Quadratic):
    """A quadratic of another unit of energy."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.scale * super().forward(z, c)


def run(solver: ebm.Solver, model: ebm.Objective, x: Any, steps: int, **options: Any) -> ebm.Solution:
    return ebm.infer(model, x, steps=steps, solver=solver, **options)


# Newton


def test_one_newton_step_solves_a_quadratic():
    model = Quadratic(low=0.05, high=30.0)
    found = run(ebm.NewtonCG(products=6, forcing=1e-12, radius=1e6), model, X, 1)
    torch.testing.assert_close(found.z, model.settled(X).detach(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("products", [1, 2, 3])
def test_conjugate_gradients_are_those_of_the_textbook(products: int):
    matrix = Quadratic(6, low=0.1, high=9.0).matrix.detach()
    force = numbers(4, 6, seed=3)
    found = conjugate_gradients(lambda v, _: v @ matrix, force, force, torch.full((4,), 1e-12), products)
    for row in range(4):
        krylov = torch.stack([torch.linalg.matrix_power(matrix, k) @ force[row] for k in range(products)], 1)
        best = krylov @ torch.linalg.solve(krylov.T @ matrix @ krylov, krylov.T @ force[row])
        torch.testing.assert_close(found.move[row], best, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(found.gain[row], force[row] @ best - 0.5 * best @ matrix @ best)


def test_the_edge_of_the_trust_region_is_kept():
    matrix = Quadratic(6, low=0.1, high=9.0).matrix.detach()
    force, radius = numbers(4, 6, seed=3), torch.tensor([1e-3, 0.1, 0.3, 1e3])
    found = conjugate_gradients(lambda v, _: v @ matrix, force, force, torch.full((4,), 1e-10), 9, radius.double())
    assert found.edge.tolist() == [True, True, True, False]
    torch.testing.assert_close(found.move.norm(dim=1)[:3], radius[:3].double())
    torch.testing.assert_close(found.move[3], torch.linalg.solve(matrix, force[3]))
    assert found.gain.diff().gt(0).any() and (found.gain > 0).all()


def test_a_negative_curvature_is_followed_to_the_edge():
    matrix = torch.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    force = torch.tensor([[0.5, 0.1], [0.5, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    radius = torch.full((3,), 3.0, dtype=torch.float64)
    found = conjugate_gradients(lambda v, _: v @ matrix, force, force, torch.full((3,), 1e-9), 5, radius)
    assert found.edge.tolist() == [True, False, True]
    torch.testing.assert_close(found.move[0].norm(), radius[0])
    assert found.gain[0] > 2 and found.move[0, 1] > 2, "the step goes where the energy bends down"
    torch.testing.assert_close(found.move[1:], torch.tensor([[0.5, 0.0], [0.0, 3.0]], dtype=torch.float64))


def test_the_gain_of_a_damped_step_is_that_of_the_model_without_damping():
    matrix, force = Quadratic(6, low=0.1, high=9.0).matrix.detach(), numbers(4, 6, seed=3)
    damping = torch.tensor([0.0, 0.1, 1.0, 50.0], dtype=torch.float64)
    found = conjugate_gradients(lambda v, _: v @ matrix, force, force, torch.full((4,), 1e-12), 9, damping=damping)
    move = found.move
    torch.testing.assert_close(found.gain, (move * force).sum(1) - 0.5 * (move * (move @ matrix)).sum(1))


def test_products_stop_when_no_sample_needs_one():
    asked = []
    matrix = torch.eye(4, dtype=torch.float64)

    def product(v: Tensor, needed: Tensor) -> Tensor:
        asked.append(needed.tolist())
        return v @ matrix * torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)

    force = numbers(3, 4)
    force[1] = 0
    conjugate_gradients(product, force, force, torch.full((3,), 0.1), 9)
    assert asked == [[True, False, True]]


@pytest.mark.parametrize("solver", [ebm.NewtonCG(), ebm.NewtonCG(radius=0.01), ebm.LBFGS()], ids=repr)
def test_saddles_are_left(solver: ebm.Solver):
    x = torch.tensor([[1.0, 1e-3], [0.5, -1e-2], [-2.0, 1e-1]], dtype=torch.float64)
    found = run(solver, Saddle(), x, 60, stop=ebm.AtRest(1e-9))
    assert found.converged.all()
    torch.testing.assert_close(found.z, torch.stack([torch.zeros(3), x[:, 1].sign()], 1).double(), atol=1e-8, rtol=0)


def test_newton_converges_quadratically_at_the_end():
    trace = run(ebm.NewtonCG(), Wells(3), X, 14, record="residual").trace["residual"]
    assert (trace[-1] < 1e-10).all()
    late = [(a, b) for a, b in zip(trace[:-1].T.flatten(), trace[1:].T.flatten(), strict=True) if 1e-6 < a < 1e-2]
    assert late and all(b < 20 * a * a + 1e-13 for a, b in late)


def test_a_start_outside_the_region_of_trust_is_walked_in():
    found = run(ebm.NewtonCG(radius=1e-3), Quadratic(), X, 40, stop=ebm.AtRest(1e-10))
    assert found.converged.all() and found.steps.min() > 3


# L-BFGS


def textbook(model: Quadratic, c: np.ndarray, steps: int, window: int, first: float) -> np.ndarray:
    """One sample's iterates with full steps, by the recursion of Nocedal and Wright, algorithm 7.4."""
    matrix = model.matrix.detach().numpy()
    matrix = 0.5 * (matrix + matrix.T)
    z, past = np.zeros_like(c), []
    for _ in range(steps):
        q, weights, gradient = matrix @ z - c, [], matrix @ z - c
        for s, y in reversed(past):
            weights.append(s @ q / (y @ s))
            q = q - weights[-1] * y
        r = (past[-1][0] @ past[-1][1] / (past[-1][1] @ past[-1][1]) if past else first) * q
        for (s, y), weight in zip(past, reversed(weights), strict=True):
            r = r + s * (weight - y @ r / (y @ s))
        z = z - r
        past = [*past, (-r, matrix @ z - c - gradient)][-window:]
    return z


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_lbfgs_against_the_textbook_recursion(window: int, steps: int):
    model = Quadratic(6, low=0.75, high=1.3)  # full steps pass the test of decrease
    found = run(ebm.LBFGS(window, first=0.6), model, X, steps, keep="last")
    c = model.condition(X).detach().numpy()
    wanted = np.stack([textbook(model, row, steps, window, 0.6) for row in c])
    np.testing.assert_allclose(found.z.numpy(), wanted, rtol=1e-8, atol=1e-10)


def test_the_two_loops_are_the_bfgs_formula():
    force, scale = numbers(3, 5, seed=1), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    pairs, matrices = [], [scale_ * torch.eye(5, dtype=torch.float64) for scale_ in scale]
    for seed in range(3):
        move = numbers(3, 5, seed=10 + seed)
        change = move + 0.3 * numbers(3, 5, seed=20 + seed)
        inverse = 1 / (move * change).sum(1)
        inverse[seed] = 0.0  # one sample has no use of the pair
        pairs.append(Pair(move, change, inverse))
        for row in range(3):
            if row != seed:
                s, y, rho = move[row], change[row], inverse[row]
                left = torch.eye(5, dtype=torch.float64) - rho * torch.outer(s, y)
                matrices[row] = left @ matrices[row] @ left.T + rho * torch.outer(s, s)
    found = two_loops(force, tuple(pairs), scale)
    torch.testing.assert_close(found, torch.stack([matrix @ f for matrix, f in zip(matrices, force, strict=True)]))


def test_lbfgs_keeps_no_pair_without_positive_curvature():
    model, x = Saddle(), torch.tensor([[0.0, 0.1], [1.0, 1.5]], dtype=torch.float64)
    items = list(ebm.stream(model, x, steps=1, solver=ebm.LBFGS(2, first=0.1), keep="last"))
    pair = items[-1].carry.memory["pairs"][-1]
    assert pair.inverse[0] == 0 and pair.inverse[1] > 0


def test_a_rejected_step_is_not_learnt_from_and_shrinks():
    first, second = list(ebm.stream(Scaled(1e3), X, steps=1, solver=ebm.LBFGS(2, first=1.0), keep="last"))
    assert torch.equal(first.z, second.z), "far too long a step was taken"
    memory = second.carry.memory
    assert (memory["pairs"][-1].inverse == 0).all() and (memory["size"] < 0.01).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("solver", [ebm.LBFGS(), ebm.NewtonCG()], ids=repr)
def test_no_tuning_is_needed(solver: ebm.Solver, scale: float):
    model = Scaled(scale)
    found = run(solver, model, X, 40)
    torch.testing.assert_close(found.z, model.settled(X).detach(), rtol=1e-7, atol=1e-7)


def test_lbfgs_needs_fewer_steps_than_descent_with_a_fitted_step_size():
    model = Quadratic(30, low=0.02, high=1.5)
    stop = ebm.AtRest(1e-6)
    quick = run(ebm.LBFGS(8), model, X, 500, stop=stop)
    slow = run(ebm.AdaptiveDescent(), model, X, 500, stop=stop)
    assert quick.converged.all() and 1.5 * quick.steps.max() < slow.steps.max()


# All


@pytest.mark.parametrize("solver", [ebm.LBFGS(8), ebm.NewtonCG(), ebm.GaussNewton()], ids=repr)
def test_the_valley_is_walked_to_its_end(solver: ebm.Solver):
    x = torch.tensor([[1.0], [0.5], [-0.3]], dtype=torch.float64)
    found = run(solver, Valley(), x, 200, stop=ebm.AtRest(1e-7))
    assert found.converged.all()
    torch.testing.assert_close(found.z, torch.cat([x, x.square()], 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", [*ALL, ebm.GaussNewton(), ebm.GaussNewton(damping=1e-9)], ids=repr)
@pytest.mark.parametrize(
    "model", [Quadratic(low=0.01, high=50.0), Wells(3), Tree(3), Decay(), Valley()], ids=lambda m: type(m).__name__
)
def test_the_energy_never_rises(model: ebm.Energy, solver: ebm.Solver):
    if not solver.needs <= model.provides:
        return
    trace = run(solver, model, X, 60, record="energy").trace["energy"]
    slack = 8 * torch.finfo(torch.float64).eps * trace[:-1].abs()
    assert (trace[1:] <= trace[:-1] + slack).all()
    assert (trace[-1] < trace[0]).all()


@pytest.mark.parametrize("solver", [ebm.LBFGS(), ebm.NewtonCG(), ebm.GaussNewton()], ids=repr)
def test_rest_is_reached_in_single_precision(solver: ebm.Solver):
    """The energies of the last steps differ by their rounding alone; the slopes do not."""
    model = Decay().float()
    found = run(solver, model, X.float(), 60, stop=ebm.AtRest(2e-6), keep="last")
    assert found.converged.all(), found


def test_rounding_is_judged_by_the_slopes():
    energy = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    z = torch.zeros(4, 1, dtype=torch.float64)
    rise = torch.tensor([1e-16, 1e-16, -1e-3, 1e-3], dtype=torch.float64)
    before, after = ebm.Point(z, energy, z), ebm.Point(z, energy + 2 * rise, z)
    trial = Trial(after, torch.ones(4, dtype=torch.bool), None, before, after)
    slope, there = torch.full((4,), 1e-9, dtype=torch.float64), torch.tensor([1e-10, -2e-9, -1.0, 1e-10])
    assert sufficient(trial, ebm.Point(z, energy, z), slope, slope - there.double()).tolist() == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("solver", [*ALL, ebm.GaussNewton()], ids=repr)
def test_a_sample_that_can_do_no_better_says_so(solver: ebm.Solver):
    class Wall(ebm.LeastSquares):
        """Steep where it stands, and higher wherever else one looks: no trial is ever accepted."""

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.ones_like(c)

        def residuals(self, z: Tensor, c: Tensor) -> Tensor:
            return z

        def point(self, z: Tensor, c: Tensor) -> ebm.Point:
            return ebm.Point(z, 0.5 * z.square().sum(1).detach() + (z != 1).any(1), z)

    found = run(solver, Wall(), X, 400)
    assert found.status.tolist() == [ebm.Status.STALLED] * 5 and (found.z == 1).all()


@pytest.mark.parametrize("solver", [ebm.LBFGS(2), ebm.NewtonCG(products=3), ebm.GaussNewton(products=3)], ids=repr)
def test_unrolled_gradients_against_finite_differences(solver: ebm.Solver):
    model = Decay()

    def settled(x: Tensor) -> Tensor:
        return run(solver, model, x, 3, adjoint=ebm.Unroll()).z

    assert torch.autograd.gradcheck(settled, (X[:2].clone().requires_grad_(),))


# Gauss-Newton


class Linear(ebm.LeastSquares):
    """r = A z - c."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = numbers(3, 2, seed=3)

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c[:, :2])

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return z @ self.matrix.T - c


def test_one_gauss_newton_step_solves_linear_residuals():
    model = Linear()
    found = run(ebm.GaussNewton(forcing=1e-13, damping=1e-12), model, X, 1)
    torch.testing.assert_close(found.z, torch.linalg.lstsq(model.matrix, X.T).solution.T, rtol=1e-8, atol=1e-9)


def test_one_damped_step_is_that_of_levenberg_and_marquardt():
    model, damping = Linear(), 0.3
    found = run(ebm.GaussNewton(forcing=1e-13, damping=damping), model, X, 1)
    normal = model.matrix.T @ model.matrix
    for row in range(5):
        force = model.matrix.T @ X[row]
        added = damping * (force @ normal @ force) / (force @ force)
        wanted = torch.linalg.solve(normal + added * torch.eye(2, dtype=torch.float64), force)
        torch.testing.assert_close(found.z[row], wanted, rtol=1e-9, atol=1e-10)


def test_the_damping_follows_nielsen():
    items = list(ebm.stream(Linear(), X, steps=2, solver=ebm.GaussNewton(forcing=1e-12, damping=0.3), keep="last"))
    after = items[-1].carry.memory
    torch.testing.assert_close(
        after["damping"], torch.full((5,), 0.3 / 9, dtype=torch.float64)
    )  # a third for each good step
    assert (after["raise"] == 2).all()


def test_gauss_newton_against_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    model = Decay()
    found = run(ebm.GaussNewton(), model, X, 100, stop=ebm.AtRest(1e-10))
    assert found.converged.all()
    for row in range(5):

        def residuals(z: np.ndarray, row: int = row) -> np.ndarray:
            with torch.no_grad():
                return model.residuals(torch.from_numpy(z)[None], X[row][None])[0].numpy()

        theirs = optimize.least_squares(residuals, np.ones(2), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        np.testing.assert_allclose(0.5 * np.square(residuals(found.z[row].numpy())).sum(), theirs.cost, rtol=1e-9)
        np.testing.assert_allclose(found.z[row], theirs.x, rtol=1e-5, atol=1e-6)


# Settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ebm.LBFGS(0), "window=...)` must be at least 1; got 0"),
        (lambda: ebm.LBFGS(first=0.0), "first"),
        (lambda: ebm.NewtonCG(products=0), "products=...)` must be at least 1; got 0"),
        (lambda: ebm.NewtonCG(forcing=1.0), "between zero and one; got 1.0"),
        (lambda: ebm.NewtonCG(radius=math.inf), "must be finite; got inf"),
        (lambda: ebm.NewtonCG(radius=-1.0), "radius"),
        (lambda: ebm.GaussNewton(forcing=0.0), "between zero and one; got 0.0"),
        (lambda: ebm.GaussNewton(damping=0.0), "damping"),
    ],
)
def test_settings_outside_their_range(make: Any, words: str):
    with pytest.raises(ValueError, match=r".*") as caught:
        make()
    assert words in str(caught.value)


def test_gauss_newton_is_refused_where_there_are_no_residuals():
    with pytest.raises((ValueError, TypeError), match="residuals"):
        run(ebm.GaussNewton(), Quadratic(), X, 1)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [ebm.LBFGS(2), ebm.NewtonCG(products=2), ebm.GaussNewton(products=2)], ids=repr)
def test_compiled_steps_equal_eager_ones(solver: ebm.Solver):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        coding = ebm.PredictiveCoding([3, 4, 2]).double()
    for model, x in ((coding, (X, numbers(5, 2))), (Decay(), X)):
        eager = run(solver, model, x, 4)
        compiled = run(solver, model, x, 4, compile=True)
        for one, other in zip(rows.leaves(compiled.z), rows.leaves(eager.z), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
        assert compiled.flops >= eager.flops, "a compiled step makes every product that it may"
        assert compiled.flops_per_sample.tolist() == eager.flops_per_sample.tolist()
        assert compiled.evals.tolist() == eager.evals.tolist()
