"""Noise that belongs to the sample: a function of key, step and site."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import ebm
from ebm.noise import draw_keys


def keys_of(batch: int, seed: int = 0) -> Tensor:
    return draw_keys(batch, torch.device("cpu"), torch.Generator().manual_seed(seed))


def normal(batch: int, size: int, step: int = 0, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    keys = keys_of(batch, seed)
    return ebm.Draw(keys, torch.full_like(keys, step)).normal(torch.empty(batch, size, dtype=dtype))


def distance_from(sample: Tensor, cumulative: Tensor) -> float:
    """The Kolmogorov-Smirnov distance, scaled so that 1.95 is exceeded once in a thousand times."""
    count = sample.numel()
    steps = torch.arange(1, count + 1, dtype=torch.float64) / count
    ordered = cumulative.flatten().sort().values
    return float(torch.maximum((steps - ordered).max(), (ordered - steps + 1 / count).max())) * math.sqrt(count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_first", [True, False])
def test_normal_numbers_are_normal(dtype: torch.dtype, rows_first: bool):
    sample = (normal(20_000, 3, dtype=dtype) if rows_first else normal(3, 20_001, dtype=dtype)).double()
    count = sample.numel()
    assert abs(sample.mean().item()) < 4 / math.sqrt(count)
    assert abs(sample.var().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs((sample**3).mean().item()) < 4 * math.sqrt(15 / count)
    assert abs((sample**4).mean().item() - 3) < 4 * math.sqrt(96 / count)
    assert distance_from(sample, torch.special.ndtr(sample)) < 1.95
    assert sample.abs().max() < 7 and sample.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_uniform_and_leave_out_both_ends(dtype: torch.dtype):
    keys = keys_of(50_000)
    sample = ebm.Draw(keys, torch.zeros_like(keys)).uniform(torch.empty(50_000, 2, dtype=dtype))
    assert sample.dtype == dtype and sample.min() > 0 and sample.max() < 1
    assert distance_from(sample, sample.double()) < 1.95


def test_the_keys_that_no_generator_gave_are_as_good():
    """Without a generator the keys are 0, 1, 2, ...: neighbours in every bit but the last."""
    keys = draw_keys(30_000, torch.device("cpu"), None)
    assert keys.tolist()[:3] == [0, 1, 2]
    sample = ebm.Draw(keys, torch.zeros_like(keys)).normal(torch.empty(30_000, 2, dtype=torch.float64))
    assert distance_from(sample, torch.special.ndtr(sample)) < 1.95
    assert correlation(sample[:-1], sample[1:]) < 4 and correlation(sample[:, 0], sample[:, 1]) < 4


def correlation(one: Tensor, other: Tensor) -> float:
    """Of independent standard normal numbers, in standard errors."""
    return abs((one * other).mean().item()) * math.sqrt(one.numel())


def test_keys_steps_sites_and_places_are_independent():
    batch, size = 20_000, 3
    keys = keys_of(batch)
    like = torch.empty(batch, size, dtype=torch.float64)
    draw = ebm.Draw(keys, torch.zeros_like(keys))
    first, second = draw.normal(like), draw.normal(like)
    later = ebm.Draw(keys, torch.ones_like(keys)).normal(like)
    other = ebm.Draw(keys_of(batch, 1), torch.zeros_like(keys)).normal(like)
    for one in (second, later, other, first.roll(1, 0), first.roll(1, 1)):
        assert correlation(first, one) < 4
        assert correlation(first.square() - 1, one.square() - 1) / 2 < 4
    assert correlation(second, later) < 4, "a later site of one step is no earlier site of the next"


def test_a_key_of_64_bits_counts_with_all_of_them():
    keys = torch.tensor([5, 5 + (1 << 32), 5 + (1 << 62), 5 + (1 << 31)])
    drawn = ebm.Draw(keys, torch.zeros(4, dtype=torch.int64)).uniform(torch.empty(4, 2, dtype=torch.float64))
    assert drawn.unique().numel() == 8


def test_a_sample_draws_the_same_in_any_batch():
    whole = normal(64, 5)
    keys = keys_of(64)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = ebm.Draw(keys[order], torch.zeros_like(keys)).normal(whole)
    assert torch.equal(shuffled, whole[order])
    alone = ebm.Draw(keys[7:8], torch.zeros(1, dtype=torch.int64)).normal(whole[:1])
    assert torch.equal(alone, whole[7:8])


def test_steps_differ_from_sample_to_sample():
    keys = keys_of(3)
    mixed = ebm.Draw(keys, torch.tensor([0, 5, 2])).normal(torch.empty(3, 4, dtype=torch.float64))
    for row, step in enumerate((0, 5, 2)):
        wanted = ebm.Draw(keys, torch.full_like(keys, step)).normal(torch.empty(3, 4, dtype=torch.float64))
        assert torch.equal(mixed[row], wanted[row])


def test_the_start_draws_other_noise_than_the_first_step():
    assert not torch.equal(normal(4, 4, step=-1), normal(4, 4, step=0))


def test_every_shape_and_dtype():
    keys = keys_of(3)
    like = {"a": torch.empty(3), "b": (torch.empty(3, 0), torch.empty(3, 1, 2, 5, dtype=torch.float64)), "c": None}
    drawn = ebm.Draw(keys, torch.zeros_like(keys)).normal(like)
    assert drawn["a"].shape == (3,) and drawn["b"][1].shape == (3, 1, 2, 5) and drawn["c"] is None
    assert drawn["a"].dtype == torch.float32 and drawn["b"][1].dtype == torch.float64
    assert drawn["a"].unique().numel() == 3


def test_the_generator_is_asked_once_for_each_sample():
    generator = torch.Generator().manual_seed(3)
    keys = draw_keys(5, torch.device("cpu"), generator)
    assert keys.dtype == torch.int64 and keys.unique().numel() == 5 and keys.min() >= 0
    assert not torch.equal(draw_keys(5, torch.device("cpu"), generator), keys)


def lattice(bits: int = 0) -> Tensor:
    """Uniform numbers of neighbouring keys, steps, sites and places, (40, 40, 8, 16): all counters small."""
    keys = (torch.arange(40) << bits).repeat_interleave(40)
    draw = ebm.Draw(keys, torch.arange(40).repeat(40))
    like = torch.empty(1600, 16, dtype=torch.float64)
    return torch.stack([draw.uniform(like) for _ in range(8)], 1).reshape(40, 40, 8, 16)


@pytest.mark.parametrize("bits", [0, 20, 40, 57])
def test_a_lattice_of_counters_is_uniform_and_uncorrelated_along_every_axis(bits: int):
    sample = lattice(bits)
    assert distance_from(sample, sample) < 1.95
    assert sample.unique().numel() == sample.numel(), "no two counters share a stream"
    normal = torch.special.ndtri(sample)
    for axis in range(4):
        for lag in (1, 2, 4):
            near = normal.narrow(axis, 0, normal.shape[axis] - lag)
            far = normal.narrow(axis, lag, normal.shape[axis] - lag)
            assert correlation(near, far) < 4.5
            assert correlation(near.square() - 1, far.square() - 1) / 2 < 4.5
    diagonal = correlation(normal[1:, :-1], normal[:-1, 1:]), correlation(normal[:, 1:, :-1], normal[:, :-1, 1:])
    assert max(diagonal) < 4.5, "a step more is no key less"


def test_every_bit_is_a_fair_coin_and_no_two_go_together():
    """The words themselves, over neighbouring counters: 64 bits, each pair of bits, and each bit with that of a neighbour."""
    keys = torch.arange(2000)
    words = ebm.Draw(keys, torch.zeros_like(keys))._words(64).flatten()
    coins = 2.0 * ((words[:, None] >> torch.arange(64)) & 1).double() - 1
    count = len(coins)
    bound = 5.0 / math.sqrt(count)  # 64 * 64 comparisons: once in 400 runs
    assert coins.mean(0).abs().max() < bound
    assert (coins.T @ coins / count - torch.eye(64)).abs().max() < bound
    assert (coins[1:].T @ coins[:-1] / count).abs().max() < bound
    assert (coins[64:].T @ coins[:-64] / count).abs().max() < bound


def test_one_bit_of_a_key_moves_half_of_the_bits():
    keys = keys_of(3000)
    zeros = torch.zeros_like(keys)
    plain = ebm.Draw(keys, zeros)._words(1)
    for bit in range(63):
        moved = plain ^ ebm.Draw(keys ^ (1 << bit), zeros)._words(1)
        share = ((moved >> torch.arange(64)) & 1).double().mean(0)
        assert (share - 0.5).abs().max() < 5 * 0.5 / math.sqrt(3000), bit


def test_the_two_halves_of_a_pair_are_independent():
    """Radius and angle come from one word: their normals must not know of one another, also far out."""
    pair = normal(60_000, 2)
    for power in (1, 2, 3):
        one, other = ((part**power - (part**power).mean()) / (part**power).std() for part in pair.unbind(1))
        assert correlation(one, other) < 4
    radius, angle = pair.square().sum(1), torch.atan2(pair[:, 1], pair[:, 0])
    assert distance_from(radius, 1 - (-radius / 2).exp()) < 1.95
    far = angle[radius > 6]
    assert len(far) > 2500 and distance_from(far, far / (2 * math.pi) + 0.5) < 1.95


def test_langevin_samples_the_normal_distribution():
    """E = z^2 / 2 at temperature T has variance T / (1 - a / 2) under steps of size a, exactly."""

    class Well(ebm.Energy):
        def init_latent(self, c, draw):
            return draw.normal(c)

        def forward(self, z, c):
            return 0.5 * z.square().sum(1)

    x, step_size, temperature = torch.zeros(4000, 2, dtype=torch.float64), 0.2, 0.5
    solution = ebm.infer(Well(), x, steps=60, solver=ebm.Langevin(step_size, temperature))
    wanted = temperature / (1 - step_size / 2)
    assert abs(solution.z.var().item() / wanted - 1) < 4 * math.sqrt(2 / solution.z.numel())
    assert abs(solution.z.mean().item()) < 4 * math.sqrt(wanted / solution.z.numel())
    assert correlation(solution.z[:, 0], solution.z[:, 1]) < 4 * wanted
