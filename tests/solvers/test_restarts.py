"""Restarts against what they must equal: runs of the single starts, a race replayed by hand, counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.engine.field import CountedField
from ebm.noise import Draw
from ebm.solvers.base import View
from ebm.testing.case import evaluations
from tests.energies import Quadratic, Tanh, Tree, Wells, coupling_slope, numbers

X = numbers(5, 3, seed=9)


def spread_starts(z: Tensor, n: int, spread: float, batch: int = 5) -> list[Tensor]:
    """The starts of all replicas, by the public pieces: the call's own, and noise from each replica's keys."""
    samples = torch.arange(batch)
    draws = [
        Draw(samples, torch.zeros(batch, dtype=torch.int64)).of(samples, torch.full((batch,), r)) for r in range(n)
    ]
    return [z, *(z + spread * draw.normal(z) for draw in draws[1:])]


def alone(model: ebm.Objective, inner: ebm.Solver, start: Tensor, steps: int) -> list[ebm.Solution]:
    return [ebm.infer(model, X, steps=k, solver=inner, start=start, keep="last") for k in range(steps + 1)]


@pytest.mark.parametrize(
    "inner",
    [ebm.Descent(0.2, momentum=0.8), ebm.AdaptiveDescent(), ebm.Adam(0.1), ebm.Anderson(3, mixing=0.5)],
    ids=lambda solver: type(solver).__name__,
)
def test_every_replica_goes_where_its_start_would_alone(inner: ebm.Solver):
    model, own = Wells(3), numbers(5, 3, seed=4)
    found = ebm.infer(model, X, steps=7, solver=ebm.Restarts(4, inner, spread=0.7), start=own, keep="last")
    for replica, start in enumerate(spread_starts(own, 4, 0.7)):
        single = alone(model, inner, start, 7)[7 if replica == 0 else 6]
        stood = found.carry.memory.points
        torch.testing.assert_close(stood.z[:, replica], single.z, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(stood.energy[:, replica], single.energy, rtol=1e-9, atol=1e-9)
    assert torch.equal(found.energy, found.carry.memory.points.energy.amin(1))


@pytest.mark.parametrize(("every", "eta", "least"), [(2, 2, 1), (3, 3, 2), (1, 2, 1)])
def test_the_race_is_the_one_replayed_by_hand(every: int, eta: int, least: int):
    model, own, inner, n = Wells(3), numbers(5, 3, seed=4), ebm.Descent(0.1), 7
    solver = ebm.Restarts(n, inner, spread=0.9, every=every, eta=eta, least=least)
    runs = [alone(model, inner, start, 8) for start in spread_starts(own, n, 0.9)]
    left = [list(range(n)) for _ in X]
    evals = [1] * len(X)
    for steps in range(1, 9):
        found = ebm.infer(model, X, steps=steps, solver=solver, start=own, keep="last")
        for sample, race in enumerate(left):
            evals[sample] += len(race)
            energy = {r: float(runs[r][steps if r == 0 else steps - 1].energy[sample]) for r in race}
            assert float(found.energy[sample]) == pytest.approx(min(energy.values()), rel=1e-12)
            if steps % every == 0:
                stay = max(least, -(-len(race) // eta))
                left[sample] = sorted(sorted(race, key=lambda r, energy=energy: energy[r])[:stay])
        alive = [row.nonzero().flatten().tolist() for row in found.carry.memory.alive]
        assert alive == left
        assert found.evals.tolist() == evals


def test_one_replica_is_the_solver_inside():
    for inner in (ebm.AdaptiveDescent(), ebm.Langevin(0.05, 0.5)):
        plain, one = (ebm.infer(Wells(3), X, steps=6, solver=s) for s in (inner, ebm.Restarts(1, inner)))
        for name in ("z", "energy", "evals", "flops_per_sample"):
            assert torch.equal(getattr(plain, name), getattr(one, name)), name


def test_the_model_may_draw_the_starts():
    found = ebm.infer(Tree(3), X, steps=1, solver=ebm.Restarts(40, ebm.Descent(0.1))).carry.memory.points.z
    assert (found.rest["grid"][:, 1:] > 0).all() and (found.rest["grid"][:, 1:] < 1).all()
    assert found.rest["grid"][:, 1:].std(1).min() > 0.15, "uniform on (0, 1), drawn anew for each replica"
    assert (found.mean[:, 1:] == 0).all()


def test_a_model_whose_start_is_not_random_is_refused():
    with pytest.raises(ValueError, match=r"`init_latent` draws nothing.* Pass `spread=0\.5`"):
        ebm.infer(Quadratic(), X, steps=1, solver=ebm.Restarts(3, ebm.Descent(0.1)))


def test_starts_may_be_a_function():
    def mirrored(z: Tensor, draw: Draw) -> Tensor:
        return -z

    own = numbers(5, 3, seed=4)
    found = ebm.infer(Wells(3), X, steps=1, solver=ebm.Restarts(2, ebm.Descent(0.1), spread=mirrored), start=own)
    assert torch.equal(found.carry.memory.points.z[:, 1], -own)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(
    "solver",
    [
        ebm.Restarts(6, ebm.AdaptiveDescent(), spread=0.8, every=2),
        ebm.Restarts(5, ebm.Langevin(0.05, 0.5), spread=0.8, every=3, eta=4),
        ebm.Project(ebm.Restarts(3, ebm.Adam(0.1), spread=0.8, every=1), ebm.Box(-1.0, 1.0)),
        ebm.Restarts(2, ebm.Restarts(3, ebm.Descent(0.1), spread=0.3, every=2), spread=0.5),
    ],
    ids=["descent", "sampler", "projected", "nested"],
)
def test_work_is_counted_sample_by_sample(solver: ebm.Solver, compact: bool):
    limits = torch.tensor([0, 1, 3, 5, 8])
    model = Quadratic()
    with evaluations(model) as sizes:
        found = ebm.infer(model, X, steps=limits, solver=solver, compact=compact)
    price = int(ebm.infer(model, X, steps=0).flops_per_sample[0])
    assert price > 0
    assert torch.equal(found.flops_per_sample, price * found.evals)
    assert found.flops == found.fixed_flops + price * sum(sizes)
    if compact:
        assert found.flops == found.fixed_flops + int((price * found.evals).sum())
    else:
        assert found.flops > found.fixed_flops + int((price * found.evals).sum()), "ended samples are padding"
    singles = [ebm.infer(model, X, steps=k, solver=solver) for k in limits.tolist()]
    assert found.evals.tolist() == [int(single.evals[row]) for row, single in enumerate(singles)]


def test_questions_beyond_a_point_are_charged_to_the_sample_that_asked():
    model = Quadratic()
    field = CountedField(model, model.condition(X), 5)
    part = field.of(torch.tensor([3, 1, 3]))
    z = numbers(3, 4, seed=1)
    point, product = part(z), part.curvature(z)
    product(z)
    again = part.of(torch.tensor([2, 1]))
    inner = again(z[:2])
    c = model.condition(X)[[3, 1, 3]]
    torch.testing.assert_close(point.energy, model(z, c))
    torch.testing.assert_close(product(z), z @ (0.5 * (model.matrix + model.matrix.T)))
    torch.testing.assert_close(inner.energy, model(z[:2], c[[2, 1]]))
    counts: dict[str, Any] = {kind: torch.as_tensor(times).tolist() for kind, times in field.asked.items()}
    assert counts == {"point": [0, 3, 0, 5, 0], "curvature": [0, 2, 0, 4, 0]}
    field(X[:, [0, 1, 2, 0]])
    assert field.asked["point"].tolist() == [1, 4, 1, 6, 1]  # type: ignore[union-attr]


def test_a_view_hands_on_the_rows():
    class Halved(View):
        def __call__(self, z: Any) -> ebm.Point:
            return self.field(0.5 * z)

    model = Quadratic()
    field = CountedField(model, model.condition(X), 5)
    z = numbers(2, 4, seed=1)
    seen = Halved(field).of(torch.tensor([4, 0]))(z)
    torch.testing.assert_close(seen.energy, model(0.5 * z, model.condition(X)[[4, 0]]))
    assert field.asked["point"].tolist() == [1, 0, 0, 0, 1]  # type: ignore[union-attr]


def test_replicas_draw_noise_of_their_own():
    keys, step = torch.tensor([5, 9, 2**40]), torch.tensor([0, 3, 3])
    draw = Draw(keys, step)
    samples, replicas = torch.arange(3).repeat_interleave(50), torch.arange(50).repeat(3)
    like = torch.empty(150, 40, dtype=torch.float64)
    found = draw.of(samples, replicas).normal(like)
    assert torch.equal(found[::50], Draw(keys, step).normal(like[:3])), "replica 0 draws what the sample draws"
    mixed = torch.corrcoef(found) - torch.eye(150)
    assert mixed.abs().max() < 0.75, "no two replicas share their noise"
    assert abs(float(found.mean())) < 0.05 and abs(float(found.std()) - 1) < 0.05
    order = torch.tensor([77, 3])
    assert torch.equal(draw.of(samples[order], replicas[order]).normal(like[:2]), found[order])
    assert not draw.used and len(set(draw.of(samples, replicas).keys.tolist())) == 150


class Cliff(ebm.Energy):
    """Not a number beyond an edge, a slope towards it."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (self.slope * (1 - z).sqrt() + 0.1 * z.square()).sum(1)


