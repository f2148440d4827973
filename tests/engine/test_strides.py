"""Steps made without a look in between: a call that nobody watches ends as a watched one does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import ebm
from ebm import Status, rows
from ebm.engine.walk import Outcome, walk
from ebm.testing.case import evaluations
from tests.energies import ClosedQuadratic, Quadratic, Wells, numbers
from tests.engine.stubs import NAN, STALL, Script, Walk
from tests.engine.test_resume import same

X = numbers(5, 3, seed=9)


class Fragile(ebm.Energy):
    """A slope whose force is infinite on a strip, where the energy still is finite."""

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return torch.zeros_like(c)

    def point(self, z: torch.Tensor, c: torch.Tensor) -> ebm.Point:
        force = torch.where((z > 1.0) & (z < 1.5), torch.full_like(z, float("inf")), torch.ones_like(z)) * c
        return ebm.Point(z, -z.clamp(-9, 9).sum(1), force)


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each look of the engine covers."""
    from ebm.engine.loop import Settling

    taken: list[int] = []
    advance = Settling.advance

    def watched(self: Settling, room: int = 1) -> bool:
        before = self.taken
        done = advance(self, room)
        taken.append(self.taken - before)
        return done

    monkeypatch.setattr(Settling, "advance", watched)
    return taken


def test_a_call_that_nobody_watches_looks_up_every_ten_steps(monkeypatch: pytest.MonkeyPatch):
    taken = looks(monkeypatch)
    ebm.infer(Quadratic(), X, steps=23, solver=ebm.Descent(0.1), keep="last")
    assert taken == [10, 10, 1, 1, 1]


