"""Energies given by residuals: the closed-form force against automatic differentiation, and predictive coding as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.objective import slope
from tests.contracts.members import Decay
from tests.energies import numbers

X = numbers(5, 3, seed=9)


def coding(**settings: Any) -> ebm.PredictiveCoding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return ebm.PredictiveCoding([3, 6, 4, 2], **settings).double()


def test_energy_and_force_are_those_of_the_sum_of_squares():
    model, z = Decay(), numbers(5, 2)
    point = model.point(z, X)
    residuals = model.residuals(z, X)
    gradient, _ = slope(lambda latent: 0.5 * model.residuals(latent, X).square().sum(1), z)
    assert point.energy is not None
    torch.testing.assert_close(point.energy, 0.5 * residuals.square().sum(1))
    torch.testing.assert_close(model(z, X), point.energy)
    torch.testing.assert_close(point.force, -gradient)


def test_a_point_is_differentiable_where_asked_and_has_no_graph_elsewhere():
    model, z = Decay(), numbers(5, 2).requires_grad_()

    def asked(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        point = model.point(z, x)
        assert point.energy is not None
        return point.energy, point.force

    assert torch.autograd.gradcheck(asked, (z, X.clone().requires_grad_()))
    with torch.no_grad():
        assert not any(leaf.requires_grad for leaf in asked(z, X))


def test_a_fit_finds_its_floor_by_its_own_solver():
    truth = torch.tensor([[1.5, 0.7], [0.4, 1.2]], dtype=torch.float64)

    class Curve(ebm.LeastSquares):
        times = torch.tensor([0.3, 0.8, 1.7], dtype=torch.float64)

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.ones_like(c[:, :2])

        def residuals(self, z: Tensor, c: Tensor) -> Tensor:
            return z[:, :1] * (-z[:, 1:] * self.times).exp() - c

    seen = truth[:, :1] * (-truth[:, 1:] * Curve.times).exp()
    found = ebm.infer(Curve(), seen, steps=50, stop=ebm.AtRest(1e-12))
    assert found.converged.all() and found.origin.solver.startswith("GaussNewton")
    torch.testing.assert_close(found.z, truth, rtol=1e-9, atol=1e-9)


class Wrong(ebm.LeastSquares):
    """Answers whatever it was told to."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def residuals(self, z: Tensor, c: Tensor) -> Any:
        return self.answer(z)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z: z.sum(1), r"shape \(5, M\); got \(5,\)"),
        (lambda z: z.T, r"shape \(5, M\); got \(3, 5\)"),
        (lambda z: [z], r"got list"),
        (lambda z: z.detach(), "must depend on the latent"),
    ],
)
def test_residuals_of_another_kind_are_refused(answer: Any, words: str):
    with pytest.raises(ValueError, match=words):
        ebm.infer(Wrong(answer), X, steps=1)


def test_residuals_must_be_defined():
    class Empty(ebm.LeastSquares):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c

    with pytest.raises(NotImplementedError, match="Define `residuals"):
        ebm.infer(Empty(), X, steps=1)


PRECISIONS = [2.0, torch.tensor([0.5, 3.0, 1.0, 2.0]), torch.tensor(0.2)]


@pytest.mark.parametrize("settings", [{}, {"precision": PRECISIONS}, {"precision": 3.0, "prior": 0.4}], ids=str)
@pytest.mark.parametrize("ends", ["both", "bottom", "top"])
def test_the_residuals_of_predictive_coding_are_its_energy(ends: str, settings: Any):
    model = coding(start=ebm.Noise(0.5), **settings)
    y = numbers(5, 2, seed=8)
    x = {"both": (X, y), "bottom": (X, None), "top": (None, y)}[ends]
    start = ebm.infer(model, x, steps=0)
    c = model.condition(x)
    point = model.point(start.z, c)
    residuals = model.residuals(start.z, c)
    assert point.energy is not None and (point.energy > 0).all()
    torch.testing.assert_close(0.5 * residuals.square().sum(1), point.energy)
    gradient, _ = slope(lambda latent: 0.5 * model.residuals(latent, c).square().sum(1), start.z)
    for mine, theirs in zip(rows.leaves(point.force), rows.leaves(gradient), strict=True):
        torch.testing.assert_close(mine, -theirs)


@pytest.mark.parametrize("solver", [ebm.LBFGS(3), ebm.NewtonCG(), ebm.GaussNewton()], ids=repr)
def test_predictive_coding_settles_to_the_same_place(solver: ebm.Solver):
    model, x = coding(), (X, numbers(5, 2, seed=8))
    slow = ebm.infer(model, x, steps=3000, solver=ebm.Descent(0.1), stop=ebm.AtRest(1e-9))
    quick = ebm.infer(model, x, steps=100, solver=solver, stop=ebm.AtRest(1e-9))
    assert slow.converged.all() and quick.converged.all()
    for one, other in zip(rows.leaves(quick.z), rows.leaves(slow.z), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
