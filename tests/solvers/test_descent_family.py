"""Spectral, accelerated and backtracked gradient descent, and sweeps, against closed forms and their own rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from tests.energies import Quadratic, Tanh, Tree, Wells, numbers

X = numbers(5, 3, seed=9)
RULES: tuple[Any, ...] = ("long", "short", "alternating")
RESTARTS: tuple[Any, ...] = ("gradient", "energy")
FAMILY = [
    *(ebm.BarzilaiBorwein(rule) for rule in RULES),
    ebm.BarzilaiBorwein(window=1),
    *(ebm.Nesterov(restart=restart) for restart in RESTARTS),
    ebm.Backtracking(),
    ebm.Sweep(ebm.BarzilaiBorwein(), blocks=2),
]


def named(part: Any) -> str:
    return repr(part) if isinstance(part, ebm.Solver) else str(part)


class Scaled(ebm.Energy):
    """sum_i d_i (z_i - x_i)^2 / 2 plus a constant, the curvatures d from ``low`` to ``high``."""

    def __init__(self, size: int, low: float, high: float, offset: float = 0.0) -> None:
        super().__init__()
        self.curvature = torch.logspace(0, 1, size, dtype=torch.float64).log10() * torch.tensor(high / low).log10()
        self.curvature = low * 10**self.curvature
        self.offset = offset

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.offset + (0.5 * self.curvature.to(z.dtype) * (z - c).square()).sum(1)


class Rosenbrock(ebm.Energy):
    """Its valley is bent, its lowest point at (1, 1)."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (1 - z[:, 0]).square() + 100 * (z[:, 1] - z[:, 0].square()).square()


class Falling(ebm.Energy):
    """Unbounded from below."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (torch.sin(z) - 0.5 * z.square()).sum(1)


class Turning(ebm.Energy):
    """A force that goes round and round, said to be the slope of an energy that never changes."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def point(self, z: Tensor, c: Tensor) -> ebm.Point:
        return ebm.Point(z, torch.zeros_like(z[:, 0]), torch.stack([z[:, 1], -z[:, 0]], 1))


class Spinning(ebm.Update):
    """The same motion as an update."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return z + torch.stack([z[:, 1], -z[:, 0]], 1)


class Barrier(ebm.Energy):
    """z - log z, number by number, with the observation as weight; not a number below zero."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.full_like(c, 5.0)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (z - c.exp() * z.log()).sum(1)


@pytest.mark.parametrize("solver", FAMILY, ids=named)
@pytest.mark.parametrize(
    "scale", [1e-6, pytest.param(1.0, marks=pytest.mark.slow), pytest.param(1e6, marks=pytest.mark.slow)]
)
def test_quadratics_of_any_scale_are_solved_without_tuning(solver: ebm.Solver, scale: float):
    x = numbers(4, 6, seed=1)
    found = ebm.infer(Scaled(6, 0.1 * scale, scale), x, steps=400, solver=solver, stop=ebm.AtRest(1e-9 * scale))
    assert found.converged.all()
    torch.testing.assert_close(found.z, x, rtol=0, atol=1e-6)


def ill_conditioned() -> tuple[ebm.Energy, Tensor]:
    return Scaled(30, 2e-3, 1.0), numbers(2, 30, seed=2)


@cache
def evaluations_of_descent() -> Tensor:
    found = ebm.infer(*ill_conditioned(), steps=6000, solver=ebm.Descent(1.0), stop=ebm.AtRest(1e-6))
    assert found.converged.all()
    return found.evals


@pytest.mark.parametrize(
    "solver", [*(ebm.BarzilaiBorwein(rule) for rule in RULES), *(ebm.Nesterov(restart=r) for r in RESTARTS)], ids=named
)
def test_ill_conditioned_quadratics_take_far_fewer_evaluations_than_descent(solver: ebm.Solver):
    found = ebm.infer(*ill_conditioned(), steps=1000, solver=solver, stop=ebm.AtRest(1e-6))
    plain = evaluations_of_descent()
    assert found.converged.all()
    assert (8 * found.evals < plain).all(), f"{found.evals.tolist()} evaluations; descent takes {plain.tolist()}"


