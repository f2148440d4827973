"""Chain diagnostics against processes whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import ebm
from ebm.diagnostics import acceptance, describe, effective_sample_size, split_rhat, swaps
from tests.energies import Quadratic, Tree, numbers


def autoregressive(chains: int, steps: int, dims: int, memory: float, seed: int = 0) -> Tensor:
    """x' = r x + sqrt(1 - r^2) noise: autocorrelations r^k, so the inefficiency is (1 + r) / (1 - r)."""
    noise = numbers(chains, steps, dims, seed=seed)
    draws = [noise[:, 0]]
    for step in range(1, steps):
        draws.append(memory * draws[-1] + math.sqrt(1 - memory**2) * noise[:, step])
    return torch.stack(draws, 1)


@pytest.mark.parametrize("memory", [0.0, 0.3, 0.8, 0.95, -0.4])
@pytest.mark.parametrize("ranked", [False, True])
def test_an_autoregressive_process(memory: float, ranked: bool):
    draws = autoregressive(8, 4000, 3, memory)
    wanted = 8 * 4000 * (1 - memory) / (1 + memory)
    found = effective_sample_size(draws, ranked)
    assert ((found / wanted - 1).abs() < 0.15).all(), found / wanted
    assert ((split_rhat(draws, ranked) - 1).abs() < 0.02).all()


def test_the_effective_size_is_what_the_mean_is_worth():
    """The variance of means over many runs, a second road to the same number."""
    draws = autoregressive(3000, 200, 1, 0.7)
    worth = draws.var() / draws.mean(1).var()
    each = torch.stack([effective_sample_size(part) for part in draws[:300].split(1)]).mean()
    assert abs(each / worth - 1) < 0.2


def by_hand(draws: Tensor) -> tuple[float, float]:
    """R-hat and effective sample size of one dimension, (chains, steps), in plain sums."""
    halves = [half for chain in draws.tolist() for half in (chain[: len(chain) // 2], chain[-(len(chain) // 2) :])]
    count, steps = len(halves), len(halves[0])
    means = [sum(half) / steps for half in halves]
    within = sum(sum((v - m) ** 2 for v in half) / (steps - 1) for half, m in zip(halves, means, strict=True)) / count
    middle = sum(means) / count
    total = within * (steps - 1) / steps + sum((m - middle) ** 2 for m in means) / (count - 1)
    rho = [1.0]
    for lag in range(1, steps):
        covariance = sum(
            sum((half[k] - m) * (half[k + lag] - m) for k in range(steps - lag)) / steps
            for half, m in zip(halves, means, strict=True)
        )
        rho.append(1 - (within - covariance / count) / total)
    least, inefficiency = math.inf, -1.0
    for k in range(0, steps - 1, 2):
        pair = rho[k] + rho[k + 1]
        if pair <= 0:
            break
        least = min(least, pair)
        inefficiency += 2 * least
    return math.sqrt(total / within), count * steps / max(inefficiency, 1 / math.log10(count * steps))


@pytest.mark.parametrize("shape", [(1, 8), (3, 21), (4, 50)])
@pytest.mark.parametrize("memory", [-0.8, 0.0, 0.9])
def test_against_plain_sums(shape: tuple[int, int], memory: float):
    draws = autoregressive(*shape, 1, memory, seed=3) + 0.3 * torch.arange(shape[0])[:, None, None]
    rhat, size = by_hand(draws[..., 0])
    assert float(split_rhat(draws)) == pytest.approx(rhat, rel=1e-10)
    assert float(effective_sample_size(draws)) == pytest.approx(size, rel=1e-8)


def test_chains_that_disagree_or_drift_are_found():
    draws = numbers(4, 400, 3)
    draws[0, :, 1] += 2
    draws[:, :, 2] += torch.linspace(-2, 2, 400)
    rhat, size = split_rhat(draws), effective_sample_size(draws)
    assert rhat[0] < 1.01 and rhat[1] > 1.2 and rhat[2] > 1.2
    assert size[0] > 1200 and size[1] < 20 and size[2] < 40


def test_ranks_do_not_mind_heavy_tails_or_how_numbers_are_spaced():
    draws = numbers(4, 500, 1)
    heavy = draws / numbers(4, 500, 1, seed=1)
    assert float(split_rhat(heavy, rank_normalised=True)) < 1.01
    assert 1500 < float(effective_sample_size(heavy, rank_normalised=True)) < 2600
    torch.testing.assert_close(split_rhat(draws.exp(), True), split_rhat(draws, True))
    coins = draws.sign()
    assert float(split_rhat(coins, True)) < 1.01, "ties share a rank"
    torch.testing.assert_close(split_rhat(coins, True), split_rhat(coins), rtol=1e-3, atol=0)


def test_dimensions_do_not_mix_and_constants_say_nothing():
    draws = autoregressive(3, 60, 2, 0.5)
    draws = torch.cat([draws, torch.ones(3, 60, 1), torch.full((3, 60, 1), math.nan)], 2)
    size, rhat = effective_sample_size(draws), split_rhat(draws)
    for dim in range(2):
        torch.testing.assert_close(effective_sample_size(draws[..., dim : dim + 1]), size[dim : dim + 1])
        torch.testing.assert_close(split_rhat(draws[..., dim : dim + 1]), rhat[dim : dim + 1])
    assert size[2:].isnan().all() and rhat[2:].isnan().all()


@pytest.mark.parametrize("draws", [numbers(4, 50), numbers(4, 7, 2), numbers(0, 50, 2), torch.ones(4, 50, 2).long()])
def test_refusals(draws: Tensor):
    with pytest.raises(
        ValueError, match=r"Draws are floating numbers \(chains, steps, dims\) with at least 8 steps; got"
    ):
        effective_sample_size(draws)


def test_a_tree_is_described_number_by_number():
    solution = ebm.infer(Tree(3), numbers(5, 3), steps=40, solver=ebm.HMC(0.3, 3), record=["z", "energy"])
    found = describe(solution, discard=11)
    assert found.draws == 5 * 30 and found.mean.shape == (3 + 1 + 3,)
    torch.testing.assert_close(found.mean[:3], solution.trace["z"].mean[11:].mean((0, 1)))
    torch.testing.assert_close(found.std[3], solution.trace["z"].rest["scale"][11:].std())
    torch.testing.assert_close(found.error, found.std / found.ess.sqrt())
    assert str(found).startswith("150 draws of 7 numbers: effective sample size ")


def test_acceptance_is_the_rate_of_moves():
    solution = ebm.infer(Quadratic(), numbers(5, 3), steps=60, solver=ebm.MALA(1.2), record="z")
    moved = (solution.trace["z"].diff(dim=0) != 0).any(2)
    torch.testing.assert_close(acceptance(solution), moved.float().mean(0))
    warm = ebm.infer(Quadratic(), numbers(5, 3), steps=60, solver=ebm.MALA(1.2, warmup=20), record="z")
    moved = (warm.trace["z"].diff(dim=0) != 0).any(2)
    torch.testing.assert_close(acceptance(warm), moved[20:].float().mean(0))


def test_what_holds_no_tally_is_refused():
    solution = ebm.infer(Quadratic(), numbers(5, 3), steps=2, solver=ebm.Langevin())
    with pytest.raises(ValueError, match="Sample with MALA or HMC"):
        acceptance(solution)
    with pytest.raises(ValueError, match="Sample with Tempering"):
        swaps(ebm.infer(Quadratic(), numbers(5, 3), steps=2, solver=ebm.MALA()))
    with pytest.raises(ValueError, match=r'kept none\. Pass `record="z"`'):
        describe(solution)