def placed(*values: float) -> Any:
    """Starts at given numbers, whatever the call's own."""

    def start(z: Tensor, draw: Draw) -> Tensor:
        return z.new_tensor(values)[: len(z)].repeat(1, 1).reshape(-1, 1).expand_as(z)

    return start


def test_a_replica_that_fails_is_dropped_and_never_the_answer():
    x = torch.tensor([[0.9]], dtype=torch.float64)
    solver = ebm.Restarts(3, ebm.Descent(0.3), spread=placed(-3.0, 2.0))
    found = ebm.infer(Cliff(), x, steps=4, solver=solver, keep="last")
    assert found.status.tolist() == [ebm.Status.OUT_OF_STEPS]
    assert found.carry.memory.alive.tolist() == [[False, True, False]]
    single = ebm.infer(Cliff(), x, steps=3, solver=ebm.Descent(0.3), start=torch.full_like(x, -3.0), keep="last")
    torch.testing.assert_close(found.z, single.z)
    assert found.evals.tolist() == [1 + 3 + 1 + 1 + 1], "those that failed are asked no more"


def test_a_sample_without_a_replica_left_ends_nonfinite_with_its_last_point():
    x = torch.tensor([[0.9], [-3.0]], dtype=torch.float64)
    solver = ebm.Restarts(2, ebm.Descent(0.3), spread=0.001)
    for adjoint in (ebm.Detached(), ebm.Unroll()):
        found = ebm.infer(Cliff(), x, steps=4, solver=solver, keep="last", adjoint=adjoint)
        assert found.status.tolist() == [ebm.Status.NONFINITE, ebm.Status.OUT_OF_STEPS]
        assert found.z.isfinite().all()
        assert found.steps[1] == 4


