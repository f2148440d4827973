"""A change says the same in each of its forms, and a step loses nothing by them."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from hebbian import Chain, Dense, Hebb, Normalise, SignConstraint, WeightDecay, step
from hebbian.change import Becomes, Change, Times, as_change, as_weight


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def forms(weight: Tensor, change: Tensor) -> dict[str, Change]:
    factors = torch.tensor([[0.5], [2.0], [4.0]], dtype=weight.dtype)
    return {
        "numbers": change.clone(),
        "a direction": Times(change / 0.25, 0.25),
        "a lent direction": Times(change / 0.25, 0.25, lent=True),
        "a factor each": Times(change / factors, factors),
        "a lent direction and a factor each": Times(change / factors, factors, lent=True),
        "the weight it leads to": Becomes(weight + change),
    }


@pytest.mark.parametrize("name", forms(*draw((3, 4), (3, 4))))
def test_every_form_is_the_same_change(name: str) -> None:
    weight, change = draw((3, 4), (3, 4))
    before = weight.clone()
    torch.testing.assert_close(as_change(forms(weight, change)[name], weight), change)
    torch.testing.assert_close(as_weight(forms(weight, change)[name], weight), weight + change)
    assert torch.equal(weight, before)


def test_what_is_lent_is_not_written_in() -> None:
    weight, lent = draw((3, 4), (3, 4))
    before = lent.clone()
    for door, factor in product((as_change, as_weight), (0.5, torch.tensor(0.5))):
        found = door(Times(lent, factor, lent=True), weight)
        assert torch.equal(lent, before)
        assert found.data_ptr() != lent.data_ptr()


def test_a_step_keeps_a_constraint_to_the_last_bit() -> None:
    weight, pre, post = draw((5, 4), (7, 4), (7, 5))
    signed, _ = step(Chain(Hebb(0.3), SignConstraint(1)), Dense(4, 5), weight, pre, post, (None, None))
    grown, _ = step(Hebb(0.3), Dense(4, 5), weight, pre, post, None)
    assert torch.equal(signed, grown.clamp_min(0.0))
    assert bool((grown < 0).any())


def test_small_decays_keep_their_digits() -> None:
    (weight,) = draw((5, 4))
    rule = WeightDecay(1e-9)
    statistics = rule.statistics(
        Dense(4, 5), torch.ones(2, 4, dtype=torch.float64), torch.ones(2, 5, dtype=torch.float64), None
    )
    change, _ = rule.delta(statistics, weight, None)
    torch.testing.assert_close(change, -1e-9 * weight, rtol=1e-14, atol=0.0)


def test_a_step_on_no_samples_is_the_weight_in_other_memory() -> None:
    (weight,) = draw((5, 4))
    found, _ = step(
        Chain(Hebb(0.3), Normalise()), Dense(4, 5), weight, weight[:0], torch.ones(0, 5).double(), (None, None)
    )
    assert torch.equal(found, weight)
    assert found.data_ptr() != weight.data_ptr()
