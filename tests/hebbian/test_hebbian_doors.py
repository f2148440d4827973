"""What the doors refuse: each message says what was passed, what is wanted, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from hebbian import Dense, Hebb, LocalRule, Oja, pseudo_gradient, step

SYNAPSE = Dense(3, 2)
WEIGHT, PRE, POST = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4, 2)


@dataclass(frozen=True)
class Taught(LocalRule):
    signal: ClassVar[str | None] = "the target of each unit, shape (B, units)"

    def sums(self, synapse, pre, post, state, signal):
        assert signal is not None
        return {"outer": synapse.outer(signal - post, pre)}

    def change(self, statistics, weight, state):
        return statistics.mean("outer"), state


def refused(error: type[Exception], message: str):
    return pytest.raises(error, match=message)


@pytest.mark.parametrize(
    ("pre", "post", "error", "message"),
    [
        (PRE[:, :2], POST, ValueError, r"`pre` has shape \(4, 2\); Dense\(.*\) wants \(B, 3\)\. Pass one row a sample"),
        (PRE[0], POST, ValueError, r"`pre` has shape \(3,\); .* wants \(B, 3\)\. .*`pre\[None\]`"),
        (PRE, POST[:, :1], ValueError, r"`post` has shape \(4, 1\); .* wants \(B, 2\)"),
        (PRE[:3], POST, ValueError, r"`pre` holds 3 samples and `post` 4; as many are wanted\. Pass both ends"),
        (PRE.long(), POST, TypeError, r"`pre` has dtype torch.int64; a floating-point .*\. Convert it with `pre.float"),
        (PRE, POST > 0, TypeError, r"`post` has dtype torch.bool; a floating-point"),
        (PRE.to(torch.complex64), POST, TypeError, r"`pre` has dtype torch.complex64; a floating-point"),
        ([[1.0]], POST, TypeError, r"`pre` is a list; a floating-point tensor is wanted\. Convert"),
        (PRE, POST.double(), TypeError, r"`pre` has dtype torch.float32 and `post` torch.float64; one dtype"),
        (PRE, POST.to("meta"), ValueError, r"`pre` is on cpu and `post` on meta; one device is wanted\. Move"),
    ],
)
def test_ends_that_do_not_fit_are_refused(pre, post, error, message) -> None:
    with refused(error, message):
        Hebb(0.1).statistics(SYNAPSE, pre, post, None)
    if isinstance(pre, torch.Tensor):
        with refused(error, message):
            SYNAPSE.outer(post, pre)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_rows_that_are_not_finite_are_named(value: float) -> None:
    pre = PRE.clone()
    pre[1, 2] = pre[3, 0] = pre[3, 1] = value
    with refused(ValueError, r"2 of 4 samples of `pre` hold NaN or infinity \(rows 1, 3\); finite .* wanted\. Drop"):
        Oja(0.1).statistics(SYNAPSE, pre, POST, None)
    many = torch.full((20, 2), value)
    with refused(ValueError, r"20 of 20 samples of `post` .*\(rows 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\)"):
        Oja(0.1).statistics(SYNAPSE, torch.ones(20, 3), many, None)


@pytest.mark.parametrize("signal", [torch.tensor(float("nan")), torch.full((4, 2), float("nan"))], ids=["one", "rows"])
def test_a_signal_that_is_not_finite_is_refused(signal: torch.Tensor) -> None:
    with refused(ValueError, r"samples of `signal` hold NaN"):
        Taught().statistics(SYNAPSE, PRE, POST, None, signal)


def test_a_signal_is_asked_for_and_turned_away() -> None:
    with refused(ValueError, r"`Hebb` was given a signal; it takes none .*\. Leave `signal` out"):
        Hebb(0.1).statistics(SYNAPSE, PRE, POST, None, POST)
    with refused(ValueError, r"`Taught` was given no signal; the target of each .* is wanted\. Pass it as"):
        step(Taught(), SYNAPSE, WEIGHT, PRE, POST, None)
    with refused(TypeError, r"`signal` is a float; a tensor is wanted: the target"):
        Taught().statistics(SYNAPSE, PRE, POST, None, 1.0)  # type: ignore[arg-type]
    with refused(ValueError, r"`pre` is on cpu and `signal` on meta; one device"):
        Taught().statistics(SYNAPSE, PRE, POST, None, POST.to("meta"))
    assert torch.equal(step(Taught(), SYNAPSE, WEIGHT, PRE, POST, None, 3 * POST)[0], torch.full((2, 3), 3.0))


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (WEIGHT.T, ValueError, r"`weight` has shape \(3, 2\); the statistics are of a weight of shape \(2, 3\)\. Pass"),
        (WEIGHT[:1], ValueError, r"`weight` has shape \(1, 3\)"),
        (WEIGHT.double(), TypeError, r"`weight` has dtype torch.float64 and `statistics.sums\['outer'\]` "),
        (WEIGHT.long(), TypeError, r"`weight` has dtype torch.int64; a floating-point"),
        (WEIGHT.to("meta"), ValueError, r"`weight` is on meta and `statistics.sums\['outer'\]` on cpu"),
    ],
)
def test_a_weight_that_does_not_fit_its_statistics_is_refused(weight, error, message) -> None:
    statistics = Hebb(0.1).statistics(SYNAPSE, PRE, POST, None)
    with refused(error, message):
        Hebb(0.1).delta(statistics, weight, None)


@pytest.mark.parametrize(
    ("weight", "pre", "error", "message"),
    [
        (WEIGHT.T, PRE, ValueError, r"`weight` has shape \(3, 2\); Dense\(.*\) wants \(2, 3\), the unit first\. T"),
        (WEIGHT, PRE[:, :2], ValueError, r"`pre` has shape \(4, 2\)"),
        (WEIGHT.double(), PRE, TypeError, r"`pre` has dtype torch.float32 and `weight` torch.float64"),
        (WEIGHT.to("meta"), PRE, ValueError, r"`pre` is on cpu and `weight` on meta"),
        (WEIGHT, 1.0, TypeError, r"`pre` is a float"),
    ],
)
def test_forward_refuses_what_does_not_fit(weight, pre, error, message) -> None:
    with refused(error, message):
        SYNAPSE.forward(weight, pre)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_a_size_that_is_no_positive_whole_number_is_refused(size) -> None:
    with refused(ValueError, r"`Dense` was given in_features=.*; a whole number of at least 1 is wanted\. Pass"):
        Dense(size, 2)
    with refused(ValueError, r"out_features="):
        Dense(2, size)


def test_a_pseudo_gradient_that_does_not_fit_is_refused() -> None:
    weight = torch.nn.Parameter(WEIGHT.clone())
    with refused(ValueError, r"`change` has shape \(3, 2\) and `weight` \(2, 3\); one shape is wanted\. Pass"):
        pseudo_gradient(weight, WEIGHT.T)
    with refused(TypeError, r"`weight` has dtype torch.float32 and `change` torch.float64"):
        pseudo_gradient(weight, WEIGHT.double())
    with refused(ValueError, r"`weight` was computed from other tensors; a leaf is wanted.*\. Pass the parameter"):
        pseudo_gradient(weight * 2, WEIGHT)
    assert weight.grad is None