def test_a_failed_replica_poisons_no_gradient():
    x = torch.tensor([[0.9]], dtype=torch.float64)
    model = Cliff()
    solver = ebm.Restarts(3, ebm.Descent(0.3), spread=placed(-3.0, 2.0))
    ebm.infer(model, x, steps=4, solver=solver, adjoint=ebm.Unroll()).energy.sum().backward()
    twin = Cliff()
    start = torch.full_like(x, -3.0)
    ebm.infer(twin, x, steps=3, solver=ebm.Descent(0.3), start=start, adjoint=ebm.Unroll()).energy.sum().backward()
    torch.testing.assert_close(model.slope.grad, twin.slope.grad)


@pytest.mark.parametrize("adjoint", [ebm.Truncated(2), ebm.Truncated(9)], ids=str)
def test_a_truncated_tail_differentiates_every_replica(adjoint: ebm.Adjoint):
    """The answer of the tail comes from a replica that was not shown where the tail begins."""
    steps = 6
    solver = ebm.Restarts(4, ebm.Descent(0.1, momentum=0.9), spread=1.5)
    model = Wells(3)
    shown = [ebm.infer(model, X, steps=k, solver=solver, keep="last").carry.memory.shown for k in (steps - 2, steps)]
    assert not torch.equal(*shown), "the case shows something"
    found = ebm.infer(model, X, steps=steps, solver=solver, adjoint=adjoint)
    (slope,) = torch.autograd.grad(found.energy.sum(), model.coupling)
    tail = min(adjoint.last, steps)  # type: ignore[attr-defined]
    first = ebm.infer(model, X, steps=steps - tail, solver=solver, keep="last")
    finite = coupling_slope(model, lambda other: _from(other, first, solver, tail))
    torch.testing.assert_close(slope, finite, rtol=2e-6, atol=2e-7)


