"""Penalties through wrappers and on latents of several parts, other starts, prices; each against a closed form or a loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.losses import (
    Either,
    Elsewhere,
    JacobianPenalty,
    Noisy,
    PathIndependence,
    PonderNet,
    Settled,
    Stretch,
    Together,
    neighbour,
    squared_distance,
)
from tests.energies import Quadratic, numbers
from tests.losses.halting_parts import Swinging, X, Y, cell, draws, each


def test_a_price_of_expected_steps_and_a_prior_that_is_met() -> None:
    """With a constant chance of halting the distribution is geometric: all but its last step is the prior's."""
    chance, steps = 0.3, 4
    head = ebm.PooledLogit(3, axis=1, bias=float(torch.tensor(chance).logit()))
    model = ebm.Halting(cell(), head).double()
    p = [chance * (1 - chance) ** t for t in range(steps - 1)] + [(1 - chance) ** (steps - 1)]
    expected = sum((t + 1) * part for t, part in enumerate(p))
    stretch = Stretch(steps=steps)
    plain = PonderNet(each, stretch, beta=0.0)(model, X, Y)
    priced = PonderNet(each, stretch, beta=0.0, price=0.5)(model, X, Y)
    assert (priced - plain).item() == pytest.approx(0.5 * expected, rel=1e-6)
    q = [0.3 * 0.7**t / (1 - 0.7**steps) for t in range(steps)]
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Categorical(torch.tensor(p)), torch.distributions.Categorical(torch.tensor(q))
    )
    pulled = PonderNet(each, stretch, prior=0.3, beta=2.0)(model, X, Y)
    assert (pulled - plain).item() == pytest.approx(2 * wanted.item(), rel=1e-5)


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


class Tied(ebm.Update):
    """Two latents of other shapes that move each other."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Parameter(numbers(2, 3, seed=4) / 2)
        self.back = nn.Parameter(numbers(3, 2, seed=5) / 2)

    def init_latent(self, c: Tensor, draw: Any) -> Pair:
        return Pair(torch.zeros_like(c[:, :2]), torch.zeros_like(c))

    def forward(self, z: Pair, c: Tensor) -> Pair:
        return Pair((z.b @ self.back + c[:, :2]).tanh(), (z.a @ self.there + c).tanh())


def test_the_jacobian_of_a_latent_of_several_parts() -> None:
    model, x = Tied(), numbers(3, 3, seed=2)
    z = ebm.infer(model, x, steps=3, solver=ebm.Picard(), keep="last").z
    exact = 0.0
    for sample in range(3):

        def move(flat: Tensor, c: Tensor = x[sample : sample + 1]) -> Tensor:
            return torch.cat(list(model(Pair(flat[None, :2], flat[None, 2:]), c)), 1)[0]

        jacobian = torch.autograd.functional.jacobian(move, torch.cat([z.a[sample], z.b[sample]]).detach())
        exact += float(jacobian.square().sum()) / 5 / 3
    found = torch.stack([JacobianPenalty(3, draws=40)(model, x, None, draws(seed)).detach() for seed in range(20)])
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 20**0.5)
    assert float(found.std()) < 0.2 * exact
    JacobianPenalty(3)(model, x, None, draws()).backward()
    assert float(model.there.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_penalties_see_through_a_halting_head() -> None:
    inner, halting = cell(), ebm.Halting(cell(), Swinging())
    for rule in (JacobianPenalty(4), PathIndependence(4, 2)):
        torch.testing.assert_close(rule(halting, X, None, draws()), rule(inner, X, None, draws()))


@pytest.mark.parametrize("answers", [False, True])
def test_path_independence_by_distance_from_noise(answers: bool) -> None:
    model, begin = cell(), Noisy(0.7)
    rule = PathIndependence(3, 1, begin=begin, apart=squared_distance, answers=answers)
    own, other = (ebm.infer(model, X, steps=3, start=start, keep="last") for start in (None, begin(model, X, draws())))
    wanted = functional.mse_loss(*((own.answer, other.answer) if answers else (own.z, other.z)))
    torch.testing.assert_close(rule(model, X, None, draws()).detach(), wanted.detach())


def test_either_begins_as_often_as_the_odds_say() -> None:
    model, seen = cell(), {"noise": 0, "elsewhere": 0, "own": 0}
    begin = Either(Noisy(100.0, odds=0.25), Elsewhere(neighbour, (1, 1), odds=0.5))
    generator = draws()
    for _ in range(200):
        z = begin(model, X, generator)
        seen["own" if z is None else "noise" if float(z.abs().max()) > 1 else "elsewhere"] += 1
    for name, share in (("noise", 0.25), ("elsewhere", 0.375), ("own", 0.375)):
        assert abs(seen[name] / 200 - share) < 3 * (share * (1 - share) / 200) ** 0.5


def test_settled_draws_its_steps() -> None:
    model, rule = cell(), Settled(functional.cross_entropy, (2, 4), ebm.Truncated(1))
    found = {round(rule(model, X, Y, draws(seed)).item(), 12) for seed in range(30)}
    wanted = {round(Settled(functional.cross_entropy, steps)(model, X, Y).item(), 12) for steps in (2, 3, 4)}
    assert found == wanted


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: JacobianPenalty()(Quadratic(), X[:, 0, :3], None, draws()), TypeError, "got Quadratic, an energy"),
    (lambda: JacobianPenalty()(cell(), X, None), ValueError, "draws its directions from a generator; got none"),
    (
        lambda: Settled(each, begin=Noisy())(cell(), X, Y),
        ValueError,
        "draws its steps and start from a generator; got none",
    ),
    (lambda: Settled(each, steps=(3, 2)), ValueError, r"wants 1 <= least <= most; got \(3, 2\)"),
    (lambda: PonderNet(each, price=-1.0), ValueError, r"`PonderNet\(price=...\)` may not be negative; got -1.0"),
    (lambda: Together(JacobianPenalty()), TypeError, "pairs of a weight and a loss; got JacobianPenalty"),  # type: ignore[arg-type]
    (lambda: Noisy(-1.0), ValueError, "may not be negative; got -1.0"),
    (lambda: Noisy(odds=2.0), ValueError, "is a probability; got 2.0"),
    (lambda: Either(), ValueError, "among at least one; got none"),
    (lambda: Either(3), TypeError, "takes begins; got int"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
