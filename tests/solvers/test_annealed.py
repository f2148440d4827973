"""Annealing against closed forms, straight-line code and the same solvers run one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import ebm
from ebm import rows
from ebm.solvers import Solver, Step
from tests.energies import Quadratic, Wells, numbers

X = numbers(5, 3, seed=9)
ALL = torch.arange(5)


class Away(ebm.Energy):
    """E = a |z - m c|^2 / 2: at rest at m c."""

    def __init__(self, stiffness: float, multiple: float) -> None:
        super().__init__()
        self.stiffness, self.multiple = stiffness, multiple

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return torch.zeros_like(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.stiffness * (z - self.multiple * c).square().sum(1)


class Ripples(ebm.Levelled):
    """Landscapes that grow rougher: nonconvex, with one parameter."""

    rungs = 4

    def __init__(self) -> None:
        super().__init__()
        self.pull = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return draw.normal(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor, rung: torch.Tensor) -> torch.Tensor:
        rough = rung.to(z.dtype)[:, None]
        return (0.5 * self.pull * (z - c).square() + rough * (3 * z).cos()).sum(1)


@dataclass(frozen=True)
class Steepest(Solver):
    """Descent with the exact step size of a quadratic; asks for curvature. Counts its steps on a rung."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def init(self, point: ebm.Point) -> Any:
        return torch.zeros_like(rows.rms(point.z))

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        return {"point": 2, "curvature": 1}

    def step(self, field: Any, point: ebm.Point, memory: Any, draw: Any) -> Step:
        bend = rows.dot(point.force, field.curvature(point.z)(point.force))
        size = rows.dot(point.force, point.force) / bend
        return Step(field(rows.add(point.z, point.force, size)), memory + 1)


def test_quadratics_whose_minimum_moves():
    """T steps of descent leave (1 - a h)^T of the distance to the minimum of each rung, whose start is the end of the last."""
    ladder = ebm.Ladder([Away(1.0, 1.0), Away(0.5, -2.0), Away(2.0, 3.0)])
    steps, sizes, scales = (3, 5, 2), (0.4, 1.0, 0.3), (1.0, 0.5, 2.0)
    solver = ebm.Annealed(tuple(map(ebm.Descent, sizes)), steps, scales=scales)
    z, before = torch.zeros_like(X), 1.0
    for count, size, scale, (a, m) in zip(steps, sizes, scales, [(1.0, 1.0), (0.5, -2.0), (2.0, 3.0)], strict=True):
        z, before = z * scale / before, scale
        z = m * X + (1 - size * a) ** count * (z - m * X)
    found = ebm.infer(ladder, X, steps=50, solver=solver)
    torch.testing.assert_close(found.answer, z)
    assert found.steps.tolist() == [10] * 5 and found.status.tolist() == [ebm.Status.STALLED] * 5
    assert found.evals.tolist() == [1 + 10 + 2] * 5, "one for each step, and one on entering each later rung"
    assert found.residual.isfinite().all()


def test_the_inference_of_ired():
    """K landscapes, T clamped gradient steps each, kept only if the energy does not rise, and a rescaled latent."""
    model, count = Ripples(), 6
    sizes, noise = (0.9, 0.5, 0.3, 0.2), torch.tensor([0.9, 0.6, 0.3, 0.1], dtype=torch.float64)
    alphas = (1 - noise**2).sqrt().tolist()
    clip = [2.0 * a for a in alphas]
    solver = ebm.Annealed(
        tuple(ebm.Downhill(ebm.Project(ebm.Descent(s), ebm.Box(-m, m))) for s, m in zip(sizes, clip, strict=True)),
        steps=count,
        scales=tuple(alphas),
    )
    begun = ebm.infer(ebm.Ladder(model), X, steps=0, solver=solver)
    y, turned_down = begun.z.z.clone(), 0
    for k in range(4):
        level = torch.full((5,), k)
        for _ in range(count):
            y = y.detach().requires_grad_()
            energy = model(y, X, level)
            (slope,) = torch.autograd.grad(energy.sum(), y)
            new = (y - sizes[k] * slope).clamp(-clip[k], clip[k]).detach()
            bad = model(new, X, level) > energy
            turned_down += int(bad.sum())
            y = torch.where(bad[:, None], y, new)
        if k < 3:
            y = (y * (alphas[k + 1] / alphas[k])).clamp(-clip[k + 1], clip[k + 1])
    found = ebm.infer(ebm.Ladder(model), X, steps=99, solver=solver, resume=begun)
    torch.testing.assert_close(found.answer, y.detach(), rtol=1e-12, atol=1e-12)
    assert turned_down > 10 and found.steps.tolist() == [24] * 5