def _from(model: ebm.Energy, before: ebm.Solution, solver: ebm.Restarts, steps: int) -> Tensor:
    """Energies after more steps from latents and velocities held fixed, with all points evaluated anew under the model."""
    memory = before.carry.memory
    if not int(memory.age[0]):
        return ebm.infer(model, X, steps=steps, solver=solver, start=before.z, keep="last").energy  # type: ignore[return-value]
    with torch.no_grad():
        flat = memory.points.z.flatten(0, 1)
        points = model.point(flat, X.repeat_interleave(solver.n, 0))
        anew = rows.map_rows(lambda leaf: leaf.unflatten(0, (-1, solver.n)), points)
        point = model.point(before.carry.point.z, X)
    carry = before.carry._replace(point=point, memory=memory._replace(points=anew))
    going = ebm.Solution(**{**vars(before), "carry": carry})
    return ebm.infer(model, X, steps=steps, solver=solver, resume=going, keep="last").energy  # type: ignore[return-value]


def test_starts_lie_where_the_solver_inside_allows():
    inner = ebm.Project(ebm.Descent(0.3), ebm.Box(-0.2, 0.2))
    found = ebm.infer(Quadratic(), X, steps=1, solver=ebm.Restarts(5, inner, spread=3.0)).carry.memory.points
    assert found.z.abs().max() <= 0.2 and (found.z[:, 1:].abs() == 0.2).double().mean() > 0.8
    one = ebm.infer(Quadratic(), X, steps=60, solver=inner)
    many = ebm.infer(Quadratic(), X, steps=60, solver=ebm.Restarts(5, inner, spread=3.0))
    torch.testing.assert_close(many.z, one.z, rtol=1e-6, atol=1e-6)


def test_single_precision_and_an_empty_batch():
    model, x = Quadratic(dtype=torch.float32), X.float()
    solver = ebm.Restarts(4, ebm.AdaptiveDescent(), spread=0.5, every=3)
    found = ebm.infer(model, x, steps=40, solver=solver)
    assert found.z.dtype == torch.float32
    torch.testing.assert_close(found.z, model.settled(x), rtol=1e-3, atol=1e-3)
    assert len(ebm.infer(model, x[:0], steps=4, solver=solver)) == 0


def test_an_update_is_ranked_by_its_residual():
    found = ebm.infer(Tanh(3), X, steps=3, solver=ebm.Restarts(6, ebm.Picard(0.5), spread=1.0), keep="last")
    residual = rows.rms(found.carry.memory.points.force.flatten(0, 1)).view(5, 6)
    torch.testing.assert_close(found.residual, residual.amin(1))
    assert found.energy is None


def test_a_stalled_replica_is_stepped_no_more_and_all_stalled_is_stalled():
    class Sticks(ebm.Descent):
        """Stalls at the third step where it began below zero, else at the fifth."""

        def init(self, point: ebm.Point) -> Any:
            return torch.where(point.z[:, 0] < 0, 3, 5)

        def step(self, field: Any, point: ebm.Point, memory: Any, draw: Any) -> ebm.Step:
            return ebm.Step(super().step(field, point, None, draw).point, memory - 1, ebm.Info(None, memory == 1))

    x = torch.zeros(1, 3, dtype=torch.float64)
    solver = ebm.Restarts(3, Sticks(0.01), spread=placed(-1.0, 1.0))
    found = ebm.infer(Wells(3), x, steps=30, solver=solver, start=x + 0.5)
    assert found.status.tolist() == [ebm.Status.STALLED]
    # placed in the first step, the others stall in their fourth and sixth, the call's own start in its fifth
    assert found.steps.tolist() == [6]
    assert found.evals.tolist() == [1 + 5 + 4 + 6]


def test_a_stop_rule_waits_for_the_race():
    """The call's own start rests at once in the higher well; a stop rule that looked at it would end the sample there."""
    model, x = Wells(1), torch.ones(1, 1, dtype=torch.float64)
    with torch.no_grad():
        model.stiffness.fill_(4.0)
    high, low = (
        ebm.infer(model, x, steps=400, solver=ebm.Descent(0.05), start=s * x, stop=ebm.AtRest(1e-9)) for s in (-1, 1)
    )
    assert float(low.energy) < float(high.energy) - 0.1
    near = high.z + 1e-5
    options: dict[str, Any] = {"steps": 200, "start": near, "stop": ebm.AtRest(1e-4, rtol=0.0)}
    assert int(ebm.infer(model, x, solver=ebm.Descent(0.05), **options).steps) <= 1
    solver = ebm.Restarts(2, ebm.Descent(0.05), spread=placed(0.1), every=30)
    found = ebm.infer(model, x, solver=solver, **{**options, "start": high.z + 1e-3})
    assert found.converged.all() and 30 <= int(found.steps) < 200
    torch.testing.assert_close(found.energy, low.energy)
    # without drops the race is never decided: the budget is what ends it
    undecided = ebm.Restarts(2, ebm.Descent(0.05), spread=placed(0.1))
    assert int(ebm.infer(model, x, solver=undecided, **{**options, "start": high.z + 1e-3}).steps) == 200


