"""Rules that follow samples through time, against slow references: spike by spike, and outcome by outcome."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from hebbian import (
    Conv2d,
    Dense,
    Hebb,
    LocalRule,
    PairSTDP,
    RewardModulated,
    ThreeFactor,
    TripletSTDP,
    forget,
    step,
)
from tests.hebbian.test_hebbian_rules import Largest


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def spikes(seed: int, chance: float, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) < chance).double()


def run(rule: LocalRule, pre: Tensor, post: Tensor) -> Tensor:
    """The weight after all steps of pre (T, B, inputs) and post (T, B, units), begun at zero."""
    synapse = Dense(pre.shape[2], post.shape[2])
    weight = torch.zeros(synapse.weight_shape, dtype=pre.dtype)
    state = rule.init_state(synapse, weight)
    for before, after in zip(pre, post, strict=True):
        weight, state = step(rule, synapse, weight, before, after, state)
    return weight


def times(train: Tensor) -> list[int]:
    return train.nonzero()[:, 0].tolist()


def pairs(pre: list[int], post: list[int], rule: PairSTDP) -> float:
    """Every pair of spikes, one after the other."""
    total = 0.0
    for before, after in itertools.product(pre, post):
        gap = (after - before) * rule.dt
        if gap > 0:
            total += rule.plus * math.exp(-gap / rule.tau_plus)
        elif gap < 0:
            total -= rule.minus * math.exp(gap / rule.tau_minus)
    return rule.rate * total


def triplets(pre: list[int], post: list[int], rule: TripletSTDP) -> float:
    """Every pair and triplet of spikes, by its times, with no trace."""

    def left(train: list[int], now: int, tau: float) -> float:
        return sum(math.exp(-(now - then) * rule.dt / tau) for then in train if then < now)

    grown = sum(
        left(pre, now, rule.tau_plus) * (rule.plus + rule.plus_triplet * left(post, now, rule.tau_y)) for now in post
    )
    lost = sum(
        left(post, now, rule.tau_minus) * (rule.minus + rule.minus_triplet * left(pre, now, rule.tau_x)) for now in pre
    )
    return rule.rate * (grown - lost)


PAIR = PairSTDP(0.3, plus=1.1, minus=0.9, tau_plus=7.0, tau_minus=13.0, dt=0.5)
TRIPLET = TripletSTDP(
    0.3, plus=1.1, minus=0.9, plus_triplet=0.7, minus_triplet=0.4, tau_plus=7.0, tau_minus=13.0, tau_x=17.0, tau_y=23.0
)


@pytest.mark.parametrize(("rule", "reference"), [(PAIR, pairs), (TRIPLET, triplets)], ids=["pair", "triplet"])
def test_spikes_give_what_they_give_event_by_event(rule, reference) -> None:
    pre, post = spikes(0, 0.2, 60, 3, 4), spikes(1, 0.3, 60, 3, 2)  # simultaneous spikes included
    found = run(rule, pre, post)
    for i, j in itertools.product(range(2), range(4)):
        each = [reference(times(pre[:, b, j]), times(post[:, b, i]), rule) for b in range(3)]
        assert found[i, j].item() == pytest.approx(sum(each) / 3, rel=1e-12)
    assert found.abs().min() > 1e-3


def test_a_triplet_rule_without_triplets_is_the_pair_rule() -> None:
    pre, post = spikes(2, 0.2, 40, 2, 3), spikes(3, 0.3, 40, 2, 3)
    pair = PairSTDP(0.3, plus=1.1, minus=0.9, tau_plus=7.0, tau_minus=13.0)
    triplet = TripletSTDP(0.3, plus=1.1, minus=0.9, plus_triplet=0.0, minus_triplet=0.0, tau_plus=7.0, tau_minus=13.0)
    torch.testing.assert_close(run(triplet, pre, post), run(pair, pre, post), rtol=1e-13, atol=1e-13)


PROTOCOLS = [(gap, every) for gap in (10, -10) for every in (500, 20)]


def pairing(rule: LocalRule, count: int = 12) -> list[float]:
    """The change by pairs of spikes, for each gap from pre to post and each time from pair to pair, both in ms."""
    pre, post = (torch.zeros(2, count * 500 + 50, 1, len(PROTOCOLS), dtype=torch.float64)).unbind(0)
    for k, (gap, every) in enumerate(PROTOCOLS):
        for pair in range(count):
            pre[20 + pair * every, 0, k] = 1
            post[20 + pair * every + gap, 0, k] = 1
    return run(rule, pre, post).diagonal().tolist()


def test_the_published_constants_give_the_frequency_dependence_of_cortical_pairing() -> None:
    # Sjoestroem et al. (2001): pre before post hardly strengthens at low frequencies and does at 50 a second; post before
    # pre weakens at low frequencies and strengthens at high ones. Pairs alone cannot turn the second sign.
    before_slow, before_fast, after_slow, after_fast = pairing(TripletSTDP(1.0))
    assert abs(before_slow) < 0.1 * before_fast
    assert after_slow < -0.02
    assert after_fast > 0.02
    before_slow, _, after_slow, after_fast = pairing(
        PairSTDP(1.0, plus=4.6e-3, minus=3e-3, tau_plus=16.8, tau_minus=33.7)
    )
    assert before_slow > 0 > after_slow
    assert after_fast < 0


def test_rates_give_the_mean_change_of_independent_spikes() -> None:
    # A pair of different steps multiplies independent spikes, so the mean over trains is the change of the mean trains.
    rates_pre, rates_post = torch.rand(2, 12, 1, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64) / 2
    many = 40_000
    pre = (
        torch.rand(12, many, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64) < rates_pre
    ).double()
    post = (
        torch.rand(12, many, 1, generator=torch.Generator().manual_seed(6), dtype=torch.float64) < rates_post
    ).double()
    by_rates, by_spikes = run(PAIR, rates_pre, rates_post).item(), run(PAIR, pre, post).item()
    # the standard deviation of one train's change is below 1 here; five standard errors
    assert by_spikes == pytest.approx(by_rates, abs=5 / math.sqrt(many))
    assert abs(by_rates) > 0.03


def test_forgetting_begins_anew() -> None:
    pre, post = spikes(7, 0.4, 20, 2, 3), spikes(8, 0.4, 20, 2, 2)
    synapse, weight = Dense(3, 2), torch.zeros(2, 3, dtype=torch.float64)
    state = PAIR.init_state(synapse, weight)
    for before, after in zip(pre, post, strict=True):
        weight, state = step(PAIR, synapse, weight, before, after, state)
    other, _ = step(PAIR, synapse, weight, post[0].new_ones(5, 3), post[0].new_ones(5, 2), forget(state))
    torch.testing.assert_close(other, weight, rtol=0, atol=0)


# --- eligibilities


def test_a_third_factor_meets_the_eligibility_of_its_sample() -> None:
    pre, post, factor = draw(0, (6, 4, 3), (6, 4, 2), (6, 4))
    rule, synapse = ThreeFactor(0.2, decay=0.6), Dense(3, 2)
    weight = torch.zeros(2, 3, dtype=torch.float64)
    state, wanted = rule.init_state(synapse, weight), torch.zeros(2, 3, dtype=torch.float64)
    for t in range(6):
        weight, state = step(rule, synapse, weight, pre[t], post[t], state, factor[t])
        for b, past in itertools.product(range(4), range(t + 1)):
            wanted += 0.2 / 4 * factor[t, b] * 0.6 ** (t - past) * torch.outer(post[past, b], pre[past, b])
    torch.testing.assert_close(weight, wanted, rtol=1e-12, atol=1e-14)


def test_one_factor_for_all_needs_one_eligibility_and_gives_the_same() -> None:
    pre, post = draw(1, (6, 4, 3), (6, 4, 2))
    synapse, weights = Dense(3, 2), [torch.zeros(2, 3, dtype=torch.float64) for _ in range(2)]
    rules = ThreeFactor(0.2, decay=0.6), ThreeFactor(0.2, decay=0.6, shared=True)
    states = [rule.init_state(synapse, weights[0]) for rule in rules]
    for t in range(6):
        factor = torch.tensor(math.sin(t), dtype=torch.float64)
        for k, signal in enumerate((factor.expand(4), factor)):
            weights[k], states[k] = step(rules[k], synapse, weights[k], pre[t], post[t], states[k], signal)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-12, atol=1e-14)
    assert states[1].samples is None
    assert states[1].shared.shape == (2, 3)


def test_without_decay_a_factor_weighs_the_samples_of_hebb() -> None:
    pre, post, factor = draw(2, (4, 3), (4, 2), (4,))
    synapse, weight = Dense(3, 2), torch.zeros(2, 3, dtype=torch.float64)
    found, state = step(ThreeFactor(0.2), synapse, weight, pre, post, None, factor)
    wanted, _ = step(Hebb(0.2), synapse, weight, pre, factor[:, None] * post, None)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert state is None


@pytest.mark.parametrize("rule", [ThreeFactor(0.1), RewardModulated(0.1), PairSTDP(0.1), TripletSTDP(0.1)], ids=str)
def test_without_rewards_of_their_own_over_time_no_change_a_sample_is_built(rule: LocalRule) -> None:
    batch, inputs, units = 64, 32, 16
    pre, post, factor = draw(8, (batch, inputs), (batch, units), (batch,))
    synapse, weight = Dense(inputs, units), torch.zeros(units, inputs, dtype=torch.float64)
    state = rule.init_state(synapse, weight)
    with Largest() as largest:
        for _ in range(2):
            weight, state = step(rule, synapse, weight, pre, post, state, factor if rule.signal else None)
    assert 0 < largest.elements <= max(batch * inputs, batch * units, units * inputs)


@pytest.mark.parametrize("batch", [0, 3])
def test_a_change_a_sample_is_the_change_of_the_sample_alone(batch: int) -> None:
    for synapse, pre_shape in ((Dense(4, 3), (4,)), (Conv2d(2, 3, 3, padding=1), (2, 5, 6))):
        (pre,) = draw(9, (batch, *pre_shape))
        (weight,) = draw(10, tuple(synapse.weight_shape))
        post = synapse.forward(weight, pre)
        each = synapse.outer_each(post, pre)
        assert tuple(each.shape) == (batch, *synapse.weight_shape)
        for b in range(batch):
            torch.testing.assert_close(each[b], synapse.outer(post[b : b + 1], pre[b : b + 1]), rtol=1e-12, atol=1e-14)


# --- rewards


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_the_expected_change_of_bernoulli_units_is_the_gradient_of_the_expected_reward(baseline: float) -> None:
    weight, x, value = draw(3, (3, 4), (4,), (3, 3))
    synapse, rule = Dense(4, 3), RewardModulated(1.0)
    state = {"reward": torch.tensor(baseline, dtype=torch.float64)}

    def reward(y: Tensor) -> Tensor:
        return y @ value @ y + y.sum().sin()

    outcomes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    w = weight.clone().requires_grad_()
    chance = (w @ x).sigmoid()
    likelihood = torch.where(outcomes > 0, chance, 1 - chance).prod(1)
    rewards = torch.stack([reward(y) for y in outcomes])
    (gradient,) = torch.autograd.grad(likelihood @ rewards, w)
    expected = torch.zeros_like(weight)
    for y, p, r in zip(outcomes, likelihood.detach(), rewards, strict=True):
        change, _ = rule.delta(
            rule.statistics(synapse, x[None], (y - chance.detach())[None], state, r[None]), weight, state
        )
        expected += p * change
    torch.testing.assert_close(expected, gradient, rtol=1e-11, atol=1e-13)


def test_the_expected_change_of_gaussian_units_is_the_gradient_of_the_expected_reward() -> None:
    # r(y) = -(y - a)^2 with y = w x + sigma n: E r = -(w x - a)^2 - sigma^2. Five Gauss-Hermite nodes are exact here.
    import numpy as np

    nodes, masses = np.polynomial.hermite_e.hermegauss(5)
    nodes, masses = torch.tensor(nodes), torch.tensor(masses / masses.sum())
    w, x, a, sigma = 0.7, 1.3, -0.4, 0.5
    noise = sigma * nodes[:, None]
    reward = -((w * x + noise[:, 0] - a) ** 2)
    rule, synapse = RewardModulated(1 / sigma**2), Dense(1, 1)
    state = rule.init_state(synapse, torch.zeros(1, 1, dtype=torch.float64))
    expected = 0.0
    for k in range(5):
        statistics = rule.statistics(
            synapse, torch.full((1, 1), x, dtype=torch.float64), noise[k : k + 1], state, reward[k : k + 1]
        )
        expected += masses[k] * rule.delta(statistics, torch.zeros(1, 1, dtype=torch.float64), state)[0].item()
    assert float(expected) == pytest.approx(-2 * (w * x - a) * x, rel=1e-12)


def test_the_baseline_follows_the_mean_reward_and_takes_it_out() -> None:
    pre, post, reward = draw(4, (5, 3), (5, 2), (5,))
    rule, synapse = RewardModulated(0.3, tracking=0.25), Dense(3, 2)
    weight = torch.zeros(2, 3, dtype=torch.float64)
    state, mean = rule.init_state(synapse, weight), 0.0
    for _ in range(3):
        new, state = step(rule, synapse, weight, pre, post, state, reward)
        wanted = 0.3 / 5 * sum((reward[b] - mean) * torch.outer(post[b], pre[b]) for b in range(5))
        torch.testing.assert_close(new - weight, wanted, rtol=1e-12, atol=1e-13)
        mean, weight = mean + 0.25 * (reward.mean().item() - mean), new
        assert state["reward"].item() == pytest.approx(mean, rel=1e-13)


def test_a_centred_rule_takes_out_the_running_mean_of_each_unit() -> None:
    pre, post, reward = draw(5, (5, 3), (5, 2), (5,))
    rule, synapse = RewardModulated(0.3, tracking=0.5, centred=True), Dense(3, 2)
    weight = torch.zeros(2, 3, dtype=torch.float64)
    _, state = step(rule, synapse, weight, pre, post, rule.init_state(synapse, weight), reward)
    torch.testing.assert_close(state["post"], 0.5 * post.mean(0), rtol=1e-13, atol=1e-14)
    found, _ = step(rule, synapse, weight, pre, post, state, reward)
    wanted, _ = step(
        RewardModulated(0.3), synapse, weight, pre, post - state["post"], {"reward": state["reward"]}, reward
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_a_baseline_in_a_convolution_is_the_mean_over_samples_not_places() -> None:
    synapse = Conv2d(2, 3, 3, padding=0)
    pre, weight = draw(6, (4, 2, 5, 6), tuple(synapse.weight_shape))
    reward = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    rule = RewardModulated(0.1, tracking=1.0)
    _, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), rule.init_state(synapse, weight), reward)
    assert state["reward"].item() == 3.0


# --- what is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ThreeFactor(0.1, decay=1.0), ValueError, r"decay=1\.0; a number from 0 to below 1 is wanted"),
        (lambda: ThreeFactor(0.1, decay=-0.1), ValueError, r"decay=-0\.1; a finite number of at least 0"),
        (lambda: RewardModulated(0.1, tracking=1.5), ValueError, r"tracking=1\.5; a number from 0 to 1 is wanted"),
        (lambda: PairSTDP(0.1, tau_plus=0.0), ValueError, r"tau_plus=0\.0; a number above 0 is wanted"),
        (lambda: PairSTDP(0.1, plus="1"), TypeError, "plus='1'; a finite number is wanted"),
        (lambda: TripletSTDP(0.1, tau_y=-1.0), ValueError, r"tau_y=-1\.0"),
        (lambda: TripletSTDP(0.1, plus_triplet=math.nan), ValueError, "plus_triplet=nan"),
    ],
)
def test_settings_out_of_range_are_refused(make, error, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_factors_of_another_shape_are_refused() -> None:
    pre, post = torch.ones(4, 3), torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"shape \(4, 2\); `ThreeFactor` wants one number a sample, \(4,\)"):
        ThreeFactor(0.1).statistics(Dense(3, 2), pre, post, None, torch.ones(4, 2))
    rule, state = RewardModulated(0.1), {"reward": torch.zeros(())}
    with pytest.raises(ValueError, match=r"shape \(\); `RewardModulated` wants one .*`signal.expand\(4\)`"):
        rule.statistics(Dense(3, 2), pre, post, state, torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"shape \(4,\); `ThreeFactor\(shared=True\)` wants one number"):
        ThreeFactor(0.1, shared=True).statistics(Dense(3, 2), pre, post, None, torch.ones(4))
