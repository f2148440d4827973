"""Sentences, file and picture of `capacity`."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ebm.environment import environment
from ebm.files import write_figure, write_text
from hebbian.memory.capacity import HOPFIELD_CAPACITY, dense_capacity, extrapolate, hopfield_overlap, projection_load
from support.loads import Cliff, Growth, Noise

__all__ = ["exponent", "limits", "picture", "sentences", "write_json"]

POWERS = (1 / 2, 2 / 3)
"""Of the size, by which half loads are extrapolated: that of the fluctuations of a field, and a steeper one beside it."""


def limits(cliffs: list[Cliff]) -> dict[float, tuple[float, float]]:
    """The half load for infinite size and its standard error, for each power."""
    sizes = [cliff.points[0].units for cliff in cliffs for _ in cliff.halves]
    halves = [half for cliff in cliffs for half in cliff.halves]
    return {power: extrapolate(sizes, halves, power) for power in POWERS if len(set(sizes)) > 2}


def exponent(growth: Growth) -> tuple[float, float]:
    """The slope of log capacity over log size, and its standard error; over all seeds."""
    pairs = [
        (math.log(n), math.log(count))
        for n, counts in zip(growth.units, growth.counts, strict=True)
        for count in counts
    ]
    if len(pairs) < 3:
        return math.nan, math.nan
    x, y = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    x, y = x - x.mean(), y - y.mean()
    slope = float((x * y).sum() / x.square().sum())
    error = float((y - slope * x).square().sum() / ((len(x) - 2) * x.square().sum())) ** 0.5
    return slope, error


def sentences(found: dict[str, Any]) -> list[str]:
    """What was found, beside what theory says."""
    said = []
    for power, (limit, error) in limits(found["hebb_cliff"]).items():
        said.append(
            f"Hebb: the load of half recall, extrapolated by N^-{power:.2f}, is {limit:.4f} +- {error:.4f} (theory {HOPFIELD_CAPACITY:.4f})."
        )
    for cliff in found["stores"]:
        where = (
            f"is half recalled at a load of {statistics.mean(cliff.halves):.3f}"
            if cliff.halves
            else "never falls to half recall"
        )
        last = cliff.points[-1]
        said.append(f"{cliff.name}, {last.units} units: {where}; recall {last.mean:.3f} with {last.count} patterns.")
    for cliff in found["projections"]:
        if cliff.halves:
            said.append(
                f"{cliff.name}, {cliff.points[0].units} units: half recalled at a load of {statistics.mean(cliff.halves):.3f} "
                f"(one-step theory {projection_load(0.1):.3f})."
            )
    slope, error = exponent(found["cubic"])
    said.append(f"Cubic energy: capacity grows as N^{slope:.2f} +- {error:.2f} (theory 2).")
    for noise in found["modern"]:
        levels = [
            f"{level:g}: {statistics.mean(own):.3f} ({statistics.mean(ceiling):.3f})"
            for level, own, ceiling in zip(noise.noise, noise.recalled, noise.nearest, strict=True)
        ]
        said.append(
            f"Modern, beta {noise.beta:g}, recall at noise (and the nearest pattern's): " + ", ".join(levels) + "."
        )
    return said


def write_json(path: Path, found: dict[str, Any], said: list[str], smoke: bool) -> None:
    """All figures, with machine and versions."""
    facts = {
        "smoke": smoke,
        **environment(),
    }
    whole = {
        name: [asdict(p) for p in part] if isinstance(part, list) else asdict(part) for name, part in found.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"facts": facts, "said": said, **whole}, indent=1))
    print(f"figures: {path}")


def picture(path: Path, found: dict[str, Any]) -> None:
    """Six panels, theory in black."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8), layout="constrained")
    _cliffs(axes[0, 0], found["hebb_cliff"], "Hebb's rule, from the patterns")
    axes[0, 0].axvline(HOPFIELD_CAPACITY, color="black", linestyle=":", label=f"theory {HOPFIELD_CAPACITY:.3f}")
    _extrapolation(axes[0, 1], found["hebb_cliff"])
    _cliffs(axes[0, 2], found["stores"], f"three stores, {found['stores'][0].points[0].units} units", by="name")
    loads = [k / 1000 for k in range(1, 200)]
    axes[0, 2].plot(
        loads,
        [float(hopfield_overlap(load) > 0.9) for load in loads],
        ":",
        color="black",
        label="Hebb, theory, infinite size",
    )
    _cliffs(axes[1, 0], found["projections"], "pseudo-inverse, one unit in ten turned over")
    theory = projection_load(0.1)
    axes[1, 0].axvline(theory, color="black", linestyle=":", label=f"one-step theory {theory:.2f}")
    _growth(axes[1, 1], found["cubic"])
    _noise(axes[1, 2], found["modern"])
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    write_figure(path, figure, 110)
    pyplot.close(figure)
    print(f"picture: {path}")


