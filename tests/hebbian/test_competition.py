"""Rules in which units compete: loops over samples, k-means, and the lengths that rows are drawn to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hebbian import (
    Chain,
    Conv2d,
    Dense,
    Falling,
    Instar,
    KrotovHopfield,
    Normalise,
    Scheduled,
    SoftCompetition,
    SoftHebb,
    WinnerTakeAll,
    step,
)
from hebbian.testing import Case, check_rule


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


def change_of(rule, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    synapse = Dense(weight.shape[1], weight.shape[0])
    state = rule.init_state(synapse, weight)
    return rule.delta(rule.statistics(synapse, pre, post, state), weight, state)[0]


def ranked(currents: Tensor) -> list[int]:
    return sorted(range(len(currents)), key=lambda k: -float(currents[k]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("units", [5, 80])  # of 80 at most 18 change, and only they are computed
def test_krotov_hopfield_by_a_loop(seed: int, units: int) -> None:
    weight, pre = draw(seed, (units, 4), (9, 4))
    for p, k in ((2.0, 2), (3.0, 3)):
        rule = KrotovHopfield(0.1, p=p, k=k, anti=0.3, radius=1.2)
        currents = pre @ rule.weighed(weight).T
        wanted = torch.zeros_like(weight)
        for x, current in zip(pre, currents, strict=True):
            order = ranked(current)
            for unit, gate in ((order[0], 1.0), (order[k - 1], -0.3)):
                wanted[unit] += gate * (1.2**p * x - current[unit] * weight[unit])
        torch.testing.assert_close(change_of(rule, weight, pre, currents), 0.1 * wanted / wanted.abs().max())


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_krotov_hopfield_draws_rows_to_their_norm(p: float) -> None:
    source = torch.Generator().manual_seed(0)
    pre = torch.rand(300, 8, generator=source, dtype=torch.float64)
    weight = torch.rand(4, 8, generator=source, dtype=torch.float64)
    rule = Scheduled(KrotovHopfield(0.02, p=p, anti=0.0), Falling(1500))
    plain, synapse = KrotovHopfield(p=p), Dense(8, 4)
    state = rule.init_state(synapse, weight)
    for _ in range(1500):
        weight, state = step(rule, synapse, weight, pre, synapse.forward(plain.weighed(weight), pre), state)
    learned = pre @ plain.weighed(weight).T
    winners = learned.argmax(1).unique()
    assert len(winners) >= 1
    torch.testing.assert_close(
        (weight.abs() ** p).sum(1)[winners], torch.ones(len(winners), dtype=torch.float64), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("anti", [False, True])
def test_soft_hebb_by_a_loop(seed: int, anti: bool) -> None:
    weight, pre = draw(seed, (5, 4), (9, 4))
    drives = pre @ weight.T
    wanted = torch.zeros_like(weight)
    for x, u in zip(pre, drives, strict=True):
        y = torch.softmax(u / 0.7, 0)
        for k in range(5):
            sign = -1 if anti and k != int(u.argmax()) else 1
            wanted[k] += sign * y[k] * (x - u[k] * weight[k]) / 9
    torch.testing.assert_close(change_of(SoftHebb(0.2, 0.7, anti, scaled=False), weight, pre, drives), 0.2 * wanted)
    rates = (weight.norm(dim=1) - 1).abs().sqrt()[:, None]
    torch.testing.assert_close(
        change_of(SoftHebb(0.2, 0.7, anti, adaptive=0.5, scaled=False), weight, pre, drives), 0.2 * rates * wanted
    )
    scaled = change_of(SoftHebb(0.2, 0.7, anti), weight, pre, drives)
    torch.testing.assert_close(scaled, 0.2 * wanted / wanted.abs().max())


@pytest.mark.parametrize("anti", [False, True])
def test_soft_hebb_of_a_batch_that_is_taken_in_parts(anti: bool) -> None:
    (pre,) = draw(8, (7, 2, 40, 40))
    synapse, rule = Conv2d(2, 40, 3), SoftHebb(0.1, 0.5, anti)
    weight = draw(9, synapse.weight_shape)[0]
    drives = synapse.forward(weight, pre)  # 57,760 numbers a sample: four samples make a part
    sums = rule.statistics(synapse, pre, drives, None).sums
    signed = torch.softmax(drives / 0.5, 1)
    if anti:
        signed = torch.where(drives == drives.amax(1, keepdim=True), signed, -signed)
    torch.testing.assert_close(sums["outer"], synapse.outer(signed, pre))
    torch.testing.assert_close(sums["drive"], (signed * drives).sum((0, 2, 3)))


def test_every_one_of_equal_winners_learns_and_a_loser_far_behind_has_no_share() -> None:
    drives = torch.tensor([[3.0, 3.0, -500.0]], dtype=torch.float64)
    outer = SoftHebb(0.1).statistics(Dense(1, 3), torch.ones_like(drives[:, :1]), drives, None).sums["outer"]
    torch.testing.assert_close(outer[:, 0], torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("adaptive", [0.0, 0.5])
def test_soft_hebb_draws_rows_to_length_one(adaptive: float) -> None:
    source = torch.Generator().manual_seed(0)
    pre = torch.rand(200, 6, generator=source, dtype=torch.float64)
    weight = 2 * torch.rand(4, 6, generator=source, dtype=torch.float64)
    synapse, rule = Dense(6, 4), SoftHebb(0.3, 1.0, adaptive=adaptive, scaled=False)
    for _ in range(1500):
        weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-2, rtol=0)


def test_the_shares_of_soft_hebb_add_to_one_before_the_losers_turn() -> None:
    drive = draw(0, (6, 3))[0]
    ones = torch.ones(6, 1, dtype=torch.float64)
    sums = SoftHebb(0.1, anti=False).statistics(Dense(1, 3), ones, drive, None).sums
    torch.testing.assert_close(sums["outer"].sum(), torch.tensor(6.0, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
def test_the_winner_is_the_nearest_row_and_a_full_step_is_online_k_means(seed: int) -> None:
    weight, pre = draw(seed, (4, 3), (60, 3))
    nearest = torch.cdist(pre, weight).argmin(1)
    wanted = torch.zeros_like(weight)
    for x, unit in zip(pre, nearest.tolist(), strict=True):
        wanted[unit] += (x - weight[unit]) / 60
    torch.testing.assert_close(change_of(WinnerTakeAll(1.0), weight, pre, pre @ weight.T), wanted)


@pytest.mark.parametrize("units", [4, 80])  # of 80 at most 18 win, and only they are computed
@pytest.mark.parametrize("nearest", [False, True])
def test_winner_take_all_by_a_loop_and_the_lengths_it_remembers(units: int, nearest: bool) -> None:
    weight, pre = draw(0, (units, 3), (9, 3))
    wanted, synapse, rule = torch.zeros_like(weight), Dense(3, units), WinnerTakeAll(0.7, k=2, nearest=nearest)
    for x in pre:
        worth = weight @ x - 0.5 * nearest * weight.square().sum(1)
        for unit in ranked(worth)[:2]:
            wanted[unit] += 0.7 * (x - weight[unit]) / 9
    statistics = rule.statistics(synapse, pre, pre @ weight.T, rule.init_state(synapse, weight))
    change, state = rule.delta(statistics, weight, rule.init_state(synapse, weight))
    torch.testing.assert_close(change, wanted)
    if nearest:
        torch.testing.assert_close(state, (weight + wanted).square().sum(1) / 2)


@pytest.mark.parametrize("rule", [KrotovHopfield(0.1, k=3), WinnerTakeAll(0.1)], ids=str)
def test_workers_agree_with_one_batch_where_few_of_many_units_change(rule) -> None:
    weight, pre = draw(7, (600, 6), (64, 6))
    synapse, state = Dense(6, 600), rule.init_state(Dense(6, 600), weight)
    parts = [rule.statistics(synapse, x[None], x[None] @ weight.T, state) for x in pre]
    change, _ = rule.delta(sum(parts[1:], parts[0]), weight, state)
    whole, _ = rule.delta(rule.statistics(synapse, pre, pre @ weight.T, state), weight, state)
    torch.testing.assert_close(change, whole)
    still = whole.abs().sum(1) == 0
    assert 0 < int((~still).sum()) <= 128
    case = Case(synapse, weight, pre[:12], pre[:12] @ weight.T)
    check_rule(rule, case, quiet=isinstance(rule, KrotovHopfield))  # silence is an input that can be won


def test_a_geometry_with_a_product_of_its_own_keeps_it_where_few_units_are_active() -> None:
    class Halved(Dense):
        def outer(self, post: Tensor, pre: Tensor) -> Tensor:
            return 0.5 * super().outer(post, pre)

    winners = torch.tensor([[5, 2], [5, 31], [0, 5]])
    share, pre = draw(0, (3, 2), (3, 4))
    post = torch.zeros(3, 32, dtype=torch.float64).scatter_(1, winners, share)
    wanted = post.T @ pre
    torch.testing.assert_close(Dense(4, 32).outer_of_winners(winners, share, pre), wanted)
    torch.testing.assert_close(Halved(4, 32).outer_of_winners(winners, share, pre), 0.5 * wanted)
    torch.testing.assert_close(Dense(4, 32).outer_of_winners(winners, 0 * share, pre), 0 * wanted)
    torch.testing.assert_close(Dense(4, 32).over_winners(winners, share), post.sum(0))


def test_winner_take_all_comes_to_rest_where_k_means_does() -> None:
    centres = torch.tensor([[0.0, 4.0], [4.0, 0.0], [-3.0, -3.0]], dtype=torch.float64)
    noise = draw(0, (300, 2))[0]
    which = torch.arange(300) % 3
    pre = centres[which] + 0.3 * noise
    weight, synapse, rule = centres * 0.5, Dense(2, 3), WinnerTakeAll(0.5)
    state = rule.init_state(synapse, weight)
    for _ in range(200):
        weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
    means = torch.stack([pre[which == k].mean(0) for k in range(3)])
    torch.testing.assert_close(weight, means)


def test_plain_competition_is_drawn_to_long_rows() -> None:
    pre = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0], [5.0, 5.0]], dtype=torch.float64)
    assert change_of(WinnerTakeAll(1.0), weight, pre, pre @ weight.T)[1].abs().sum() == 0
    assert change_of(WinnerTakeAll(1.0, nearest=False), weight, pre, pre @ weight.T)[0].abs().sum() == 0


def test_several_winners_share() -> None:
    weight, pre = draw(1, (5, 3), (7, 3))
    drives = pre @ weight.T
    wanted = torch.zeros_like(weight)
    for x, u in zip(pre, drives, strict=True):
        for unit in ranked(u)[:2]:
            wanted[unit] += (x - weight[unit]) / 7
    torch.testing.assert_close(change_of(WinnerTakeAll(1.0, k=2, nearest=False), weight, pre, drives), wanted)


def test_soft_competition_hardens_as_the_temperature_falls() -> None:
    weight, pre = draw(2, (4, 3), (50, 3))
    drives = pre @ weight.T
    hard = change_of(WinnerTakeAll(0.3, nearest=False), weight, pre, drives)
    torch.testing.assert_close(change_of(SoftCompetition(0.3, 1e-4), weight, pre, drives), hard)
    shares = drives.softmax(1)
    soft = sum(torch.outer(z, x) - z[:, None] * weight for x, z in zip(pre, shares, strict=True)) / 50
    torch.testing.assert_close(change_of(SoftCompetition(0.3), weight, pre, drives), 0.3 * soft)


def test_instar_by_a_loop() -> None:
    weight, pre, post = draw(3, (4, 3), (9, 3), (9, 4))
    wanted = sum(torch.outer(y, x) - y[:, None] * weight for x, y in zip(pre, post, strict=True)) / 9
    torch.testing.assert_close(change_of(Instar(0.4), weight, pre, post), 0.4 * wanted)


RULES = [WinnerTakeAll(0.1), WinnerTakeAll(0.1, k=2), SoftCompetition(0.1), SoftHebb(0.1), KrotovHopfield(0.1)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_in_a_convolution_units_compete_at_each_place(rule) -> None:
    synapse = Conv2d(2, 3, (3, 2), stride=(1, 2), padding=1)
    weight, pre = draw(4, synapse.weight_shape, (4, 2, 6, 5))
    patches = functional.unfold(pre, (3, 2), stride=(1, 2), padding=1).movedim(1, -1).flatten(0, 1)
    flat, dense = weight.flatten(1), Dense(12, 3)
    wanted = change_of(rule, flat, patches, patches @ flat.T)
    state = rule.init_state(synapse, weight)
    statistics = rule.statistics(synapse, pre, synapse.forward(weight, pre), state)
    torch.testing.assert_close(rule.delta(statistics, weight, state)[0].flatten(1), wanted)
    assert statistics.count == len(patches) == dense.count(patches @ flat.T)


def test_averaging_the_changes_of_workers_is_wrong_for_competing_units_and_adding_statistics_is_not() -> None:
    weight, pre = draw(5, (4, 3), (64, 3))
    rule, synapse = KrotovHopfield(0.1), Dense(3, 4)
    whole = change_of(rule, weight, pre, pre @ weight.T)
    parts = [rule.statistics(synapse, x[None], x[None] @ weight.T, None) for x in pre]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    torch.testing.assert_close(rule.delta(total, weight, None)[0], whole)
    averaged = sum(rule.delta(part, weight, None)[0] for part in parts) / 64
    assert (averaged - whole).abs().max() > 0.01


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: WinnerTakeAll(0.1, k=0), ValueError, "at least 1"),
        (lambda: KrotovHopfield(p=1.5), ValueError, "at least 2"),
        (lambda: KrotovHopfield(k=1), ValueError, "at least 2"),
        (lambda: SoftHebb(-1.0), ValueError, "at least 0"),
        (lambda: SoftCompetition(0.1, temperature=0.0), ValueError, "above 0"),
        (lambda: SoftHebb("0.1"), TypeError, "finite number"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(build, error, words) -> None:
    with pytest.raises(error, match=words):
        build()


def test_a_chain_keeps_rows_of_one_length() -> None:
    weight, pre = draw(6, (4, 3), (30, 3))
    rule, synapse = Chain(WinnerTakeAll(0.2, nearest=False), Normalise()), Dense(3, 4)
    state = rule.init_state(synapse, weight)
    for _ in range(5):
        weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(4, dtype=torch.float64))
