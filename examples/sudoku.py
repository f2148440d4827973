"""
Sudoku: one small cell for boards of 4, 6 and 9 digits
======================================================

A message-passing cell has a node for each digit that a cell of the board may still take. A node hears the largest of, and the mean over, the other candidates of its cell, row, column and
box. It knows neither the digits nor the size of the board, so one set of weights reads boards of any size; it was trained on boards of 6 and 9 digits and saw none of 4. Of 9 digits it sees boards
with 31 to 42 givens that naked and hidden singles solve, and is asked about boards with fewer givens, and about those that singles do not solve. Beside it: the
energy twin with the same parameters, a recurrent relational network, a feed-forward highway network of more than thirty times as many, and the answers that take no learning. Weights are chosen on held-out
boards of 9 digits with 26 to 30 givens. How right it is by givens and steps, and what settling from several starts adds, follow.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_sudoku.png"

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import Sudoku, rules_kept
from ebm.training import Pool, Recipe, Supervised, Validation
from support.answering import halted, interval, settled
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import Table, run
from support.rivals import RRN, every_step

WIDTH = 24
LOUDEST_AND_MEAN = (ebm.Aggregate.MAX, ebm.Aggregate.MEAN)
EASY = Sudoku((3, 3), (31, 42), singles=True)
FEW, HARD = Sudoku((3, 3), (17, 34)), Sudoku((3, 3), (17, 34), singles=False)
MIXED = Sudoku((3, 3), (17, 42))
"""Training sees EASY alone of 9 digits. FEW holds boards of both kinds, HARD none that singles solve."""


def cell() -> ebm.MessageCell:
    """The model."""
    return ebm.MessageCell(ebm.Houses(), WIDTH, nn.Linear(WIDTH, 1), LOUDEST_AND_MEAN)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(ebm.Houses(), 56, head, LOUDEST_AND_MEAN)


def highway() -> Highway:
    """Six layers that run once."""
    return Highway(layer, 6, nn.Linear(56, 1))


def rrn(width: int) -> RRN:
    """The published rival with the same prior, who constrains whom: boards of 9 digits alone, as it has an embedding for each digit."""
    return RRN(width)


RULE = ebm.Progressive(HARD.loss, burn_in=(0, 32), steps=8, noise_start=0.25, noise_scale=0.5)
RECIPE = Recipe(updates=1200, batch=24, learning_rate=4e-3, every=200)
# The rival has half an hour of processor time a training, several times what the cell takes.
RRNS = tuple(
    Variant(f"width {width}, rate {rate}", partial(rrn, width), replace(RECIPE, learning_rate=rate, seconds=1800.0))
    for width in (32, 48)
    for rate in (1e-3, 3e-3)
)

EXPERIMENT = Experiment(
    name="sudoku",
    title="Sudoku, trained on 6 and 9 digits",
    tasks=(Pool(Sudoku((2, 3), (8, 20)), 3000), Pool(EASY, 3000)),
    contenders=(
        Contender("message cell", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE),
        Contender(
            "recurrent relational network",
            partial(rrn, 48),
            Supervised(every_step(HARD.loss)),
            RECIPE,
            takes=lambda task: task.box == (3, 3),
            variants=RRNS,
        ),
        Contender("highway network", highway, Supervised(HARD.loss), RECIPE),
    ),
    looks=(
        Validation("6 digits", Sudoku((2, 3), (8, 11)), 100, 48),
        Validation("9 digits, 26 to 30 givens", Sudoku((3, 3), (26, 30)), 60, 64),
    ),
    choice="9 digits, 26 to 30 givens",
    trials=(
        Trial("4 digits, 4 to 7 givens", Sudoku((2, 2), (4, 7)), 500, (2, 4, 8, 16, 32)),
        Trial("6 digits, 8 to 11 givens", Sudoku((2, 3), (8, 11)), 300, (4, 8, 16, 32, 64), timed=100),
        Trial("9 digits, 31 to 42 givens", EASY, 150, (8, 16, 32, 64, 128), timed=30),
        Trial("9 digits, 17 to 34 givens", FEW, 300, (8, 16, 32, 64, 128, 256), timed=30),
        Trial("of these, singles do not solve", HARD, 300, (8, 16, 32, 64, 128, 256), timed=30),
    ),
)


@dataclass(frozen=True)
class RulesKept(ebm.Stop):
    """Done once the board keeps every rule: with the givens in place that is the solution. A rule sees no observation, so whether the givens are, the score says."""

    reads = True

    def check(self, look: ebm.Look, memory: Any) -> tuple[Tensor, Any]:
        """Which boards have each digit once in every row, column and box."""
        return rules_kept(look.answer, (3, 3)), memory


def further(model: ebm.Objective, smoke: bool) -> list[Table]:
    """Accuracy by givens and steps, and by starts and steps; leaving by the rules."""
    count, counts = (2, (1, 2)) if smoke else (50, (8, 16, 32, 64, 128))
    heads = [f"{steps} steps" for steps in counts]
    by_starts: list[list[str]] = []
    for starts in (1, 2) if smoke else (1, 4, 16):
        right, kept = _by_steps(model, HARD, count, counts, starts)
        by_starts += [[f"{starts}", *right], [f"{starts}, rules kept", *kept]]
    return [
        _by_givens(model, FEW, "both kinds", 2 if smoke else 400, counts),
        _by_givens(model, HARD, "singles do not solve", 2 if smoke else 400, counts),
        Table(
            "Breadth: boards with 17 to 34 givens right, in %, by starts and steps, the answer being that of the start at rest soonest (`Restarts(choose=LowestResidual())`); "
            "below each, the boards whose answer keeps every rule, which anyone can check without knowing the solution.",
            ["starts", *heads],
            by_starts,
        ),
        _by_rules(model, smoke),
    ]


def _by_givens(model: ebm.Objective, task: Sudoku, kind: str, count: int, counts: tuple[int, ...]) -> Table:
    """Accuracy by the givens that each board really has, and by steps."""
    x, y = task.sample(count, torch.Generator().manual_seed(20_260_103))
    givens = x.flatten(1).sum(1).long()
    right = torch.zeros(count, len(counts))
    for part in torch.arange(count).split(25):
        for place, (_, answer, _) in enumerate(settled(model, x[part], counts)):
            right[part, place] = task.score(answer, y[part])
    rows = []
    for least, most in ((17, 23), (24, 25), (26, 27), (28, 29), (30, 34)):
        inside = (givens >= least) & (givens <= most)
        if bool(inside.any()):
            low, high = interval(right[inside, -1].double())
            within = f"{100 * low:.0f} to {100 * high:.0f}"
            rows.append(
                [
                    f"{least} to {most}",
                    f"{int(inside.sum())}",
                    *_shares(right[inside].sum(0), int(inside.sum())),
                    within,
                ]
            )
    heads = ["givens", "boards", *(f"{steps} steps" for steps in counts), "95 % of the last"]
    return Table(
        f"Boards of 9 digits, {kind}, with every cell right, in %, by the givens that they really have.", heads, rows
    )


def _by_rules(model: ebm.Objective, smoke: bool) -> Table:
    """Leaving with a board that keeps every rule, beside a fixed number of steps, on boards of all difficulties."""
    trial = Trial("17 to 42 givens", MIXED, 2 if smoke else 50, (4,) if smoke else (128,))
    facts = halted(model, trial, RulesKept(), 1 if smoke else 3)
    flops, seconds = (f"{facts[f'halted {what}'] / facts[f'fixed {what}']:.2f}" for what in ("flops", "seconds"))
    scores = [f"{100 * facts[f'{way} score']:.1f}" for way in ("halted", "fixed")]
    return Table(
        "Leaving with a board that keeps every rule, which with its givens in place is the solution (`RulesKept`, a stop rule of the example), beside all steps for everybody.",
        ["", "mean steps", "of", "share of the FLOPs", "share of the time", "right, in %", "with all steps"],
        [[trial.name, f"{facts['halted steps']:.1f}", f"{facts['most']:.0f}", flops, seconds, *scores]],
    )


def _by_steps(
    model: ebm.Objective, task: Sudoku, count: int, counts: tuple[int, ...], starts: int
) -> tuple[list[str], list[str]]:
    """Of boards of 9 digits: right, and rules kept, in per cent at each step count."""
    x, y = task.sample(count, torch.Generator().manual_seed(20_260_102))
    solver = ebm.Restarts(starts, ebm.Picard(), spread=0.5, choose=ebm.LowestResidual()) if starts > 1 else None
    right, kept = torch.zeros(len(counts)), torch.zeros(len(counts))
    for part in torch.arange(count).split(25):
        for place, (_, answer, _) in enumerate(settled(model, x[part], counts, solver)):
            right[place] += task.score(answer, y[part]).sum()
            kept[place] += rules_kept(answer, task.box).sum()
    return _shares(right, count), _shares(kept, count)


def _shares(sums: Tensor, count: int) -> list[str]:
    return [f"{100 * share:.1f}" for share in (sums / count).tolist()]


def strip(figure: Any, model: ebm.Objective) -> None:
    """A board that fills in: givens black; digits of the cell's answer green where right, red where wrong, the paler the less sure."""
    x, y = HARD.sample(1, torch.Generator().manual_seed(3))
    given = x[0].sum(0) > 0
    axes = figure.subplots(1, 6)
    for axis, steps in zip(axes, (1, 4, 8, 16, 32, 64), strict=True):
        chance, digit = ebm.infer(model, x, steps=steps, keep="last").answer[0].softmax(0).max(0)
        digit = torch.where(given, x[0].argmax(0), digit)
        for row in range(9):
            for column in range(9):
                right = bool(digit[row, column] == y[0, row, column])
                colour = "black" if given[row, column] else "tab:green" if right else "tab:red"
                shade = 1.0 if given[row, column] else float(chance[row, column])
                axis.text(
                    column,
                    row,
                    int(digit[row, column]) + 1,
                    color=colour,
                    alpha=shade,
                    ha="center",
                    va="center",
                    fontsize=7,
                )
        for line in range(10):
            width = 1.2 if line % 3 == 0 else 0.3
            axis.axhline(line - 0.5, color="black", linewidth=width)
            axis.axvline(line - 0.5, color="black", linewidth=width)
        axis.set(xlim=(-0.5, 8.5), ylim=(8.5, -0.5), xticks=[], yticks=[], aspect="equal", title=f"after {steps}")


if __name__ == "__main__":
    run(EXPERIMENT, "Sudoku by settling.", seeds=3, strip=strip, further=further)
