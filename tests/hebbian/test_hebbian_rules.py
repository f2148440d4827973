"""Hebb and Oja against what is known of them: loops over samples, rank, growth, eigenvectors."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hebbian import Dense, Hebb, LocalRule, Oja, step

REPEATABLE = settings(derandomize=True, database=None, deadline=None)
SIZES = {"batch": st.integers(1, 9), "inputs": st.integers(1, 6), "units": st.integers(1, 6)}
SEEDS = st.integers(0, 2**31 - 1)
RATES = st.floats(0.0, 2.0)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def change_of(rule: LocalRule, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    synapse = Dense(weight.shape[1], weight.shape[0])
    return rule.delta(rule.statistics(synapse, pre, post, None), weight, None)[0]


@REPEATABLE
@given(**SIZES, seed=SEEDS, rate=RATES)
def test_hebb_is_the_mean_over_samples_of_post_times_pre(batch, inputs, units, seed, rate) -> None:
    weight, pre, post = draw(seed, (units, inputs), (batch, inputs), (batch, units))
    wanted = torch.zeros(units, inputs, dtype=torch.float64)
    for x, y in zip(pre, post, strict=True):
        for i in range(units):
            for j in range(inputs):
                wanted[i, j] += rate * y[i] * x[j] / batch
    torch.testing.assert_close(change_of(Hebb(rate), weight, pre, post), wanted, rtol=1e-12, atol=1e-12)


@REPEATABLE
@given(**SIZES, seed=SEEDS, rate=RATES)
def test_oja_is_the_mean_over_samples_of_its_formula(batch, inputs, units, seed, rate) -> None:
    weight, pre, post = draw(seed, (units, inputs), (batch, inputs), (batch, units))  # post need not be W x
    wanted = torch.zeros(units, inputs, dtype=torch.float64)
    for x, y in zip(pre, post, strict=True):
        for i in range(units):
            wanted[i] += rate * y[i] * (x - y[i] * weight[i]) / batch
    torch.testing.assert_close(change_of(Oja(rate), weight, pre, post), wanted, rtol=1e-12, atol=1e-12)


@REPEATABLE
@given(seed=SEEDS, batch=st.integers(1, 4))
def test_hebb_has_at_most_the_rank_of_the_batch(seed: int, batch: int) -> None:
    weight, pre, post = draw(seed, (5, 6), (batch, 6), (batch, 5))
    assert torch.linalg.matrix_rank(change_of(Hebb(0.1), weight, pre, post)) == batch


@pytest.mark.parametrize("seed", range(3))
def test_hebb_grows_without_end(seed: int) -> None:
    weight, pre = draw(seed, (3, 5), (20, 5))
    synapse, lengths = Dense(5, 3), [weight.norm(dim=1)]
    for _ in range(50):
        weight, _ = step(Hebb(0.5), synapse, weight, pre, synapse.forward(weight, pre), None)
        lengths.append(weight.norm(dim=1))
    assert (torch.stack(lengths).diff(dim=0) > 0).all()
    assert (lengths[-1] > 1e3 * lengths[0]).all()


@pytest.mark.parametrize("rule", [Hebb, Oja])
def test_a_rate_is_used(rule: type[Hebb] | type[Oja]) -> None:
    weight, pre, post = draw(0, (3, 5), (8, 5), (8, 3))
    one, three = (change_of(rule(rate), weight, pre, post) for rate in (0.1, 0.3))
    torch.testing.assert_close(three, 3 * one, rtol=1e-12, atol=1e-12)
    assert one.any()


def test_oja_rows_do_not_see_one_another() -> None:
    weight, pre, post = draw(1, (3, 5), (8, 5), (8, 3))
    together = change_of(Oja(0.1), weight, pre, post)
    for i in range(3):
        alone = change_of(Oja(0.1), weight[i : i + 1], pre, post[:, i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)


def axes_of(pre: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and unit eigenvectors (columns) of E[x x^T], the largest first."""
    values, vectors = torch.linalg.eigh(pre.T @ pre / len(pre))
    return values.flip(0), vectors.flip(1)


def tangent(rows: Tensor, axis: Tensor) -> Tensor:
    """Of the angle between each row and an axis, whichever way the row points."""
    along = rows @ axis
    across = rows - along[:, None] * axis
    return across.norm(dim=1) / along.abs()


