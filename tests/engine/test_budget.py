"""Resources: steps, seconds, FLOPs and the pot, with a clock that only the test moves."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ebm
from ebm import Status
from tests.energies import Clock, Quadratic, numbers
from tests.engine.stubs import NAN, Below, Script, Walk, script

LONG = [float(n) for n in range(40, 0, -1)]


def settle(x: torch.Tensor, **options: object) -> ebm.Solution:
    return ebm.infer(Script(), x, solver=Walk(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [{"steps": 0}, {"seconds": 0}, {"seconds": 0.0}, {"flops": 0}, {"budget": 0}])
@pytest.mark.parametrize("tick", [0.0, 1.0])
def test_a_limit_of_zero_gives_the_initial_answer(limit: dict, tick: float):
    if "budget" in limit:
        limit = {"budget": ebm.Budget(steps=0)}
    solution = settle(script(LONG, LONG), **limit, clock=Clock(tick))
    assert solution.steps.tolist() == [0, 0] and solution.z.tolist() == [[0], [0]]
    assert solution.energy.tolist() == [40, 40] and solution.answer.shape == (2, 2)


@given(limit=st.integers(0, 20))
@settings(max_examples=21, deadline=None, derandomize=True)
def test_steps_are_exact(limit: int):
    model = Script()
    ebm.infer(model, script(LONG), steps=0, solver=Walk())
    model.calls.clear()
    solution = ebm.infer(model, script(LONG), steps=limit, solver=Walk())
    assert len(model.calls) == limit + 1 and solution.steps.tolist() == [limit]
    assert solution.status.tolist() == [Status.OUT_OF_STEPS]


@given(limits=st.lists(st.integers(0, 9), min_size=1, max_size=6), dtype=st.sampled_from([torch.int64, torch.int32]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_steps_may_differ_from_sample_to_sample(limits: list[int], dtype: torch.dtype):
    solution = settle(script(*[LONG] * len(limits)), steps=torch.tensor(limits, dtype=dtype), compact=True)
    assert solution.steps.tolist() == limits
    assert solution.energy.tolist() == [40 - n for n in limits]
    assert solution.flops - solution.fixed_flops == 8 * sum(n + 1 for n in limits)


def test_a_scalar_tensor_is_one_limit_for_all():
    assert settle(script(LONG, LONG), steps=torch.tensor(3)).steps.tolist() == [3, 3]


class Timed(Script):
    """Takes as long as a list says: the first entry for the first evaluation."""

    def __init__(self, clock: Clock, durations: list[float]) -> None:
        super().__init__()
        self.clock, self.durations = clock, durations

    def point(self, z, c):
        # the last duration holds for all further evaluations
        self.clock.now += self.durations.pop(0) if len(self.durations) > 1 else self.durations[0]
        return super().point(z, c)


def timed(durations: list[float], seconds: float) -> tuple[ebm.Solution, Clock]:
    clock = Clock()
    model = Timed(clock, list(durations))
    return ebm.infer(model, script(LONG), seconds=seconds, solver=Walk(), clock=clock), clock


def test_a_deadline_is_kept_when_steps_are_even():
    solution, clock = timed([1.0], 10.5)
    assert solution.steps.tolist() == [9] and clock.now <= 10.5
    assert solution.status.tolist() == [Status.OUT_OF_TIME]
    assert solution.seconds == pytest.approx(clock.now)


def test_a_slow_step_raises_the_prediction():
    """After a step of 4 s none is started with less than 4 s left, however quick the others were: max, not mean."""
    solution, clock = timed([1.0, 1.0, 4.0, 1.0], 12.0)
    # start 1, steps 1 and 4 end at 6; then 7, 8; a further step might end at 12, which is not below the limit
    assert solution.steps.tolist() == [4] and clock.now == 8.0


def test_the_overshoot_is_at_most_one_step():
    solution, clock = timed([1.0, 1.0, 1.0, 50.0, 1.0], 4.5)
    assert solution.steps.tolist() == [3] and clock.now == 53.0, "only a step that could not be foreseen overshoots"


@given(tick=st.floats(0.01, 3.0), seconds=st.floats(0.0, 30.0))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_overshoot_with_a_clock_that_moves_at_each_reading(tick: float, seconds: float):
    clock = Clock(tick)
    solution = ebm.infer(Script(), script(LONG), seconds=seconds, steps=30, solver=Walk(), clock=clock)
    readings_of_a_step, readings_after = 3, 2
    assert solution.seconds <= seconds + (readings_of_a_step + readings_after) * tick


def test_condition_and_start_are_on_the_clock_but_are_no_step():
    clock = Clock()

    class Slow(Script):
        def condition(self, x):
            clock.now += 5.0
            return x

        def point(self, z, c):
            clock.now += 0.5
            return super().point(z, c)

    solution = ebm.infer(Slow(), script(LONG), seconds=7.0, solver=Walk(), clock=clock)
    assert solution.steps.tolist() == [2], "5.5 s are gone before the first step; steps of 0.5 s end at 6.0 and 6.5"


def test_a_pause_of_the_consumer_is_time_but_not_the_length_of_a_step():
    clock = Clock()
    model = Timed(clock, [1.0])
    steps = []
    for item in ebm.stream(model, script(LONG), seconds=20.5, solver=Walk(), clock=clock):
        steps.append(int(item.steps[0]))
        if len(steps) == 3:
            clock.now += 10.0
    assert steps[-1] == 9 and clock.now <= 20.5, "10 s of pause cost ten steps, and raise no prediction"


def test_time_that_ran_out_in_a_pause_starts_no_step():
    clock, model = Clock(), Script()
    last = None
    for item in ebm.stream(model, script(LONG), seconds=5.0, solver=Walk(), clock=clock):
        clock.now += 3.0
        last = item
    assert last is not None and last.steps.tolist() == [1] and last.status.tolist() == [Status.OUT_OF_TIME]


def test_wall_clock_smoke():
    model = Quadratic()
    solution = ebm.infer(model, numbers(8, 3), seconds=0.05, solver=ebm.Descent(0.1))
    assert solution.steps.min() >= 1 and solution.seconds < 5.0


@pytest.mark.parametrize("flops", range(0, 200, 7))
def test_flops_are_never_exceeded_and_never_left_lying(flops: int):
    solution = settle(script(LONG, LONG), flops=flops)
    base = 2 * 8  # the first point of two samples
    assert solution.flops <= max(flops, base)
    assert solution.flops > flops - 2 * 8
    if flops >= base:
        assert solution.status.tolist() == [Status.OUT_OF_FLOPS] * 2


def test_flops_count_what_is_packed():
    """With one of four samples left a step costs a quarter, if the others leave."""
    x = script([5, 0, 9, 9, 9, 9, 9, 9], [5, 0] + [9] * 6, [5, 0] + [9] * 6, [5, 4, 3, 2, 1, 1, 1, 1])
    together = 4 * 2 * 8
    assert settle(x, flops=together + 3 * 8, stop=Below(0.0), compact=True).steps.tolist() == [1, 1, 1, 4]
    assert settle(x, flops=together + 3 * 8, stop=Below(0.0), compact=False).steps.tolist() == [1, 1, 1, 1]


def test_several_limits_the_first_one_met_ends_the_call():
    x = script(LONG)
    assert settle(x, steps=3, flops=10**9, seconds=1e9).status.tolist() == [Status.OUT_OF_STEPS]
    assert settle(x, steps=30, flops=100, seconds=1e9).status.tolist() == [Status.OUT_OF_FLOPS]
    assert settle(x, steps=30, flops=10**9, seconds=5.0, clock=Clock(1.0)).status.tolist() == [Status.OUT_OF_TIME]


def test_running_out_does_not_rename_those_who_ended():
    x = script([5, 0] + [9] * 6, [5, NAN] + [9] * 6, [5, 4, 3, 2, 1, 1, 1, 1])
    solution = settle(x, flops=3 * 2 * 8 + 8, stop=Below(0.0), compact=True)
    assert solution.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.OUT_OF_FLOPS]


@given(pair=st.tuples(st.integers(0, 400), st.integers(0, 400)))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_more_flops_never_give_fewer_steps_or_a_worse_answer(pair: tuple[int, int]):
    x = script([9, 3, 5, 1, 7, 0, 2, 8], [4, 6, 2, 9, 1, 3, 0, 5])
    less, more = (settle(x, flops=f, steps=7, keep="best") for f in sorted(pair))
    assert (less.steps <= more.steps).all() and (less.energy >= more.energy).all()


# The pot


def test_a_pot_of_steps_is_shared():
    pot, model = ebm.Budget(steps=7), Script()
    taken = [ebm.infer(model, script(LONG, LONG), steps=2, solver=Walk(), budget=pot).steps.tolist() for _ in range(4)]
    assert taken == [[2, 2], [1, 1], [0, 0], [0, 0]], (
        "four sample-steps, then two; one left is not enough for two samples"
    )
    assert pot.steps == 1


def test_five_batches_and_a_pot_for_three():
    model, x = Quadratic(), numbers(6, 3)
    ebm.infer(model, x, steps=1, solver=ebm.Descent(0.1))
    alone = ebm.infer(model, x, steps=10, solver=ebm.Descent(0.1))
    pot = ebm.Budget(flops=3 * alone.flops)
    solutions = [ebm.infer(model, x, steps=10, solver=ebm.Descent(0.1), budget=pot) for _ in range(5)]
    assert [int(s.steps[0]) for s in solutions] == [10, 10, 10, 0, 0]
    assert all(bool(s.energy.isfinite().all()) for s in solutions)
    assert [s.status[0].item() for s in solutions[3:]] == [Status.OUT_OF_FLOPS] * 2
    overdraft = -pot.flops  # the fixed part and the first point of the two that found it empty
    assert overdraft == sum(s.flops for s in solutions[3:])


def test_a_pot_of_seconds_is_shared():
    clock, pot = Clock(), ebm.Budget(seconds=10.0)
    model = Timed(clock, [1.0])
    taken = [
        int(ebm.infer(model, script(LONG), solver=Walk(), steps=6, budget=pot, clock=clock).steps[0]) for _ in range(3)
    ]
    assert taken == [6, 1, 0] and pot.seconds == pytest.approx(10.0 - 10.0)


@pytest.mark.parametrize("ending", ["closed", "callback", "stop"])
def test_a_pot_pays_however_a_call_ends(ending: str):
    pot, x = ebm.Budget(steps=100), script(LONG, LONG)
    if ending == "closed":
        items = ebm.stream(Script(), x, solver=Walk(), budget=pot)
        [next(items) for _ in range(4)]
        items.close()
    else:

        def callback(solution: ebm.Solution) -> bool:
            if int(solution.steps[0]) < 3:
                return False
            if ending == "stop":
                return True
            raise RuntimeError("enough")

        if ending == "stop":
            ebm.infer(Script(), x, solver=Walk(), budget=pot, callback=callback)
        else:
            with pytest.raises(RuntimeError, match="enough") as caught:
                ebm.infer(Script(), x, solver=Walk(), budget=pot, callback=callback)
            assert pot.steps == 94, "paid although the exception is still held"
            del caught
    assert pot.steps == 94


def test_streams_that_take_turns_do_not_overdraw_their_pot():
    """Each sees what the other has left, and what is set aside for a step is no one else's."""
    pot, x = ebm.Budget(steps=41), script(LONG, LONG)
    streams = [ebm.stream(Script(), x, solver=Walk(), budget=pot) for _ in range(2)]
    taken = [[int(item.steps[0]) for item in pair] for pair in zip(*streams, strict=False)]
    assert taken[-1] == [10, 10] and pot.steps == 1
    model = Script()
    ebm.infer(model, x, steps=1, solver=Walk())
    pot = ebm.Budget(flops=2 * 3 * 16 + 5 * 16)  # a start, and a step that was set aside, of each; five steps in all
    streams = [ebm.stream(model, x, solver=Walk(), budget=pot) for _ in range(2)]
    for _ in zip(*streams, strict=False):
        assert pot.flops >= 0
    assert pot.flops < 16


