"""A derivative that overflows stays in its sample; one that comes from outside is passed on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ebm
from ebm.testing.neighbours import FINE, RUNS_AWAY, Troubled, troubled
from tests.energies import Quadratic, numbers

X = numbers(3, 3, seed=9)
START = torch.zeros(3, 4, dtype=torch.float64)


def slopes(kind: list[int], samples: list[int], steps: int = 6) -> list[Tensor]:
    """The gradients of a loss of some samples, the others of these kinds, in weights that all share."""
    model = Quadratic()
    x = troubled(X, torch.tensor(kind), START)
    z = ebm.infer(Troubled(model), x, steps=steps, solver=ebm.LBFGS(3), adjoint=ebm.Unroll(), start=START).z
    return list(torch.autograd.grad((z[samples] + 1).square().sum(), [model.matrix, model.weight]))


def test_a_neighbour_that_runs_away_is_not_seen_in_shared_weights() -> None:
    alone, company = (slopes([FINE, FINE, kind], [0, 1]) for kind in (FINE, RUNS_AWAY))
    for one, other in zip(alone, company, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_what_is_not_finite_before_it_enters_reaches_the_weights(bad: float) -> None:
    model = Quadratic()
    z = ebm.infer(model, X, steps=3, solver=ebm.Descent(0.4), adjoint=ebm.Unroll()).z
    (slope,) = torch.autograd.grad((z * torch.tensor([[1.0], [bad], [1.0]], dtype=torch.float64)).sum(), model.matrix)
    assert not bool(slope.isfinite().all())  # loss scaling looks for this, and lowers its scale
    again = ebm.infer(model, X, steps=3, solver=ebm.Descent(0.4), adjoint=ebm.Unroll()).z
    (slope,) = torch.autograd.grad(again.sum(), model.matrix)
    assert bool(slope.isfinite().all())


def test_many_cotangents_go_through_at_once() -> None:
    model, x = Quadratic(), X.clone().requires_grad_()
    z = ebm.infer(model, x, steps=40, solver=ebm.Descent(0.5), adjoint=ebm.Unroll()).z
    each = torch.stack([torch.autograd.grad(z[0, k], x, retain_graph=True)[0] for k in range(4)])
    pick = torch.eye(4, dtype=torch.float64)
    (together,) = torch.autograd.grad(z[0], x, pick, is_grads_batched=True)
    torch.testing.assert_close(together, each)
