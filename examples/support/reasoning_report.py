"""Tables, files and pictures of the reasoning experiments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ebm
from ebm.environment import environment
from ebm.files import replacing, write_figure, write_text
from support.answering import halted
from support.notebook import given
from support.reasoning import Experiment, Outcome, baselines, learned, tuned

__all__ = ["Table", "arguments", "draw", "facts", "frames", "run", "settings", "write"]

Strip = Callable[[Any, ebm.Objective], None]
"""Draws an answer that forms, ``strip(figure, model)``."""


@dataclass(frozen=True)
class Table:
    """Figures of the first contender and seed that only one task has.

    Attributes:
        title: a sentence.
        columns: heads, the first over the names of the rows.
        rows: the name and the figures of each, as text.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


Further = Callable[[ebm.Objective, bool], list[Table]]
"""Makes further tables, ``further(model, smoke)``; of a smoke run, small ones."""


def arguments(description: str, name: str, seeds: int = 5) -> argparse.ArgumentParser:
    """The options that the reasoning examples share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=seeds, help="how many seeds each model is trained with, at least 1"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that train, one thread each, at least 1")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results"),
        help=f"folder for {name}.json, {name}.pt and {name}.png; what a run has finished is kept in its folder parts, and one that was broken off goes on from there",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few updates, one seed: shows that it runs, the figures mean nothing"
    )
    return parser


def settings(
    parser: argparse.ArgumentParser, argv: list[str] | None, experiment: Experiment
) -> tuple[argparse.Namespace, Experiment, list[int], int]:
    """The options, checked, and by them the experiment, its seeds and the processes."""
    args = parser.parse_args(given(argv))
    for option in ("seeds", "workers"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} must be at least 1; got {getattr(args, option)}")
    if args.smoke:
        return args, experiment.small(), [0], 1
    return args, experiment, list(range(args.seeds)), args.workers


AT_REST = ebm.Patience(ebm.AtRest(1e-3), 2)
"""The stop rule that is timed beside a fixed number of steps."""


def run(
    experiment: Experiment,
    description: str,
    seeds: int = 5,
    strip: Strip | None = None,
    further: Further | None = None,
) -> None:
    """Train, test, print, write, draw, as the command line says; with ``seeds`` seeds where it does not."""
    args, experiment, numbers, workers = settings(arguments(description, experiment.name, seeds), None, experiment)
    parts = None if args.smoke else args.out / "parts"
    experiment, tuning = tuned(experiment, workers, parts)
    outcomes = learned(experiment, numbers, workers, parts)
    model = experiment.contenders[0].build()
    first = next(each for each in outcomes if each.contender == experiment.contenders[0].name)
    model.load_state_dict(first.weights)
    assert isinstance(model, ebm.Objective)
    halts = {trial.name: halted(model, trial, AT_REST, 1 if args.smoke else 3) for trial in experiment.trials}
    record = {
        "title": experiment.title,
        "facts": facts(args.smoke),
        "choice": experiment.choice,
        "metrics": {trial.name: trial.task.metric for trial in experiment.trials},
        "lower_is_better": experiment.trials[0].task.lower_is_better,
        "counts": {trial.name: trial.count for trial in experiment.trials},
        "outcomes": [_plain(each) for each in outcomes],
        "tuning": tuning,
        "baselines": baselines(experiment),
        "halting": {"rule": repr(AT_REST), "trials": halts},
        "tables": [asdict(table) for table in further(model, args.smoke)] if further else [],
    }
    write(args.out, experiment.name, record)
    names = (experiment.contenders[0].name, "its energy twin")
    weights = {f"{each.contender}, seed {each.seed}": each.weights for each in outcomes if each.contender in names}
    with replacing(args.out / f"{experiment.name}.pt") as file:
        torch.save(weights, file)
    _print(record)
    size = (10.0, 4.2 if strip is None else 7.5)
    draw(args.out / f"{experiment.name}.png", size, lambda figure: _picture(figure, record, model.eval(), strip))


def write(folder: Path, name: str, record: dict[str, Any]) -> None:
    """The record as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.json", json.dumps(record, indent=1))


def facts(smoke: bool) -> dict[str, Any]:
    """What a record says of how it was made."""
    return {"smoke": smoke, **environment()}


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in vars(outcome).items() if name != "weights"}


