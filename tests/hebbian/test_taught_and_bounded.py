"""Rules with a teacher, constraints, and rules made of rules, each against a closed form or a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hebbian import (
    Chain,
    Contrastive,
    Conv2d,
    Delta,
    Dense,
    Falling,
    Gated,
    Hebb,
    LocalRule,
    Normalise,
    NormalisedDelta,
    Oja,
    PairSTDP,
    Scheduled,
    SignConstraint,
    ThreeFactor,
    WeightDecay,
    step,
)
from tests.hebbian.test_hebbian_contract import convolution_case


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def stepped(rule: LocalRule, weight: Tensor, pre: Tensor, post: Tensor, signal: Tensor | None = None) -> Tensor:
    synapse = Dense(weight.shape[1], weight.shape[0])
    return step(rule, synapse, weight, pre, post, rule.init_state(synapse, weight), signal)[0]


# --- the delta rules


def test_delta_goes_to_least_squares() -> None:
    pre, target = draw(0, (30, 4), (30, 2))
    weight = torch.zeros(2, 4, dtype=torch.float64)
    rate = 1.0 / float(torch.linalg.eigvalsh(pre.T @ pre / 30)[-1])
    for _ in range(600):
        weight = stepped(Delta(rate), weight, pre, pre @ weight.T, target)
    torch.testing.assert_close(weight, torch.linalg.lstsq(pre, target).solution.T, rtol=1e-9, atol=1e-9)


def test_delta_is_minus_the_gradient_of_half_the_mean_squared_error_convolutions_included() -> None:
    case = convolution_case(padding=1)
    (target,) = draw(1, tuple(case.post.shape))
    weight = case.weight.clone().requires_grad_()
    loss = 0.5 * (target - case.synapse.forward(weight, case.pre)).square().sum(1).mean()
    (gradient,) = torch.autograd.grad(loss, weight)
    found, _ = step(Delta(1.0), case.synapse, case.weight, case.pre, case.post, None, target)
    torch.testing.assert_close(found - case.weight, -gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1.0, 1e100])
def test_one_normalised_step_fits_one_sample_exactly(scale: float) -> None:
    weight, pre, target = draw(2, (3, 5), (1, 5), (1, 3))
    pre = pre * scale
    weight = weight / scale
    new = stepped(NormalisedDelta(1.0), weight, pre, pre @ weight.T, target)
    torch.testing.assert_close(pre @ new.T, target, rtol=1e-10, atol=1e-12)


def test_each_sample_is_divided_by_its_own_length() -> None:
    weight, pre, target = draw(3, (3, 5), (4, 5), (4, 3))
    pre = pre * torch.tensor([[1e-3], [1.0], [10.0], [0.0]], dtype=torch.float64)
    wanted = weight.clone()
    for b in range(3):
        gap = target[b] - weight @ pre[b]
        wanted += 0.5 / 4 * torch.outer(gap, pre[b]) / (pre[b] @ pre[b] + 0.1)
    found = stepped(NormalisedDelta(0.5, epsilon=0.1), weight, pre, pre @ weight.T, target)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    silent = stepped(NormalisedDelta(1.0), weight, pre[3:], pre[3:] @ weight.T, target[3:])
    assert torch.equal(silent, weight)


@pytest.mark.parametrize("scale", [1e-24, 1e-12, 1.0, 1e25])
@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_silent_inputs_with_large_errors_change_nothing_whatever_the_scale_of_the_others(
    scale: float, epsilon: float
) -> None:
    pre = scale * torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    target = torch.tensor([[5.0], [1e4]])
    rule, synapse = NormalisedDelta(1.0, epsilon), Dense(2, 1)
    change, _ = rule.delta(rule.statistics(synapse, pre, torch.zeros(2, 1), None, target), torch.zeros(1, 2), None)
    wide = pre[:1].double()
    wanted = 5 * wide / (epsilon + wide.square().sum()) / 2
    torch.testing.assert_close(change.double(), wanted, rtol=1e-5, atol=0)


def test_blank_patches_beside_written_ones_change_nothing() -> None:
    synapse, rule = Conv2d(1, 2, 3), NormalisedDelta(1.0)
    pre = torch.zeros(1, 1, 6, 6)
    pre[..., :3, :3] = torch.arange(1.0, 10).view(3, 3)
    post = synapse.forward(torch.zeros(synapse.weight_shape), pre)
    found = step(rule, synapse, torch.zeros(synapse.weight_shape), pre, post, None, 100 + post)[0]
    patches = functional.unfold(pre.double(), 3)[0].T
    square = patches.square().sum(1, keepdim=True)
    wanted = (100 * patches[square[:, 0] > 0] / square[square[:, 0] > 0]).sum(0) / len(patches)
    torch.testing.assert_close(found.flatten(1).double(), wanted.expand(2, 9), rtol=1e-5, atol=1e-6)


def test_a_convolution_divides_each_place_by_what_is_seen_there() -> None:
    synapse = Conv2d(2, 3, 3, padding=1)
    pre, weight = draw(4, (4, 2, 5, 6), tuple(synapse.weight_shape))
    post = synapse.forward(weight, pre)
    (target,) = draw(5, tuple(post.shape))
    patches = functional.unfold(pre, 3, padding=1).movedim(1, -1).flatten(0, 1)
    gaps = (target - post).flatten(2).movedim(1, -1).flatten(0, 1)
    wanted = 0.7 * (gaps / patches.square().sum(1, keepdim=True)).T @ patches / len(patches)
    found, _ = step(NormalisedDelta(0.7), synapse, weight, pre, post, None, target)
    torch.testing.assert_close((found - weight).flatten(1), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("rule", [Delta(0.1), NormalisedDelta(0.1)], ids=str)
def test_a_teacher_of_another_shape_is_refused(rule: LocalRule) -> None:
    with pytest.raises(ValueError, match=rf"shape \(4,\); `{type(rule).__name__}` wants one number a unit, .*\(4, 2\)"):
        rule.statistics(Dense(3, 2), torch.ones(4, 3), torch.ones(4, 2), None, torch.ones(4))


# --- contrastive


def test_contrastive_is_the_difference_of_two_hebbian_terms() -> None:
    weight, x0, y0, x1, y1 = draw(6, (3, 5), (7, 5), (7, 3), (7, 5), (7, 3))
    rule, synapse = Contrastive(0.4), Dense(5, 3)
    found, _ = rule.delta(rule.phases(synapse, clamped=(x1, y1), free=(x0, y0)), weight, None)
    wanted = stepped(Hebb(0.4), weight, x1, y1) - stepped(Hebb(0.4), weight, x0, y0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    mixed = torch.tensor([1.0, -1.0]).repeat_interleave(7)
    together = stepped(rule, weight, torch.cat([x1, x0]), torch.cat([y1, y0]), mixed)
    torch.testing.assert_close(together - weight, wanted, rtol=1e-12, atol=1e-13)


def test_contrastive_is_at_rest_where_both_phases_agree() -> None:
    weight, x, y = draw(7, (3, 5), (7, 5), (7, 3))
    rule = Contrastive(0.4)
    assert not rule.delta(rule.phases(Dense(5, 3), clamped=(x, y), free=(x, y)), weight, None)[0].any()


def test_phases_that_do_not_fit_are_refused() -> None:
    x, y = torch.ones(3, 5), torch.ones(3, 2)
    with pytest.raises(ValueError, match="clamped phase holds 3 samples and the free one 2"):
        Contrastive(0.1).phases(Dense(5, 2), clamped=(x, y), free=(x[:2], y[:2]))
    with pytest.raises(ValueError, match=r"other numbers than \+1 \(clamped\) and -1"):
        Contrastive(0.1).statistics(Dense(5, 2), x, y, None, torch.tensor([1.0, -1.0, 0.0]))


# --- decay, norm, sign


def test_hebb_and_decay_rest_where_the_docstring_says() -> None:
    weight, pre, post = draw(8, (3, 5), (9, 5), (9, 3))
    rule = Chain(Hebb(0.2), WeightDecay(0.1))
    for _ in range(400):
        weight = stepped(rule, weight, pre, post)
    torch.testing.assert_close(0.1 * weight, 0.2 * 0.9 * post.T @ pre / 9, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e4])
def test_rows_are_scaled_to_their_norm(p: float, scale: float) -> None:
    (weight,) = draw(9, (3, 4, 2))
    weight = weight * scale
    weight[1] = 0
    synapse = Conv2d(4, 3, 2)
    rule = Normalise(2.5, p)
    statistics = rule.statistics(synapse, torch.ones(1, 4, 3, 3).double(), torch.ones(1, 3, 2, 2).double(), None)
    square = torch.stack([weight, 2 * weight], 3)
    new = square + rule.delta(statistics, square, None)[0]
    assert (new[1] == 0).all()
    for row, old in ((new[0], square[0]), (new[2], square[2])):
        assert torch.linalg.vector_norm(row.flatten(), p).item() == pytest.approx(2.5, rel=1e-9)
        torch.testing.assert_close(
            functional.cosine_similarity((row / 2.5).flatten(), old.flatten() / scale, dim=0).item(), 1.0
        )


def test_normalised_hebb_is_oja_to_first_order_in_the_rate() -> None:
    weight, pre = draw(10, (2, 4), (20, 4))
    weight = weight / weight.norm(dim=1, keepdim=True)
    post = pre @ weight.T
    gaps = []
    for rate in (1e-2, 1e-3):
        constrained = stepped(Chain(Hebb(rate), Normalise()), weight, pre, post)
        gaps.append(float((constrained - stepped(Oja(rate), weight, pre, post)).abs().max()))
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.1)  # second order


def test_dale_weights_of_the_wrong_sign_become_zero_and_no_others_move() -> None:
    (weight,) = draw(11, (4, 3))
    x, y = torch.ones(1, 3).double(), torch.ones(1, 4).double()
    new = stepped(SignConstraint((1, -1, 0)), weight, x, y)
    assert torch.equal(new[:, 0], weight[:, 0].clamp_min(0))
    assert torch.equal(new[:, 1], weight[:, 1].clamp_max(0))
    assert torch.equal(new[:, 2], weight[:, 2])
    assert torch.equal(stepped(SignConstraint(-1), weight, x, y), weight.clamp_max(0))
    kernel = weight[:, :, None, None].expand(4, 3, 2, 2).contiguous()
    synapse = Conv2d(3, 4, 2)
    found, _ = step(
        SignConstraint((1, -1, 0)),
        synapse,
        kernel,
        torch.ones(1, 3, 2, 2).double(),
        torch.ones(1, 4, 1, 1).double(),
        None,
    )
    assert torch.equal(found, new[:, :, None, None].expand_as(kernel))


def test_a_chain_that_ends_in_a_sign_keeps_it_in_every_step() -> None:
    weight, pre = draw(12, (4, 3), (30, 3))
    rule = Chain(Oja(0.2), SignConstraint((1, 1, -1)))
    for _ in range(40):
        weight = stepped(rule, weight, pre, pre @ weight.T)
        assert (weight[:, :2] >= 0).all()
        assert (weight[:, 2] <= 0).all()
    assert weight.any()


@pytest.mark.parametrize("signs", [2, (1, 2), (), "+", (1, "-")])
def test_other_signs_are_refused(signs) -> None:
    with pytest.raises(ValueError, match=r"`SignConstraint` was given signs=.*\+1, -1 or 0 is wanted"):
        SignConstraint(signs)


def test_signs_of_another_count_are_refused() -> None:
    with pytest.raises(ValueError, match="has 2 signs and the weight 3 inputs"):
        stepped(SignConstraint((1, -1)), torch.ones(2, 3), torch.ones(1, 3), torch.ones(1, 2))


@pytest.mark.parametrize("make", [lambda: WeightDecay(1.1), lambda: Normalise(0.0), lambda: Normalise(p=0.5)])
def test_settings_out_of_range_are_refused(make) -> None:
    with pytest.raises(ValueError, match="is wanted"):
        make()


# --- chains, gates, schedules


def test_a_chain_applies_its_rules_in_a_row() -> None:
    weight, pre, post = draw(13, (3, 5), (9, 5), (9, 3))
    rules = Oja(0.1), WeightDecay(0.3), Normalise()
    found, wanted = stepped(Chain(*rules), weight, pre, post), weight
    for rule in rules:
        wanted = stepped(rule, wanted, pre, post)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    assert (found - stepped(Chain(*rules[::-1]), weight, pre, post)).abs().max() > 1e-2  # the order counts


def test_a_chain_of_rules_with_one_signal_gives_it_to_those_that_take_it() -> None:
    weight, pre, post, target = draw(14, (3, 5), (9, 5), (9, 3), (9, 3))
    found = stepped(Chain(Hebb(0.1), Delta(0.2)), weight, pre, post, target)
    wanted = stepped(Hebb(0.1), weight, pre, post) + stepped(Delta(0.2), weight, pre, post, target) - weight
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Chain(), ValueError, "was given no rule"),
        (lambda: Chain(Hebb(0.1), "oja"), TypeError, "was given a str as its rule; local rules"),
        (lambda: Chain(Delta(0.1), ThreeFactor(0.1)), ValueError, "different signals .*; one is wanted"),
        (lambda: Gated(Delta(0.1)), ValueError, "no gate and `Delta`, which wants the signal"),
        (lambda: Gated("x"), TypeError, "a str as its rule; a local rule"),
        (lambda: Gated(Hebb(0.1), gate=0.5), TypeError, r"gate=0\.5; a function"),
        (lambda: Scheduled(Hebb(0.1), 0.5), TypeError, r"schedule=0\.5; a function"),
        (lambda: Scheduled(0.5, Falling(1)), TypeError, "a float as its rule; a local rule"),
        (lambda: Falling(0), ValueError, "steps=0; a number above 0"),
        (lambda: Falling(3, floor=2.0), ValueError, r"floor=2\.0; a number from 0 to 1"),
    ],
)
def test_rules_that_cannot_be_put_together_are_refused(make, error, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_chain_refuses_the_state_of_another() -> None:
    with pytest.raises(ValueError, match="was given a NoneType as its state; a tuple of 2 is wanted"):
        Chain(Hebb(0.1), Oja(0.1)).statistics(Dense(3, 2), torch.ones(4, 3), torch.ones(4, 2), None)


@pytest.mark.parametrize("by", ["signal", "function"])
def test_closed_samples_are_as_if_they_had_not_been_there(by: str) -> None:
    weight, pre, post = draw(15, (3, 5), (9, 5), (9, 3))
    gate = post[:, 0] > 0
    if by == "signal":
        found = stepped(Gated(Oja(0.1)), weight, pre, post, gate.double())
    else:
        found = stepped(Gated(Oja(0.1), lambda pre, post: post[:, 0] > 0), weight, pre, post)
    torch.testing.assert_close(found, stepped(Oja(0.1), weight, pre[gate], post[gate]), rtol=1e-12, atol=1e-13)
    assert 0 < int(gate.sum()) < 9


def test_a_gate_counts_places_too() -> None:
    case = convolution_case(padding=0)
    gate = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    found, _ = step(Gated(Oja(0.1)), case.synapse, case.weight, case.pre, case.post, None, gate)
    wanted, _ = step(Oja(0.1), case.synapse, case.weight, case.pre[gate > 0], case.post[gate > 0], None)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


def test_where_no_gate_is_open_nothing_moves() -> None:
    weight, pre, post = draw(16, (3, 5), (9, 5), (9, 3))
    rule = Gated(Scheduled(Oja(0.1), Falling(10)))
    state = rule.init_state(Dense(5, 3), weight)
    new, after = step(rule, Dense(5, 3), weight, pre, post, state, torch.zeros(9))
    assert torch.equal(new, weight)
    assert after.step == 0


def test_closed_samples_keep_their_traces() -> None:
    pre, post = torch.ones(2, 3).double(), torch.ones(2, 2).double()
    rule, synapse, weight = Gated(PairSTDP(0.1)), Dense(3, 2), torch.zeros(2, 3).double()
    state = rule.init_state(synapse, weight)
    weight, state = step(rule, synapse, weight, pre, post, state, torch.tensor([1.0, 0.0]))
    assert state.samples["pre"][:, 0].tolist() == [1.0, 0.0]
    weight, state = step(rule, synapse, weight, pre, post, state, torch.tensor([0.0, 1.0]))
    assert state.samples["pre"][:, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "gate", [lambda x, y: y > 0, lambda x, y: y[:, 0], lambda x, y: True], ids=["units", "floats", "bool"]
)
def test_a_gate_that_is_not_one_bool_a_sample_is_refused(gate) -> None:
    with pytest.raises(ValueError, match=r"The gate of `Gated` returned .*; one bool a sample is wanted, \(4,\)"):
        Gated(Hebb(0.1), gate).statistics(Dense(3, 2), torch.ones(4, 3), torch.ones(4, 2), None)


def test_a_schedule_multiplies_the_rate_of_each_step() -> None:
    weight, pre = draw(17, (3, 5), (9, 5))
    rule, synapse = Scheduled(Oja(0.2), lambda t: 1 / (1 + t) ** 2), Dense(5, 3)
    state, wanted = rule.init_state(synapse, weight), weight
    for t in range(4):
        weight, state = step(rule, synapse, weight, pre, pre @ weight.T, state)
        wanted = stepped(Oja(0.2 / (1 + t) ** 2), wanted, pre, pre @ wanted.T)
        torch.testing.assert_close(weight, wanted, rtol=1e-12, atol=1e-13)


def test_a_falling_schedule_ends_at_its_floor() -> None:
    falling = Falling(4, floor=0.1)
    assert [round(float(falling(torch.tensor(float(t)))), 3) for t in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.1, 0.1]
    assert falling(7) == 0.1