def test_annealed_langevin_dynamics():
    """Song and Ermon (2019), algorithm 1, on the same noise: z + a_k s(z, k) / 2 + sqrt(a_k) noise is a step of size a_k / 2."""
    sigmas = (1.0, 0.5, 0.2, 0.1)
    sizes = [0.05 * (s / sigmas[-1]) ** 2 * 0.1 for s in sigmas]
    ladder = ebm.Ladder(Ripples())
    solver = ebm.Annealed(tuple(ebm.Langevin(a / 2) for a in sizes), steps=3)
    found = ebm.infer(ladder, X, steps=99, solver=solver)
    z = ebm.infer(ladder, X, steps=0, solver=solver).z.z
    for step in range(12):
        level = torch.full((5,), step // 3)
        score = ladder.levels.point(z, X, level).force.detach()
        noise = ebm.Draw(ALL, torch.full((5,), step)).normal(z)
        z = z + sizes[step // 3] / 2 * score + sizes[step // 3] ** 0.5 * noise
    torch.testing.assert_close(found.answer, z, rtol=1e-12, atol=1e-12)


HETERO = (ebm.Descent(0.3, momentum=0.5), ebm.Adam(0.1), ebm.AdaptiveDescent(), ebm.Descent(0.1, momentum=0.9))


@pytest.mark.parametrize(
    "solvers", [HETERO, (ebm.Adam(0.1), ebm.Adam(0.2), ebm.Adam(0.05), ebm.Adam(0.1))], ids=["mixed", "alike"]
)
def test_the_same_as_one_call_after_the_other(solvers: tuple[ebm.Solver, ...]):
    """Each rung begins with no memory, where the last one ended."""
    models = [Wells(3, seed=k) for k in range(4)]
    steps = (3, 2, 4, 3)
    begun = ebm.infer(ebm.Ladder(models), X, steps=0, solver=ebm.Annealed(solvers, steps))
    z = begun.z.z
    for model, solver, count in zip(models, solvers, steps, strict=True):
        z = ebm.infer(model, X, steps=count, solver=solver, start=z, keep="last").z
    found = ebm.infer(ebm.Ladder(models), X, steps=99, solver=ebm.Annealed(solvers, steps), resume=begun)
    torch.testing.assert_close(found.answer, z, rtol=1e-12, atol=1e-12)
    kept = found.carry.memory["inner"]
    assert len(kept) == (4 if solvers is HETERO else 1), "solvers whose memories are alike share one"


@pytest.mark.parametrize(
    "solvers",
    [
        HETERO,
        ebm.AdaptiveDescent(),
        tuple(ebm.Langevin(0.05, t) for t in (1.0, 0.5, 0.3, 0.1)),
        (*HETERO[:2], Steepest(), ebm.Langevin(0.1)),
    ],
    ids=["mixed", "one for all", "noisy", "curvature"],
)
def test_samples_on_different_rungs_settle_side_by_side(solvers: Any):
    """Sent ahead by different counts of steps, the samples stand on different rungs; each goes on as it does alone."""
    models = (
        [Quadratic(seed=k) for k in range(4)]
        if not isinstance(solvers, ebm.Solver)
        else [Wells(3, seed=k) for k in range(4)]
    )
    ladder, solver = ebm.Ladder(models), ebm.Annealed(solvers, 3, rungs=4)
    begun = ebm.infer(ladder, X, steps=torch.tensor([0, 3, 5, 8, 11]), solver=solver)
    assert len(begun.z.rung.unique()) == 4
    together = ebm.infer(ladder, X, steps=4, solver=solver, resume=begun, compact=False)
    for row in range(5):
        alone = ebm.infer(ladder, X[row : row + 1], steps=4, solver=solver, resume=begun.take([row]), compact=False)
        assert alone.steps[0] == together.steps[row] and alone.status[0] == together.status[row]
        torch.testing.assert_close(alone.z.z[0], together.z.z[row], rtol=1e-12, atol=1e-12)
        assert alone.z.rung[0] == together.z.rung[row]
        if "Steepest" not in repr(solvers):
            assert alone.evals[0] == together.evals[row], "a sample pays for its own rung alone"


def test_a_solver_that_stalls_climbs_early():
    """A flow whose schedule is over after two of its twenty steps hands the sample on."""
    ladder = ebm.Ladder([Away(1.0, 0.0), Away(1.0, 1.0)])
    solver = ebm.Annealed((ebm.Flow(0.01, horizon=0.02), ebm.Descent(0.5)), steps=(20, 3))
    found = ebm.infer(ladder, X, steps=99, solver=solver, start=2 * X)
    assert found.steps.tolist() == [5] * 5 and found.z.rung.tolist() == [1.0] * 5
    assert (found.status == ebm.Status.STALLED).all()
    left = 2 * torch.tensor(-0.02, dtype=torch.float64).exp() * X
    torch.testing.assert_close(found.answer, X + (left - X) / 8)


def test_rest_below_the_last_rung_ends_nothing():
    ladder = ebm.Ladder([Away(1.0, 0.0), Away(1.0, 1.0)])
    solver = ebm.Annealed(ebm.Descent(0.9), steps=(2, 50))
    first = ebm.infer(ladder, X, steps=1, solver=solver)
    assert first.residual.isinf().all() and (first.z.z == 0).all()
    found = ebm.infer(ladder, X, steps=99, solver=solver, stop=ebm.AtRest(1e-4))
    assert found.converged.all() and (found.steps > 2).all() and (found.steps < 20).all()
    torch.testing.assert_close(found.answer, X, rtol=1e-3, atol=1e-3)


def test_the_last_point_is_kept():
    """The first landscape has the lower energy; the answer is still that of the second."""
    found = ebm.infer(
        ebm.Ladder([Away(1.0, 1.0), Away(1e3, 2.0)]), X, steps=4, solver=ebm.Annealed(ebm.Descent(1e-4), 2, rungs=2)
    )
    assert found.z.rung.tolist() == [1.0] * 5


def test_gradients_through_the_rungs():
    """The unrolled gradient in a parameter of the landscapes, with samples on several rungs, against finite differences."""
    model = Ripples()
    ladder = ebm.Ladder(model)
    solver = ebm.Annealed(
        (ebm.Descent(0.05), ebm.Adam(0.1), ebm.Descent(0.02), ebm.Descent(0.01)), 2, scales=(1, 2, 1, 1.5)
    )
    limits = torch.tensor([1, 3, 5, 8, 20])

    def value() -> torch.Tensor:
        return ebm.infer(ladder, X, steps=limits, solver=solver, adjoint=ebm.Unroll()).answer.square().sum()

    (gradient,) = torch.autograd.grad(value(), model.pull)
    values = []
    for change in (1e-5, -1e-5):
        with torch.no_grad():
            model.pull += change
        values.append(value().item())
        with torch.no_grad():
            model.pull -= change
    assert gradient.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)
    tail = ebm.infer(ladder, X, steps=50, solver=solver, adjoint=ebm.Truncated(99)).answer.square().sum()
    whole = ebm.infer(ladder, X, steps=50, solver=solver, adjoint=ebm.Unroll()).answer.square().sum()
    torch.testing.assert_close(torch.autograd.grad(tail, model.pull), torch.autograd.grad(whole, model.pull))


@pytest.mark.slow
def test_a_ladder_of_temperatures_samples_the_last():
    """Four thousand samples cooled from ten to a half: normal with the variance T / a, up to the bias of the step."""
    model = Away(2.0, 1.0)
    solver = ebm.Annealed(tuple(ebm.Langevin(0.02, t) for t in (10.0, 2.0, 0.5)), steps=(50, 50, 150))
    x = torch.full((4000, 2), 3.0, dtype=torch.float64)
    found = ebm.infer(ebm.Ladder([model] * 3), x, steps=999, solver=solver, generator=torch.Generator().manual_seed(5))
    deviation = found.answer - 3.0
    assert deviation.mean().abs() < 5 * (0.25 / 8000) ** 0.5
    exact = 0.25 / (1 - 0.02)  # unadjusted dynamics of step a on curvature h widen the variance by 1 / (1 - a h / 2)
    assert deviation.var().item() == pytest.approx(exact, abs=5 * exact * (2 / 8000) ** 0.5)


# Downhill


@pytest.mark.parametrize(
    "inner", [ebm.Descent(0.9), ebm.Langevin(0.3, 0.5), ebm.Descent(0.5, momentum=0.95)], ids=lambda s: type(s).__name__
)
def test_downhill_never_raises_the_energy(inner: ebm.Solver):
    model = Wells(3)
    trace = ebm.infer(model, X, steps=40, solver=ebm.Downhill(inner), record=["energy", "z"]).trace
    energy, z = trace["energy"], trace["z"]
    rise = energy[1:] - energy[:-1]
    assert (rise <= 0).all() and (energy[-1] < energy[0]).any()
    still = (z[1:] == z[:-1]).all(2)
    assert still.any() and (rise[still] == 0).all()
    plain = ebm.infer(model, X, steps=40, solver=inner, record="energy", keep="last").trace["energy"]
    assert (plain[1:] > plain[:-1]).any(), "the solver inside does raise it"


def test_downhill_keeps_a_bad_proposal_out_of_a_gradient():
    """A step that overflows is turned down, and the gradient in the step size of the others is finite and right."""
    size = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    start = X.clone()
    start[1] = 1e70  # the quartic energy of its proposal overflows
    found = ebm.infer(Wells(3), X, steps=1, start=start, solver=ebm.Downhill(ebm.Descent(size)), adjoint=ebm.Unroll())
    assert found.status[1] == ebm.Status.OUT_OF_STEPS and torch.equal(found.z[1].detach(), start[1])
    (gradient,) = torch.autograd.grad(found.z.sum(), size)
    model = Wells(3)
    good = [0, 2, 3, 4]
    force = model.point(start[good], X[good]).force
    kept = (found.z[good] != start[good]).any(1)
    assert gradient.item() == pytest.approx(force[kept].sum().item()) and kept.any()


def test_an_energy_without_a_floor_in_a_ladder():
    """The last landscape has no floor: the samples end NONFINITE, or with the schedule, and keep a finite latent."""
    ladder = ebm.Ladder([Away(1.0, 1.0), Away(-5.0, 1.0)])
    found = ebm.infer(ladder, X, steps=3000, solver=ebm.Annealed(ebm.Descent(0.5), steps=(2, 2000)))
    assert (found.status == ebm.Status.NONFINITE).all() and found.answer.isfinite().all() and (found.steps < 2000).all()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ebm.Annealed(3), TypeError, "takes a solver, or one for each rung; got int"),
        (lambda: ebm.Annealed(ebm.Adam(0.1), 2.5, rungs=2), TypeError, "counts whole steps; got 2.5"),
        (lambda: ebm.Annealed(ebm.Adam(0.1), (2, 0)), ValueError, "at least 1 on every rung; got 0"),
        (
            lambda: ebm.Annealed(ebm.Adam(0.1)),
            ValueError,
            "must know how many rungs there are, at least one; got none of them",
        ),
        (lambda: ebm.Annealed((ebm.Adam(0.1),) * 2, (1, 2, 3)), ValueError, "got solvers for 2, steps for 3"),
        (lambda: ebm.Annealed(()), ValueError, "got solvers for 0"),
        (
            lambda: ebm.Annealed(ebm.Adam(0.1), rungs=2, scales=(1.0, 0.0)),
            ValueError,
            "must be above zero; got (1.0, 0.0)",
        ),
        (lambda: ebm.Downhill(0.1), TypeError, "`Downhill` wraps a solver; got float"),
    ],
)
def test_refusals(make: Any, error: type[Exception], words: str):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_a_list_is_as_good_as_a_tuple():
    settings = ebm.Annealed([ebm.Descent(0.1), ebm.Descent(0.2)], [1, 2], scales=[1.0, 0.5])  # type: ignore[arg-type]
    assert settings == ebm.Annealed((ebm.Descent(0.1), ebm.Descent(0.2)), (1, 2), scales=(1.0, 0.5))
    assert settings.count == 2 and not settings.noisy and "2 levels" in settings.needs