def _final(outcome: dict[str, Any], trial: str) -> float:
    """The score at the most steps; not a number where the trial was not taken."""
    return list(outcome["scores"].get(trial, {"": float("nan")}).values())[-1]


def _figure(record: dict[str, Any], score: float | None) -> str:
    """A share in per cent, or an error as it is."""
    if score is None or score != score:
        return "-"
    return f"{score:.3g}" if record["lower_is_better"] else f"{100 * score:.2f}"


def _many(parameters: int) -> str:
    return f"{parameters:,} parameter{'' if parameters == 1 else 's'}"


def _metric(record: dict[str, Any]) -> str:
    return next(iter(record["metrics"].values())) + ("" if record["lower_is_better"] else ", in %")


def _print(record: dict[str, Any]) -> None:
    """One line a contender and seed, at the most steps of each trial; then the baselines, the halting and further tables."""
    print(f"\n{record['title']}; {_metric(record)}, at the most steps of each trial")
    trials = list(record["metrics"])
    wide = max(len(each["contender"]) for each in record["outcomes"])
    print(f"{'model':{wide}}  {'parameters':>10}  seed  {'seconds':>7}  " + "  ".join(f"{name:>10}" for name in trials))
    for each in record["outcomes"]:
        cells = "  ".join(f"{_figure(record, _final(each, name)):>10}" for name in trials)
        print(
            f"{each['contender']:{wide}}  {each['parameters']:10,}  {each['seed']:4}  {each['seconds']:7.0f}  {cells}"
        )
    for name in next(iter(record["baselines"].values())):
        cells = "  ".join(f"{_figure(record, record['baselines'][trial].get(name)):>10}" for trial in trials)
        print(f"{name[: wide + 28]:{wide + 27}}  {cells}")
    for name, facts in record["halting"]["trials"].items():
        print(
            f"{name}: at rest after {facts['halted steps']:.0f} of {facts['most']:.0f} steps (mean), in {facts['halted seconds'] / facts['fixed seconds']:.2f} of the "
            f"time; {_figure(record, facts['halted score'])} beside {_figure(record, facts['fixed score'])}"
        )
    for table in record["tables"]:
        print(f"\n{table['title']}")
        for row in [table["columns"], *table["rows"]]:
            print("  ".join(f"{cell:>12}" for cell in row))


def draw(path: Path, size: tuple[float, float], fill: Callable[[Any], None]) -> None:
    """A figure that ``fill`` fills, as a file; without matplotlib, a word about it."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=size, layout="constrained")
    fill(figure)
    write_figure(path, figure, 100)
    pyplot.close(figure)
    print(f"picture: {path}")


def frames(
    figure: Any, model: ebm.Objective, x: Any, steps: tuple[int, ...], paint: Callable[[Any, torch.Tensor], Any]
) -> Any:
    """The axes of one problem's answer after growing numbers of steps, side by side; ``paint(axis, answer)`` draws each."""
    axes = figure.subplots(1, len(steps))
    for axis, count in zip(axes, steps, strict=True):
        paint(axis, ebm.infer(model, x, steps=count, keep="last").answer[0])
        axis.set(xticks=[], yticks=[], title=f"after {count}")
    return axes


def _picture(figure: Any, record: dict[str, Any], model: nn.Module, strip: Strip | None) -> None:
    """Score against steps for every trial and seed; below, an answer that forms."""
    halves: Any = (figure, None) if strip is None else figure.subfigures(2, 1, height_ratios=(1.2, 1))
    upper, lower = halves
    axis = upper.subplots()
    main = record["outcomes"][0]["contender"]
    for number, trial in enumerate(record["metrics"]):
        for each in record["outcomes"]:
            if each["contender"] == main:
                counts = [int(count) for count in each["scores"][trial]]
                label = trial if each["seed"] == 0 else None
                scale = 1 if record["lower_is_better"] else 100
                heights = [scale * score for score in each["scores"][trial].values()]
                axis.plot(counts, heights, "o-", color=f"C{number}", alpha=0.7, markersize=3, label=label)
    axis.set_xscale("log", base=2)
    if record["lower_is_better"]:
        axis.set_yscale("log")
    axis.set_xlabel("steps")
    axis.set_ylabel(_metric(record))
    axis.set_title(f"{record['title']}: {main}, {_many(record['outcomes'][0]['parameters'])}, every seed", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    if strip is not None and lower is not None:
        assert isinstance(model, ebm.Objective)
        strip(lower, model)
