"""How much a memory holds: recall against load and noise, finite sizes, and what theory says."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import ebm
from ebm import Objective, Solver

__all__ = [
    "HOPFIELD_CAPACITY",
    "Recall",
    "corrupted",
    "dense_capacity",
    "extrapolate",
    "half_load",
    "hopfield_overlap",
    "projection_load",
    "random_patterns",
    "recalled",
    "sweep",
]

_CYCLIC = ebm.Asynchronous("cyclic")


def random_patterns(count: int, units: int, generator: torch.Generator) -> Tensor:
    """Patterns of +-1 drawn by lot, (count, units), float32."""
    return torch.randint(2, (count, units), generator=generator).float() * 2 - 1


def corrupted(patterns: Tensor, flips: float, generator: torch.Generator) -> Tensor:
    """Every pattern with exactly ``round(flips * N)`` of its units turned over, which ones by lot.

    Args:
        patterns: (P, N), +-1.
        flips: a share, from 0 to 1.
        generator: of the lots.

    Raises:
        ValueError: the share is not from 0 to 1.

    Example:
        >>> import torch
        >>> from hebbian.memory.capacity import corrupted
        >>> patterns = torch.ones(3, 10)
        >>> corrupted(patterns, 0.2, torch.Generator().manual_seed(0)).sum(1)
        tensor([6., 6., 6.])
    """
    if not 0 <= flips <= 1:
        raise ValueError(f"`flips` is a share of the units, from 0 to 1; got {flips}. Pass 0.1 for one unit in ten.")
    rank = torch.rand(patterns.shape, generator=generator).argsort(1).argsort(1)
    return torch.where(rank < round(flips * patterns.shape[1]), -patterns, patterns)


def recalled(
    model: Objective,
    patterns: Tensor,
    queries: Tensor,
    *,
    overlap: float = 0.9,
    steps: int = 100,
    solver: Solver = _CYCLIC,
) -> Tensor:
    r"""Which patterns are recalled: $\tfrac1N \xi \cdot s$ above the criterion once the query has settled.

    Args:
        model: a memory of states +-1.
        patterns: (P, N), what should be recalled.
        queries: (P, N), what each is asked with.
        overlap: the criterion, below 1; 0.9 forgives one unit in twenty.
        steps: sweeps, at most.
        solver: asynchronous, units in order, where none is given.

    Returns:
        bool (P,).

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory.capacity import corrupted, random_patterns, recalled
        >>> generator = torch.Generator().manual_seed(0)
        >>> patterns = random_patterns(5, 100, generator)
        >>> recalled(ebm.Hopfield.store(patterns), patterns, corrupted(patterns, 0.1, generator))
        tensor([True, True, True, True, True])
    """
    final = ebm.infer(model, queries, steps=steps, solver=solver, adjoint=ebm.Detached(), keep="last", compact=True).z
    return (final * patterns).mean(1) > overlap


@dataclass(frozen=True)
class Recall:
    """One point of a sweep.

    Attributes:
        units: N.
        count: P.
        load: P / N.
        flips: share of units turned over in each query.
        fractions: share of the patterns asked for that were recalled, one number a seed.
    """

    units: int
    count: int
    flips: float
    fractions: tuple[float, ...]

    @property
    def load(self) -> float:
        """P / N."""
        return self.count / self.units

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.fractions) / len(self.fractions)


def sweep(
    make: Callable[[Tensor], Objective],
    units: int,
    counts: Sequence[int],
    *,
    flips: float = 0.0,
    seeds: int = 1,
    asked: int = 500,
    overlap: float = 0.9,
    steps: int = 100,
) -> list[Recall]:
    """Recall of random patterns at several loads.

    Args:
        make: from patterns (P, N) to a memory; ``ebm.Hopfield.store`` or ``ebm.DenseMemory``, say.
        units: N, at least 1.
        counts: P of each point, each at least 1.
        flips: share of units turned over in each query; 0 asks whether patterns are stable.
        seeds: draws of the patterns, at least 1.
        asked: of more patterns than so many, the first so many are asked for.
        overlap: a pattern is recalled if more than this is left of its overlap with the answer.
        steps: sweeps, at most.

    Raises:
        ValueError: no units, seeds or patterns.

    Example:
        >>> import ebm
        >>> from hebbian.memory.capacity import sweep
        >>> low, high = sweep(ebm.Hopfield.store, 200, [10, 60])
        >>> low.mean, high.mean < 0.5
        (1.0, True)
    """
    for name, value in (("units", units), ("seeds", seeds), ("asked", asked), ("counts", min(counts, default=0))):
        if value < 1:
            raise ValueError(f"`sweep({name}=...)` must be at least 1; got {value}.")
    points = []
    for count in counts:
        fractions = []
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            patterns = random_patterns(count, units, generator)
            wanted = patterns[:asked]
            with warnings.catch_warnings():  # that some memories are too full is what is asked
                warnings.simplefilter("ignore", ebm.CapacityWarning)
                memory = make(patterns)
            found = recalled(memory, wanted, corrupted(wanted, flips, generator), overlap=overlap, steps=steps)
            fractions.append(float(found.double().mean()))
        points.append(Recall(units, count, flips, tuple(fractions)))
    return points


def half_load(points: Sequence[Recall], seed: int | None = None) -> float:
    """The load at which half of the patterns are recalled, on a straight line between the points around it.

    Args:
        points: of one size, by rising load.
        seed: which seed's fractions; None takes the mean over seeds.

    Raises:
        ValueError: recall does not fall through one half within the points.
    """
    heights = [point.mean if seed is None else point.fractions[seed] for point in points]
    for k in range(len(points) - 1, 0, -1):
        if heights[k - 1] >= 0.5 > heights[k]:
            share = (heights[k - 1] - 0.5) / (heights[k - 1] - heights[k])
            return points[k - 1].load + share * (points[k].load - points[k - 1].load)
    raise ValueError(
        f"recall does not fall through one half between loads {points[0].load:.3g} and {points[-1].load:.3g} "
        f"(it goes from {heights[0]:.2f} to {heights[-1]:.2f}). Sweep a wider range."
    )


def extrapolate(units: Sequence[int], values: Sequence[float], power: float) -> tuple[float, float]:
    r"""The limit of a quantity for infinite size, $v(N) = v_\infty + b N^{-p}$, by least squares.

    Args:
        units: sizes, at least three values.
        values: one a size; several values of one size may be given.
        power: $p$, above 0.

    Returns:
        $v_\infty$ and its standard error.

    Raises:
        ValueError: fewer than three values, or as many sizes as values do not fit.

    Example:
        >>> from hebbian.memory.capacity import extrapolate
        >>> limit, error = extrapolate([100, 400, 1600], [0.3, 0.2, 0.15], 0.5)
        >>> round(limit, 6), error < 1e-6
        (0.1, True)
    """
    if len(units) != len(values) or len(values) < 3:
        raise ValueError(
            f"`extrapolate` wants at least three values, one a size; got {len(units)} sizes and {len(values)} values."
        )
    design = torch.stack([torch.ones(len(units)).double(), torch.tensor(units).double() ** -power], dim=1)
    wanted = torch.tensor(values, dtype=torch.float64)
    inverse = torch.linalg.inv(design.T @ design)
    solved = inverse @ design.T @ wanted
    variance = (wanted - design @ solved).square().sum() / (len(values) - 2)
    return float(solved[0]), float((variance * inverse[0, 0]).sqrt())


def hopfield_overlap(load: float) -> float:
    r"""What is left of a pattern's overlap at rest, for Hebb's rule at zero temperature and infinite size.

    The largest root of $m = \mathrm{erf}(y)$, with $y \big( \sqrt{2 \alpha} + \tfrac{2}{\sqrt\pi} e^{-y^2} \big) = \mathrm{erf}(y)$; 0 where there is
    none but zero, beyond the capacity $\alpha_c = 0.138$.

    Args:
        load: $\alpha = P / N$, at least 0.

    Example:
        >>> from hebbian.memory.capacity import hopfield_overlap
        >>> round(hopfield_overlap(0.13), 3), hopfield_overlap(0.14)
        (0.987, 0.0)

    Source:
        Amit, Gutfreund and Sompolinsky (1985), Storing infinite numbers of patterns in a spin-glass model of neural networks, Physical
        Review Letters 55: the replica-symmetric equations, reduced to one unknown.
    """
    y = torch.linspace(0.01, 8, 80_000, dtype=torch.float64)
    right = torch.erf(y) - y * (math.sqrt(2 * load) + 2 / math.sqrt(math.pi) * torch.exp(-y.square()))
    above = (right >= 0).nonzero()
    return float(torch.erf(y[above[-1, 0]])) if len(above) else 0.0


def _critical() -> float:
    y = torch.linspace(0.5, 4, 100_000, dtype=torch.float64)
    root = torch.erf(y) / y - 2 / math.sqrt(math.pi) * torch.exp(-y.square())
    return float(root.amax().square() / 2)


HOPFIELD_CAPACITY: float = _critical()
"""The load beyond which `hopfield_overlap` is zero, 0.1379."""


def projection_load(flips: float) -> float:
    r"""Up to which load the first step of the pseudo-inverse rule (without diagonal) improves a query, for infinite size.

    With the overlap $m = 1 - 2 f$ of the query, the field of a unit has mean $(1 - \alpha) m$ along the pattern and variance
    $\alpha (1 - \alpha)(1 - m^2)$, so that the next overlap is $\mathrm{erf}\big( m \sqrt{(1 - \alpha) / (2 \alpha (1 - m^2))} \big)$, which is above
    $m$ for loads below the one that is returned.

    Args:
        flips: $f$, from above 0 to below one half.

    Raises:
        ValueError: the share is out of its range.

    Example:
        >>> from hebbian.memory.capacity import projection_load
        >>> round(projection_load(0.1), 3)
        0.52

    Source:
        The argument of Kinzel (1985) for Hebb's rule, one parallel step with independent noise, carried over to the projection of Kanter and
        Sompolinsky (1987); the derivation is in the text above.
    """
    if not 0 < flips < 0.5:
        raise ValueError(f"`flips` must be above 0 and below one half; got {flips}. Pass 0.1, say.")
    m = 1 - 2 * flips
    wanted = float(torch.erfinv(torch.tensor(m, dtype=torch.float64))) ** 2 * 2 * (1 - m * m) / (m * m)
    return 1 / (1 + wanted)


def dense_capacity(units: int, power: int) -> float:
    r"""How many random patterns a dense memory with $F(x) = x^n$ keeps without one wrong unit, $\frac{N^{n-1}}{2 (2n - 3)!! \, \ln N}$.

    Args:
        units: N, at least 2.
        power: n, at least 2.

    Example:
        >>> from hebbian.memory.capacity import dense_capacity
        >>> round(dense_capacity(100, 3))
        362

    Source: Krotov and Hopfield (2016), Dense associative memory for pattern recognition, equation 6.
    """
    odd = math.prod(range(1, 2 * power - 2, 2))
    return units ** (power - 1) / (2 * odd * math.log(units))
