"""The five sweeps of `capacity`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

import ebm
from hebbian.memory import HopfieldMemory, PseudoInverse, SoftmaxMemory, Store, Storkey
from hebbian.memory.capacity import Recall, half_load, sweep

__all__ = ["Cliff", "Growth", "Noise", "cubic", "hebb_cliff", "modern", "projections", "stores"]

STEPS = 200
LOADS = {  # around each size's cliff, which is less steep the smaller the size
    250: (0.13, 0.15, 0.17, 0.19, 0.21, 0.24, 0.28),
    500: (0.13, 0.14, 0.15, 0.16, 0.17, 0.18, 0.20, 0.23),
    1_000: (0.13, 0.14, 0.15, 0.155, 0.16, 0.17, 0.18, 0.20),
    2_000: (0.13, 0.14, 0.145, 0.15, 0.155, 0.16, 0.17, 0.18),
    4_000: (0.135, 0.14, 0.145, 0.15, 0.155, 0.16),
}
SEEDS = {250: 12, 500: 12, 1_000: 8, 2_000: 4, 4_000: 3}


@dataclass(frozen=True)
class Cliff:
    """Recall of one kind of memory and size against load.

    Attributes:
        name: of the memory.
        points: by rising load.
        halves: the load of half recall of each seed; empty where recall does not fall that far.
    """

    name: str
    points: list[Recall]
    halves: list[float]


@dataclass(frozen=True)
class Growth:
    """Capacity against size.

    Attributes:
        units: sizes.
        counts: how many patterns are half recalled at each, a list of seeds.
        curves: the points that this was read off.
    """

    units: list[int]
    counts: list[list[float]]
    curves: list[list[Recall]]


@dataclass(frozen=True)
class Noise:
    """Recall of a modern Hopfield network against noise.

    Attributes:
        beta: inverse temperature.
        noise: standard deviation of the noise over the length of a pattern.
        recalled: of each noise, a list of seeds.
        nearest: share of queries whose nearest pattern is the right one, a list of seeds: no memory can do better.
    """

    beta: float
    noise: list[float]
    recalled: list[list[float]]
    nearest: list[list[float]]


def hebb_cliff(smoke: bool, largest: int) -> list[Cliff]:
    """Hebb's rule, several sizes, from the patterns themselves."""
    if smoke:
        return [_cliff("Hebb", ebm.Hopfield.store, 60, (0.1, 0.2, 0.5), seeds=2)]
    sizes = [size for size in LOADS if size <= largest]
    return [_cliff("Hebb", ebm.Hopfield.store, size, LOADS[size], seeds=SEEDS[size]) for size in tqdm(sizes, "sizes")]


def stores(smoke: bool, largest: int) -> list[Cliff]:
    """Hebb, Storkey and the pseudo-inverse, the same patterns."""
    units, seeds = (40, 1) if smoke else (500, 3)
    loads = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8, 0.998)
    makers = {
        "Hebb": ebm.Hopfield.store,
        "Storkey": partial(_written, Storkey()),
        "pseudo-inverse": partial(_written, PseudoInverse()),
    }
    return [_cliff(name, make, units, loads, seeds=seeds) for name, make in tqdm(makers.items(), "stores")]


def projections(smoke: bool, largest: int) -> list[Cliff]:
    """The pseudo-inverse, from queries with one unit in ten turned over."""
    loads = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
    sizes = {40: 1} if smoke else {250: 4, 500: 3, 1_000: 2}
    make = partial(_written, PseudoInverse())
    return [
        _cliff("pseudo-inverse, 10 % flipped", make, size, loads, flips=0.1, seeds=seeds)
        for size, seeds in tqdm(sizes.items(), "pseudo-inverse")
    ]


def cubic(smoke: bool, largest: int) -> Growth:
    """A dense memory with cubic energy, several sizes, from the patterns themselves."""
    sizes = [12, 16] if smoke else [32, 48, 64, 96, 128, 160]
    shares = (0.05, 0.2, 0.6) if smoke else (0.05, 0.07, 0.085, 0.10, 0.115, 0.13, 0.15, 0.18)
    make = partial(ebm.DenseMemory, separation=ebm.Polynomial(3))
    curves, counts = [], []
    for units in tqdm(sizes, "cubic"):
        points = sweep(make, units, [round(share * units**2) for share in shares], seeds=3, asked=200, steps=STEPS)
        curves.append(points)
        counts.append([units * load for load in _halves(points)])
    return Growth(sizes, counts, curves)


def modern(smoke: bool, largest: int) -> list[Noise]:
    """A modern Hopfield network, many patterns in few dimensions, against noise."""
    count, size, seeds, asked = (200, 16, 1, 50) if smoke else (10_000, 64, 3, 1_000)
    noise = [0.4, 0.8, 1.2, 1.6, 2.0]
    return [_modern(beta, noise, count, size, seeds, asked) for beta in tqdm((8.0, 16.0, 32.0), "modern")]


def _written(store: Store, patterns: Tensor) -> HopfieldMemory:
    memory = HopfieldMemory(patterns.shape[1], store)
    memory.add(patterns)
    return memory


def _cliff(name: str, make, units: int, loads: tuple[float, ...], *, flips: float = 0.0, seeds: int) -> Cliff:
    counts = [max(1, round(load * units)) for load in loads]
    points = sweep(make, units, counts, flips=flips, seeds=seeds, steps=STEPS)
    return Cliff(name, points, _halves(points))


def _halves(points: list[Recall]) -> list[float]:
    """The load of half recall, seed by seed, or nothing where some seed does not fall that far."""
    try:
        return [half_load(points, seed) for seed in range(len(points[0].fractions))]
    except ValueError:
        return []


def _modern(beta: float, noise: list[float], count: int, size: int, seeds: int, asked: int) -> Noise:
    recalled: list[list[float]] = [[] for _ in noise]
    nearest: list[list[float]] = [[] for _ in noise]
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        patterns = torch.nn.functional.normalize(torch.randn(count, size, generator=generator), dim=1)
        memory, wanted = SoftmaxMemory(patterns, beta=beta), torch.arange(asked)
        for k, level in enumerate(noise):
            query = patterns[:asked] + level / size**0.5 * torch.randn(asked, size, generator=generator)
            answer = ebm.infer(memory, query, steps=20).answer
            overlap = (torch.nn.functional.normalize(answer, dim=1) * patterns[:asked]).sum(1)
            recalled[k].append(float((overlap > 0.9).double().mean()))
            nearest[k].append(float((torch.cdist(query, patterns).argmin(1) == wanted).double().mean()))
    return Noise(beta, noise, recalled, nearest)
