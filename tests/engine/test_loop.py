"""The loop with no method in it: scripted energies, a solver that walks along them."""

from __future__ import annotations

import pytest
import torch

import ebm
from ebm import Status
from tests.energies import Quadratic
from tests.engine.stubs import INF, NAN, STALL, Below, Script, Walk, script

LONG = [5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3]


def names(solution: ebm.Solution) -> list[str]:
    return [Status(code).name for code in solution.status.tolist()]


def test_each_sample_ends_in_its_own_way():
    x = script(
        [5, 0, 9, 9, 9, 9],  # done after one step
        [0, 9, 9, 9, 9, 9],  # done before the first step
        [5, 4, NAN, 9, 9, 9],  # fails in its second step
        [5, 4, 3, 2, 1, 1],
        [5, 4, 3, 2, 1, 0.5],
        [NAN, 1, 1, 1, 1, 1],  # fails before the first step
    )
    solution = ebm.infer(Script(), x, steps=4, solver=Walk(), stop=Below(0.0))
    assert names(solution) == ["CONVERGED", "CONVERGED", "NONFINITE", "OUT_OF_STEPS", "OUT_OF_STEPS", "NONFINITE"]
    assert solution.steps.tolist() == [1, 0, 1, 4, 4, 0]
    assert solution.evals.tolist() == [2, 1, 3, 5, 5, 1], "an evaluation that failed was asked for all the same"
    assert solution.z.flatten().tolist() == [1, 0, 1, 4, 4, 0]
    assert solution.energy[:5].tolist() == [0, 0, 4, 1, 1]


def test_a_start_that_failed_is_never_called_done():
    """The first look of the stop rule is at all samples: one whose energy is minus infinity is below every threshold."""
    solution = ebm.infer(Script(), script([-INF, 1, 1], [0, 1, 1]), steps=2, solver=Walk(), stop=Below(0.0))
    assert names(solution) == ["NONFINITE", "CONVERGED"]
    again = ebm.infer(
        Script(), script([-INF, 1, 1], [0, 1, 1]), steps=2, solver=Walk(), stop=Below(3.0), resume=solution
    )
    assert names(again) == ["NONFINITE", "CONVERGED"]


def test_a_stalled_sample_ends_stalled():
    solution = ebm.infer(Script(), script([5, STALL, 3, 2], LONG), steps=3, solver=Walk())
    assert names(solution) == ["STALLED", "OUT_OF_STEPS"]
    assert solution.steps.tolist() == [1, 3]
    assert solution.energy.tolist() == [STALL, 2]


def test_convergence_is_named_before_stalling():
    assert names(ebm.infer(Script(), script([5, STALL, 3]), steps=2, solver=Walk(), stop=Below(0.0))) == ["CONVERGED"]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_failed_step_keeps_the_last_good_latent(bad: float):
    solution = ebm.infer(Script(), script([5, 4, bad, 1], LONG), steps=3, solver=Walk())
    assert names(solution) == ["NONFINITE", "OUT_OF_STEPS"]
    assert solution.z.flatten().tolist() == [1, 3]
    assert solution.energy.tolist() == [4, 2]
    assert solution.carry.memory["asked"].tolist() == [1, 3], "the memory of the failed step is dropped too"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_best_so_far_knows_the_first_and_the_last_point(keep: str):
    x = script([1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 2, 3])
    solution = ebm.infer(Script(), x, steps=3, solver=Walk(), keep=keep)
    assert solution.z.flatten().tolist() == ([0, 3, 1] if keep == "best" else [3, 3, 3])
    assert solution.energy.tolist() == ([1, 1, 1] if keep == "best" else [4, 1, 3])


def test_best_so_far_is_never_a_failed_point():
    solution = ebm.infer(Script(), script([3, 2, -INF, 1], [3, 2, NAN, 1]), steps=3, solver=Walk(), keep="best")
    assert solution.energy.tolist() == [2, 2]


def test_the_kept_point_is_judged_where_no_sample_improves_and_where_all_do():
    x = script([5, 6, 4, 5], [5, 6, 4, 5])
    energies = [item.energy.tolist() for item in ebm.stream(Script(), x, steps=3, solver=Walk(), keep="best")]
    assert energies == [[5, 5], [5, 5], [4, 4], [4, 4]]