@pytest.mark.parametrize("solver", [s for s in FAMILY if not isinstance(s, (ebm.Backtracking, ebm.Sweep))], ids=named)
def test_the_valley_of_rosenbrock(solver: ebm.Solver):
    starts = torch.tensor([[-1.2, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found = ebm.infer(Rosenbrock(), starts, steps=3000, solver=solver, stop=ebm.AtRest(1e-6))
    assert found.converged.all()
    torch.testing.assert_close(found.z, torch.ones_like(starts), rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", FAMILY, ids=named)
@pytest.mark.parametrize("model", [Falling(), Turning()], ids=lambda m: type(m).__name__)
def test_where_there_is_no_rest_none_is_reported(solver: ebm.Solver, model: ebm.Objective):
    found = ebm.infer(model, numbers(3, 2, seed=4) + 3, steps=80, solver=solver, stop=ebm.AtRest(1e-6))
    assert not found.converged.any() and (found.residual > 1e-3).all()
    assert found.z.isfinite().all() and found.energy.isfinite().all()


def test_a_rotation_swept_is_no_rest():
    """Gauss-Seidel on a rotation goes round on an ellipse, where plain descent spirals outwards."""
    found = ebm.infer(
        Spinning(), torch.ones(2, 2), steps=200, solver=ebm.Sweep(ebm.Descent(0.5), 2), stop=ebm.AtRest(1e-3)
    )
    assert found.status.tolist() == [ebm.Status.OUT_OF_STEPS] * 2
    assert (
        found.z.abs().max()
        < 3
        < ebm.infer(Spinning(), torch.ones(2, 2), steps=200, solver=ebm.Descent(0.5), keep="last").z.abs().max()
    )


@pytest.mark.parametrize("solver", FAMILY, ids=named)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_single_precision_settles_past_the_rounding_of_its_energies(solver: ebm.Solver, offset: float):
    """Energies known to 4e-6 could not tell residuals below a thousandth apart."""
    x = numbers(3, 6, seed=1, dtype=torch.float32)
    found = ebm.infer(Scaled(6, 0.1, 1.0, offset), x, steps=300, solver=solver, stop=ebm.AtRest(2e-6), keep="last")
    assert found.converged.all()


@pytest.mark.parametrize("solver", FAMILY, ids=named)
def test_a_sample_at_rest_stays_there_for_good(solver: ebm.Solver):
    x = numbers(2, 4, seed=1, dtype=torch.float32)
    found = ebm.infer(Scaled(4, 0.1, 1.0), x, steps=80, solver=solver, start=x)
    assert torch.equal(found.z, x) and rows.finite(found.carry.memory).all()


@pytest.mark.parametrize("solver", FAMILY, ids=named)
def test_gradients_through_the_steps_are_those_of_finite_differences(solver: ebm.Solver):
    model = Wells(3)

    def settled(x: Tensor) -> Tensor:
        return ebm.infer(model, x, steps=4, solver=solver, adjoint=ebm.Unroll(), keep="last").z

    assert torch.autograd.gradcheck(settled, X[:3].clone().requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda solver: solver, lambda solver: ebm.Sweep(solver, 2)], ids=["whole", "swept"])
@pytest.mark.parametrize("solver", [ebm.BarzilaiBorwein, ebm.Nesterov, ebm.Backtracking], ids=lambda s: s.__name__)
def test_trials_that_are_no_numbers_reach_neither_answer_nor_gradient(solver: Any, wrap: Any):
    weight = (0.3 * X[:2]).requires_grad_()
    found = ebm.infer(Barrier(), weight, steps=80, solver=wrap(solver(first=100.0)), stop=ebm.AtRest(1e-6))
    assert found.converged.all()
    torch.testing.assert_close(found.z, weight.detach().exp(), rtol=1e-4, atol=1e-4)

    def settled(x: Tensor) -> Tensor:
        return ebm.infer(Barrier(), x, steps=5, solver=wrap(solver(first=100.0)), adjoint=ebm.Unroll(), keep="last").z

    with torch.no_grad():
        assert (settled(weight) != 5).any()
    assert torch.autograd.gradcheck(settled, weight, atol=1e-5)


# Barzilai and Borwein


@pytest.mark.parametrize("rule", RULES)
def test_spectral_step_sizes_are_those_of_the_formulas(rule: Any):
    model = Quadratic()
    trace = ebm.infer(model, X, steps=7, solver=ebm.BarzilaiBorwein(rule, first=0.7), record="z", keep="last").trace[
        "z"
    ]
    c = model.condition(X).detach()
    with torch.no_grad():
        force = torch.stack([model.point(z, c).force for z in trace])
    move, change = trace[1:] - trace[:-1], force[:-1] - force[1:]
    long = (move * move).sum(2) / (move * change).sum(2)
    short = (move * change).sum(2) / (change * change).sum(2)
    odd = (torch.arange(len(long)) % 2 == 1)[:, None]
    size = {"long": long, "short": short, "alternating": torch.where(odd, short, long)}[rule]
    assert (move.abs().amax(2) > 0).all(), "a trial was rejected: the case shows nothing"
    torch.testing.assert_close(move[1:], size[:-1, :, None] * force[1:-1], rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(move[0], 0.7 * force[0])


@pytest.mark.parametrize("window", [1, 4])
def test_the_line_search_looks_back_on_so_many_energies(window: int):
    x = 3 * numbers(8, 3, seed=5)
    trace = ebm.infer(
        Wells(3), x, steps=40, solver=ebm.BarzilaiBorwein("long", window=window), record=["z", "energy"]
    ).trace
    energy = trace["energy"]
    moved = (trace["z"][1:] != trace["z"][:-1]).any(2)
    for row in range(len(x)):
        accepted = [0, *(1 + moved[:, row].nonzero().flatten()).tolist()]
        values = energy[accepted, row]
        for step in range(1, len(values)):
            assert values[step] <= values[max(step - window, 0) : step].max() + 1e-12
    risen = (energy[1:] > energy[:-1] + 1e-9).any()
    assert risen == (window > 1), "with a window of one no energy may rise; with more some should"


# Backtracking


def test_every_accepted_step_passes_the_test_of_armijo():
    model, x = Wells(3), 3 * numbers(8, 3, seed=5)
    trace = ebm.infer(model, x, steps=25, solver=ebm.Backtracking(first=30.0), record=["z", "energy"]).trace
    z, energy = trace["z"], trace["energy"]
    with torch.no_grad():
        force = torch.stack([model.point(latent, x).force for latent in z[:-1]])
    move = z[1:] - z[:-1]
    size = move.norm(dim=2) / force.norm(dim=2)
    torch.testing.assert_close(move, size[:, :, None] * force, rtol=1e-6, atol=1e-9)
    assert (energy[1:] <= energy[:-1] - 1e-4 * size * force.square().sum(2) + 1e-13).all()
    assert (move.abs().amax(2) > 0)[:5].all()


def test_samples_pay_for_their_own_trials_alone():
    class Uneven(Quadratic):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return torch.tensor([0.1, 1e3, 1.0, 1.0, 1.0], dtype=z.dtype)[: len(z)] * super().forward(z, c)

    solver = ebm.Backtracking(trials=9)
    evals = ebm.infer(Uneven(), X, steps=3, solver=solver).evals
    assert int(evals[1]) > int(evals[0]) == 4
    assert int(ebm.infer(Uneven(), X[:2], steps=3, solver=solver).evals[1]) == int(evals[1])


@pytest.mark.parametrize("trials", [1, 2, 10])
def test_a_step_makes_no_more_trials_than_allowed(trials: int):
    found = ebm.infer(Quadratic(), X, steps=1, solver=ebm.Backtracking(first=1e4, trials=trials))
    assert found.evals.max() == 1 + min(trials, int(found.evals.max()) - 1) and (found.evals > 1).all()
    if trials < 3:
        assert (found.evals == 1 + trials).all() and (found.z == 0).all()
        whole = ebm.infer(Quadratic(), X, steps=400, solver=ebm.Backtracking(first=1e4, trials=trials))
        torch.testing.assert_close(whole.z, Quadratic().settled(X).detach(), rtol=1e-6, atol=1e-6)


# Nesterov


@pytest.mark.parametrize("restart", ["gradient", "energy", None])
def test_look_aheads_follow_the_sequence_of_nesterov(restart: Any):
    model, x = Scaled(4, 0.05, 1.0), numbers(1, 4, seed=3)
    last, age, met = torch.zeros_like(x), 1.0, 0
    items = list(ebm.stream(model, x, steps=60, solver=ebm.Nesterov(first=0.8, restart=restart), keep="last"))
    for before, after in pairwise(items):
        point = model.point(before.z, x)
        landing = before.z + before.carry.memory["size"] * point.force.detach()
        if restart == "gradient" and float(((landing - before.z) * (landing - last)).sum()) < 0:
            age, met = 1.0, met + 1
        if torch.equal(after.z, before.z):
            continue
        older = (1 + (1 + 4 * age**2) ** 0.5) / 2
        torch.testing.assert_close(after.z, landing + (age - 1) / older * (landing - last))
        last, age = landing, older
        if restart == "energy" and float(after.energy - before.energy) > 0:
            age, met = 1.0, met + 1
    assert (met > 0) == (restart is not None)


@pytest.mark.slow
def test_restarts_pay():
    evals = [
        ebm.infer(*ill_conditioned(), steps=6000, solver=ebm.Nesterov(restart=restart), stop=ebm.AtRest(1e-7)).evals
        for restart in ("gradient", None)
    ]
    assert (2 * evals[0] < evals[1]).all()


def test_step_sizes_follow_the_curvature_met():
    class Kinked(ebm.Energy):
        """Curved by two first, where step sizes above one half are too long; a thousand times flatter near its lowest point."""

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.full_like(c, 30.0)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (0.5e-3 * (z - c).square() + torch.nn.functional.softplus(z - 10).square()).sum(1)

    found = ebm.infer(Kinked(), X, steps=400, solver=ebm.Nesterov(), stop=ebm.AtRest(1e-8))
    assert found.converged.all() and (found.carry.memory["size"] > 1).all()
    torch.testing.assert_close(found.z, X, rtol=0, atol=1e-2)


# Sweeps


def test_a_sweep_is_the_method_of_gauss_and_seidel():
    matrix = 0.2 * numbers(6, 6, seed=1)
    matrix = 0.5 * (matrix + matrix.T).fill_diagonal_(0.0) + torch.eye(6, dtype=torch.float64)

    class Unit(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.ones_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (0.5 * (z @ matrix) * z - z * c).sum(1)

    x = numbers(4, 6, seed=2)
    z = torch.ones_like(x)
    for steps in range(1, 6):
        z = torch.linalg.solve(matrix.tril(), (x - z @ matrix.triu(1).T).T).T
        found = ebm.infer(Unit(), x, steps=steps, solver=ebm.Sweep(ebm.Descent(1.0), 6), keep="last")
        torch.testing.assert_close(found.z, z, rtol=1e-12, atol=1e-12)
        assert found.evals.tolist() == [1 + 6 * steps] * 4


@dataclass(frozen=True)
class Newton(ebm.Solver):
    """One exact step of Newton, its matrix built column by column from products."""

    def init(self, point: ebm.Point) -> Any:
        return None

    def step(self, field: Any, point: ebm.Point, memory: Any, draw: Any) -> ebm.Step:
        product = field.curvature(point.z)
        flat = rows.flatten(point.z)
        columns = [product(rows.unflatten(unit.expand_as(flat), point.z)) for unit in torch.eye(flat.shape[1]).to(flat)]
        matrix = torch.stack([rows.flatten(column) for column in columns], 2)
        move = torch.linalg.solve(matrix, rows.flatten(point.force))
        return ebm.Step(field(rows.add(point.z, rows.unflatten(move, point.z))), None)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        return {"point": 2, "curvature": rows.flatten(z).shape[1]}


@pytest.mark.parametrize("blocks", [2, 3])
def test_curvature_is_seen_block_by_block(blocks: int):
    model = Quadratic(7)
    matrix = (0.5 * (model.matrix + model.matrix.T)).detach()
    sizes = [len(part) for part in torch.arange(7).tensor_split(blocks)]
    group = torch.repeat_interleave(torch.arange(blocks), torch.tensor(sizes))
    lower = matrix * (group[:, None] >= group[None, :])
    x, z = X, torch.zeros(5, 7, dtype=torch.float64)
    b = (x @ model.weight).detach()
    for steps in range(1, 4):
        z = torch.linalg.solve(lower, (b - z @ (matrix - lower).T).T).T
        found = ebm.infer(model, x, steps=steps, solver=ebm.Sweep(Newton(), blocks), keep="last")
        torch.testing.assert_close(found.z, z, rtol=1e-10, atol=1e-10)


def test_leaves_are_taken_in_turn_each_with_its_own_step_size():
    class Uneven(Tree):
        def forward(self, z: Any, c: Any) -> Tensor:
            return super().forward(z, c) + 1e4 * 0.5 * (z.rest["scale"] - 1).square()

    model, steps = Uneven(3), 60
    found = ebm.infer(model, X, steps=steps, solver=ebm.Sweep(ebm.Nesterov()), stop=ebm.AtRest(1e-6))
    joint = ebm.infer(model, X, steps=6000, solver=ebm.BarzilaiBorwein(), stop=ebm.AtRest(1e-9))
    assert found.converged.all() and found.evals.tolist() == (1 + 3 * found.steps).tolist()
    for one, other in zip(rows.leaves(found.z), rows.leaves(joint.z), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    sizes = [memory["size"] for memory in found.carry.memory["parts"]]
    assert (sizes[1] < 1e-3).all() and (sizes[0] > 1e-2).all()


@dataclass(frozen=True)
class Pair(ebm.Solver):
    """Asks for two candidates a sample, in an order of its own, and takes the lower."""

    def init(self, point: ebm.Point) -> Any:
        return None

    def step(self, field: Any, point: ebm.Point, memory: Any, draw: Any) -> ebm.Step:
        batch = rows.count(point.z)
        samples = torch.cat([torch.arange(batch).flip(0), torch.arange(batch)])
        near, far = rows.add(point.z, point.force, 0.1), rows.add(point.z, point.force, 1.3)
        both = field.of(samples)(torch.cat([near.flip(0), far]))
        one = ebm.Point(*rows.map_rows(lambda leaf: leaf[:batch].flip(0), tuple(both)))
        two = ebm.Point(*rows.map_rows(lambda leaf: leaf[batch:], tuple(both)))
        return ebm.Step(ebm.Point(*rows.where(one.energy < two.energy, tuple(one), tuple(two))), None)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        return {"point": 2}


def test_a_sweep_finds_the_whole_point_behind_any_answer():
    """Whatever rows the solver inside asked for, energy and forces of all parts belong to the latent returned."""
    model = Quadratic(6, high=3.0)
    c = model.condition(X).detach()
    taken = set()
    for item in ebm.stream(model, X, steps=8, solver=ebm.Sweep(Pair(), 3), keep="last"):
        with torch.no_grad():
            point = model.point(item.z, c)
        assert (
            torch.equal(item.carry.point.force, point.force)
            or (item.carry.point.force - point.force).abs().max() < 1e-12
        )
        torch.testing.assert_close(item.energy, point.energy, rtol=1e-12, atol=1e-12)
        taken.add(tuple((item.z != 0).any(1).tolist()))
    assert item.energy.max() < 0 and len(taken) > 1


def test_a_sweep_that_fails_says_so():
    found = ebm.infer(Quadratic(), X, steps=5, solver=ebm.Sweep(ebm.Descent(1e308), 2))
    assert found.status.tolist() == [ebm.Status.NONFINITE] * 5 and found.z.isfinite().all()


@dataclass(frozen=True)
class Scripted(ebm.Solver):
    """Says that it is stalled at the visit that its first number names; where negative, moves at that visit instead."""

    def init(self, point: ebm.Point) -> Any:
        return torch.zeros_like(point.energy)

    def step(self, field: Any, point: ebm.Point, memory: Any, draw: Any) -> ebm.Step:
        visit = memory + 1
        at, moves = point.z[:, 0].abs() == visit, point.z[:, 0] < 0
        after = field(torch.where((at & moves)[:, None], point.z - 10, point.z))
        return ebm.Step(after, visit, ebm.Info(at & moves, at & ~moves))


def test_a_sweep_is_stalled_when_all_of_its_parts_are():
    """In whichever sweep they say so, unless another part has moved since."""
    start = torch.tensor([[1.0, 3.0], [2.0, 2.0], [1.0, -2.0], [1.0, 9.0]], dtype=torch.float64).repeat_interleave(2, 1)
    found = ebm.infer(Quadratic(), X[:4], steps=6, solver=ebm.Sweep(Scripted(), 2), start=start)
    stalled, out = ebm.Status.STALLED, ebm.Status.OUT_OF_STEPS
    assert found.status.tolist() == [stalled, stalled, out, out]
    assert found.steps.tolist() == [3, 2, 6, 6]


@pytest.mark.slow
@pytest.mark.parametrize("solver", FAMILY, ids=named)
def test_compiled_steps_go_the_same_way(solver: ebm.Solver):
    torch.compiler.reset()
    eager, compiled = (ebm.infer(Quadratic(), X, steps=7, solver=solver, compile=c, keep="last") for c in (False, True))
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-10, atol=1e-10)
    assert compiled.steps.tolist() == eager.steps.tolist()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ebm.BarzilaiBorwein("mean"), r'"long", "short" or "alternating"; got \'mean\'.* Leave it out'),
        (lambda: ebm.BarzilaiBorwein(window=0), r"window=...\)` must be at least 1; got 0. Try 10"),
        (lambda: ebm.BarzilaiBorwein(first=0.0), r"`BarzilaiBorwein\(first=...\)` must be above zero; got 0.0"),
        (lambda: ebm.Nesterov(restart="often"), r'"gradient", "energy" or None; got \'often\''),
        (lambda: ebm.Nesterov(first=-1.0), r"`Nesterov\(first=...\)` must be above zero; got -1.0"),
        (lambda: ebm.Backtracking(trials=0), r"trials=...\)` must be at least 1; got 0"),
        (lambda: ebm.Sweep(ebm.Descent(0.1), blocks=1), r"blocks=...\)` must be at least 2; got 1.* leaves"),
        (
            lambda: ebm.Sweep(ebm.Asynchronous()),
            r"cannot answer conditional; Asynchronous needs that.*AdaptiveDescent",
        ),
        (lambda: ebm.Sweep(ebm.Proximal()), r"cannot answer prox"),
        (
            lambda: ebm.infer(Quadratic(), X, steps=1, solver=ebm.Sweep(ebm.Descent(0.1), 5)),
            r"has 4. Take fewer blocks",
        ),
        (
            lambda: ebm.infer(Tanh(3), X, steps=1, solver=ebm.BarzilaiBorwein()),
            r"BarzilaiBorwein needs energy, gradient",
        ),
    ],
)
def test_refusals(make: Any, words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_sweep_wraps_solvers_alone():
    with pytest.raises(TypeError, match=r"wraps a solver; got float. Pass `Sweep\(AdaptiveDescent\(\)\)`"):
        ebm.Sweep(0.1)  # pyright: ignore[reportArgumentType]
