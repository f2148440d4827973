"""How a trained model answers a trial: scores along one settling, their interval, and what was executed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import ebm
from ebm.engine.flops import FlopCounter

if TYPE_CHECKING:
    from support.reasoning import Trial

__all__ = ["Answers", "answered", "halted", "interval", "settled"]


@dataclass(frozen=True)
class Answers:
    """What a model scores on a trial.

    Attributes:
        scores: the mean score by step count (as text); of a model that runs once, the only count is "1".
        interval: lower and upper end of 95 % for the last of these, over the problems; None where one score is for the whole batch.
        flops: executed a problem, up to the last count.
    """

    scores: dict[str, float]
    interval: tuple[float, float] | None
    flops: float


@torch.no_grad()
def answered(model: nn.Module, trial: Trial) -> Answers:
    """The answers to a trial at every step count: settled once, and looked at along the way."""
    x, y = trial.problems()
    scores: dict[str, list[Tensor]] = {}
    flops = 0.0
    for part in torch.arange(trial.count).split(trial.batch):
        shown, wanted = ebm.rows.take(x, part), ebm.rows.take(y, part)
        looks = settled(model, shown, trial.steps) if isinstance(model, ebm.Objective) else [_once(model, shown)]
        for count, answer, executed in looks:
            scores.setdefault(str(count), []).append(trial.mean(answer, wanted))
            flops += executed
    whole = {count: torch.cat(parts) for count, parts in scores.items()}
    last = next(reversed(whole.values()))
    bounds = interval(last) if len(last) == trial.count else None
    return Answers({count: float(each.mean()) for count, each in whole.items()}, bounds, flops / trial.count)


def _once(model: nn.Module, x: Any) -> tuple[int, Any, int]:
    with FlopCounter() as counter:
        answer = model(x)
    if counter.uncounted:
        raise RuntimeError(f"FLOPs of {type(model).__name__} are not all counted: {sorted(counter.uncounted)}.")
    return 1, answer, counter.flops


def settled(
    model: ebm.Objective, x: Any, counts: tuple[int, ...], solver: ebm.Solver | None = None
) -> Iterator[tuple[int, Any, int]]:
    """Each step count, rising, with the answer after it and the FLOPs since the last: one settling, looked at along the way. What is drawn is drawn from a seed of 0."""
    generator = torch.Generator().manual_seed(0)
    solution, taken = None, 0
    for count in counts:
        solution = ebm.infer(
            model,
            x,
            steps=count - taken,
            resume=solution,
            solver=solver,
            generator=generator,
            keep="last",
            adjoint=ebm.Detached(),
        )
        yield count, solution.answer, solution.flops
        taken = count


def interval(scores: Tensor) -> tuple[float, float]:
    """95 % for the mean of independent scores: Wilson's for shares (every score 0 or 1), else the normal one.

    Source: Wilson (1927); z = 1.96.
    """
    count, mean, z = len(scores), float(scores.mean()), 1.959964
    if bool(((scores == 0) | (scores == 1)).all()):
        middle = (mean + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
        return max(middle - half, 0.0), min(middle + half, 1.0)
    half = z * float(scores.std()) / math.sqrt(count) if count > 1 else math.inf
    return mean - half, mean + half


@torch.no_grad()
def halted(model: ebm.Objective, trial: Trial, stop: ebm.Stop, repeats: int = 3) -> dict[str, float]:
    """A fixed number of steps beside leaving when at rest, on the same problems: scores, mean steps, and seconds, taken in turn."""
    x, y = replace(trial, count=trial.timed or trial.count).problems()
    times: dict[str, list[float]] = {"fixed": [], "halted": []}
    facts: dict[str, float] = {"most": float(trial.steps[-1])}
    for _ in range(repeats):
        for name, rule in (("fixed", None), ("halted", stop)):
            began = time.perf_counter()
            found = ebm.infer(model, x, steps=trial.steps[-1], stop=rule, keep="last", compact=rule is not None)
            times[name].append(time.perf_counter() - began)
            facts[f"{name} score"] = float(trial.mean(found.answer, y).mean())
            facts[f"{name} steps"] = float(found.steps.double().mean())
            facts[f"{name} flops"] = float(found.flops)
    return facts | {f"{name} seconds": sorted(spent)[len(spent) // 2] for name, spent in times.items()}
