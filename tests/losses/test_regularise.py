"""Penalties against exact Jacobians and settled latents; starts elsewhere; sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import ebm
from ebm.losses import Elsewhere, JacobianPenalty, PathIndependence, Progressive, Settled, Together, neighbour
from tests.contracts.members import seeded
from tests.energies import Quadratic, numbers

X, Y = numbers(4, 1, 5), torch.tensor([[0, 1, 1, 0, 1]] * 4)


def cell() -> ebm.GatedCell:
    return seeded(lambda: ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_jacobian_penalty_is_the_mean_square_of_the_jacobian() -> None:
    model = cell()
    z = ebm.infer(model, X, steps=7, keep="last").z.detach()
    exact = 0.0
    for sample in range(4):
        c = model.condition(X[sample : sample + 1]).detach()
        jacobian = torch.autograd.functional.jacobian(lambda z, c=c: model(z[None], c)[0], z[sample])
        exact += float(jacobian.square().sum()) / 15 / 4
    found = torch.stack([JacobianPenalty(7, draws=50)(model, X, None, draws(seed)).detach() for seed in range(20)])
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 20**0.5)
    assert float(found.std()) < 0.1 * exact


def test_the_jacobian_penalty_lowers_the_jacobian() -> None:
    model, rule = cell(), JacobianPenalty(5, draws=4)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    before = float(rule(model, X, None, draws()).detach())
    for seed in range(20):
        optimizer.zero_grad()
        rule(model, X, None, draws(seed)).backward()
        optimizer.step()
    assert float(rule(model, X, None, draws()).detach()) < 0.8 * before


def test_path_independence_is_the_cosine_of_the_two_ends() -> None:
    model, begin = cell(), Elsewhere(neighbour, (6, 6), odds=1.0)
    found = PathIndependence(steps=4, last=2, begin=begin)(model, X, None, draws())
    own = ebm.infer(model, X, steps=4, keep="last").z
    elsewhere = ebm.infer(model, X.roll(1, 0), steps=6, keep="last").z
    other = ebm.infer(model, X, steps=4, start=elsewhere, keep="last").z
    cosine = torch.cosine_similarity(own.flatten(1), other.flatten(1)).mean()
    assert torch.allclose(found, 1 - cosine, atol=1e-12)
    assert float(found.detach()) > 1e-4
    long = PathIndependence(steps=300, begin=begin)(model, X, None, draws())
    assert abs(float(long.detach())) < 1e-9  # one rest, however it is reached
    found.backward()
    assert float(model.cell.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_a_batch_that_begins_elsewhere_is_a_loop_from_there() -> None:
    model = cell()
    rule = Progressive(functional.cross_entropy, burn_in=2, steps=3, begin=Elsewhere(neighbour, (5, 5), odds=1.0))
    z = ebm.infer(model, X.roll(1, 0), steps=5, keep="last").z.detach()
    c = model.condition(X)
    for _ in range(2):
        z = model(z, c).detach()
    wanted = torch.zeros((), dtype=torch.float64)
    for _ in range(3):
        z = model(z, c)
        wanted = wanted + functional.cross_entropy(model.readout(z, c), Y) / 3
    assert torch.allclose(rule(model, X, Y, draws()), wanted, atol=1e-12)


def test_odds_of_zero_change_nothing_but_the_draws() -> None:
    model, steps = cell(), 3
    plain = Progressive(functional.cross_entropy, burn_in=0, steps=steps)(model, X, Y)
    never = Progressive(functional.cross_entropy, burn_in=0, steps=steps, begin=Elsewhere(neighbour, odds=0.0))
    assert torch.allclose(never(model, X, Y, draws()), plain, atol=1e-12)


@pytest.mark.parametrize("adjoint", [ebm.Implicit(), ebm.Unroll(), ebm.Truncated(60)])
def test_settled_gives_the_same_gradient_under_every_adjoint(adjoint: ebm.Adjoint) -> None:
    model = cell()
    rule = Settled(functional.cross_entropy, steps=300, adjoint=adjoint)
    found = torch.autograd.grad(rule(model, X, Y), model.cell.weight)[0]
    z = torch.zeros(4, 3, 5, dtype=torch.float64)
    for _ in range(300):
        z = model(z, model.condition(X))
    wanted = torch.autograd.grad(functional.cross_entropy(model.readout(z, None), Y), model.cell.weight)[0]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_together_is_the_weighted_sum() -> None:
    model = cell()
    first, second = Progressive(functional.cross_entropy, burn_in=(0, 5), steps=2), JacobianPenalty(3)
    generator = draws()
    wanted = 0.5 * first(model, X, Y, generator) + 2.0 * second(model, X, Y, generator)
    assert torch.allclose(Together((0.5, first), (2.0, second))(model, X, Y, draws()), wanted, atol=1e-12)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: Elsewhere(neighbour, odds=2.0), ValueError, "is a probability; got 2.0"),
    (lambda: Elsewhere(neighbour, (3, 1)), ValueError, "wants 0 <= least <= most"),
    (lambda: JacobianPenalty(draws=0), ValueError, "draws=.*at least 1; got 0"),
    (lambda: JacobianPenalty()(Quadratic(), X, None, draws()), TypeError, "measures an `Update`; got Quadratic"),
    (lambda: PathIndependence(steps=3, last=4), ValueError, "1 <= last <= steps.*got 4 and 3"),
    (lambda: PathIndependence()(cell(), X, None), ValueError, "draws its other start from a generator; got none"),
    (lambda: Settled(functional.cross_entropy, steps=0), ValueError, "at least 1; got 0"),
    (lambda: Together(), ValueError, "at least one loss; got none"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