@pytest.mark.parametrize(
    ("compact", "sizes"), [(True, [4, 4, 3, 2, 1, 1]), ("auto", [4, 4, 4, 2, 1, 1]), (False, [4] * 6)]
)
def test_finished_samples_leave_the_computation(compact: bool | str, sizes: list[int]):
    model = Script()
    ends = script([5, 0, 9, 9, 9, 9], [5, 4, 0, 9, 9, 9], [5, 4, 3, 0, 9, 9], [5, 4, 3, 2, 1, 1])
    ebm.infer(model, ends, steps=1, solver=Walk(), stop=Below(0.0))  # prices are counted once
    model.calls.clear()
    solution = ebm.infer(model, ends, steps=5, solver=Walk(), stop=Below(0.0), compact=compact)
    assert model.calls == sizes
    assert solution.steps.tolist() == [1, 2, 3, 5]
    assert solution.energy.tolist() == [0, 0, 0, 1]
    assert solution.flops - solution.fixed_flops == 8 * sum(sizes)
    assert solution.flops_per_sample.tolist() == [8 * n for n in (2, 3, 4, 6)]


def test_samples_return_to_their_own_places():
    """Compaction shuffles nothing, whichever order samples leave in."""
    order = [3, 1, 4, 2, 5]
    x = torch.full((5, 8), 9.0, dtype=torch.float64)
    for row, end in enumerate(order):
        x[row, end] = -float(row)
    solution = ebm.infer(Script(), x, steps=7, solver=Walk(), stop=Below(0.0), compact=True)
    assert solution.steps.tolist() == order
    assert solution.energy.tolist() == [0, -1, -2, -3, -4]
    assert solution.carry.memory["asked"].tolist() == order
    assert solution.carry.rest.tolist() == [end + 1 for end in order], "the stop rule looks before the first step too"


def test_a_stream_shows_the_start_and_every_step():
    items = list(ebm.stream(Script(), script(LONG), steps=3, solver=Walk()))
    assert [int(item.steps[0]) for item in items] == [0, 1, 2, 3]
    assert [names(item)[0] for item in items] == ["RUNNING"] * 3 + ["OUT_OF_STEPS"]


def test_an_item_stays_true_while_the_stream_goes_on():
    x = script([5, 4, 0, 1], LONG[:4])
    kept, copies = [], []
    for item in ebm.stream(Script(), x, steps=3, solver=Walk(), stop=Below(0.0)):
        kept.append(item)
        copies.append((item.z.clone(), item.steps.clone(), item.carry.memory["asked"].clone(), item.status.clone()))
    for item, (z, steps, asked, status) in zip(kept, copies, strict=True):
        assert torch.equal(item.z, z) and torch.equal(item.steps, steps) and torch.equal(item.status, status)
        assert torch.equal(item.carry.memory["asked"], asked)


def test_no_sample_at_all_is_a_batch():
    solution = ebm.infer(Script(), torch.empty(0, 3, dtype=torch.float64), steps=3, solver=Walk(), stop=Below())
    assert len(solution) == 0 and solution.z.shape == (0, 1) and solution.flops == 0
    assert repr(solution) == "Solution(0 samples: none)"


@pytest.mark.parametrize(
    "adjoint", [ebm.Unroll(), ebm.Unroll(checkpoint=2), ebm.Truncated(2), ebm.Implicit()], ids=repr
)
def test_the_gradient_of_no_sample_is_zero(adjoint: ebm.Adjoint):
    model = Quadratic()
    x = torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
    ebm.infer(model, x, steps=3, solver=ebm.Descent(0.1), adjoint=adjoint).z.sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 3)
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_a_failed_sample_is_named():
    solution = ebm.infer(Script(), script(LONG[:3], [5, NAN, 1]), steps=2, solver=Walk())
    with pytest.raises(
        ebm.InferenceError, match=r"^1 of 2 samples ended NONFINITE \(rows 1\)\. The last finite latent was kept\."
    ) as caught:
        solution.raise_for_status()
    assert caught.value.solution is solution
    fine = solution.take([0])
    assert fine.raise_for_status() is fine


def test_the_short_words_of_a_solution():
    solution = ebm.infer(Script(), script([5, 0, 1], [5, NAN, 1], [5, 4, 3]), steps=2, solver=Walk(), stop=Below(0.0))
    assert (
        repr(solution)
        == "Solution(3 samples: 1 CONVERGED, 1 OUT_OF_STEPS, 1 NONFINITE; steps 0-2; energy 0 to 5; residual 1)"
    )
    assert solution.converged.tolist() == [True, False, False]
    assert len(solution) == 3


@pytest.mark.parametrize("status", list(Status))
def test_each_status_has_advice(status: Status):
    assert status.advice.endswith(".")
