"""Stop rules: each against its formula, on scripted energies and on known forces."""

from __future__ import annotations

import pytest
import torch

import ebm
from ebm import Status
from tests.energies import Quadratic, numbers
from tests.engine.stubs import Below, Script, Walk, script

X = numbers(5, 3, seed=9)


def steps(x: torch.Tensor, rule: ebm.Stop, limit: int = 8) -> list[int]:
    return ebm.infer(Script(), x, steps=limit, solver=Walk(), stop=rule).steps.tolist()


@pytest.mark.parametrize("rtol", [0.0, 0.1])
def test_at_rest_is_the_root_mean_square_of_the_force(rtol: float):
    model, rule = Quadratic(), ebm.AtRest(0.05, rtol)
    trace = ebm.infer(model, X, steps=40, solver=ebm.Descent(0.3), record=["z", "residual"]).trace
    found = ebm.infer(model, X, steps=40, solver=ebm.Descent(0.3), stop=rule, keep="last")
    size = trace["z"].square().mean(2).sqrt()
    wanted = (trace["residual"] <= 0.05 + rtol * size).int().argmax(0)
    assert found.steps.tolist() == wanted.tolist() and found.converged.all()
    force = model.point(found.z, model.condition(X)).force
    torch.testing.assert_close(found.residual, force.square().mean(1).sqrt())


def test_plateau():
    x = script([5, 4, 3.5, 3.5, 1, 1], [5, 5, 1, 1, 1], [0, 0, 0, 0], [8, 7, 6, 5, 4, 3, 2, 1, 0])
    assert steps(x, ebm.Plateau(atol=0.0, rtol=0.0)) == [3, 1, 1, 8]
    assert steps(x, ebm.Plateau(atol=0.5, rtol=0.0)) == [2, 1, 1, 8]
    assert steps(x, ebm.Plateau(atol=0.0, rtol=0.2)) == [2, 1, 1, 1], "a change of 1 is within a fifth of 7, not of 4"


def test_plateau_ignores_rejected_steps():
    """A stiff energy whose first trials are all turned down is not at rest."""

    class Stiff(ebm.Energy):
        def init_latent(self, c, draw):
            return c

        def forward(self, z, c):
            return 5e4 * z.square().sum(1)

    x = torch.ones(1, 2, dtype=torch.float64)
    solution = ebm.infer(Stiff(), x, steps=100, stop=ebm.Plateau(atol=0.0, rtol=0.0))
    assert solution.energy < 1e-12


def test_patience_counts_in_a_row_from_the_first_look():
    x = script([0, 0, 0, 9, 9], [0, 0, 9, 0, 0, 0], [9, 0, 0, 0], [9.0] * 9)
    assert steps(x, ebm.Patience(Below(), 3)) == [2, 5, 3, 8]
    assert steps(x, ebm.Patience(Below(), 1)) == [0, 0, 1, 8]


def test_any_and_all():
    x = script([9, 3, 9, -1], [9, 1, 0, 0], [9, 9, 9, 9])
    assert steps(x, ebm.AnyOf(Below(-1), Below(0), Below(3)), 3) == [1, 1, 3]
    assert steps(x, ebm.AllOf(Below(3), Below(-1)), 3) == [3, 3, 3]
    done = ebm.infer(Script(), x, steps=3, solver=Walk(), stop=ebm.AllOf(Below(3), Below(-1)))
    assert done.status.tolist() == [Status.CONVERGED, Status.OUT_OF_STEPS, Status.OUT_OF_STEPS]
    assert repr(ebm.AnyOf(Below(1), Below(2))) == "AnyOf(Below(threshold=1), Below(threshold=2))"


class Answering(Script):
    """The place in the script, as the logits of two classes: place z is sure to sigmoid(2 z)."""

    def __init__(self, axes: int = 0) -> None:
        super().__init__()
        self.axes = axes

    def readout(self, z, c):
        logits = torch.cat([z, -z], 1)
        return logits if not self.axes else torch.stack([logits, 0.5 * logits], 2)


def test_confident_is_the_largest_probability():
    sure = torch.sigmoid(torch.tensor(2.0 * 3)).item()
    x = script([9.0] * 9)
    for threshold, wanted in ((sure - 1e-6, 3), (sure + 1e-6, 4), (0.5, 0)):
        rule = ebm.Confident(threshold)
        assert ebm.infer(Answering(), x, steps=8, solver=Walk(), stop=rule).steps.tolist() == [wanted]
        # every position must be sure, and the second has half the logits
        wide = ebm.infer(Answering(1), x, steps=8, solver=Walk(), stop=rule)
        assert wide.steps.tolist() == [{3: 6, 4: 7, 0: 0}[wanted]]


def test_a_rule_is_asked_before_the_first_step():
    model, settled = Quadratic(), Quadratic().settled(X).detach()
    solution = ebm.infer(model, X, steps=5, start=settled, stop=ebm.AtRest(1e-10), solver=ebm.Descent(0.3))
    assert solution.steps.tolist() == [0] * 5 and solution.converged.all() and torch.equal(solution.z, settled)


def test_a_rule_alone_may_not_limit_but_a_model_may_name_one():
    memory = ebm.ModernHopfield(torch.eye(4, dtype=torch.float64), 20.0)
    solution = ebm.infer(memory, torch.eye(4, dtype=torch.float64))
    assert solution.converged.all() and solution.steps.max() <= 2


def test_projected_rest_is_rest():
    """Where the box holds a sample back the force is not zero, but its projected move is."""
    model, box = Quadratic(), ebm.Box(-0.1, 0.1)
    solver = ebm.Project(ebm.Descent(0.3), box)
    solution = ebm.infer(model, X, steps=200, solver=solver, stop=ebm.AtRest(1e-9))
    assert solution.converged.all() and solution.residual.max() <= 1e-9
    assert solution.z.abs().max() <= 0.1
    assert model.point(solution.z, model.condition(X)).force.abs().max() > 0.1


def test_reduced_is_relative_to_the_first_residual_also_when_going_on():
    model, x, solver = Quadratic(), numbers(5, 3, seed=9), ebm.Descent(0.3)
    stop = ebm.Reduced(0.05)
    found = ebm.infer(model, x, steps=100, solver=solver, stop=stop)
    traced = ebm.infer(model, x, steps=100, solver=solver, record=["residual"]).trace["residual"]
    first = (traced <= 0.05 * traced[0]).double().argmax(0)
    assert found.steps.tolist() == first.tolist() and found.converged.all()
    half = ebm.infer(model, x, steps=3, solver=solver, stop=stop)
    assert ebm.infer(model, x, steps=97, solver=solver, stop=stop, resume=half).steps.tolist() == first.tolist()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_lies_between_zero_and_one(share: float):
    with pytest.raises(ValueError, match=r"`Reduced\(share=...\)` must lie between 0 and 1"):
        ebm.Reduced(share)