def _cliffs(axis: Any, cliffs: list[Cliff], title: str, by: str = "units") -> None:
    for k, cliff in enumerate(cliffs):
        loads = [point.load for point in cliff.points]
        colour = f"C{k}"
        for point in cliff.points:
            axis.plot([point.load] * len(point.fractions), point.fractions, ".", color=colour, alpha=0.35)
        label = cliff.name if by == "name" else f"{cliff.points[0].units} units"
        axis.plot(loads, [point.mean for point in cliff.points], color=colour, label=label)
    axis.set(title=title, xlabel="load, patterns / units", ylabel="share recalled (overlap > 0.9)", ylim=(-0.03, 1.03))


def _extrapolation(axis: Any, cliffs: list[Cliff]) -> None:
    power = POWERS[0]
    for cliff in cliffs:
        axis.plot([cliff.points[0].units ** -power] * len(cliff.halves), cliff.halves, ".", color="C0", alpha=0.5)
    for k, (power, (limit, error)) in enumerate(limits(cliffs).items()):
        ends = [cliff.points[0].units for cliff in cliffs if cliff.halves]
        rise = statistics.mean(cliffs[0].halves) - limit
        sizes = [ends[0] * 1.3**j for j in range(60)]
        axis.plot(
            [0.0, *(n ** -POWERS[0] for n in reversed(sizes))],
            [limit, *(limit + rise * (n / ends[0]) ** -power for n in reversed(sizes))],
            color=f"C{k + 1}",
            label=f"by $N^{{-{power:.2f}}}$: {limit:.4f} ± {error:.4f}",
        )
    axis.plot([0], [HOPFIELD_CAPACITY], "k*", markersize=12, label=f"theory {HOPFIELD_CAPACITY:.4f}")
    axis.set(
        title="Hebb's rule: the cliff for infinite size", xlabel="$N^{-1/2}$", ylabel="load of half recall, every seed"
    )


def _growth(axis: Any, growth: Growth) -> None:
    slope, error = exponent(growth)
    for units, counts in zip(growth.units, growth.counts, strict=True):
        axis.loglog([units] * len(counts), counts, "o", color="C0", alpha=0.6)
    if growth.counts[-1]:
        last = statistics.mean(growth.counts[-1])
        axis.loglog(
            growth.units, [last * (n / growth.units[-1]) ** 2 for n in growth.units], "k:", label="theory: slope 2"
        )
    clean = [dense_capacity(n, 3) for n in growth.units]
    axis.loglog(growth.units, clean, "k--", label="theory: no unit wrong")
    axis.plot([], [], "o", color="C0", label=f"half recall: slope {slope:.2f} ± {error:.2f}")
    axis.set(title="cubic energy", xlabel="units", ylabel="patterns")


def _noise(axis: Any, levels: list[Noise]) -> None:
    for k, noise in enumerate(levels):
        axis.plot(
            noise.noise,
            [statistics.mean(own) for own in noise.recalled],
            "o-",
            color=f"C{k}",
            label=f"beta {noise.beta:g}",
        )
    ceiling = [statistics.mean(own) for own in levels[0].nearest]
    axis.plot(levels[0].noise, ceiling, "k:", label="the nearest pattern is the right one")
    axis.set(
        title="modern, 10,000 patterns in 64 dimensions",
        xlabel="noise over length",
        ylabel="share recalled (overlap > 0.9)",
    )
