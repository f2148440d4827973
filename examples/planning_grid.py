"""
A planning grid: trained on 12 x 12, asked about 48 x 48
=======================================================

Which move from every square leads nearer to the goal? A message-passing cell that hears the largest of each number up, down, left and right sees grids of 8 and 12 squares a side and
is asked about larger ones, for as many steps as word of the goal takes to come round the obstacles. Beside it: the energy twin with the same parameters, a
feed-forward highway network of more than thirty times as many, and the answers that take no learning. Weights are chosen on held-out grids of 20 squares a side.
"""

from typing import Any

import torch
from torch import nn

import ebm
from ebm.tasks import PlanningGrid
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial
from support.reasoning_report import arguments, run

WIDTH = 16
GRID = ebm.Grid(2, walls=0, directions=True)
TASK = PlanningGrid(12)


def cell() -> ebm.MessageCell:
    """The model: a square hears each of the four beside it."""
    return ebm.MessageCell(GRID, WIDTH, nn.Linear(WIDTH, 4))


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(GRID, 28, head)


def highway() -> Highway:
    """Twelve layers that run once."""
    return Highway(layer, 12, nn.Linear(28, 4))


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 30), steps=10)
RECIPE = Recipe(updates=800, batch=32, learning_rate=1e-2, every=100)

EXPERIMENT = Experiment(
    name="planning_grid",
    title="Planning grid, trained on 8 to 12 squares a side",
    tasks=(PlanningGrid(8), TASK),
    contenders=(
        Contender("message cell", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE, trials=3, seeds=2),
        Contender("highway network", highway, Supervised(TASK.loss), RECIPE, seeds=3),
    ),
    looks=(Validation("12 a side", TASK, 100, 40), Validation("20 a side", PlanningGrid(20), 50, 80)),
    choice="20 a side",
    trials=(
        Trial("12 a side", TASK, 500, (2, 4, 8, 16, 32, 64)),
        Trial("16 a side", PlanningGrid(16), 200, (4, 8, 16, 32, 64, 128)),
        Trial("24 a side", PlanningGrid(24), 100, (8, 16, 32, 64, 128)),
        Trial("48 a side", PlanningGrid(48), 30, (16, 32, 64, 128, 256), batch=10),
    ),
)


def strip(figure: Any, model: ebm.Objective) -> None:
    """Which squares of one grid have a right move, at growing numbers of steps: right blue, wrong red, obstacles black."""
    x, y = PlanningGrid(32).sample(1, torch.Generator().manual_seed(2))
    axes = figure.subplots(1, 6)
    for axis, steps in zip(axes, (0, 4, 8, 16, 32, 64), strict=True):
        move = ebm.infer(model, x, steps=steps, keep="last").answer[0].argmax(0)
        right = y[0].gather(0, move[None])[0] > 0
        colours = torch.ones(32, 32, 3)
        colours[right] = torch.tensor([0.35, 0.55, 0.85])
        colours[~right & (y[0].sum(0) > 0)] = torch.tensor([0.9, 0.4, 0.35])
        colours[x[0, 0] > 0] = 0.1
        colours[x[0, 1] > 0] = torch.tensor([1.0, 0.85, 0.2])
        axis.imshow(colours, interpolation="nearest")
        axis.set(xticks=[], yticks=[], title=f"{steps} steps")


if __name__ == "__main__":
    run(
        EXPERIMENT,
        arguments("A planning grid far beyond training.", "planning_grid"),
        None,
        ebm.Patience(ebm.AtRest(1e-3), 2),
        strip,
    )
