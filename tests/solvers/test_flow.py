"""Continuous time against closed forms, matrix exponentials and torchdiffeq."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torchdiffeq import odeint

import ebm
from ebm import rows
from ebm.solvers.tableaux import ADAPTIVE, FIXED, Tableau
from tests.energies import Quadratic, Tree, Wells, numbers

FLOWS = [ebm.Flow(0.07, 1.0, method) for method in FIXED] + [
    ebm.AdaptiveFlow(1.0, method=method) for method in ADAPTIVE
]


class Moved(ebm.Update):
    """Starts at the observation and moves with a velocity."""

    def init_latent(self, c: Any, draw: Any) -> Any:
        return c

    def velocity(self, z: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, z: torch.Tensor, c: Any) -> torch.Tensor:
        return z + self.velocity(z)


class Linear(Moved):
    """dz/dt = M z."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(matrix)

    def velocity(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.matrix.T

    def at(self, z: torch.Tensor, t: float) -> torch.Tensor:
        """The closed form."""
        return z @ torch.linalg.matrix_exp(t * self.matrix).T


class Stiff(Moved):
    """dz/dt = sin(z) - r z, with the rate r of each sample the last number of its latent, which stays."""

    def velocity(self, z: torch.Tensor) -> torch.Tensor:
        state, rate = z[:, :-1], z[:, -1:]
        return torch.cat([state.sin() - rate * state, torch.zeros_like(rate)], 1)


class Power(Moved):
    """dz/dt = z^2: ends in finite time, at t = 1 / z."""

    def velocity(self, z: torch.Tensor) -> torch.Tensor:
        return z.square()


class Lorenz(Moved):
    """Chaos: Lorenz (1963) with his constants."""

    def velocity(self, z: torch.Tensor) -> torch.Tensor:
        x, y, w = z.unbind(1)
        return torch.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], 1)


ROTATION = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
DECAY = Linear(torch.tensor([[-1.0]], dtype=torch.float64))
ONE = torch.ones(1, 1, dtype=torch.float64)
X = numbers(4, 3, seed=1)


def mixed() -> Linear:
    """A damped rotation of three coupled numbers."""
    return Linear(numbers(3, 3, seed=2) - torch.eye(3, dtype=torch.float64))