def test_what_a_step_may_use_is_set_aside_while_it_runs():
    pot, seen = ebm.Budget(steps=5, flops=1000), []

    class Looking(Script):
        def point(self, z, c):
            seen.append((pot.steps, pot.flops))
            return super().point(z, c)

    model = Looking()
    ebm.infer(model, script(LONG, LONG), steps=0, solver=Walk())
    seen.clear()
    ebm.infer(model, script(LONG, LONG), steps=2, solver=Walk(), budget=pot)
    assert seen == [(5, 1000), (3, 968), (1, 952)], "the start is paid when it was made, steps before they are"
    assert (pot.steps, pot.flops) == (1, 952)


def test_threads_do_not_overdraw_their_pot():
    pot, x = ebm.Budget(steps=301), script(LONG, LONG)
    threads = [threading.Thread(target=lambda: ebm.infer(Script(), x, solver=Walk(), budget=pot)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert pot.steps == 1


def test_the_work_of_a_tail_is_set_aside_in_the_pot():
    model, x = Quadratic(), numbers(2, 3)
    solver, adjoint = ebm.Descent(0.1), ebm.Truncated(2)
    ebm.infer(model, x, steps=3, solver=solver)
    pot = ebm.Budget(steps=20)
    found = ebm.infer(model, x, solver=solver, adjoint=adjoint, budget=pot)
    assert found.steps.tolist() == [8, 8] and pot.steps == 0, "eight steps, and two of them once more"


# What follows the last step


class Slow(Script):
    """Takes a second for an evaluation, and as long as it is told for a read-out."""

    def __init__(self, clock: Clock, reading: float) -> None:
        super().__init__()
        self.clock, self.reading = clock, reading

    def point(self, z, c):
        self.clock.now += 1.0
        return super().point(z, c)

    def readout(self, z, c):
        self.clock.now += self.reading
        return super().readout(z, c)


@pytest.mark.parametrize("reading", [0.0, 3.0])
@pytest.mark.parametrize("look", [None, lambda solution: None])
@pytest.mark.parametrize("record", [None, ["answer"]])
def test_a_deadline_leaves_time_for_the_read_out(reading: float, look: object, record: object):
    clock, steps = Clock(), []
    model = Slow(clock, reading)
    for _ in range(2):
        clock.now = 0.0
        options: dict = {"callback": look, "record": record}
        found = ebm.infer(model, script(LONG), seconds=20.5, solver=Walk(), clock=clock, **options)
        assert clock.now <= 20.5 and found.seconds == clock.now
        steps.append(int(found.steps[0]))
    a_step = 1.0 + reading * ((look is not None) + (record is not None))
    assert steps[1] >= (20.5 - 1 - 3 * reading) // a_step - 1, "and it is used"


def test_a_stream_under_a_deadline_leaves_time_for_its_last_item():
    clock = Clock()
    model = Slow(clock, 3.0)
    *_, last = ebm.stream(model, script(LONG), seconds=30.5, solver=Walk(), clock=clock)
    assert clock.now <= 30.5 and int(last.steps[0]) == 5, (
        "a read-out to time it, a start; then a read-out and a step, each"
    )


# Ends of the range


@pytest.mark.parametrize("steps", [2**62, 2**63 - 1, 2**63, 2**64, 10**30])
def test_any_number_of_steps_is_a_limit(steps: int):
    found = settle(script(LONG), steps=steps, flops=100)
    assert found.status.tolist() == [Status.OUT_OF_FLOPS] and found.steps.tolist() == [11]
    more = ebm.infer(Script(), script(LONG), steps=steps, flops=100, solver=Walk(), resume=found)
    assert more.steps.tolist() == [11 + 12]


def test_a_limit_a_sample_may_be_as_large_as_its_numbers_go():
    most = torch.iinfo(torch.int64).max
    found = settle(script(LONG, LONG), steps=torch.tensor([most, 3]), flops=160)
    assert found.status.tolist() == [Status.OUT_OF_FLOPS, Status.OUT_OF_STEPS]


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({}, "without a resource holds nothing back"),
        ({"steps": -1}, r"`Budget\(steps=...\)` may not be negative; got -1"),
        ({"flops": -1}, r"`Budget\(flops=...\)` may not be negative"),
        ({"steps": 2.5}, r"`Budget\(steps=...\)` is a whole number; got 2.5"),
        ({"steps": True}, r"`Budget\(steps=...\)` is a whole number; got True"),
        ({"flops": 1e9}, r"`Budget\(flops=...\)` is a whole number"),
        ({"seconds": "1"}, r"`Budget\(seconds=...\)` is a number; got '1'"),
        ({"seconds": float("nan")}, r"`Budget\(seconds=...\)` may not be negative; got nan"),
    ],
)
def test_what_a_pot_refuses(settings_: dict, words: str):
    with pytest.raises((TypeError, ValueError), match=words):
        ebm.Budget(**settings_)
