"""The monotone cell: one rest, whatever the weights, and splitting that finds it."""

from __future__ import annotations

import pytest
import torch

import ebm
from tests.energies import numbers

X = numbers(5, 3, seed=2)


def cell(scale: float = 1.0, margin: float = 0.2, head: torch.nn.Module | None = None) -> ebm.MonotoneCell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = ebm.MonotoneCell(3, 6, margin=margin, head=head).double()
    with torch.no_grad():
        made.fall.mul_(scale)
        made.turn.mul_(scale)
    return made


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("margin", [0.05, 0.5, 1.0])
def test_the_weights_are_strongly_monotone(scale: float, margin: float):
    kept = torch.eye(6, dtype=torch.float64) - cell(scale, margin).weight
    assert torch.linalg.eigvalsh(0.5 * (kept + kept.T)).min() >= margin - 1e-9


def test_the_formulas():
    model = cell()
    c, z = model.condition(X), numbers(5, 6, seed=3)
    eye, weight = torch.eye(6, dtype=torch.float64), model.weight
    torch.testing.assert_close(model(z, c), torch.relu(z @ weight.T + model.inject(X)))
    solved = model.resolvent(z, 0.7, c)
    torch.testing.assert_close(solved + 0.7 * solved @ (eye - weight).T, z + 0.7 * model.inject(X))


@pytest.mark.parametrize("size", [0.1, 0.5, 2.0])
def test_splitting_ends_where_the_plain_iteration_does(size: float):
    model, stop = cell(0.2, margin=0.9), ebm.AtRest(1e-12)
    plain = ebm.infer(model, X, steps=500, solver=ebm.Picard(), stop=stop)
    split = ebm.infer(model, X, steps=500, solver=ebm.PeacemanRachford(size), stop=stop)
    assert plain.converged.all() and split.converged.all()
    torch.testing.assert_close(split.z, plain.z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [0.05, 0.2, 1.0])
def test_splitting_rests_where_the_plain_iteration_diverges(size: float):
    model = cell(3.0)
    plain = ebm.infer(model, X, steps=3000, solver=ebm.Picard(), stop=ebm.AtRest(1e-8))
    split = ebm.infer(model, X, steps=3000, solver=ebm.PeacemanRachford(size), stop=ebm.AtRest(1e-10))
    assert not plain.converged.any() and split.converged.all()
    c = model.condition(X)
    torch.testing.assert_close(model(split.z, c), split.z, rtol=0, atol=1e-8)
    other = ebm.infer(model, X, steps=3000, start=numbers(5, 6, seed=4), stop=ebm.AtRest(1e-10))
    torch.testing.assert_close(other.z, split.z, rtol=0, atol=1e-8)


def test_the_head_reads_out_and_gradients_reach_every_weight():
    model = cell(head=torch.nn.Linear(6, 2))
    found = ebm.infer(model, X, steps=20, adjoint=ebm.Unroll())
    found.answer.square().sum().backward()
    assert found.answer.shape == (5, 2)
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inputs": 0, "width": 2}, r"`MonotoneCell\(inputs=...\)` must be at least 1; got 0"),
        ({"inputs": 2, "width": 0}, r"`MonotoneCell\(width=...\)` must be at least 1; got 0"),
        ({"inputs": 2, "width": 2, "margin": 0.0}, r"`MonotoneCell\(margin=...\)` must lie in \(0, 1\]; got 0.0"),
    ],
)
def test_settings_outside_their_range(settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ebm.MonotoneCell(**settings)


def test_a_solver_that_needs_a_resolvent_is_refused_elsewhere():
    with pytest.raises(ValueError, match="PeacemanRachford needs prox, resolvent"):
        ebm.infer(ebm.GatedCell(1, 2, dims=1), torch.ones(2, 1, 4), steps=1, solver=ebm.PeacemanRachford())
    with pytest.raises(ValueError, match=r"`PeacemanRachford\(size=...\)` must be above zero; got -1"):
        ebm.PeacemanRachford(-1)