def by_torchdiffeq(model: Moved, z: torch.Tensor, t: float, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return odeint(lambda _, y: model.velocity(y), z, torch.tensor([0.0, t], dtype=z.dtype), **options)[-1]


@pytest.mark.parametrize("tableau", [*FIXED.values(), *ADAPTIVE.values()])
def test_the_tableaux_are_consistent(tableau: Tableau):
    """Weights sum to one (order 1), and to a half against the nodes (order 2); a difference of two answers to zero."""
    nodes = [0.0, *(sum(row) for row in tableau.rows)]
    weights = tableau.rows[-1]
    assert sum(weights) == pytest.approx(1, abs=1e-14)
    for power in range(1, tableau.order):
        moment = sum(w * node**power for w, node in zip(weights, nodes, strict=False))
        assert moment == pytest.approx(1 / (power + 1), abs=1e-14)
    if tableau.error is not None:
        for power in range(tableau.order - 1):
            assert sum(e * node**power for e, node in zip(tableau.error, nodes, strict=True)) == pytest.approx(
                0, abs=1e-14
            )
        assert abs(sum(e * n ** (tableau.order - 1) for e, n in zip(tableau.error, nodes, strict=True))) > 1e-4


@pytest.mark.parametrize("method", FIXED)
def test_halving_the_step_divides_the_error_by_two_to_the_order(method: str):
    model = mixed()
    errors = []
    for dt in (0.04, 0.02):
        found = ebm.infer(model, X, steps=999, solver=ebm.Flow(dt, 1.0, method))
        assert found.steps.tolist() == [round(1.0 / dt)] * 4
        errors.append((found.z - model.at(X, 1.0)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(2 ** FIXED[method].order, rel=0.1)


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_are_those_of_torchdiffeq(method: str):
    """0.3 does not divide 1.0: the last step is shorter, for both."""
    found = ebm.infer(Lorenz(), X, steps=99, solver=ebm.Flow(0.03, 0.1, method))
    wanted = by_torchdiffeq(Lorenz(), X, 0.1, method=method, options={"step_size": 0.03})
    torch.testing.assert_close(found.z, wanted, rtol=1e-12, atol=1e-12)
    assert found.steps.tolist() == [4] * 4


@pytest.mark.parametrize("method", FIXED)
def test_a_latent_of_several_parts_flows_as_a_whole(method: str):
    model = Tree(3)
    before = ebm.infer(model, X, steps=0)
    c = model.condition(X)

    def velocity(_: Any, parts: Any) -> Any:
        z = rows.map_rows(lambda leaf: leaf, before.z)._replace(
            mean=parts[0], rest={"scale": parts[1], "grid": parts[2]}
        )
        return tuple(rows.leaves(model.point(z, c).force))

    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        wanted = odeint(velocity, tuple(rows.leaves(before.z)), t, method=method, options={"step_size": 0.1})
    found = ebm.infer(model, X, steps=9, solver=ebm.Flow(0.1, 0.5, method))
    for ours, theirs in zip(rows.leaves(found.z), wanted, strict=True):
        torch.testing.assert_close(ours, theirs[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dt", "horizon", "steps"), [(0.1, 1.0, 10), (0.3, 1.0, 4), (2.0, 1.0, 1), (0.1, 0.30001, 3), (1 / 3, 1.0, 3)]
)
@pytest.mark.parametrize("learned", [False, True])
def test_the_last_step_lands_on_the_horizon(dt: float, horizon: float, steps: int, learned: bool):
    size = torch.tensor(dt, dtype=torch.float64) if learned else dt
    found = ebm.infer(DECAY, ONE, steps=50, solver=ebm.Flow(size, horizon, "rk4"))
    assert found.carry.memory["t"].tolist() == [horizon]
    assert found.steps.tolist() == [steps] and found.status.tolist() == [ebm.Status.STALLED]
    assert found.z.item() == pytest.approx(math.exp(-horizon), rel=dt**4)
    again = ebm.infer(DECAY, ONE, steps=5, solver=ebm.Flow(size, horizon, "rk4"), resume=found)
    assert again.steps.tolist() == [steps] and torch.equal(again.z, found.z)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("horizon", [0.01, 1.0, 7.3])
def test_an_adaptive_flow_lands_on_the_horizon(method: str, horizon: float):
    found = ebm.infer(mixed(), X, steps=400, solver=ebm.AdaptiveFlow(horizon, method=method))
    assert found.carry.memory["t"].tolist() == [horizon] * 4 and (found.status == ebm.Status.STALLED).all()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("model", [mixed(), Linear(ROTATION)], ids=["mixed", "rotation"])
def test_the_error_follows_the_tolerance(model: Linear, method: str, tolerance: float):
    """The tolerance is of a step; over the few units of time here the errors of the steps add up to a few times that."""
    x = X[:, : model.matrix.shape[0]]
    if tolerance < 1e-6 and method == "bosh3":
        tolerance = 1e-7
    solver = ebm.AdaptiveFlow(3.0, rtol=tolerance, atol=tolerance, method=method)
    found = ebm.infer(model, x, steps=5000, solver=solver)
    error = (found.z - model.at(x, 3.0)).abs().max()
    assert 1e-4 * tolerance < error < 20 * tolerance


@pytest.mark.parametrize(("method", "order"), [("dopri5", 5), ("bosh3", 3)])
def test_the_step_size_scales_with_the_root_of_the_tolerance(method: str, order: int):
    """A steady rotation at two tolerances a factor 2^order apart takes twice the steps; also the count of steps is sane."""
    model, counts = Linear(ROTATION), []
    for tolerance in (1e-6, 1e-6 / 2**order):
        solver = ebm.AdaptiveFlow(12.0, rtol=0.0, atol=tolerance, method=method)
        counts.append(ebm.infer(model, X[:1, :2], steps=9000, solver=solver).steps.item())
    assert counts[1] / counts[0] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_stiff_neighbour_changes_nothing(method: str):
    """Each sample as torchdiffeq integrates it alone at a tight tolerance; in company it takes the very steps it takes alone."""
    z = torch.cat([X, torch.tensor([[0.5], [300.0], [2.0], [30.0]], dtype=torch.float64)], 1)
    solver = ebm.AdaptiveFlow(0.3, rtol=1e-6, atol=1e-6, method=method)
    together = ebm.infer(Stiff(), z, steps=3000, solver=solver)
    assert together.steps.unique().numel() == 4, "each finds steps of its own"
    for row in range(4):
        alone = ebm.infer(Stiff(), z[row : row + 1], steps=3000, solver=solver)
        assert alone.steps.item() == together.steps[row].item()
        torch.testing.assert_close(alone.z[0], together.z[row], rtol=1e-12, atol=1e-12)
        wanted = by_torchdiffeq(Stiff(), z[row : row + 1], 0.3, method="dopri5", rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(alone.z, wanted, rtol=0, atol=1e-5)


def test_an_adaptive_flow_takes_as_many_evaluations_as_torchdiffeq():
    """The same pair on one sample: the work is the same within a fifth, at the same accuracy."""
    asked = 0

    def velocity(_: Any, z: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        return Lorenz().velocity(z)

    z = X[:1] + 5
    odeint(velocity, z, torch.tensor([0.0, 2.0], dtype=z.dtype), method="dopri5", rtol=1e-7, atol=1e-7)
    found = ebm.infer(Lorenz(), z, steps=999, solver=ebm.AdaptiveFlow(2.0, rtol=1e-7, atol=1e-7))
    assert 0.8 * asked < found.evals.item() < 1.2 * asked


@pytest.mark.parametrize(("solver", "each"), [*zip(FLOWS, (1, 2, 4, 6, 3), strict=True)])
def test_the_cached_force_is_the_first_slope(solver: ebm.Solver, each: int):
    """As many evaluations a step as `most` says, the last of them at the new latent."""
    found = ebm.infer(mixed(), X, steps=3, solver=solver)
    assert found.evals.tolist() == [1 + 3 * each] * 4 and solver.most(found.z) == {"point": each}
    torch.testing.assert_close(found.carry.point.force, mixed().velocity(found.z).detach())


def test_a_rejected_step_does_not_move():
    solver = ebm.AdaptiveFlow(1.0, first=0.9, rtol=1e-9, atol=1e-9)
    items = list(ebm.stream(mixed(), X, steps=200, solver=solver))
    turned_down = 0
    for before, after in itertools.pairwise(items):
        old, new = before.carry.memory, after.carry.memory
        stayed = new["failed"] & (before.status == ebm.Status.RUNNING)
        turned_down += int(stayed.sum())
        assert torch.equal(before.z[stayed], after.z[stayed]) and torch.equal(old["t"][stayed], new["t"][stayed])
        assert (new["size"][stayed] < old["size"][stayed]).all()
        recovered = old["failed"] & ~new["failed"]
        assert (new["size"][recovered] <= old["size"][recovered]).all(), "no growth right after a failure"
        moved = ~new["failed"] & (before.status == ebm.Status.RUNNING)
        assert (new["t"][moved] > old["t"][moved]).all()
    assert turned_down >= 4


def test_plateau_ignores_a_rejected_step():
    """A rejected step changes no energy, which is no sign of rest."""
    solver = ebm.AdaptiveFlow(first=1e4)
    found = ebm.infer(Quadratic(), X, steps=3, solver=solver, stop=ebm.Plateau(1e-12, 0.0))
    assert (found.status == ebm.Status.OUT_OF_STEPS).all()


@pytest.mark.parametrize("solver", [ebm.Flow(0.5), ebm.AdaptiveFlow(rtol=1e-7, atol=1e-7)], ids=["fixed", "adaptive"])
def test_rest_is_the_end_of_an_endless_flow(solver: ebm.Solver):
    """The event is a small velocity; an energy goes down all the way to where it is lowest."""
    model = Quadratic()
    found = ebm.infer(model, X, steps=500, solver=solver, stop=ebm.AtRest(1e-6), record="energy")
    assert found.converged.all() and (found.residual <= 1e-6).all()
    torch.testing.assert_close(found.z, model.settled(X), rtol=1e-4, atol=1e-5)
    energy = found.trace["energy"]
    assert (energy[1:] <= energy[:-1] + 1e-9).all()


@pytest.mark.parametrize("solver", [ebm.Flow(0.05, 1.0), ebm.AdaptiveFlow(1.0)], ids=["fixed", "adaptive"])
def test_single_precision(solver: ebm.Solver):
    model = mixed().float()
    found = ebm.infer(model, X.float(), steps=99, solver=solver)
    torch.testing.assert_close(found.z, model.at(X.float(), 1.0), rtol=1e-3, atol=1e-4)
    assert found.z.dtype == torch.float32 and found.carry.memory["t"].tolist() == [1.0] * 4


# Gradients


@pytest.mark.parametrize("solver", [ebm.Flow(0.02, 1.0), ebm.AdaptiveFlow(1.0, 1e-8, 1e-8)], ids=["fixed", "adaptive"])
def test_an_unrolled_flow_has_the_gradient_of_the_exact_one(solver: ebm.Solver):
    model, x = mixed(), X.clone().requires_grad_()
    found = ebm.infer(model, x, steps=200, solver=solver, adjoint=ebm.Unroll())
    ours = torch.autograd.grad(found.z.square().sum(), [model.matrix, x])
    exact = torch.autograd.grad(model.at(x, 1.0).square().sum(), [model.matrix, x])
    for mine, wanted in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("horizon", [None, 1.0])
def test_a_learned_step_size(horizon: float | None):
    """Three Euler steps of a decay end at (1 - dt)^3; up to a horizon the last one depends on the step size, too."""
    dt = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    found = ebm.infer(DECAY, ONE, steps=3, solver=ebm.Flow(dt, horizon, "euler"), adjoint=ebm.Unroll())
    last = 1 - dt if horizon is None else 1 - (horizon - 2 * dt)
    wanted = (1 - dt) ** 2 * last
    torch.testing.assert_close(found.z[0, 0], wanted)
    torch.testing.assert_close(torch.autograd.grad(found.z.sum(), dt), torch.autograd.grad(wanted, dt))


def test_a_try_that_overflows_reaches_no_gradient():
    """The first tries of a stiff cubic overflow; the gradient is that of a flow that never made them."""
    gradients = []
    for first in (1e150, 1e-3):
        model = Wells(3)
        c, start = X.clone().requires_grad_(), X + 2
        found = ebm.infer(
            model,
            c,
            steps=400,
            start=start,
            solver=ebm.AdaptiveFlow(1.0, 1e-9, 1e-9, first=first),
            adjoint=ebm.Unroll(),
        )
        assert (found.status == ebm.Status.STALLED).all() and found.carry.memory["t"].tolist() == [1.0] * 4
        gradients.append(torch.autograd.grad(found.z.sum(), [c, model.stiffness]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [1, 3, 99])
def test_the_tail_of_a_flow_that_ends_before_the_limit(last: int):
    """Four steps lead to the horizon, fifty are granted: the truncated gradient is that of the last of the four."""
    solver = ebm.Flow(0.25, 1.0, "euler")
    found = ebm.infer(DECAY, ONE, steps=50, solver=solver, adjoint=ebm.Truncated(last))
    gradient = torch.autograd.grad(found.z.sum(), DECAY.matrix)[0]
    assert found.steps.item() == 4 and found.status.item() == ebm.Status.STALLED
    kept = min(last, 4)
    assert gradient.item() == pytest.approx(kept * 0.25 * 0.75**3)
    assert found.flops - found.fixed_flops == int(found.flops_per_sample.sum())
    again = 0 if last == 99 else kept
    assert found.carry.evals.item() == 1 + 4 + again + 1, "the tail again, and the point before it with a graph"


# Honest endings


def test_a_rotation_never_rests():
    for solver in (ebm.Flow(0.1), ebm.AdaptiveFlow(rtol=1e-8, atol=1e-8)):
        found = ebm.infer(Linear(ROTATION), X[:, :2], steps=60, solver=solver, stop=ebm.AtRest(1e-3))
        assert (found.status == ebm.Status.OUT_OF_STEPS).all()
        torch.testing.assert_close(found.z.norm(dim=1), X[:, :2].norm(dim=1), rtol=1e-4, atol=1e-4)


def test_a_solution_that_ends_in_finite_time():
    """dz/dt = z^2 from z = 1 and 2 explodes at t = 1 and 1/2; from -1 it goes on."""
    x = torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)
    found = ebm.infer(Power(), x, steps=900, solver=ebm.AdaptiveFlow(2.0))
    assert found.status.tolist() == [ebm.Status.STALLED] * 3 and found.z.isfinite().all()
    assert found.carry.memory["t"].tolist() == pytest.approx([1.0, 0.5, 2.0], rel=1e-4)
    assert (found.z[:2] > 1e6).all() and found.z[2].item() == pytest.approx(-1 / 3, rel=1e-4)
    assert "schedule is over, or rounding" in ebm.Status.STALLED.advice
    fixed = ebm.infer(Power(), x, steps=900, solver=ebm.Flow(0.01, 2.0))
    assert fixed.status.tolist() == [ebm.Status.NONFINITE] * 2 + [ebm.Status.STALLED] and fixed.z.isfinite().all()


@pytest.mark.parametrize("solver", FLOWS, ids=lambda s: s.method)
def test_an_energy_without_a_floor(solver: ebm.Solver):
    """E = -z^2 / 2: the latent grows as e^t, and a long flow overflows. It says so, and keeps a finite latent."""
    up = Linear(torch.tensor([[1.0]], dtype=torch.float64))
    long = (
        ebm.Flow(1.0, 5000.0, solver.method)
        if isinstance(solver, ebm.Flow)
        else ebm.AdaptiveFlow(5000.0, method=solver.method)
    )  # type: ignore[attr-defined]
    found = ebm.infer(up, 1e290 * ONE, steps=20_000, solver=long)
    assert found.status.item() in (ebm.Status.NONFINITE, ebm.Status.STALLED)
    assert found.z.isfinite().all() and found.z.item() > 1e300 and found.carry.memory["t"].item() < 60


def test_chaos_runs_out_of_steps():
    x = torch.tensor([[1.0, 1.0, 1.0], [5.0, -5.0, 20.0]], dtype=torch.float64)
    for solver in (ebm.Flow(0.01), ebm.AdaptiveFlow()):
        found = ebm.infer(Lorenz(), x, steps=150, solver=solver, stop=ebm.AtRest(1e-3))
        assert (found.status == ebm.Status.OUT_OF_STEPS).all() and (found.z.abs() < 60).all()


def test_a_state_at_rest_grows_its_step_without_end():
    """The size may not overflow: inf * 0 is no number."""
    x = torch.zeros(2, 1, dtype=torch.float64)
    found = ebm.infer(DECAY, x, steps=600, solver=ebm.AdaptiveFlow())
    assert (found.status == ebm.Status.OUT_OF_STEPS).all() and (found.z == 0).all()
    assert found.carry.memory["t"].isfinite().all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ebm.Flow(0.0), "`Flow(dt=...)` must be above zero"),
        (lambda: ebm.Flow(0.1, horizon=-1.0), "`Flow(horizon=...)` must be above zero and finite; got -1.0"),
        (
            lambda: ebm.Flow(0.1, method="dopri5"),
            'one of "euler", "midpoint", "rk4"; got \'dopri5\'. Choose among these, or use `AdaptiveFlow`',
        ),
        (lambda: ebm.AdaptiveFlow(math.inf), "Pass a time, or None for an endless flow"),
        (lambda: ebm.AdaptiveFlow(method="rk4"), "or use `Flow`"),
        (lambda: ebm.AdaptiveFlow(atol=0.0), "`AdaptiveFlow(atol=...)` must be above zero"),
        (lambda: ebm.AdaptiveFlow(rtol=-1.0), "`AdaptiveFlow(rtol=...)` may not be negative; got -1.0"),
        (lambda: ebm.AdaptiveFlow(first=0.0), "`AdaptiveFlow(first=...)` must be above zero"),
    ],
)
def test_refusals(make: Any, words: str):
    with pytest.raises(ValueError) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [ebm.Flow(0.3, 1.0), ebm.AdaptiveFlow(1.0)], ids=["fixed", "adaptive"])
def test_a_compiled_flow(solver: ebm.Solver):
    eager, compiled = (ebm.infer(Quadratic(), X, steps=9, solver=solver, compile=how) for how in (False, True))
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-10, atol=1e-10)
    assert compiled.steps.tolist() == eager.steps.tolist() and compiled.evals.tolist() == eager.evals.tolist()
