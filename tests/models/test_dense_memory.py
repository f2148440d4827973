"""Dense memories against the sums of their papers, enumeration, and the Hopfield network they contain."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor

import ebm

F64 = torch.float64
SEPARATIONS = [ebm.Polynomial(2), ebm.Polynomial(3), ebm.Polynomial(6), ebm.RectifiedPolynomial(3), ebm.Exponential()]


def signs(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.int64).mul(2).sub(1).to(F64)


def all_states(units: int) -> Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=units)), dtype=F64)


def scalar(separation: ebm.models.separation.Separation, m: float) -> float:
    """F of one overlap, written out."""
    if isinstance(separation, ebm.RectifiedPolynomial):
        return max(m, 0.0) ** separation.n
    return m**separation.n if isinstance(separation, ebm.Polynomial) else math.exp(m)


def papers_energy(patterns: Tensor, separation, state: Tensor) -> float:
    return -sum(scalar(separation, float(pattern @ state)) for pattern in patterns)


def papers_field(patterns: Tensor, separation, state: Tensor, unit: int) -> float:
    """The sum whose sign is the update of the paper."""
    total = 0.0
    for pattern in patterns:
        rest = float(pattern @ state) - float(pattern[unit] * state[unit])
        total += scalar(separation, float(pattern[unit]) + rest) - scalar(separation, -float(pattern[unit]) + rest)
    return total


def corrupted(patterns: Tensor, flips: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = patterns.clone()
    for row in found:
        where = torch.randperm(len(row), generator=generator)[:flips]
        row[where] = -row[where]
    return found


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
def test_the_energy_is_the_sum_over_patterns(separation):
    patterns, states = signs(0, 4, 6), all_states(6)
    model = ebm.DenseMemory(patterns, separation)
    c = model.condition(states)
    wanted = torch.tensor([papers_energy(patterns, separation, s) for s in states], dtype=F64)
    wanted = -(-wanted).log() if isinstance(separation, ebm.Exponential) else wanted
    torch.testing.assert_close(model(states, c), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.point(states, c).energy, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_conditional_and_the_force_are_the_papers_update(separation, seed: int):
    patterns, states = signs(seed, 4, 6), all_states(6)
    model = ebm.DenseMemory(patterns, separation)
    c = model.condition(states)
    force = model.point(states, c).force
    kept, ties = 0, 0
    for unit in range(6):
        found = model.conditional(states, c, torch.full((len(states),), unit))
        field = torch.tensor([papers_field(patterns, separation, s, unit) for s in states], dtype=F64)
        tie = field.abs() <= 1e-10 * field.abs().amax()
        wanted = torch.where(tie, states[:, unit], field.sign())
        assert torch.equal(found, wanted)
        assert torch.equal(states[:, unit] + force[:, unit], wanted)
        kept, ties = kept + int((wanted == states[:, unit]).sum()), ties + int(tie.sum())
    assert 0 < kept < states.numel()
    if separation == ebm.Polynomial(2):
        assert ties > 0


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
def test_rest_is_where_no_single_flip_lowers_the_energy(separation):
    patterns, states = signs(1, 4, 6), all_states(6)
    energy = {tuple(s.tolist()): papers_energy(patterns, separation, s) for s in states}

    def is_minimum(state: Tensor) -> bool:
        here = energy[tuple(state.tolist())]
        flipped = [state.clone().index_fill_(0, torch.tensor(i), -float(state[i])) for i in range(6)]
        return all(energy[tuple(f.tolist())] >= here - 1e-9 * abs(here) for f in flipped)

    model = ebm.DenseMemory(patterns, separation)
    minima = torch.tensor([is_minimum(state) for state in states])
    point = model.point(states, model.condition(states))
    assert torch.equal(model.residual(point, None) == 0, minima)
    assert 0 < int(minima.sum()) < len(states)
    solution = ebm.infer(model, states)
    assert bool(solution.converged.all()) and all(is_minimum(state) for state in solution.z)


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
def test_no_flip_raises_the_energy(separation):
    patterns, state = signs(2, 40, 25), signs(3, 6, 25)
    model = ebm.DenseMemory(patterns, separation)
    c = model.condition(state)
    energy, flips = model(state, c), 0
    for unit in torch.arange(25).repeat(5):
        block = unit.expand(6)
        wanted = model.conditional(state, c, block)
        flips += int((wanted != state[:, unit]).sum())
        state = state.scatter(1, block[:, None], wanted[:, None])
        lower = model(state, c)
        assert bool((lower <= energy + 1e-12 * energy.abs()).all())
        energy = lower
    assert flips > 10


def test_a_power_of_two_is_the_hopfield_network():
    patterns, query = signs(4, 7, 40), signs(5, 60, 40)
    dense, hebb = ebm.DenseMemory(patterns, ebm.Polynomial(2)), ebm.Hopfield.store(patterns)
    for steps in range(4):
        ours, theirs = ebm.infer(dense, query, steps=steps), ebm.infer(hebb, query, steps=steps)
        assert torch.equal(ours.z, theirs.z)
        assert torch.equal(ours.status, theirs.status)
        # sum of squares = N s W s + P N, so E_dense = 2 N E_hebb - P N
        torch.testing.assert_close(ours.energy, 2 * 40 * theirs.energy - 7 * 40, rtol=1e-10, atol=1e-8)
    assert not torch.equal(ours.z, query)


def test_steep_memories_hold_more_than_hebbs():
    """64 units, 60 patterns, 4 bits wrong: far beyond 0.138 N for Hebb, nothing for a cube."""
    patterns = signs(6, 60, 64)
    query = corrupted(patterns, 4, 7)

    def recalled(separation) -> float:
        solution = ebm.infer(ebm.DenseMemory(patterns, separation), query)
        return float((solution.answer == patterns).all(1).double().mean())

    shares = [recalled(s) for s in (ebm.Polynomial(2), ebm.Polynomial(3), ebm.Polynomial(5), ebm.Exponential())]
    assert shares[0] < 0.1
    assert shares[1] > 0.8
    assert shares[2] == shares[3] == 1.0


def test_a_thousand_patterns_in_sixty_four_units():
    patterns = signs(8, 1000, 64)
    solution = ebm.infer(ebm.DenseMemory(patterns, ebm.Exponential()), corrupted(patterns[:20], 6, 9))
    assert torch.equal(solution.answer, patterns[:20])


def test_the_exponential_overflows_nowhere():
    patterns = signs(9, 30, 1000).float()
    query = corrupted(patterns[:4], 200, 3)
    solution = ebm.infer(ebm.DenseMemory(patterns, ebm.Exponential()), query, solver=ebm.Asynchronous("cyclic"))
    assert torch.equal(solution.answer, patterns[:4])
    torch.testing.assert_close(solution.energy, torch.full((4,), -1000.0))


def test_an_odd_power_tells_a_pattern_from_its_negative():
    patterns = signs(1, 1, 9)
    query = -patterns
    assert torch.equal(ebm.infer(ebm.DenseMemory(patterns, ebm.Polynomial(2)), query).z, -patterns)
    assert torch.equal(ebm.infer(ebm.DenseMemory(patterns, ebm.Polynomial(3)), query).z, patterns)


def test_work_is_counted():
    patterns = signs(5, 12, 30)
    solution = ebm.infer(ebm.DenseMemory(patterns), corrupted(patterns[:5], 3, 1), compact=True)
    point, conditional = 4 * 12 * 30, 2 * 12 * 30 + 2 * 12
    per_sample = point + solution.steps * (point + 30 * conditional)
    assert torch.equal(solution.flops_per_sample, per_sample)
    assert solution.flops == int(per_sample.sum()) and solution.uncounted == {}


# The door


def test_powers_that_do_not_fit_are_refused():
    patterns = signs(0, 2, 1000).float()
    words = "2 patterns of 1000 units with Polynomial(n=30) reach 1e91; torch.float32 ends at 1e39. Convert the patterns with `.double()`"
    with pytest.raises(ValueError, match=re.escape(words)):
        ebm.DenseMemory(patterns, ebm.Polynomial(30))
    ebm.DenseMemory(patterns.double(), ebm.Polynomial(30))
    query = corrupted(patterns[:, :40], 5, 0)
    solution = ebm.infer(ebm.DenseMemory(patterns[:, :40], ebm.Polynomial(20)), query)
    assert bool(torch.isfinite(solution.energy).all()) and torch.equal(solution.answer, patterns[:, :40])


@pytest.mark.parametrize("n", [1, 0, 2.0, True, "3"])
def test_a_power_that_is_none_is_refused(n):
    with pytest.raises(
        ValueError, match=re.escape(f"`Polynomial(n=...)` wants a whole power of at least 2; got {n!r}.")
    ):
        ebm.Polynomial(n)
    with pytest.raises(ValueError, match=re.escape("`RectifiedPolynomial(n=...)` wants a whole power")):
        ebm.RectifiedPolynomial(n)


def test_other_patterns_and_queries_are_refused():
    with pytest.raises(
        ValueError, match=re.escape("`DenseMemory(patterns)` wants patterns of +-1; got other numbers. Map 0 and 1 by")
    ):
        ebm.DenseMemory(torch.rand(3, 4))
    with pytest.raises(
        TypeError, match=re.escape("`DenseMemory(separation=...)` wants a separation; got 3. Pass `Polynomial(3)`")
    ):
        ebm.DenseMemory(torch.ones(3, 4), 3)  # type: ignore[arg-type]
    model = ebm.DenseMemory(torch.ones(3, 4))
    with pytest.raises(ValueError, match=re.escape("`DenseMemory` wants a floating query `x` of shape (B, 4)")):
        ebm.infer(model, torch.ones(2, 3))
    with pytest.raises(ValueError, match=re.escape("`DenseMemory` settles states of +-1; got other numbers in `x`.")):
        ebm.infer(model, torch.zeros(2, 4))
