"""Stopping and going on is the same as never stopping; also with parts, joins and files."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import ebm
from ebm import Status, rows
from tests.energies import Quadratic, Tanh, Tree, Wells, numbers
from tests.engine.stubs import NAN, Below, Script, Walk, script

X = numbers(5, 3, seed=9)
SOLVERS = [
    ebm.Descent(0.3),
    ebm.Descent(0.2, momentum=0.8, nesterov=True),
    ebm.Adam(0.1),
    ebm.AdaptiveDescent(),
    ebm.Anderson(3, mixing=0.5),
    ebm.Langevin(0.05),
]


def same(one: ebm.Solution, other: ebm.Solution) -> None:
    """All that a solution says, bit for bit, but for seconds and what the call alone cost."""
    for name in ("z", "answer", "energy", "residual", "status", "steps", "evals", "flops_per_sample", "carry"):
        ones, others = list(rows.leaves(getattr(one, name))), list(rows.leaves(getattr(other, name)))
        assert len(ones) == len(others), name
        for a, b in zip(ones, others, strict=True):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("first", [0, 1, 4, 9])
def test_ten_steps_in_two_calls(solver: ebm.Solver, first: int, tmp_path: Path):
    model = Quadratic()
    whole = ebm.infer(model, X, steps=10, solver=solver)
    part = ebm.infer(model, X, steps=first, solver=solver)
    same(ebm.infer(model, X, steps=10 - first, solver=solver, resume=part), whole)
    part.save(tmp_path / "part.pt")
    loaded = ebm.Solution.load(tmp_path / "part.pt")
    same(loaded, part)
    same(ebm.infer(copy.deepcopy(model), X, steps=10 - first, solver=solver, resume=loaded), whole)


def test_two_calls_cost_what_one_costs_but_for_the_fixed_part():
    model, solver = Quadratic(), ebm.Descent(0.3)
    whole = ebm.infer(model, X, steps=6, solver=solver)
    first = ebm.infer(model, X, steps=2, solver=solver)
    for fresh in (model, copy.deepcopy(model)):
        second = ebm.infer(fresh, X, steps=4, solver=solver, resume=first)
        assert second.fixed_flops == first.fixed_flops == whole.fixed_flops == 5 * 2 * 3 * 4, "x W, nothing else"
        assert first.flops + second.flops - second.fixed_flops == whole.flops


@pytest.mark.parametrize("compact", [True, False, "auto"])
def test_a_mixed_batch_goes_on_as_if_never_stopped(compact: bool | str):
    """Samples that have left, that have failed and that run on: all are where they were."""
    x = script([5, 0, 9], [5, 4, 3, NAN, 1], [5, 4, 3, 2, 1, 0, 9], [9.0] * 12, [5, 4, 0], [8.0] * 12)
    options = {"solver": Walk(keep="best"), "stop": Below(0.0), "compact": compact}
    whole = ebm.infer(Script(), x, steps=9, **options)
    for first in range(10):
        part = ebm.infer(Script(), x, steps=first, **options)
        same(ebm.infer(Script(), x, steps=9 - first, resume=part, **options), whole)


def test_out_of_resources_and_stopped_samples_run_again_and_no_others():
    x = script([5, 0, 9], [5, NAN, 9], [9.0] * 9)
    options = {"solver": Walk(), "stop": Below(0.0)}
    for limit in ({"steps": 2}, {"flops": 100}, {"steps": 9, "callback": lambda s: int(s.steps.max()) == 2}):
        part = ebm.infer(Script(), x, **limit, **options)
        assert part.status[:2].tolist() == [Status.CONVERGED, Status.NONFINITE] and part.status[2] > 1
        more = ebm.infer(Script(), x, steps=1, resume=part, **options)
        assert more.steps.tolist() == [1, 0, int(part.steps[2]) + 1]


def test_another_stop_rule_starts_anew_and_reopens_the_converged():
    x = script([5, 3, 1, 0, 0, 0], [9.0] * 6)
    part = ebm.infer(Script(), x, steps=4, solver=Walk(), stop=ebm.Patience(Below(3.0), 2))
    assert part.steps.tolist() == [2, 4] and part.carry.rest["held"].tolist() == [2, 0]
    more = ebm.infer(Script(), x, steps=4, solver=Walk(), stop=ebm.Patience(Below(0.0), 2), resume=part)
    assert more.steps.tolist() == [4, 8] and more.status.tolist() == [Status.CONVERGED, Status.OUT_OF_STEPS]
    again = ebm.infer(Script(), x, steps=4, solver=Walk(), resume=part)
    assert again.steps.tolist() == [6, 8], "without a rule all run"


def test_a_rule_met_at_once_ends_a_resumed_sample_before_its_next_step():
    x = script([5, 4, 3, 2], [9, 9, 9, 9])
    part = ebm.infer(Script(), x, steps=2, solver=Walk())
    more = ebm.infer(Script(), x, steps=2, solver=Walk(), stop=Below(3.0), resume=part)
    assert more.steps.tolist() == [2, 4]


def test_keep_may_change_when_going_on():
    x = script([1, 5, 4, 3], [5, 4, 3, 6])
    last = ebm.infer(Script(), x, steps=2, solver=Walk())
    best = ebm.infer(Script(), x, steps=1, solver=Walk(), keep="best", resume=last)
    assert best.energy.tolist() == [3, 3], "the best of what this call saw, its first point included"
    assert ebm.infer(Script(), x, steps=0, solver=Walk(), resume=best).energy.tolist() == [3, 6]


def test_other_parameter_values_are_the_same_model():
    """A warm start after a training step: the class, names and shapes are the same."""
    model = Quadratic()
    part = ebm.infer(model, X, steps=3, solver=ebm.Descent(0.3))
    with torch.no_grad():
        model.weight.mul_(1.1)
    assert ebm.infer(model, X, steps=3, solver=ebm.Descent(0.3), resume=part).steps.tolist() == [6] * 5


@pytest.mark.parametrize("model", [Wells(3), Tree(3), Tanh(3)], ids=lambda m: type(m).__name__)
def test_a_part_of_a_batch_goes_on_alone(model: ebm.Objective):
    solver = ebm.Descent(0.2, momentum=0.5)
    start = ebm.infer(model, X, steps=0, solver=solver, generator=torch.Generator().manual_seed(3))
    whole = ebm.infer(model, X, steps=6, solver=solver, resume=start)
    chosen = torch.tensor([4, 1])
    part = ebm.infer(model, X[chosen], steps=6, solver=solver, resume=start.take(chosen))
    for a, b in zip(rows.leaves(part.z), rows.leaves(rows.take(whole.z, chosen)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_samples_leave_and_join():
    """Continuous batching: two batches at different steps are joined, and each sample ends as it would have."""
    model, solver = Wells(3), ebm.Langevin(0.05, 0.5)
    keys = torch.Generator().manual_seed(1)
    first = ebm.infer(model, X[:3], steps=4, solver=solver, generator=keys)
    second = ebm.infer(model, X[3:], steps=0, solver=solver, generator=keys)
    together = ebm.infer(model, X, steps=torch.tensor([2, 2, 2, 6, 6]), solver=solver, resume=ebm.cat([first, second]))
    alone = [
        ebm.infer(model, X[:3], steps=2, solver=solver, resume=first),
        ebm.infer(model, X[3:], steps=6, solver=solver, resume=second),
    ]
    assert together.steps.tolist() == [6] * 5
    torch.testing.assert_close(together.z, torch.cat([s.z for s in alone]), rtol=1e-10, atol=1e-10)


def test_take_by_number_and_by_mask():
    whole = ebm.infer(Quadratic(), X, steps=3, solver=ebm.Adam())
    by_number, by_mask = whole.take([1, 3]), whole.take(torch.tensor([False, True, False, True, False]))
    same(by_number, by_mask)
    assert len(by_number) == 2 and torch.equal(by_number.z, whole.z[[1, 3]])
    assert by_number.flops == int(by_number.flops_per_sample.sum())


def test_cat_is_the_inverse_of_take():
    whole = ebm.infer(Tree(3), X, steps=3, solver=ebm.Adam())
    joined = ebm.cat([whole.take([0, 1]), whole.take([2, 3, 4])])
    same(joined, whole)
    assert joined.flops == int(whole.flops_per_sample.sum())


def test_what_cat_refuses():
    model = Quadratic()
    one = ebm.infer(model, X, steps=1, solver=ebm.Descent(0.3))
    with pytest.raises(ValueError, match="`cat` joins at least one solution; got an empty list"):
        ebm.cat([])
    for other, words in (
        (ebm.infer(model, X, steps=1, solver=ebm.Descent(0.2)), "their solver differs"),
        (ebm.infer(Tanh(3), X, steps=1, solver=ebm.Descent(0.3)), "their model differs"),
        (ebm.infer(model, X, steps=1, solver=ebm.Descent(0.3), stop=ebm.AtRest(0)), "their stop differs"),
        (ebm.infer(model, X, steps=1, solver=ebm.Descent(0.3), keep="last"), "one `keep=`"),
    ):
        with pytest.raises(ValueError, match=words):
            ebm.cat([one, other])


def test_a_tree_with_names_survives_a_file(tmp_path: Path):
    model = Tree(3)
    part = ebm.infer(model, X, steps=3, solver=ebm.Adam(), record=["energy", "z"], stop=ebm.Patience(ebm.AtRest(0)))
    part.save(tmp_path / "tree.pt")
    loaded = ebm.Solution.load(tmp_path / "tree.pt")
    same(loaded, part)
    assert type(loaded.z) is type(part.z) and type(loaded.carry) is ebm.Carry
    assert loaded.flops == part.flops and loaded.uncounted == part.uncounted and loaded.seconds == part.seconds
    assert torch.equal(loaded.trace["energy"], part.trace["energy"])
    assert loaded.origin == part.origin


def test_a_differentiable_solution_can_be_saved(tmp_path: Path):
    solution = ebm.infer(Quadratic(), X, steps=2, solver=ebm.Descent(0.3), adjoint=ebm.Unroll())
    solution.save(tmp_path / "graph.pt")
    assert torch.equal(ebm.Solution.load(tmp_path / "graph.pt").z, solution.z.detach())


@pytest.mark.parametrize("held", [{"weights": torch.ones(1)}, [1, 2], torch.ones(2)])
def test_a_file_of_something_else_is_refused(held: object, tmp_path: Path):
    torch.save(held, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"A file written by `Solution.save` is wanted"):
        ebm.Solution.load(tmp_path / "other.pt")


def test_an_unknown_tuple_type_in_a_file_is_named(tmp_path: Path):
    path = tmp_path / "tree.pt"
    ebm.infer(Tree(3), X, steps=1).save(path)
    plain = torch.load(path, weights_only=True)
    plain["z"][0] = "elsewhere.types:Latent"
    torch.save(plain, path)
    with pytest.raises(ValueError, match=r"holds a Latent, a named tuple of elsewhere.types, which is not imported"):
        ebm.Solution.load(path)


def test_no_code_in_a_file_is_run(tmp_path: Path):
    path = tmp_path / "tree.pt"
    ebm.infer(Tree(3), X, steps=1).save(path)
    plain = torch.load(path, weights_only=True)
    plain["z"][0] = "os:system"
    torch.save(plain, path)
    with pytest.raises(ValueError, match="named tuple of os"):
        ebm.Solution.load(path)