@pytest.mark.parametrize(
    "watch",
    [
        {"keep": "best"},
        {"stop": ebm.AtRest(1e-9)},
        {"callback": lambda solution: None},
        {"record": ["energy"]},
        {"seconds": 1e9},
        {"flops": 10**12},
        {"budget": ebm.Budget(steps=10**6)},
        {"adjoint": ebm.Unroll()},
        {"steps": 9},
    ],
    ids=lambda watch: next(iter(watch)),
)
def test_whoever_watches_sees_every_step(watch: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    taken = looks(monkeypatch)
    ebm.infer(Quadratic(), X, **{"steps": 12, "keep": "last", "solver": ebm.Descent(0.1), **watch})
    assert set(taken) == {1}


@pytest.mark.parametrize(
    "solver", [ebm.Descent(0.1, momentum=0.5), ebm.Adam(), ebm.Langevin(0.05), ebm.Anderson(3)], ids=repr
)
def test_a_stride_equals_its_steps(solver: ebm.Solver):
    whole = ebm.infer(Wells(3), X, steps=25, solver=solver, keep="last")
    *_, last = ebm.stream(Wells(3), X, steps=25, solver=solver, keep="last")
    same(whole, last)
    half = ebm.infer(Wells(3), X, steps=13, solver=solver, keep="last")
    same(ebm.infer(Wells(3), X, steps=12, solver=solver, keep="last", resume=half), whole)


def test_limits_a_sample_end_a_stride():
    limits = torch.tensor([3, 10, 11, 25, 0])
    found = ebm.infer(Wells(3), X, steps=limits, solver=ebm.Descent(0.05), keep="last")
    assert found.steps.tolist() == limits.tolist()
    for row, steps in enumerate(limits.tolist()):
        alike = ebm.infer(Wells(3), X, steps=steps, solver=ebm.Descent(0.05), keep="last")
        assert torch.equal(found.z[row], alike.z[row])


@pytest.mark.parametrize(("bad", "status"), [(7001.0, Status.NONFINITE), (STALL, Status.STALLED)])
@pytest.mark.parametrize("place", [1, 7, 10, 14])
def test_a_sample_that_ends_within_a_stride_ends_at_its_step(bad: float, status: Status, place: int):
    script = numbers(3, 31, seed=2)
    script[1, place] = bad
    found = ebm.infer(Script(), script, steps=20, solver=Walk())
    *_, last = ebm.stream(Script(), script, steps=20, solver=Walk())
    same(found, last)
    assert found.status.tolist() == [Status.OUT_OF_STEPS, status, Status.OUT_OF_STEPS]
    assert found.steps.tolist() == [20, place - (status is Status.NONFINITE), 20]


@pytest.mark.parametrize("solver", [ebm.Descent(0.3), ebm.Project(ebm.Descent(0.3), ebm.Box(-2.0, 2.0))], ids=repr)
def test_a_force_that_is_not_finite_ends_a_sample_even_if_a_later_latent_is(solver: ebm.Solver):
    x = torch.tensor([[1.0], [0.01]], dtype=torch.float64)
    found = ebm.infer(Fragile(), x, steps=30, solver=solver, keep="last")
    *_, last = ebm.stream(Fragile(), x, steps=30, solver=solver, keep="last")
    assert found.status.tolist() == last.status.tolist() == [Status.NONFINITE, Status.OUT_OF_STEPS]
    assert found.steps.tolist() == last.steps.tolist() and torch.equal(found.z, last.z)


def test_additive_solvers_keep_what_is_not_finite():
    for solver in (ebm.Descent(0.1), ebm.Descent(0.1, momentum=0.9, nesterov=True), ebm.Picard(0.5), ebm.Adam()):
        assert solver.additive
        for number in (float("inf"), -float("inf"), NAN):
            point = ebm.Point(torch.zeros(1, 2), torch.zeros(1), torch.tensor([[number, 1.0]]))
            memory = solver.init(point)
            for _ in range(3):
                step = solver.step(lambda z: ebm.Point(z, torch.zeros(1), torch.ones(1, 2)), point, memory, None)  # pyright: ignore
                point, memory = step.point, step.memory
            assert not bool(rows.finite(point.z)), solver


ENDING: list[ebm.Solver] = [  # all at once, somewhere within a stride
    ebm.Flow(0.1, horizon=1.0),
    ebm.AdaptiveFlow(1.0),
    ebm.Annealed(tuple(ebm.Langevin(0.05, t) for t in (1.0, 0.5, 0.1)), steps=5),
    ebm.Annealed((ebm.Descent(0.1), ebm.Descent(0.1), ebm.Flow(0.1, horizon=0.7)), steps=(4, 3, 20)),
]
LASTING: list[ebm.Solver] = [
    ebm.Backtracking(first=5.0, trials=3),
    ebm.AdaptiveDescent(),
    ebm.BarzilaiBorwein(),
    ebm.Descent(0.1),
]


@pytest.mark.parametrize(
    ("solver", "steps"),
    [(solver, steps) for solver in ENDING for steps in (13, 40, 400)] + [(solver, 43) for solver in LASTING],
    ids=lambda part: type(part).__name__ if isinstance(part, ebm.Solver) else str(part),
)
def test_what_is_reported_is_what_was_executed(solver: ebm.Solver, steps: int):
    options: dict[str, Any] = {"keep": "last"}
    model = ebm.Ladder([Quadratic()] * 3) if isinstance(solver, ebm.Annealed) else Quadratic()
    ebm.infer(model, X, steps=1, solver=solver, **options)
    with evaluations(model) as executed:
        found = ebm.infer(model, X, steps=steps, solver=solver, compact=True, **options)
    price = int(found.flops_per_sample[0]) // int(found.evals[0])
    assert int(found.evals.sum()) == sum(executed) and found.flops - found.fixed_flops == price * sum(executed)
    *_, last = ebm.stream(model, X, steps=steps, solver=solver, compact=True, **options)
    same(found, last)


@pytest.mark.parametrize("steps", [13, 40, 400])
def test_a_stride_that_is_thrown_away_is_paid_once(steps: int):
    """A failure can be seen at the end of a stride alone: it is made again step by step, and counted as executed."""

    class Cliff(Quadratic):
        def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return torch.where(z[:, 0] > 1.45, NAN, (z @ torch.ones(4, 1, dtype=z.dtype))[:, 0] * -1.0)

    model = Cliff()
    ebm.infer(model, X, steps=1, solver=ebm.Descent(0.1))
    with evaluations(model) as executed:
        found = ebm.infer(model, X, steps=steps, solver=ebm.Descent(0.1), keep="last", compact=True)
    price = int(found.flops_per_sample[0]) // int(found.evals[0])
    assert bool((found.status == (Status.NONFINITE if steps > 14 else Status.OUT_OF_STEPS)).all())
    assert found.flops - found.fixed_flops == price * sum(executed)
    assert sum(executed) - int(found.evals.sum()) == (10 * 5 if steps > 20 else 0)


def unseen(*parts: Any) -> Outcome:
    """Some steps as an accelerator or a program makes them: nobody looks in between."""
    *given, count = parts
    if count == 1:
        return walk(*parts)
    objective, solver, point, memory, c, keys, steps = given
    asked, ran, probe, stalled = Counter(), Counter(), torch.zeros((), dtype=X.dtype), torch.tensor(False)
    for taken in range(count):
        steps_now = None if steps is None else steps + taken
        outcome = walk(objective, solver, point, memory, c, keys, steps_now, 1)
        (point, memory, _), probe = outcome.step, probe + outcome.probe
        asked.update(outcome.asked), ran.update(outcome.ran)
        stalled = stalled if outcome.stalled is None else stalled | outcome.stalled
    return Outcome(outcome.step, probe, dict(asked), dict(ran), stalled, count, False)  # pyright: ignore[reportPossiblyUnboundVariable, reportArgumentType]


@pytest.mark.parametrize("steps", [13, 40])
def test_a_stall_that_nobody_saw_is_found_step_by_step_and_paid(steps: int, monkeypatch: pytest.MonkeyPatch):
    model, solver = Quadratic(), ebm.Flow(0.1, horizon=0.4)
    seen = ebm.infer(model, X, steps=steps, solver=solver)
    monkeypatch.setattr("ebm.engine.call.walk", unseen)
    with evaluations(model) as executed:
        found = ebm.infer(model, X, steps=steps, solver=solver)
    same(found, seen)
    assert found.steps.tolist() == [4] * 5
    price = int(found.flops_per_sample[0]) // int(found.evals[0])
    assert found.flops - found.fixed_flops == price * sum(executed)
    assert sum(executed) - int(found.evals.sum()) == 10 * 4 * 5, "one stride of ten, no more"


def test_an_exception_within_a_stride_leaves_the_steps_before_it():
    class Breaking(Quadratic):
        calls = 0

        def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            if float(z.detach().abs().max()) > 1.55:
                raise RuntimeError("beyond the edge")
            return -z.sum(1)

    with pytest.raises(RuntimeError, match="beyond the edge") as caught:
        ebm.infer(Breaking(), X, steps=50, solver=ebm.Descent(0.1), keep="last")
    assert caught.value.solution.steps.tolist() == [15] * 5  # pyright: ignore[reportAttributeAccessIssue]


def test_programs_of_several_steps_end_at_the_same_bits():
    model = ClosedQuadratic()
    single = ebm.infer(model, X, steps=13, solver=ebm.Descent(0.1, momentum=0.5), keep="last", compile=True)
    several = ebm.infer(model, X, steps=13, solver=ebm.Descent(0.1, momentum=0.5), keep="last", compile=4)
    same(several, single)


def test_a_program_that_ends_elsewhere_is_not_used(monkeypatch: pytest.MonkeyPatch):
    from ebm.engine.compiled import CompiledStep

    call = CompiledStep.__call__

    def rounding(self: CompiledStep, *parts: Any) -> Any:
        outcome = call(self, *parts)
        z, energy, force = outcome.step.point
        return outcome._replace(step=ebm.Step(ebm.Point(z + 1e-12 * (parts[-1] > 1), energy, force), None))

    monkeypatch.setattr(CompiledStep, "__call__", rounding)
    model, taken = ClosedQuadratic(), looks(monkeypatch)
    found = ebm.infer(model, X, steps=8, solver=ebm.Descent(0.1), keep="last", compile=4)
    assert taken[-8:] == [1] * 8 and found.steps.tolist() == [8] * 5


@pytest.mark.parametrize("bad", [2.0, -3, "yes", None])
def test_compile_is_a_switch_or_a_number(bad: Any):
    with pytest.raises(ValueError, match="`compile=` is False, True or a number of steps"):
        ebm.infer(Quadratic(), X, steps=1, compile=bad)
