"""Capacity tools against the equations they solve, and small memories against theory."""

from __future__ import annotations

import math

import pytest
import torch

import ebm
from hebbian.memory import HopfieldMemory, PseudoInverse
from hebbian.memory.capacity import (
    HOPFIELD_CAPACITY,
    Recall,
    corrupted,
    dense_capacity,
    extrapolate,
    half_load,
    hopfield_overlap,
    projection_load,
    random_patterns,
    recalled,
    sweep,
)


@pytest.mark.parametrize("load", [0.01, 0.05, 0.1, 0.13])
def test_the_overlap_solves_the_equations_of_the_theory(load: float) -> None:
    m = hopfield_overlap(load)
    r = 1.0
    for _ in range(2_000):  # the three equations of Amit, Gutfreund and Sompolinsky at zero temperature, iterated
        c = math.sqrt(2 / (math.pi * load * r)) * math.exp(-m * m / (2 * load * r))
        r = 1 / (1 - c) ** 2
    assert math.erf(m / math.sqrt(2 * load * r)) == pytest.approx(m, abs=1e-3)


def test_the_capacity_is_where_the_overlap_is_lost() -> None:
    assert pytest.approx(0.1379, abs=1e-4) == HOPFIELD_CAPACITY
    assert hopfield_overlap(HOPFIELD_CAPACITY - 1e-4) > 0.96
    assert hopfield_overlap(HOPFIELD_CAPACITY + 1e-4) == 0.0


def test_one_step_of_the_projection_changes_an_overlap_as_the_theory_says() -> None:
    units, generator = 1_000, torch.Generator().manual_seed(0)
    gained = []
    for load in (projection_load(0.1) - 0.1, projection_load(0.1), projection_load(0.1) + 0.1):
        patterns = random_patterns(round(load * units), units, generator)
        memory = HopfieldMemory(units, PseudoInverse())
        memory.add(patterns)
        query = corrupted(patterns, 0.1, generator)
        after = (query @ memory.weight).sign()
        wanted = math.erf(0.8 * math.sqrt((1 - load) / (2 * load * (1 - 0.8**2))))
        gained.append(float((after * patterns).mean()))
        assert gained[-1] == pytest.approx(wanted, abs=0.01)
    assert gained[0] > 0.8 > gained[2]


def test_recall_needs_the_stated_overlap_at_the_end() -> None:
    patterns = random_patterns(2, 40, torch.Generator().manual_seed(0))
    memory = ebm.Hopfield.store(patterns)
    query = torch.stack([corrupted(patterns[:1], 0.1, torch.Generator().manual_seed(1))[0], -patterns[1]])
    assert recalled(memory, patterns, query).tolist() == [True, False]
    assert recalled(memory, patterns, query, steps=0).tolist() == [False, False]
    assert recalled(memory, patterns, query, steps=0, overlap=0.7).tolist() == [True, False]


def test_a_sweep_falls_with_the_load_and_says_every_seed() -> None:
    points = sweep(ebm.Hopfield.store, 100, [5, 15, 60], flips=0.05, seeds=3)
    assert [point.load for point in points] == [0.05, 0.15, 0.6]
    assert all(len(point.fractions) == 3 for point in points)
    assert points[0].mean == 1.0
    assert points[2].mean < 0.1
    assert points == sweep(ebm.Hopfield.store, 100, [5, 15, 60], flips=0.05, seeds=3)


def test_half_loads_are_read_off_a_straight_line() -> None:
    points = [
        Recall(100, count, 0.0, fractions)
        for count, fractions in ((10, (1.0, 1.0)), (20, (0.7, 0.9)), (30, (0.1, 0.5)))
    ]
    assert half_load(points, 0) == pytest.approx(0.2 + 0.1 * 0.2 / 0.6)
    assert half_load(points) == pytest.approx(0.2 + 0.1 * 0.3 / 0.5)
    with pytest.raises(ValueError, match=r"between loads 0.1 and 0.3 \(it goes from 1.00 to 0.50\)"):
        half_load(points, 1)


def test_extrapolation_is_a_least_squares_line_with_its_error() -> None:
    sizes = [100, 200, 400, 800, 1_600] * 40
    noise = 0.01 * torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = [0.14 + 0.8 * n**-0.5 + float(e) for n, e in zip(sizes, noise, strict=True)]
    limit, error = extrapolate(sizes, values, 0.5)
    x = torch.tensor(sizes).double() ** -0.5
    assert limit == pytest.approx(0.14, abs=3 * error)
    spread = 0.01 * math.sqrt(1 / 200 + float(x.mean() ** 2 / (x - x.mean()).square().sum()))
    assert error == pytest.approx(spread, rel=0.15)


def test_dense_capacity_is_the_formula() -> None:
    assert dense_capacity(100, 2) == pytest.approx(100 / (2 * 1 * math.log(100)))
    assert dense_capacity(100, 4) == pytest.approx(1e6 / (2 * 15 * math.log(100)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrupted(torch.ones(1, 2), 1.5, torch.Generator()), "from 0 to 1; got 1.5"),
        (lambda: sweep(ebm.Hopfield.store, 10, [0]), "counts=...\\)` must be at least 1; got 0"),
        (lambda: sweep(ebm.Hopfield.store, 10, [3], seeds=0), "seeds=...\\)` must be at least 1; got 0"),
        (lambda: extrapolate([1, 2], [1.0, 2.0], 0.5), "at least three values"),
        (lambda: projection_load(0.5), "below one half; got 0.5"),
    ],
)
def test_what_does_not_fit_is_refused(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
