"""What every benchmark needs: interleaved timing, ratios of medians, a table, and JSON that says where it was measured."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import ebm
from ebm.environment import environment
from ebm.files import write_text
from ebm.objective import Point


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds of each call, taken in turn, so that a machine that slows down slows all of them.

    Args:
        calls: what to time, by name.
        repeats: rounds that count.
        warmup: rounds before, which do not.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def bare_loop(model: ebm.Objective, x: Any, solver: ebm.Solver, steps: int) -> Callable[[], Any]:
    """The same solver in a plain loop, with nothing around it."""

    @torch.no_grad()
    def run() -> Any:
        c = model.condition(x)
        draw: Any = None
        point = model.point(model.init_latent(c, draw), c)
        memory = solver.init(point)

        def field(z: Any) -> Point:
            return model.point(z, c)

        for _ in range(steps):
            point, memory, _ = solver.step(field, point, memory, draw)  # pyright: ignore[reportArgumentType]
        return point

    return run


def median_ms(times: Sequence[float]) -> float:
    """The median in milliseconds."""
    return 1e3 * statistics.median(times)


def ratio(times: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """The median over rounds of one time over another, taken in the same round."""
    return statistics.median([a / b for a, b in zip(times[over], times[under], strict=True)])


def show(title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Print a table with aligned columns."""
    cells = [list(header), *([_cell(value) for value in line] for line in lines)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(header))]
    print(f"\n{title}")
    for line in cells:
        print(
            "  ".join(
                value.ljust(width) if k == 0 else value.rjust(width)
                for k, (value, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write(path: str | None, name: str, results: Any) -> None:
    """Write results and facts as JSON, where a path is given."""
    if path is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"benchmark": name, "facts": environment(), "results": results}, indent=2) + "\n")
    print(f"\nwrote {path}", file=sys.stderr)
