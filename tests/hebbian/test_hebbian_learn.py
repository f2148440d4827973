"""From a change to new weights: a pure step, and the same step through an optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from hebbian import Dense, Hebb, LocalRule, Oja, pseudo_gradient, step
from hebbian.testing import dense_case

RULES = [Hebb(0.1), Oja(0.1)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_sgd_on_the_pseudo_gradient_is_the_step(rule: LocalRule) -> None:
    synapse, start, pre, _, _ = dense_case()
    weight, parameter = start, torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    for _ in range(5):
        weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
        statistics = rule.statistics(synapse, pre, synapse.forward(parameter, pre), None)
        pseudo_gradient(parameter, rule.delta(statistics, parameter, None)[0])
        optimiser.step()
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-13, atol=1e-14)  # a step rounds once, not twice
    assert not torch.equal(weight, start)


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.AdamW])
def test_any_optimiser_moves_along_the_change(optimiser: Callable[..., torch.optim.Optimizer]) -> None:
    synapse, start, pre, post, _ = dense_case()
    weight = torch.nn.Parameter(start.clone())
    change, _ = Oja(1.0).delta(Oja(1.0).statistics(synapse, pre, post, None), weight, None)
    pseudo_gradient(weight, change)
    optimiser([weight], lr=1e-3).step()
    assert torch.equal((weight - start).sign(), change.sign())


def test_a_step_writes_nothing_and_leaves_no_graph() -> None:
    synapse, start, pre, post, _ = dense_case()
    weight = torch.nn.Parameter(start.clone())
    new, state = step(Oja(0.1), synapse, weight, pre.requires_grad_(), post, None)
    assert torch.equal(weight, start)
    assert weight.grad is None
    assert pre.grad is None
    assert not new.requires_grad
    assert not isinstance(new, torch.nn.Parameter)
    assert state is None


@dataclass(frozen=True)
class Counting(LocalRule):
    """A change of one on the first step, two on the second, ..."""

    def init_state(self, synapse, weight):
        return torch.zeros((), dtype=weight.dtype)

    def sums(self, synapse, pre, post, state, signal):
        return {}

    def change(self, statistics, weight, state):
        return (state + 1) * torch.ones_like(weight), state + 1


def test_a_step_hands_the_state_on() -> None:
    synapse, weight, pre, post, _ = dense_case()
    start, state = weight, Counting().init_state(synapse, weight)
    for _ in range(3):
        weight, state = step(Counting(), synapse, weight, pre, post, state)
    assert state == 3
    torch.testing.assert_close(weight, start + 6)


def test_the_pseudo_gradient_replaces_what_was_there_and_has_its_own_memory() -> None:
    weight, change = torch.nn.Parameter(torch.zeros(2)), torch.ones(2, requires_grad=True)
    weight.grad = torch.full((2,), 7.0)
    pseudo_gradient(weight, change)
    assert torch.equal(weight.grad, -torch.ones(2))
    assert not weight.grad.requires_grad
    weight.grad.zero_()
    assert torch.equal(change, torch.ones(2))


def test_learning_goes_on_after_inference_mode() -> None:
    synapse, start, pre, post, _ = dense_case()
    weight = torch.nn.Parameter(start.clone())
    with torch.inference_mode():
        change, _ = Hebb(0.1).delta(Hebb(0.1).statistics(synapse, pre, post, None), weight, None)
    optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    for _ in range(2):
        pseudo_gradient(weight, change)
        optimiser.step()
    torch.testing.assert_close(weight.detach(), start + 2.9 * change, rtol=1e-12, atol=1e-12)


def test_forward_may_be_differentiated_by_the_network_around_it() -> None:
    synapse = Dense(2, 1)
    weight = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    synapse.forward(weight, torch.tensor([[3.0, 4.0]], dtype=torch.float64)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[3.0, 4.0]]
