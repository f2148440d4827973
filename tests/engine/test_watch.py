"""Looking does not disturb: callbacks, records, progress, and the answer that rides on an exception."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import ebm
from ebm import Status, rows
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, numbers
from tests.engine.stubs import INF, NAN, Below, Script, Walk, script
from tests.engine.test_resume import same

X = numbers(5, 3, seed=9)
D = ebm.Descent(0.3)


def test_a_callback_sees_the_start_and_every_step():
    seen = []
    ebm.infer(Quadratic(), X, steps=3, solver=D, callback=lambda s: seen.append((s.steps.tolist(), s.status.tolist())))
    assert [steps for steps, _ in seen] == [[0] * 5, [1] * 5, [2] * 5, [3] * 5]
    assert [status for _, status in seen] == [[0] * 5] * 3 + [[int(Status.OUT_OF_STEPS)] * 5]


def test_a_callback_that_stops_equals_the_twin_with_a_limit():
    model = Quadratic()
    for at in range(4):
        stopped = ebm.infer(model, X, steps=9, solver=D, callback=lambda s, at=at: int(s.steps[0]) == at)
        twin = ebm.infer(model, X, steps=at, solver=D)
        assert torch.equal(stopped.z, twin.z) and torch.equal(stopped.steps, twin.steps)
        assert torch.equal(stopped.energy, twin.energy) and stopped.flops == twin.flops
        assert stopped.status.tolist() == [Status.STOPPED] * 5


def test_a_stop_does_not_rename_those_who_ended():
    solution = ebm.infer(
        Script(),
        script([5, 0, 1], [9, 9, 9]),
        steps=9,
        solver=Walk(),
        stop=Below(),
        callback=lambda s: int(s.steps[1]) == 2,
    )
    assert solution.status.tolist() == [Status.CONVERGED, Status.STOPPED]


@pytest.mark.parametrize("answer", [None, False, 1, "yes", torch.tensor(False), np.False_])
def test_only_true_stops(answer: object):
    assert ebm.infer(Quadratic(), X, steps=2, solver=D, callback=lambda s: answer).steps.tolist() == [2] * 5


@pytest.mark.parametrize("answer", [True, torch.tensor(True), np.True_, np.array(True)], ids=repr)
def test_true_stops_however_it_is_written(answer: object):
    assert (
        ebm.infer(Quadratic(), X, steps=2, solver=D, callback=lambda s: answer).status.tolist() == [Status.STOPPED] * 5
    )


@pytest.mark.parametrize("answer", [torch.tensor([True, True]), torch.tensor(0.5), np.zeros(2), np.array(1)], ids=repr)
def test_what_is_not_one_truth_value_is_no_answer_of_a_callback(answer: object):
    with pytest.raises(TypeError, match=r"`callback=` returned .* Return `bool\(...\)`"):
        ebm.infer(Quadratic(), X, steps=2, solver=D, callback=lambda s: answer)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_what_a_callback_writes_cannot_reach_the_call(keep: str):
    def vandal(solution: ebm.Solution) -> None:
        for name in ("z", "answer", "energy", "residual", "status", "steps", "evals", "flops_per_sample"):
            getattr(solution, name).zero_()
        for leaf in rows.leaves(solution.carry):
            leaf.zero_()

    model = Quadratic()
    watched = ebm.infer(model, X, steps=4, solver=D, keep=keep, callback=vandal)
    same(watched, ebm.infer(model, X, steps=4, solver=D, keep=keep))


def test_what_is_written_into_an_item_cannot_reach_the_stream():
    model = Quadratic()
    for item in ebm.stream(model, X, steps=4, solver=D):
        last = item.z.clone()
        item.z.fill_(1e6)
        item.energy.fill_(-1e6)
        for leaf in rows.leaves(item.carry):
            leaf.zero_()
    assert torch.equal(last, ebm.infer(model, X, steps=4, solver=D).z)


def test_an_observation_is_not_written():
    memory, query = ebm.ModernHopfield(numbers(6, 3), 4.0), X.clone()
    ebm.infer(memory, query, steps=3)
    assert torch.equal(query, X)


def test_the_callers_modes_are_in_force_in_a_callback_and_between_items():
    modes = []

    def look(_: object) -> None:
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))

    model = Quadratic()
    ebm.infer(model, X, steps=1, solver=D, callback=look, precision=torch.bfloat16)
    with torch.inference_mode():
        ebm.infer(model, X, steps=1, solver=D, callback=look)
        for item in ebm.stream(model, X, steps=1, solver=D):
            look(item)
    for item in ebm.stream(model, X, steps=1, solver=D):
        look(item)
    assert modes == [(True, False, False)] * 2 + [(False, True, False)] * 4 + [(True, False, False)] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, ZeroDivisionError])
@pytest.mark.parametrize("where", ["callback", "model"])
def test_the_answer_so_far_rides_on_an_exception(error: type[BaseException], where: str):
    class Failing(Quadratic):
        calls = 0

        def forward(self, z, c):
            self.calls += 1
            if where == "model" and self.calls == 4:
                raise error("from the model")
            return super().forward(z, c)

    def callback(solution: ebm.Solution) -> None:
        if where == "callback" and int(solution.steps[0]) == 2:
            raise error("from the callback")

    with pytest.raises(error) as caught:
        ebm.infer(Failing(), X, steps=9, solver=D, callback=callback)
    solution = caught.value.solution  # type: ignore[attr-defined]
    twin = ebm.infer(Quadratic(), X, steps=2, solver=D)
    assert torch.equal(solution.z, twin.z) and solution.steps.tolist() == [2] * 5
    assert solution.status.tolist() == [Status.STOPPED] * 5
    whole = ebm.infer(Quadratic(), X, steps=9, solver=D)
    model = Failing()
    model.calls = 100
    resumed = ebm.infer(model, X, steps=7, solver=D, resume=solution)
    assert torch.equal(resumed.z, whole.z)


def test_an_exception_before_the_first_point_carries_nothing():
    class Broken(Quadratic):
        def condition(self, x):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        ebm.infer(Broken(), X, steps=1)
    assert not hasattr(caught.value, "solution")


def test_after_an_exception_a_stream_still_leaves_its_last_item():
    class Failing(Quadratic):
        calls = 0

        def forward(self, z, c):
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().forward(z, c)

    items: list[ebm.Solution] = []
    with pytest.raises(KeyboardInterrupt):
        items.extend(ebm.stream(Failing(), X, steps=9, solver=D))
    assert items[-1].steps.tolist() == [2] * 5


# Records


def test_a_record_has_an_entry_for_the_start_and_for_every_step():
    names = ["energy", "residual", "z", "answer", "status"]
    model = ClosedQuadratic()
    solution = ebm.infer(model, X, steps=4, solver=ebm.Descent(1.9), record=names)
    assert {name: tuple(part.shape) for name, part in solution.trace.items()} == {
        "energy": (5, 5),
        "residual": (5, 5),
        "z": (5, 5, 4),
        "answer": (5, 5, 3),
        "status": (5, 5),
    }
    for step in range(5):
        twin = ebm.infer(model, X, steps=step, solver=ebm.Descent(1.9), keep="last")
        for name in ("energy", "residual", "z", "answer"):
            assert torch.equal(solution.trace[name][step], getattr(twin, name)), name
    assert solution.trace["status"][-1].tolist() == [Status.OUT_OF_STEPS] * 5


def test_a_record_holds_its_last_value_for_those_who_ended():
    x = script([5, 0, 9, 9], [5, 4, 3, 2])
    trace = ebm.infer(Script(), x, steps=3, solver=Walk(), stop=Below(), record="energy", compact=True).trace
    assert trace["energy"].tolist() == [[5, 5], [0, 4], [0, 3], [0, 2]]


def test_a_tree_is_recorded_part_by_part():
    trace = ebm.infer(Tree(3), X, steps=2, record=["z"]).trace
    assert trace["z"].mean.shape == (3, 5, 3) and trace["z"].rest["grid"].shape == (3, 5, 3, 1)


def test_a_stream_stacks_no_record_that_nobody_looks_at(monkeypatch: pytest.MonkeyPatch):
    """Every item shows the whole trace so far: stacked at every item, that would take a time that grows as a square."""
    stacked = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda parts, *rest: (stacked.append(len(parts)), stack(parts, *rest))[1])
    items = list(ebm.stream(Quadratic(), X, steps=6, solver=D, record=["energy", "z"]))
    assert not stacked
    assert [len(item.trace["energy"]) for item in items] == [1, 2, 3, 4, 5, 6, 7] and sum(stacked) == 28
    assert torch.equal(items[3].trace["energy"], items[-1].trace["energy"][:4])
    assert len(items[3].trace) == 2 and set(items[3].trace) == {"energy", "z"}
    copied = pickle.loads(pickle.dumps(items[2].trace))
    assert type(copied) is dict and torch.equal(copied["z"], items[2].trace["z"])


def test_the_last_look_reads_out_no_second_time():
    class Reading(Quadratic):
        read = 0

        def readout(self, z, c):
            self.read += 1
            return super().readout(z, c)

    model = Reading()
    ebm.infer(model, X, steps=4, solver=D, callback=lambda s: None)
    assert model.read == 5, "once a look"


def test_an_energy_that_is_no_number_is_not_at_rest():
    class Lost(Quadratic):
        def point(self, z, c):
            point = super().point(z, c)
            return ebm.Point(z, torch.full_like(point.energy, NAN), torch.zeros_like(z))

    solution = ebm.infer(Lost(), X, steps=1, solver=D, record="residual")
    assert solution.status.tolist() == [Status.NONFINITE] * 5
    assert solution.residual.tolist() == solution.trace["residual"][0].tolist() == [INF] * 5


def test_recording_changes_nothing():
    model = ClosedQuadratic()
    plain = ebm.infer(model, X, steps=4, solver=D)
    recorded = ebm.infer(model, X, steps=4, solver=D, record=["energy", "residual", "z", "answer", "status"])
    same(recorded, plain)
    assert recorded.flops == plain.flops and plain.trace == {}


@pytest.mark.parametrize("adjoint", [ebm.Detached(), ebm.Unroll(), ebm.Truncated(2), ebm.Truncated(9)])
@pytest.mark.parametrize("stop", [None, ebm.AtRest(1e-9)])
def test_every_adjoint_records_each_step_once(adjoint: ebm.Adjoint, stop: ebm.Stop | None):
    solution = ebm.infer(Quadratic(), X, steps=5, solver=D, adjoint=adjoint, stop=stop, keep="last", record="z")
    assert solution.trace["z"].shape[0] == 6 and not solution.trace["z"].requires_grad
    torch.testing.assert_close(solution.trace["z"][-1], solution.z.detach())


def test_what_a_record_refuses():
    with pytest.raises(ValueError, match="`record=` knows energy, residual, z, answer, status; got 'enrgy'"):
        ebm.infer(Quadratic(), X, steps=1, record=["enrgy"])
    with pytest.raises(ValueError, match='`record=` got "energy", but Tanh has none'):
        ebm.infer(Tanh(3), X, steps=1, record="energy")


# Progress


def test_progress_is_a_bar_on_stderr(capsys: pytest.CaptureFixture[str]):
    ebm.infer(Quadratic(), X, steps=3, solver=D, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "settling" in err and "3/3" in err and "running=0" in err and "energy=" in err


def test_progress_of_an_update_and_of_a_stop_rule(capsys: pytest.CaptureFixture[str]):
    ebm.infer(Tanh(3), X, steps=torch.tensor([1, 2, 3, 4, 5]), progress=True)
    assert "5/5" in (err := capsys.readouterr().err) and "energy" not in err


def test_no_progress_unless_asked_for(capsys: pytest.CaptureFixture[str]):
    ebm.infer(Quadratic(), X, steps=3, solver=D)
    assert capsys.readouterr() == ("", "")