@pytest.mark.parametrize("seed", range(6))
def test_every_oja_row_goes_to_the_top_eigenvector_at_the_rate_that_theory_gives(seed: int) -> None:
    # Along eigenvector k a row is multiplied by 1 + rate (lambda_k - s), s = w^T C w. While rate * s <= 1, the tangent
    # of the angle to the top axis so shrinks at least by (1 + rate lambda_2) / (1 + rate lambda_1) a step, whatever s.
    # At the axis, |w| - 1 is multiplied by 1 - 2 rate lambda_1: by 0 at the rate used here.
    pre, weight = draw(seed, (200, 6), (4, 6))
    spread = torch.tensor([2.0, 1.2, 1.0, 0.8, 0.5, 0.1], dtype=torch.float64)
    pre = pre * spread + 0.2  # not centred: C is no covariance
    values, vectors = axes_of(pre)
    top, rate, steps = vectors[:, 0], 0.5 / float(values[0]), 200
    weight = weight / weight.norm(dim=1, keepdim=True)
    start, synapse = tangent(weight, top), Dense(6, 4)
    for _ in range(steps):
        post = synapse.forward(weight, pre)
        assert rate * post.square().mean(dim=0).max() <= 1
        weight, _ = step(Oja(rate), synapse, weight, pre, post, None)
    factor = float((1 + rate * values[1]) / (1 + rate * values[0]))
    bound = start * factor**steps
    assert (bound < 1e-6).all()  # or the next line would say little
    assert (tangent(weight, top) <= bound + 1e-14).all()
    assert ((weight.norm(dim=1) - 1).abs() < 1e-11).all()


@pytest.mark.parametrize("seed", range(4))
def test_oja_on_a_stream_stays_as_near_as_its_rate_allows(seed: int) -> None:
    # Samples one at a time. Linearised about the axis, component k is an AR(1) process: its variance settles at
    # rate * lambda_1 * lambda_k / (2 (lambda_1 - lambda_k)), to first order in the rate. Ten times that is allowed.
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([4.0, 1.0, 1.0, 0.25], dtype=torch.float64)
    rate, synapse = 0.005, Dense(4, 1)
    weight = torch.full((1, 4), 0.5, dtype=torch.float64)
    for _ in range(2000):
        pre = torch.randn(1, 4, generator=generator, dtype=torch.float64) * values.sqrt()
        weight, _ = step(Oja(rate), synapse, weight, pre, synapse.forward(weight, pre), None)
    settled = float((rate * values[0] * values[1:] / (2 * (values[0] - values[1:]))).sum())
    axis = torch.eye(4, dtype=torch.float64)[0]
    assert float(tangent(weight, axis)) < math.sqrt(10 * settled)
    assert abs(float(weight.norm()) - 1) < 0.25


def test_a_row_of_length_one_on_an_eigenvector_is_at_rest() -> None:
    (pre,) = draw(7, (50, 4))
    _, vectors = axes_of(pre)
    weight = vectors.T.contiguous()
    change = change_of(Oja(1.0), weight, pre, pre @ weight.T)
    torch.testing.assert_close(change, torch.zeros_like(change), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("square", "returns"), [(0.98, True), (1.02, False)], ids=["inside", "outside"])
def test_oja_returns_from_just_inside_the_length_that_its_docstring_gives(square: float, returns: bool) -> None:
    pre = torch.tensor([[2.0]], dtype=torch.float64)  # lambda_1 = 4
    rate, synapse = 0.2, Dense(1, 1)
    weight = torch.tensor([[math.sqrt(square * (1 + 2 / (rate * 4)))]], dtype=torch.float64)
    with contextlib.nullcontext() if returns else pytest.raises(ValueError, match="if the weights have diverged"):
        for _ in range(200):
            weight, _ = step(Oja(rate), synapse, weight, pre, synapse.forward(weight, pre), None)
    assert (abs(float(weight.abs()) - 1) < 1e-6) == returns


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("rule", [Hebb(0.1), Oja(0.1)], ids=str)
def test_nothing_of_size_batch_by_units_by_inputs_is_built(rule: LocalRule) -> None:
    batch, inputs, units = 64, 32, 16
    weight, pre, post = draw(8, (units, inputs), (batch, inputs), (batch, units))
    with Largest() as largest:
        change_of(rule, weight, pre, post)
    assert 0 < largest.elements <= max(batch * inputs, batch * units, units * inputs)


@pytest.mark.parametrize("rule", [Hebb, Oja])
@pytest.mark.parametrize(
    ("rate", "error"),
    [(math.nan, ValueError), (math.inf, ValueError), (True, TypeError), ("0.1", TypeError), (None, TypeError)],
)
def test_a_rate_that_is_no_finite_number_is_refused(rule, rate, error) -> None:
    with pytest.raises(error, match=rf"`{rule.__name__}` was given rate=.*; a finite number .*is wanted\. Pass"):
        rule(rate)


def test_oja_refuses_a_negative_rate_and_hebb_does_not() -> None:
    with pytest.raises(ValueError, match=r"rate=-0\.1; a finite number of at least 0 is wanted"):
        Oja(-0.1)
    assert Hebb(-0.1).rate == -0.1


def test_a_misspelt_setting_fails_at_once() -> None:
    with pytest.raises(TypeError, match="lr"):
        Hebb(lr=0.1)  # type: ignore[call-arg]
