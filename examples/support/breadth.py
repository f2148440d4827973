"""Contenders at equal executed FLOPs: their curves, the table, the closing sentence, the file of figures and the picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ebm
from ebm.environment import environment
from ebm.files import write_figure, write_text
from support.landscapes import Task

__all__ = ["Result", "compare", "picture", "print_table", "verdict", "write_json"]

WIDTHS = (1, 4, 16, 64)
EVERY = 8  # steps between two drops
LONGEST = 400  # steps of a contender: by then a descent rests, and more would change nothing
POLISH = 64  # steps of descent that end a Langevin run: noise alone never rests at the bottom


@dataclass(frozen=True)
class Curve:
    """A contender: its gap to the lowest energy at each budget, (budgets, seeds, instances)."""

    name: str
    width: int
    drops: bool
    gap: Tensor

    def solved(self, task: Task) -> Tensor:
        """The share of solved problems, (budgets, seeds)."""
        return (self.gap <= task.solved).double().mean(2)


@dataclass(frozen=True)
class Result:
    """All contenders on one task, and the budgets in evaluations and executed FLOPs a sample."""

    task: Task
    evals: list[int]
    flops: list[int]
    curves: list[Curve]


def compare(task: Task, seeds: int, evals: int) -> Result:
    """Every contender at budgets that double from 16 evaluations a sample to ``evals``."""
    x = torch.cat([task.x] * seeds)
    budgets = [2**k for k in range(4, evals.bit_length()) if 2**k <= evals]
    first = ebm.infer(task.model, x, steps=0, generator=torch.Generator().manual_seed(0))
    price = int(first.flops_per_sample[0])
    limits = [price * budget for budget in budgets]
    found = [_widths(task, x, width, drops, limits) for width in WIDTHS for drops in (False, True)[: 1 + (width > 1)]]
    found += [_langevin(task, x, budgets), _random(task, x, budgets, price)]
    energies = torch.stack([energy for *_, energy in found]).unflatten(2, (seeds, -1))
    # where the least energy is not known, a contender may have gone below the least known
    lowest = energies.amin((0, 1, 2)).minimum(task.lowest)
    curves = [
        Curve(name, width, drops, own - lowest) for (name, width, drops, _), own in zip(found, energies, strict=True)
    ]
    return Result(task, budgets, limits, curves)


def _widths(task: Task, x: Any, width: int, drops: bool, flops: list[int]) -> tuple[str, int, bool, Tensor]:
    """Descent from ``width`` starts a sample."""
    inner = ebm.AdaptiveDescent()
    solver = ebm.Restarts(width, inner, every=EVERY if drops else None) if width > 1 else inner
    name = "one start" if width == 1 else f"{width} starts" + (", halved" if drops else "")
    return name, width, drops, _along(task.model, x, solver, flops)


def _along(model: ebm.Energy, x: Any, solver: ebm.Solver, flops: list[int]) -> Tensor:
    """The best energy of each sample when it had executed no more than each budget, (budgets, B)."""
    generator = torch.Generator().manual_seed(0)
    limits = torch.tensor(flops)[:, None]
    best: Any = None
    stream = ebm.stream(
        model, x, adjoint=ebm.Detached(), steps=LONGEST, solver=solver, keep="best", generator=generator, compact=True
    )
    for item in stream:
        assert item.energy is not None
        within = item.flops_per_sample <= limits
        best = item.energy.expand(within.shape) if best is None else torch.where(within, item.energy, best)
        if bool((item.flops_per_sample >= flops[-1]).all()):
            break
    return best


def _langevin(task: Task, x: Any, budgets: list[int]) -> tuple[str, int, bool, Tensor]:
    """One start with noise, each budget ending in a descent; the temperature with the smallest mean gap at the largest budget."""
    tried = []
    for temperature in task.temperatures:
        solver = ebm.Langevin(task.step, temperature)
        # the same generator gives each budget the same path, so a longer one goes on from a shorter one
        walk: Any = ebm.infer(
            task.model, x, steps=0, solver=solver, keep="best", generator=torch.Generator().manual_seed(0)
        )
        rows, taken = [], 0
        for budget in budgets:
            noisy = max(budget // 2, budget - POLISH) - 2
            walk = ebm.infer(task.model, x, steps=noisy - taken, solver=solver, keep="best", resume=walk)
            taken = noisy
            rows.append(ebm.infer(task.model, x, steps=budget - noisy - 2, start=walk.z).energy)
        tried.append((torch.stack(rows), temperature))
    energy, temperature = min(tried, key=lambda found: found[0][-1].mean().item())
    return f"Langevin, T = {temperature:g}, then descent", 1, False, energy


def _random(task: Task, x: Any, budgets: list[int], price: int) -> tuple[str, int, bool, Tensor]:
    """The best of as many random points as the budget can evaluate without their forces."""
    model = task.model
    with torch.no_grad(), ebm.FlopCounter() as counter:
        model(model.init_latent(x, _draw(len(x), 0, 1)), x)
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    rows, drawn = [], 0
    with torch.no_grad():
        for budget in budgets:
            count = budget * price * len(x) // counter.flops
            while drawn < count:
                some = min(count - drawn, 32)
                wide = x.repeat_interleave(some, 0)
                energy = model(model.init_latent(wide, _draw(len(x), drawn, some)), wide)
                least, drawn = least.minimum(energy.view(-1, some).amin(1)), drawn + some
            rows.append(least)
    return "random points, not settled", 0, False, torch.stack(rows)


def _draw(batch: int, first: int, count: int) -> ebm.Draw:
    return ebm.Draw(torch.arange(batch).repeat_interleave(count), torch.arange(first, first + count).repeat(batch))


def print_table(result: Result) -> None:
    """Mean gap, and the share of solved problems with its standard deviation over seeds, at some budgets."""
    chosen = list(range(len(result.evals)))[::-2][::-1]
    task, seeds = result.task, result.curves[0].gap.shape[1]
    print(f"\n{task.name}: mean gap, and problems solved (gap <= {task.solved:g}) in %, over {seeds} seeds")
    lines = [["FLOPs a sample", *(f"{result.flops[k]:,}" for k in chosen)]]
    for curve in result.curves:
        solved, gap = 100 * curve.solved(task), curve.gap.mean((1, 2))
        spread = solved.std(1) if seeds > 1 else torch.zeros(len(gap))
        lines.append([curve.name, *(f"{gap[k]:.3f}  {solved[k].mean():3.0f} +- {spread[k]:2.0f}" for k in chosen)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    for line in lines:
        print(
            "  ".join(
                part.rjust(w) if k else part.ljust(w) for k, (part, w) in enumerate(zip(line, widths, strict=True))
            )
        )


def verdict(result: Result) -> str:
    """One sentence, from the numbers: which contender wins at which budget."""
    gaps = torch.stack([curve.gap.mean((1, 2)) for curve in result.curves])
    best = gaps.argmin(0).tolist()
    spans: list[tuple[str, int, int]] = []
    for budget, index in zip(result.flops, best, strict=True):
        name = result.curves[index].name
        spans = (
            [*spans[:-1], (name, spans[-1][1], budget)]
            if spans and spans[-1][0] == name
            else [*spans, (name, budget, budget)]
        )
    said = ", ".join(
        f"{name} ({low:,})" if low == high else f"{name} ({low:,} to {high:,})" for name, low, high in spans
    )
    return f"{result.task.name}: the smallest mean gap has, by FLOPs a sample: {said}."


def write_json(path: Path, results: list[Result], sentences: list[str], smoke: bool) -> None:
    """All figures, every seed, with machine and versions."""
    facts = {
        **environment(),
        "smoke": smoke,
    }
    tasks = [
        {
            "task": result.task.name,
            "solved_within": result.task.solved,
            "evaluations": result.evals,
            "flops_a_sample": result.flops,
            "contenders": [
                {
                    "name": curve.name,
                    "mean_gap_by_seed": curve.gap.mean(2).T.tolist(),
                    "solved_by_seed": curve.solved(result.task).T.tolist(),
                }
                for curve in result.curves
            ],
        }
        for result in results
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"facts": facts, "tasks": tasks, "verdict": sentences}, indent=1))
    print(f"wrote {path}")


def picture(path: Path, results: list[Result]) -> None:
    """Gap and share of solved problems against executed FLOPs, one curve a width; bands span the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, axes = plt.subplots(2, len(results), figsize=(4 * len(results), 6), sharex="col", layout="constrained")
    for column, result in enumerate(results):
        upper, lower = axes[0][column], axes[1][column]
        for curve in result.curves:
            gap = curve.gap.mean(2)
            _draw_curve(upper, lower, result, curve, gap)
        upper.set(xscale="log", yscale="log", title=result.task.name)
        lower.set(xscale="log", xlabel="executed FLOPs a sample", ylim=(-3, 103))
        upper.yaxis.set_minor_formatter(NullFormatter())
        for part in (upper, lower):
            part.grid(alpha=0.25)
    axes[0][0].set_ylabel("mean energy gap")
    axes[1][0].set_ylabel("problems solved, %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure, 150)
    plt.close(figure)
    print(f"wrote {path}")


_FLOOR = 1e-3
_COLOURS = {1: "#d94801", 4: "#9ecae1", 16: "#4292c6", 64: "#08306b"}


def _draw_curve(upper: Any, lower: Any, result: Result, curve: Curve, gap: Tensor) -> None:
    noisy, random = curve.name.startswith("Langevin"), curve.width == 0
    label = "Langevin noise, then descent" if noisy else curve.name
    colour = "grey" if noisy or random else _COLOURS[curve.width]
    style = ":" if random else "--" if curve.drops else "-." if noisy else "-"
    for axes, values in ((upper, gap), (lower, 100 * curve.solved(result.task))):
        low = values.clamp_min(_FLOOR) if axes is upper else values
        axes.plot(result.flops, low.mean(1), style, color=colour, label=label, linewidth=1.6)
        axes.fill_between(result.flops, low.amin(1), low.amax(1), color=colour, alpha=0.12, linewidth=0)
