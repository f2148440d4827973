"""The table, the closing sentence, the file of figures and the picture of an anytime job."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm.environment import environment
from ebm.files import write_figure, write_text
from support.data import Split
from support.evaluation import Curve, Entry

__all__ = ["picture", "print_exits", "print_table", "verdict", "write_json"]


def print_table(entries: list[Entry]) -> None:
    """One line for each contender and budget."""
    header = ("model", "parameters", "steps", "accuracy, %", "all seeds", "FLOPs/sample", "ms/sample", "budget")
    lines: list[tuple[str, ...]] = [header]
    for e in entries:
        steps = "-" if e.steps is None else f"{e.steps:.3g}"
        seeds = " ".join(f"{100 * a:.1f}" for a in e.accuracy)
        spread = f"{100 * e.mean:.2f} +- {100 * _spread(e.accuracy):.2f}"
        lines.append(
            (e.name, f"{e.parameters:,}", steps, spread, seeds, f"{e.flops:,.0f}", f"{e.milliseconds:.3f}", e.budget)
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    print()
    for line in lines:
        print(
            "  ".join(
                part.ljust(w) if k in (0, 7) else part.rjust(w)
                for k, (part, w) in enumerate(zip(line, widths, strict=True))
            )
        )


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def print_exits(curves: list[Curve]) -> None:
    """What early exit saved, and what staying longer cost."""
    print()
    for c in curves:
        mean = [statistics.mean(column) for column in zip(*c.accuracy, strict=True)]
        drop = 100 * (mean[c.trained] - min(mean[c.trained :]))
        print(
            f"{c.name}: early exit at {c.exit.threshold:g} against {c.fewest} steps for all saves {round(100 * c.exit.saved)} % of the FLOPs and loses "
            f"{c.exit.lost:.2f} points; up to {4 * c.trained} steps (training saw at most {c.trained}) lose at most {drop:.2f} points"
        )


def verdict(entries: list[Entry], curves: list[Curve]) -> str:
    """One sentence, from the numbers: what the small model with more steps replaces, or that it does not."""
    best = max((e for e in entries if e.budget == "best on validation"), key=lambda e: e.mean)
    fewer = [e for e in entries if e.steps is None and e.parameters > 2 * best.parameters]
    replaced = [e for e in fewer if best.mean >= e.mean - 0.003]
    better = [e for e in entries if e.steps is None and e.mean > best.mean + 0.003]
    said = f"Settled for {best.steps:.0f} {'step' if best.steps == 1 else 'steps'}, the iterated model of {best.parameters:,} parameters reaches {100 * best.mean:.1f} %"
    if replaced:
        said += ": within 0.3 points of, or above, " + " and ".join(_described(e) for e in replaced)
    else:
        said += " and replaces none of the larger baselines"
    if better:
        said += "; it does not replace " + " or ".join(_described(e) for e in better)
    return said + "."


def _described(e: Entry) -> str:
    return f"the {e.name.split(',')[0]} of {e.parameters:,} ({100 * e.mean:.1f} %, {e.flops / 1e6:.1f} MFLOPs)"


def write_json(path: Path, facts: dict[str, Any], entries: list[Entry], curves: list[Curve], sentence: str) -> None:
    """All figures, with machine and versions."""
    facts = facts | environment()
    rows = [vars(e) for e in entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        path,
        json.dumps(
            {"facts": facts, "table": rows, "curves": [c.as_dict() for c in curves], "verdict": sentence}, indent=1
        ),
    )
    print(f"wrote {path}")


def picture(path: Path, title: str, entries: list[Entry], curves: list[Curve], test: Split) -> None:
    """Accuracy against executed FLOPs, and the images that needed the fewest and the most steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 5), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.9, 1))
    left, right = parts
    axes = left.subplots()
    _draw_curves(axes, curves)
    _draw_baselines(axes, [e for e in entries if e.steps is None])
    axes.set(xscale="log", xlabel="executed FLOPs a sample", ylabel="test accuracy, %", title=title)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    _draw_images(right, curves[-1], test)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure, 150)
    plt.close(figure)
    print(f"wrote {path}")


def _draw_curves(axes: Any, curves: list[Curve]) -> None:
    colours = ("#9ecae1", "#4292c6", "#08519c")
    for curve, colour in zip(curves, colours, strict=False):
        columns = [[100 * value for value in column] for column in zip(*curve.accuracy, strict=True)][1:]
        flops, mean = curve.flops[1:], [statistics.mean(column) for column in columns]
        axes.plot(
            flops,
            mean,
            color=colour,
            marker=".",
            markersize=4,
            linewidth=1.5,
            label=f"{curve.name}, {curve.parameters:,} parameters",
        )
        axes.fill_between(
            flops, [min(c) for c in columns], [max(c) for c in columns], color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(flops[curve.trained - 1], mean[curve.trained - 1], "|", color=colour, markersize=14)
        axes.plot(
            curve.exit.flops,
            100 * statistics.mean(curve.exit.accuracy),
            "*",
            color=colour,
            markersize=13,
            markeredgecolor="black",
            markeredgewidth=0.6,
        )
    axes.plot([], [], "*", color="white", markeredgecolor="black", markersize=11, label="per-sample early exit")
    axes.plot([], [], "|", color="grey", markersize=12, label="the most steps training saw")


def _draw_baselines(axes: Any, baselines: list[Entry]) -> None:
    for entry, marker in zip(baselines, "osD^v", strict=False):
        low, high = 100 * min(entry.accuracy), 100 * max(entry.accuracy)
        axes.plot([entry.flops] * 2, [low, high], color="#d94801", linewidth=1, alpha=0.6)
        axes.plot(
            entry.flops,
            100 * entry.mean,
            marker,
            color="#d94801",
            label=f"{entry.name}, {entry.parameters:,} parameters",
        )


def _draw_images(figure: Any, curve: Curve, test: Split, count: int = 12) -> None:
    steps = torch.tensor(curve.exit.steps[0])
    order = steps.argsort(stable=True)
    parts = figure.subfigures(2, 1)
    for part, rows, what in ((parts[0], order[:count], "fewest"), (parts[1], order.flip(0)[:count], "most")):
        part.suptitle(f"needed the {what} steps ({int(steps[rows].min())}-{int(steps[rows].max())})", fontsize=10)
        for axes, row in zip(part.subplots(3, 4).flat, rows.tolist(), strict=True):
            axes.imshow(_displayed(test.images[row]), cmap="gray_r", interpolation="nearest")
            axes.set_axis_off()


def _displayed(image: Tensor) -> Any:
    scaled = (image - image.min()) / (image.max() - image.min()).clamp_min(1e-6)
    return scaled[0].numpy() if scaled.shape[0] == 1 else scaled.permute(1, 2, 0).numpy()