def test_mirrored_minima_do_not_hang_on_rounding():
    """Two replicas at mirrored points tie but for rounding; the lower number wins, whoever is computed together."""

    class Even(Wells):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return 1.3 + c

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            noise = 1e-15 * torch.arange(len(z), 0, -1, dtype=z.dtype)
            return (z.square() - 1).square().sum(1) * (1 + noise)

    def mirrored(z: Tensor, draw: Draw) -> Tensor:
        return -z

    solver = ebm.Restarts(2, ebm.Descent(0.05), spread=mirrored, every=3)
    x = 0.01 * numbers(4, 2, seed=3)
    placed = ebm.infer(Even(2), x, steps=1, solver=solver, keep="last", start=1.3 + x)
    assert placed.carry.memory.shown.tolist() == [0, 0, 0, 0]
    flipped = ebm.Restarts(2, ebm.Descent(1e-30), spread=mirrored)
    found = ebm.infer(Even(2), x, steps=2, solver=flipped, keep="last", start=1.3 + x)
    assert found.carry.memory.shown.tolist() == [0, 0, 0, 0]


def test_more_starts_find_a_ground_state_by_enumeration():
    couplings = numbers(3, 8, 8, seed=2)
    couplings = (couplings + couplings.mT) * (1 - torch.eye(8, dtype=torch.float64))
    states = 2 * (torch.arange(256)[:, None] >> torch.arange(8) & 1).double() - 1
    missed = 0
    for own in couplings:
        model = ebm.Hopfield(own)
        lowest = model.point(states, model.condition(states)).energy.min()  # type: ignore[union-attr]
        solver = ebm.Restarts(24, ebm.Asynchronous(), spread=lambda z, draw: draw.normal(z).sign(), every=3)
        found = ebm.infer(model, states[:1], steps=6, solver=solver)
        torch.testing.assert_close(found.energy[0], lowest)
        missed += int(ebm.infer(model, states[:1], steps=6, solver=ebm.Asynchronous()).energy[0] > lowest + 1e-6)
    assert missed, "a single start finds it, too: the case shows nothing"


def test_restarts_are_not_compiled():
    for solver in (
        ebm.Restarts(2, ebm.Descent(0.1), spread=1.0),
        ebm.Project(ebm.Restarts(2, ebm.Descent(0.1), 1.0), ebm.Box(0)),
    ):
        with pytest.raises(
            ValueError, match=r"`compile=True` does not suit \w+: .* shapes that depend on the data\. Leave"
        ):
            ebm.infer(Quadratic(), X, steps=1, solver=solver, compile=True)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"inner": 0.1}, TypeError, r"wraps a solver; got float\. Pass `Restarts\(8"),
        ({"n": 0}, ValueError, r"n=\.\.\.\)` is a whole number of at least 1; got 0"),
        ({"n": 2.5}, ValueError, r"whole number of at least 1; got 2\.5"),
        ({"eta": 1}, ValueError, r"eta=\.\.\.\)` is a whole number of at least 2; got 1"),
        ({"every": 0}, ValueError, r"every=\.\.\.\)` is a whole number of at least 1; got 0"),
        ({"least": 5}, ValueError, r"may not exceed n=4; got 5.* pass `every=None`"),
        ({"spread": 0.0}, ValueError, r"spread=\.\.\.\)` must be above zero; got 0\.0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], kind: type[Exception], words: str):
    given = {"n": 4, "inner": ebm.Descent(0.1), **settings}
    with pytest.raises(kind, match=words):
        ebm.Restarts(**given)


def test_what_is_not_changed_is_that_of_the_solver_inside():
    sampler = ebm.Restarts(2, ebm.Langevin(0.1), spread=1.0)
    assert (sampler.keep, sampler.noisy, sampler.needs) == ("last", True, frozenset({"gradient"}))
    descent = ebm.Restarts(2, ebm.Descent(0.1), spread=1.0)
    assert (descent.keep, descent.noisy, descent.needs) == ("best", True, frozenset())
    assert not ebm.Restarts(1, ebm.Descent(0.1)).noisy
    assert descent.most(X) == {"point": 2}
    assert ebm.Restarts(3, ebm.AdaptiveDescent()).most(X, True) == {"point": 14, "start": 4}
