"""What each contender reaches, at what cost: step counts and thresholds chosen on validation images, reported on test ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from support.data import Split
from support.networks import parameters

__all__ = ["Curve", "EarlyExit", "Entry", "baseline", "settled"]

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)


@dataclass
class Entry:
    """One line of the table: a contender at one budget.

    Attributes:
        accuracy: on the test images, one number a seed.
        steps: mean steps a sample took; None for a feed-forward model.
        flops: executed FLOPs a sample.
        milliseconds: a sample, in one batch of all test images.
    """

    name: str
    parameters: int
    budget: str
    accuracy: list[float]
    steps: float | None
    flops: float
    milliseconds: float

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.mean(self.accuracy)


@dataclass
class EarlyExit:
    """Per-sample early exit against the same number of steps for all."""

    threshold: float
    limit: int
    accuracy: list[float]
    fixed_accuracy: list[float]
    flops: float
    fixed_flops: float
    steps: list[list[int]] = field(repr=False)

    @property
    def saved(self) -> float:
        """The share of the FLOPs that early exit does not execute."""
        return 1 - self.flops / self.fixed_flops

    @property
    def lost(self) -> float:
        """Points of accuracy given up, in the mean over seeds."""
        return 100 * (statistics.mean(self.fixed_accuracy) - statistics.mean(self.accuracy))


@dataclass
class Curve:
    """An iterated contender over its steps.

    Attributes:
        validation, accuracy: [seed][step], step 0 being the start.
        flops: executed FLOPs a sample at each step.
        trained: the most steps training saw.
        chosen: the step with the best mean validation accuracy among those.
        fewest: the fewest steps within 0.1 point of it.
    """

    name: str
    parameters: int
    validation: list[list[float]]
    accuracy: list[list[float]]
    flops: list[float]
    trained: int
    chosen: int
    fewest: int
    exit: EarlyExit

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"exit": asdict(self.exit) | {"saved": self.exit.saved, "lost": self.exit.lost}}


def settled(
    name: str, models: list[ebm.Objective], validation: Split, test: Split, trained: int
) -> tuple[Curve, list[Entry]]:
    """The curve of an iterated contender over seeds, and its lines of the table."""
    longest = 4 * trained
    seen = [_answers(model, validation.images, longest)[0] for model in models]
    on_validation = [[_accuracy(step, validation.labels) for step in steps] for steps in seen]
    mean = [statistics.mean(column) for column in zip(*on_validation, strict=True)]
    chosen = max(range(1, trained + 1), key=lambda t: (round(mean[t], 6), -t))
    fewest = next(t for t in range(1, trained + 1) if mean[t] >= mean[chosen] - 0.001 - 1e-9)
    threshold = _threshold(seen, validation.labels, fewest, mean[fewest])

    runs = [_answers(model, test.images, longest) for model in models]
    accuracy = [[_accuracy(step, test.labels) for step in answers] for answers, _ in runs]
    flops = runs[0][1]
    leaving = [_leave(model, test, threshold, fewest) for model in models]
    leave = EarlyExit(
        threshold=threshold,
        limit=fewest,
        accuracy=[_accuracy(s.answer, test.labels) for s in leaving],
        fixed_accuracy=[steps[fewest] for steps in accuracy],
        flops=statistics.mean(s.flops / len(s) for s in leaving),
        fixed_flops=flops[fewest],
        steps=[s.steps.tolist() for s in leaving],
    )
    curve = Curve(name, parameters(models[0]), on_validation, accuracy, flops, trained, chosen, fewest, leave)

    def entry(budget: str, column: list[float], steps: float, cost: float, call: Callable[[], Any]) -> Entry:
        return Entry(name, parameters(models[0]), budget, column, steps, cost, _milliseconds(call, len(test.labels)))

    def fixed(steps: int, budget: str) -> Entry:
        call = lambda: ebm.infer(models[0], test.images, adjoint=ebm.Detached(), steps=steps, keep="last")  # noqa: E731
        return entry(budget, [row[steps] for row in accuracy], steps, flops[steps], call)

    mean_steps = statistics.mean(statistics.mean(s) for s in leave.steps)
    lines = [
        fixed(chosen, "best on validation"),
        entry(
            f"early exit at {threshold:g}",
            leave.accuracy,
            mean_steps,
            leave.flops,
            lambda: _leave(models[0], test, threshold, fewest),
        ),
        fixed(longest, "4 x the training's"),
    ]
    return curve, lines


def baseline(name: str, models: list[nn.Module], test: Split) -> Entry:
    """A feed-forward contender: one pass."""
    with torch.no_grad():
        with ebm.FlopCounter() as counter:
            first = models[0](test.images)
        accuracy = [_accuracy(first if k == 0 else model(test.images), test.labels) for k, model in enumerate(models)]
        spent = _milliseconds(lambda: models[0](test.images), len(test.labels))
    return Entry(name, parameters(models[0]), "one pass", accuracy, None, counter.flops / len(test.labels), spent)


def _answers(model: ebm.Objective, images: Tensor, steps: int) -> tuple[list[Tensor], list[float]]:
    """The answer after each step, 0 to ``steps``, and the FLOPs a sample executed by then."""
    answers, flops = [], []
    for item in ebm.stream(model, images, adjoint=ebm.Detached(), steps=steps, keep="last"):
        answers.append(item.answer)
        flops.append(item.flops / len(item))
    return answers, flops


def _leave(model: ebm.Objective, split: Split, threshold: float, limit: int) -> ebm.Solution:
    return ebm.infer(
        model,
        split.images,
        adjoint=ebm.Detached(),
        steps=limit,
        stop=ebm.Confident(threshold),
        keep="last",
        compact=True,
    )


def _threshold(seen: list[list[Tensor]], labels: Tensor, limit: int, needed: float) -> float:
    """The lowest threshold that loses nothing on the validation images against ``limit`` steps for all."""
    for threshold in THRESHOLDS:
        reached = statistics.mean(_accuracy(_first_sure(answers[: limit + 1], threshold), labels) for answers in seen)
        if reached >= needed - 1e-9:
            return threshold
    return 1.0


def _first_sure(answers: list[Tensor], threshold: float) -> Tensor:
    """For each sample the answer of the first step that is sure enough, or the last one."""
    stacked = torch.stack(answers)
    sure = stacked.softmax(2).amax(2) >= threshold
    sure[-1] = True
    first = sure.int().argmax(0)
    return stacked[first, torch.arange(stacked.shape[1])]


def _accuracy(answers: Tensor, labels: Tensor) -> float:
    return (answers.argmax(1) == labels).double().mean().item()


def _milliseconds(call: Callable[[], Any], samples: int, repeats: int = 5) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times) / samples
