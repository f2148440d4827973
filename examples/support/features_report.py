"""Table, sentences, file and picture of `hebbian_features`."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ebm.environment import environment
from ebm.files import write_figure, write_text
from support.dataset import Dataset, Split
from support.features import RULES, View, accuracy, frozen, learned, patches

__all__ = ["Result", "compare", "picture", "print_table", "verdict", "write_json"]

RANDOM = "random, frozen"


@dataclass(frozen=True)
class Result:
    """Of one dataset and one size of layer.

    Attributes:
        name: of the dataset.
        view: how the layer saw it.
        units: of the layer.
        labels: images that the read-out was given.
        accuracy: test accuracy of each contender, in per cent, a number for each seed.
        chosen: activation and penalty of each contender and seed.
        rows: weights of each contender with the first seed, (units, D).
    """

    name: str
    view: View
    units: int
    labels: int
    accuracy: dict[str, list[float]]
    chosen: dict[str, list[str]]
    rows: dict[str, Tensor]

    def margin(self, name: str) -> list[float]:
        """Points above random frozen weights, seed by seed."""
        return [ours - theirs for ours, theirs in zip(self.accuracy[name], self.accuracy[RANDOM], strict=True)]


def compare(data: Dataset, view: View, units: int, labels: int, seeds: int) -> Result:
    """Every contender with every seed; each sees the same patches and the same labelled images."""
    scores: dict[str, list[float]] = {}
    chosen: dict[str, list[str]] = {}
    first: dict[str, Tensor] = {}
    for seed in tqdm(range(seeds), desc=f"{data.name[:24]}, {units} units", leave=False):
        generator = torch.Generator().manual_seed(seed)
        labelled = _labelled(data.train, labels // len(data.classes), generator)
        seen = patches(data.train.images, view).flatten(0, 1)
        seen = seen[torch.randperm(len(seen), generator=generator)[: view.count]]
        weights: dict[str, Tensor | None] = {"pixels": None, **frozen(seen, units, generator)}
        for name, rule in RULES.items():
            weights[name] = learned(rule, seen, units, view, torch.Generator().manual_seed(seed))
        for name, rows in weights.items():
            score, choice = accuracy(rows, data, labelled, view)
            scores.setdefault(name, []).append(score)
            chosen.setdefault(name, []).append(choice)
            if rows is not None:
                first.setdefault(name, rows)
    return Result(data.name, view, units, len(labelled), scores, chosen, first)


def _labelled(train: Split, share: int, generator: torch.Generator) -> Split:
    """As many images of each class, drawn by lot."""
    rows = []
    for label in train.labels.unique():
        of_class = (train.labels == label).nonzero()[:, 0]
        rows.append(of_class[torch.randperm(len(of_class), generator=generator)[:share]])
    return train.take(torch.cat(rows))


def print_table(result: Result) -> None:
    """One line a contender: mean, spread, every seed, margin over random frozen weights."""
    print(f"\n{result.name}: {result.units} units, {result.labels} labels; test accuracy in %")
    wide = max(map(len, result.accuracy))
    print(f"{'features':{wide}}  {'mean':>5} {'sd':>5}  {'above random':>12}  all seeds")
    for name, scores in result.accuracy.items():
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        above = statistics.mean(result.margin(name))
        every = " ".join(f"{score:.1f}" for score in scores)
        print(f"{name:{wide}}  {statistics.mean(scores):5.1f} {spread:5.2f}  {above:+12.1f}  {every}")


def verdict(result: Result) -> str:
    """One sentence from the numbers: who is best, by how much over random and over patches drawn by lot."""
    mean = {name: statistics.mean(scores) for name, scores in result.accuracy.items()}
    best = max(RULES, key=lambda name: mean[name])
    margin = result.margin(best)
    lot = mean[best] - mean["patches drawn by lot"]
    said = "above" if lot > 0 else "below"
    return (
        f"{result.name}, {result.units} units: {best} reaches {mean[best]:.1f} %, {statistics.mean(margin):+.1f} points beside random frozen weights "
        f"(worst seed {min(margin):+.1f}), and is {abs(lot):.1f} points {said} patches drawn by lot."
    )


def write_json(path: Path, results: list[Result], sentences: list[str], smoke: bool) -> None:
    """All figures, with machine and versions."""
    facts = {
        "smoke": smoke,
        **environment(),
        "verdict": sentences,
    }
    entries: list[dict[str, Any]] = [
        {
            "data": result.name,
            "units": result.units,
            "labels": result.labels,
            "accuracy": result.accuracy,
            "chosen": result.chosen,
        }
        for result in results
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"facts": facts, "results": entries}, indent=1))
    print(f"figures: {path}")


def picture(path: Path, results: list[Result]) -> None:
    """Left, every seed of every contender; right, what three of them look like, the first 40 units."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(results[0].accuracy)
    shown = [RANDOM, "SoftHebb", "Krotov-Hopfield"]
    figure = pyplot.figure(figsize=(15, 3.3 * len(results)), layout="constrained")
    parts: Any = figure.subfigures(len(results), 1, squeeze=False)
    for part, result in zip(parts[:, 0], results, strict=True):
        axes = part.subplots(1, 1 + len(shown), gridspec_kw={"width_ratios": [1.5] + [1] * len(shown)})
        _dots(axes[0], result, names)
        for axis, name in zip(axes[1:], shown, strict=True):
            axis.imshow(_sheet(result.rows[name], result.view), interpolation="nearest")
            axis.set_title(f"{name}\n{statistics.mean(result.accuracy[name]):.1f} %", fontsize=9)
            axis.set_axis_off()
    write_figure(path, figure, 110)
    pyplot.close(figure)
    print(f"picture: {path}")


def _dots(axis: Any, result: Result, names: list[str]) -> None:
    for k, name in enumerate(names):
        scores = result.accuracy[name]
        colour = "tab:blue" if name in RULES else "0.5"
        axis.plot(scores, [k] * len(scores), "o", color=colour, alpha=0.6)
        axis.plot([statistics.mean(scores)] * 2, [k - 0.3, k + 0.3], color=colour, linewidth=2)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(f"test accuracy, %, {result.labels} labels")
    axis.set_title(f"{result.name.split(' (')[0]}, {result.units} units", fontsize=9)


def _sheet(rows: Tensor, view: View, across: int = 8, count: int = 40) -> Tensor:
    """The first rows as tiles in colour or grey, each scaled to its own range; a signed one has grey for zero."""
    side, count = view.kernel, min(count, len(rows))
    tiles = rows[:count].view(count, -1, side, side).expand(-1, 3, -1, -1)
    high = tiles.abs().amax((1, 2, 3), keepdim=True)
    tiles = (tiles / high + 1) / 2 if view.signed else (tiles / high).clamp_min(0)
    edged = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=1.0)
    blank = edged.new_ones((-count) % across, *edged.shape[1:])
    grid = torch.cat([edged, blank]).unflatten(0, (-1, across))
    return grid.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
