"""Rules that find components: loops over samples, and the fixed points that theory gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hebbian import (
    BCM,
    ICA,
    Conv2d,
    Covariance,
    Dense,
    Foldiak,
    NonlinearPCA,
    Oja,
    OjaSubspace,
    Sanger,
    Scheduled,
    step,
    sub_gaussian,
    super_gaussian,
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    source = generator(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


def change_of(rule, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    synapse = Dense(weight.shape[1], weight.shape[0])
    state = rule.init_state(synapse, weight)
    return rule.delta(rule.statistics(synapse, pre, post, state), weight, state)[0]


def spread(seed: int, count: int = 3000) -> tuple[Tensor, Tensor]:
    """Inputs with well separated eigenvalues along random axes, and the axes by falling eigenvalue, (5, 5)."""
    noise, mixing = draw(seed, (count, 5), (5, 5))
    basis = torch.linalg.qr(mixing).Q
    pre = noise * torch.tensor([3.0, 2.2, 1.5, 0.8, 0.4], dtype=torch.float64) @ basis.T
    return pre, torch.linalg.eigh(pre.T @ pre / count).eigenvectors.flip(1).T


def degrees(one: Tensor, other: Tensor) -> Tensor:
    cosine = functional.cosine_similarity(one, other, dim=1).abs().clamp(max=1)
    return torch.rad2deg(torch.acos(cosine))


def settled(rule, pre: Tensor, weight: Tensor, steps: int) -> Tensor:
    synapse = Dense(weight.shape[1], weight.shape[0])
    state = rule.init_state(synapse, weight)
    for _ in range(steps):
        weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
    return weight


@pytest.mark.parametrize("seed", range(3))
def test_subspace_rules_are_the_mean_over_samples_of_their_formulas(seed: int) -> None:
    weight, pre, post = draw(seed, (3, 4), (7, 4), (7, 3))
    subspace, ordered = torch.zeros_like(weight), torch.zeros_like(weight)
    for x, y in zip(pre, post, strict=True):
        for i in range(3):
            subspace[i] += y[i] * (x - sum(y[j] * weight[j] for j in range(3))) / 7
            ordered[i] += y[i] * (x - sum(y[j] * weight[j] for j in range(i + 1))) / 7
    torch.testing.assert_close(change_of(OjaSubspace(0.3), weight, pre, post), 0.3 * subspace)
    torch.testing.assert_close(change_of(Sanger(0.3), weight, pre, post), 0.3 * ordered)


@pytest.mark.parametrize("seed", range(3))
def test_oja_goes_to_the_top_eigenvector(seed: int) -> None:
    pre, axes = spread(seed)
    weight = settled(Oja(0.05), pre, draw(seed + 10, (2, 5))[0] / 3, 400)
    assert degrees(weight, axes[:1].expand(2, 5)).max() < 1
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_subspace_rule_goes_to_an_orthonormal_basis_of_the_top_eigenvectors(seed: int) -> None:
    pre, axes = spread(seed)
    weight = settled(OjaSubspace(0.05), pre, draw(seed + 10, (3, 5))[0] / 3, 1500)
    torch.testing.assert_close(weight @ weight.T, torch.eye(3, dtype=torch.float64), atol=1e-4, rtol=0)
    shared = torch.linalg.svdvals(weight @ axes[:3].T).clamp(max=1)  # the cosines of the principal angles
    assert torch.rad2deg(torch.acos(shared)).max() < 1


@pytest.mark.parametrize("seed", range(3))
def test_sanger_goes_to_the_eigenvectors_in_order(seed: int) -> None:
    pre, axes = spread(seed)
    weight = settled(Sanger(0.05), pre, draw(seed + 10, (4, 5))[0] / 3, 2500)
    assert degrees(weight, axes[:4]).max() < 1
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("ordered", "linear"), [(True, Sanger(0.2)), (False, OjaSubspace(0.2))])
def test_nonlinear_pca_with_the_identity_is_linear(ordered: bool, linear) -> None:
    weight, pre, post = draw(0, (3, 4), (7, 4), (7, 3))
    found = change_of(NonlinearPCA(0.2, f=lambda y: y, ordered=ordered), weight, pre, post)
    torch.testing.assert_close(found, change_of(linear, weight, pre, post), rtol=0, atol=0)
    bent = change_of(NonlinearPCA(0.2, ordered=ordered), weight, pre, post)
    torch.testing.assert_close(bent, change_of(linear, weight, pre, post.tanh()))


def sources(kind: str, seed: int) -> Tensor:
    uniform = torch.rand(6000, 3, generator=generator(seed), dtype=torch.float64)
    if kind == "sparse":
        centred = uniform - 0.5
        drawn = -centred.sign() * torch.log1p(-2 * centred.abs() * 0.9999)
    else:
        drawn = uniform - 0.5
    return (drawn - drawn.mean(0)) / drawn.std(0)


def amari(product: Tensor) -> float:
    """Zero where the product of unmixing and mixing is a permutation with scales."""
    size = product.abs()
    rows = (size.sum(1) / size.amax(1) - 1).sum() + (size.sum(0) / size.amax(0) - 1).sum()
    return float(rows) / (2 * len(size) * (len(size) - 1))


@pytest.mark.parametrize(("kind", "phi"), [("sparse", super_gaussian), ("flat", sub_gaussian)])
def test_ica_recovers_the_sources(kind: str, phi) -> None:
    source = sources(kind, 1)
    mixing = torch.eye(3, dtype=torch.float64) + 0.4 * draw(2, (3, 3))[0]
    weight = settled(ICA(0.1, phi), source @ mixing.T, torch.eye(3, dtype=torch.float64), 1500)
    assert amari(mixing) > 0.2
    assert amari(weight @ mixing) < 0.03


def test_ica_with_the_wrong_score_does_not() -> None:
    source = sources("flat", 1)
    mixing = torch.eye(3, dtype=torch.float64) + 0.4 * draw(2, (3, 3))[0]
    weight = settled(ICA(0.1, super_gaussian), source @ mixing.T, torch.eye(3, dtype=torch.float64), 1500)
    assert amari(weight @ mixing) > 0.1


def test_covariance_is_that_of_the_batch_at_first() -> None:
    weight, pre, post = draw(3, (3, 4), (9, 4), (9, 3))
    wanted = (post - post.mean(0)).T @ (pre - pre.mean(0)) / 9
    torch.testing.assert_close(change_of(Covariance(0.5), weight, pre + 3, post - 2), 0.5 * wanted)


def test_covariance_about_running_means_by_a_loop() -> None:
    (weight, *batches), synapse, rule = draw(4, (2, 3), *[(6, 3)] * 4), Dense(3, 2), Covariance(1.0, momentum=0.4)
    state, mean_x, mean_y = rule.init_state(synapse, weight), 0.0, 0.0
    for t, pre in enumerate(batches, 1):
        post = pre[:, :2].exp()
        share = max(1 / t, 0.4)
        mean_x = mean_x + share * (pre.mean(0) - mean_x)
        mean_y = mean_y + share * (post.mean(0) - mean_y)
        wanted = (post - mean_y).T @ (pre - mean_x) / 6
        change, state = rule.delta(rule.statistics(synapse, pre, post, state), weight, state)
        torch.testing.assert_close(change, wanted)


@pytest.mark.parametrize("synapse", [Dense(6, 2), Conv2d(2, 2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_covariance_does_not_see_an_offset(synapse, dtype) -> None:
    shape = (16, 6) if isinstance(synapse, Dense) else (16, 2, 6, 6)
    weight, first, second = (tensor.to(dtype) for tensor in draw(5, synapse.weight_shape, shape, shape))
    changes = []
    for offset in (0.0, 7.0):
        rule = Covariance(1.0)
        state, total = rule.init_state(synapse, weight), 0.0
        for pre in (first, second):
            seen = pre + offset
            statistics = rule.statistics(synapse, seen, synapse.forward(weight, seen), state)
            change, state = rule.delta(statistics, weight, state)
            total = total + change
        changes.append(total)
    torch.testing.assert_close(changes[1], changes[0], rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-12)


def test_covariance_of_independent_ends_vanishes() -> None:
    pre, post = draw(6, (200_000, 3), (200_000, 2))
    weight = torch.zeros(2, 3, dtype=torch.float64)
    change = change_of(Covariance(1.0), weight, pre + 1, post.exp())
    spread_of_a_mean = post.exp().std() / math.sqrt(200_000)
    assert change.abs().max() < 4 * spread_of_a_mean


@pytest.mark.parametrize("divided", [False, True])
def test_bcm_selects_one_of_two_orthogonal_patterns(divided: bool) -> None:
    patterns = torch.eye(2, dtype=torch.float64)
    for start in ([0.6, 0.5], [0.4, 0.9], [1.0, 0.7]):
        weight = torch.tensor([start], dtype=torch.float64)
        rule, synapse = BCM(0.02, tau=5, divided=divided), Dense(2, 1)
        state = rule.init_state(synapse, weight)
        for _ in range(3000):
            weight, state = step(rule, synapse, weight, patterns, synapse.forward(weight, patterns), state)
        answer = synapse.forward(weight, patterns)[:, 0]
        threshold = state[0]
        torch.testing.assert_close(answer.sort().values, torch.stack([0 * threshold, threshold]), atol=1e-3, rtol=0)
        torch.testing.assert_close(threshold, torch.tensor(2.0, dtype=torch.float64), atol=1e-3, rtol=0)
        assert answer.argmax() == torch.tensor(start).argmax()


@pytest.mark.parametrize("tau", [1.0, 10.0])
def test_the_divided_rule_stays_stable_after_a_long_silence(tau: float) -> None:
    rule, synapse, weight = BCM(0.02, tau=tau, divided=True), Dense(2, 1), torch.tensor([[0.5, 0.5]])
    state = rule.init_state(synapse, weight)
    for _ in range(200):
        weight, state = step(rule, synapse, weight, torch.zeros(4, 2), torch.zeros(4, 1), state)
    assert weight.tolist() == [[0.5, 0.5]] and state.item() < 1e-8
    for _ in range(50):
        before = weight
        weight, state = step(rule, synapse, weight, torch.ones(4, 2), synapse.forward(weight, torch.ones(4, 2)), state)
        assert (weight - before).abs().max() <= 1.01 * 0.02 * tau
    assert weight.isfinite().all() and weight.abs().max() < 2


def test_bcm_is_the_mean_over_samples_of_its_formula() -> None:
    weight, pre, post = draw(7, (3, 4), (6, 4), (6, 3))
    for divided in (False, True):
        rule, synapse = BCM(0.3, tau=4.0, threshold=0.7, divided=divided), Dense(4, 3)
        wanted = torch.zeros_like(weight)
        for x, y in zip(pre, post, strict=True):
            wanted += 0.3 * torch.outer(y * (y - 0.7), x) / 6 / (0.7 if divided else 1)
        state = rule.init_state(synapse, weight)
        change, threshold = rule.delta(rule.statistics(synapse, pre, post, state), weight, state)
        torch.testing.assert_close(change, wanted)
        torch.testing.assert_close(threshold, 0.7 + (post.square().mean(0) - 0.7) / 4)


def bars(count: int, source: torch.Generator, probability: float = 1 / 8, side: int = 8) -> Tensor:
    lying = torch.rand(count, side, 1, generator=source) < probability
    standing = torch.rand(count, 1, side, generator=source) < probability
    return (lying | standing).float().flatten(1)


def single_bars(side: int = 8) -> Tensor:
    eye = torch.eye(side)
    return torch.cat([eye[:, :, None].expand(-1, -1, side), eye[:, None].expand(-1, side, -1)]).flatten(1)


@pytest.mark.slow
def test_foldiak_gives_each_bar_a_unit() -> None:
    source = generator(0)
    net = Foldiak(64, 16, feed_rate=0.05, lateral_rate=0.3, threshold_rate=0.1, steps=60, generator=source)
    for _ in range(1200):
        net.learn(bars(10, source))
    active = net(bars(4000, source))
    assert (active.mean(0) - 0.125).abs().max() < 0.02
    together = active.T @ active / 4000
    together.fill_diagonal_(0)
    assert together.max() < 0.125**2 + 0.012  # the target, with the error of 4,000 samples and of the learning steps
    answers = net(single_bars())
    assert torch.equal(answers.sum(1), torch.ones(16))
    assert torch.equal(answers.sum(0), torch.ones(16))
    assert net.inhibition.max() <= 0


def test_foldiak_learns_by_its_three_formulas() -> None:
    source = generator(1)
    net = Foldiak(9, 4, probability=0.3, feed_rate=0.2, lateral_rate=0.4, threshold_rate=0.5, generator=source)
    net.threshold = net.threshold * 0.4
    x = (torch.rand(12, 9, generator=source) < 0.4).float()
    feed, threshold = net.feed.clone(), net.threshold.clone()
    y = net.learn(x)
    assert 0 < y.mean() < 1
    wanted = feed + 0.2 * (y.T @ x / 12 - y.mean(0)[:, None] * feed)
    torch.testing.assert_close(net.feed, wanted)
    pairs = -0.4 * (y.T @ y / 12 - 0.09)
    torch.testing.assert_close(net.inhibition, pairs.clamp(max=0).fill_diagonal_(0))
    torch.testing.assert_close(net.threshold, threshold + 0.5 * (y.mean(0) - 0.3))


def test_component_rules_take_a_schedule() -> None:
    pre, axes = spread(0)
    weight = settled(Scheduled(Sanger(0.05), lambda t: 1 / (1 + t / 500)), pre, draw(1, (2, 5))[0] / 3, 1500)
    assert degrees(weight, axes[:2]).max() < 1
