"""
Parameters against steps
========================

How many steps does a small cell need to be as right as a larger one? Gated cells with kernels of 3 to 17 places, so of one to five thousand parameters, learn prefix sums of 32 bits. For
each is read off after how many steps it has 95 % of longer strings right, and a power law is fitted to the exchange. Every seed is drawn; one that never gets there is listed.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_parameters_against_steps.png"

from functools import partial
from typing import Any

import numpy as np
from torch import nn

import ebm
from ebm.tasks import PrefixSums
from ebm.training import Recipe, Validation
from support.reasoning import Contender, Experiment, Outcome, Trial, learned
from support.reasoning_report import arguments, draw, facts, settings, write

WIDTH = 12
KERNELS = (3, 5, 9, 17)
LENGTHS = (64, 128, 256)
RIGHT = 0.95


def cell(kernel: int) -> ebm.GatedCell:
    """A cell that hears (kernel - 1) / 2 places to each side."""
    return ebm.GatedCell(1, WIDTH, nn.Conv1d(WIDTH, 2, 1), dims=1, kernel=kernel)


RULE = ebm.Progressive(PrefixSums(32).loss, burn_in=(0, 100), steps=24, noise_start=0.5)
RECIPE = Recipe(updates=400, batch=64, learning_rate=1e-2, every=50)

EXPERIMENT = Experiment(
    name="parameters_against_steps",
    title="Parameters against steps, prefix sums trained on 32 bits",
    tasks=(PrefixSums(32),),
    contenders=tuple(Contender(f"kernel {kernel}", partial(cell, kernel), RULE, RECIPE) for kernel in KERNELS),
    looks=(Validation("32 bits", PrefixSums(32), 100, 64), Validation("64 bits", PrefixSums(64), 100, 128)),
    choice="64 bits",
    trials=tuple(
        Trial(f"{length} bits", PrefixSums(length), 200, tuple(range(2, 2 * length + 1, 2))) for length in LENGTHS
    ),
)


def needed(outcome: Outcome, trial: str) -> int | None:
    """The fewest steps after which enough strings are right; None: never."""
    return next((int(steps) for steps, score in outcome.scores[trial].items() if score >= RIGHT), None)


def exchange(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Slope and offset of log steps on log parameters, least squares."""
    parameters, steps = np.log(np.array(points, dtype=float)).T
    slope, offset = np.polyfit(parameters, steps, 1)
    return float(slope), float(offset)


def picture(figure: Any, record: dict[str, Any]) -> None:
    """Steps needed against parameters, a line a length, a dot a seed."""
    axis = figure.subplots()
    for number, (trial, law) in enumerate(record["laws"].items()):
        points = [(row["parameters"], row["needed"][trial]) for row in record["rows"] if row["needed"][trial]]
        axis.plot(*zip(*points, strict=True), "o", color=f"C{number}", alpha=0.7)
        ends = [min(points)[0], max(points)[0]]
        heights = [np.exp(law["offset"]) * end ** law["slope"] for end in ends]
        axis.plot(ends, heights, color=f"C{number}", label=f"{trial}: steps ~ parameters^{law['slope']:.2f}")
    axis.set(xscale="log", yscale="log", xlabel="parameters")
    axis.set_ylabel(f"steps until {100 * RIGHT:.0f} % of strings are right")
    axis.grid(alpha=0.3, which="both")
    lost = sum(None in row["needed"].values() for row in record["rows"])
    axis.set_title(
        f"{record['title']}\n{lost} of {len(record['rows'])} cells never get there at some length", fontsize=10
    )
    if record["laws"]:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8)


def main(argv: list[str] | None = None) -> None:
    """Train all kernels with all seeds, print, write, draw."""
    args, experiment, seeds, workers = settings(
        arguments("Parameters against steps.", EXPERIMENT.name, seeds=3), argv, EXPERIMENT
    )
    outcomes = learned(experiment, seeds, workers, None if args.smoke else args.out / "parts")
    trials = [trial.name for trial in experiment.trials]
    rows = [
        {
            "model": each.contender,
            "parameters": each.parameters,
            "seed": each.seed,
            "seconds": each.seconds,
            "needed": {trial: needed(each, trial) for trial in trials},
        }
        for each in outcomes
    ]
    laws = {}
    for trial in trials:
        points = [(row["parameters"], row["needed"][trial]) for row in rows if row["needed"][trial]]
        if len({parameters for parameters, _ in points}) > 1:
            laws[trial] = dict(zip(("slope", "offset"), exchange(points), strict=True))
    record = {"title": experiment.title, "facts": facts(args.smoke), "right": RIGHT, "rows": rows, "laws": laws}
    for row in rows:
        print(
            f"{row['model']:>10}  {row['parameters']:6,} parameters  seed {row['seed']}  steps needed {row['needed']}"
        )
    for trial, law in laws.items():
        print(f"{trial}: steps ~ parameters^{law['slope']:.2f}")
    write(args.out, experiment.name, record)
    draw(args.out / f"{experiment.name}.png", (6.4, 5.2), lambda figure: picture(figure, record))


if __name__ == "__main__":
    main()
