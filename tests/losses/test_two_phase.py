"""The two-phase estimate against the gradient of being at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm.testing import kept_bytes
from tests.energies import ClosedQuadratic, Quadratic, Wells, numbers

X, Y = numbers(4, 3, seed=9), numbers(4, 4, seed=10)
SETTLED: Any = {"steps": 800, "solver": ebm.Picard(0.7), "stop": ebm.AtRest(1e-14)}


def cost(answer: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (answer - y[:, : answer.shape[1]]).square().sum(1)


def slopes(model: ebm.Objective, loss: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad()
    loss().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def exact(model: ebm.Objective) -> list[Tensor]:
    adjoint = ebm.Implicit(ebm.GMRES(rtol=1e-13))
    return slopes(model, lambda: cost(ebm.infer(model, X, adjoint=adjoint, **SETTLED).answer, Y).mean())


@pytest.mark.parametrize("model", [Quadratic(), ClosedQuadratic(), Wells(3)], ids=lambda m: type(m).__name__)
def test_the_gradient_of_the_cost_at_rest(model: ebm.Objective):
    found = slopes(model, lambda: ebm.TwoPhase(cost, beta=2e-5, **SETTLED)(model, X, Y))
    for got, want in zip(found, exact(model), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_the_closed_form():
    model = Quadratic()
    wanted = slopes(model, lambda: cost(model.settled(X), Y).mean())
    found = slopes(model, lambda: ebm.TwoPhase(cost, beta=2e-5, **SETTLED)(model, X, Y))
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("centred", "order"), [(True, 2), (False, 1)])
def test_the_bias_falls_as_it_should(centred: bool, order: int):
    model = Wells(3)
    wanted = exact(model)

    def error(beta: float) -> float:
        found = slopes(model, lambda: ebm.TwoPhase(cost, beta=beta, centred=centred, **SETTLED)(model, X, Y))
        return sum(float((got - want).square().sum()) for got, want in zip(found, wanted, strict=True)) ** 0.5

    assert error(4e-3) / error(2e-3) == pytest.approx(2**order, rel=0.1)


def test_the_value_is_the_cost_at_the_free_state():
    model = Quadratic()
    loss = ebm.TwoPhase(cost, **SETTLED)(model, X, Y)
    torch.testing.assert_close(loss.detach(), cost(model.settled(X), Y).mean().detach())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_phases():
    def kept(steps: int) -> int:
        model, x, y = Quadratic(8, 8), numbers(16, 8), numbers(16, 8)
        return kept_bytes(lambda: ebm.TwoPhase(cost, steps=steps, solver=ebm.Descent(0.3))(model, x, y))

    assert kept(10) == kept(50) == kept(200)


def test_a_model_learns_by_it():
    model, taught = Quadratic(low=0.5, seed=1), Quadratic(low=0.5, seed=5).settled(X).detach()
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    loss = ebm.TwoPhase(cost, steps=60, solver=ebm.Picard(0.5))
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(model, X, taught)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.05 * values[0]


def test_failed_samples_are_not_trained_on():
    loss = ebm.TwoPhase(cost, steps=2000, solver=ebm.Descent(3.0))  # far too large a step
    with pytest.raises(ebm.InferenceError):
        loss(Quadratic(), X, Y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, r"`TwoPhase\(beta=...\)` is finite and not zero; got 0.0"),
        ({"beta": float("nan")}, r"`TwoPhase\(beta=...\)` is finite and not zero; got nan"),
        ({"steps": 0}, r"`TwoPhase\(steps=...\)` must be at least 1; got 0"),
        ({"nudged_steps": -1}, r"`TwoPhase\(nudged_steps=...\)` must be at least 1; got -1"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ebm.TwoPhase(cost, **settings)


def test_no_cost():
    with pytest.raises(TypeError, match=r"`TwoPhase\(cost\)` must be callable as cost\(answer, y\); got int"):
        ebm.TwoPhase(3)  # type: ignore[arg-type]
