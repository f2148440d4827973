"""Halting heads on other models; their stop rules under every promise and in calibration."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.testing import PROMISES, Case, check_objective
from tests.contracts.members import seeded
from tests.energies import Quadratic, numbers
from tests.losses.halting_parts import Swinging, X, Y, cell, draws, each

RULES = [ebm.Halts(0.6), ebm.HaltsBySum(0.9), ebm.HaltsByChance(0.7)]


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("rule", RULES)
def test_every_halting_rule_keeps_every_promise(promise: str, rule: ebm.Stop) -> None:
    case = Case(ebm.Halting(cell(), Swinging()), X, stop=rule, steps=5)
    assert len(set(ebm.infer(case.model, X, steps=5, stop=rule).steps.tolist())) > 1
    PROMISES[promise](case)


@pytest.mark.parametrize("rule", RULES)
def test_the_start_is_no_step(rule: ebm.Stop) -> None:
    """No loss teaches the head there, so no rule asks it there."""
    sure = ebm.Halting(cell(), ebm.PooledLogit(3, axis=1, bias=9.0)).double()
    assert ebm.infer(sure, X, steps=4, stop=rule).steps.tolist() == [1] * 5


def levels(model: ebm.Halting, rule: ebm.Stop, steps: int) -> list[list[float]]:
    """What the rule compares with its threshold, by sample and step, from one call a number of steps."""
    found = []
    for count in range(1, steps + 1):
        found.append(ebm.infer(model, X, steps=count, keep="last").answer.halt.float().sigmoid().tolist())
    out = []
    for chances in zip(*found, strict=True):
        if isinstance(rule, ebm.Halts):
            out.append(list(chances))
        elif isinstance(rule, ebm.HaltsBySum):
            out.append(list(itertools.accumulate(chances)))
        else:
            out.append([1 - going for going in itertools.accumulate((1 - h for h in chances), lambda a, b: a * b)])
    return out


def patient(held: list[float], times: int) -> list[float]:
    return [min(held[max(t - times + 1, 0) : t + 1]) if t >= times - 1 else -1.0 for t in range(len(held))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("times", [1, 2])
def test_calibration_knows_when_each_sample_would_have_halted(rule: ebm.Stop, times: int) -> None:
    model, steps = ebm.Halting(cell(), Swinging()), 6
    wanted = [patient(held, times) for held in levels(model, rule, steps)]
    stop = rule if times == 1 else ebm.Patience(rule, times)
    thresholds = [0.9, 0.6, 0.3, 0.15]
    found = ebm.calibrate(
        stop,
        model,
        [(X, Y)],
        1e9,
        steps=steps,
        quality=lambda answer, y: -each(answer.answer, y),
        thresholds=thresholds,
    )
    for index, threshold in enumerate(found.curve.threshold.tolist()):
        by_hand = [next((t + 1 for t, held in enumerate(row) if held >= threshold), steps) for row in wanted]
        assert found.curve.steps[index].item() == pytest.approx(sum(by_hand) / 5)
    assert found.steps == found.curve.steps[found.chosen].item()
    assert len(set(found.curve.steps.tolist())) > 2


# Halting of other models


class Halve(ebm.Update):
    """An update that names no solver of its own."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * z + c


class Sure(ebm.GatedCell):
    """A cell whose own stop rule reads its answer."""

    def default_stop(self) -> ebm.Stop:
        return ebm.Confident(0.1)


def signs(*shape: int, seed: int) -> Tensor:
    return numbers(*shape, seed=seed).sign()


WRAPPED: dict[str, tuple[Any, Any]] = {
    "bare update": (Halve, numbers(4, 3)),
    "energy": (Quadratic, numbers(4, 3)),
    "discrete": (lambda: ebm.Hopfield.store(signs(2, 7, seed=4)), signs(4, 7, seed=5)),
    "several layers": (lambda: seeded(lambda: ebm.PredictiveCoding([3, 5, 4, 2])), (numbers(4, 3), numbers(4, 2))),
    "attention": (lambda: seeded(lambda: ebm.AttentionCell(nn.Linear(3, 4), 4, 2, 3)), numbers(4, 5, 3)),
}


class Total(nn.Module):
    def forward(self, z: Any) -> Tensor:
        return ebm.rows.flatten(z).sum(1, keepdim=True)


@pytest.mark.parametrize("name", WRAPPED)
def test_a_head_changes_no_path(name: str) -> None:
    make, x = WRAPPED[name]
    plain, halting = make(), ebm.Halting(make(), Total())
    one, other = (ebm.infer(model, x, steps=6, generator=draws()) for model in (plain, halting))
    assert all(torch.equal(a, b) for a, b in zip(ebm.rows.leaves(one.z), ebm.rows.leaves(other.z), strict=True))
    assert one.steps.tolist() == other.steps.tolist() and one.status.tolist() == other.status.tolist()
    assert torch.equal(other.answer.halt, ebm.rows.flatten(other.z).sum(1))
    assert all(
        torch.equal(a, b)
        for a, b in zip(ebm.rows.leaves(one.answer), ebm.rows.leaves(other.answer.answer), strict=True)
    )
    check_objective(halting, x)


@pytest.mark.parametrize("order", ["clamped inside", "halting inside"])
def test_halting_and_clamping_in_either_order(order: str) -> None:
    x, mask = signs(4, 7, seed=5), numbers(4, 7, seed=3) > 0
    memory = ebm.Hopfield.store(signs(2, 7, seed=4))
    model = (
        ebm.Halting(ebm.Clamped(memory), Total())
        if order == "clamped inside"
        else ebm.Clamped(ebm.Halting(memory, Total()))
    )
    plain = ebm.infer(ebm.Clamped(memory), (x, mask, x), steps=4, generator=draws())
    assert torch.equal(ebm.infer(model, (x, mask, x), steps=4, generator=draws()).z, plain.z)


def test_a_stop_rule_that_reads_the_bare_answer_is_left_out() -> None:
    sure = seeded(lambda: Sure(1, 3, nn.Conv1d(3, 2, 1), dims=1))
    assert ebm.infer(sure, X, steps=3).steps.tolist() == [0] * 5
    assert ebm.infer(ebm.Halting(sure, Total()), X, steps=3).steps.tolist() == [3] * 5


BAD: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: ebm.Halting(ebm.Ladder([Quadratic(), Quadratic()]), Total()),
        ValueError,
        "got Ladder. Wrap the model inside",
    ),
    (lambda: ebm.Halting(ebm.Composite(Quadratic(), ebm.L1(0.2)), Total()), ValueError, "got Composite"),
    (
        lambda: ebm.infer(ebm.Halting(cell(), nn.Flatten(0)), X, steps=1),
        ValueError,
        r"B = 5 samples, \(B,\) or \(B, 1\); got \(90,\)",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
