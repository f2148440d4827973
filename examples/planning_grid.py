"""
Planning on a grid: which way from everywhere?
==============================================

Obstacles, a goal, and for every square the move that leads nearer. A message-passing cell that tells its four neighbours apart sees grids of 8 and 12 squares a side and is asked
about up to 48, for as many steps as word from the goal takes to come round every corner. Beside it: the same cell without hidden units, the energy twin with the same parameters, a value iteration network, a
feed-forward highway network of more than thirty times as many, and the answers that take no learning. Weights are chosen on held-out grids of 20 a side.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_planning_grid.png"

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import PlanningGrid
from ebm.training import Pool, Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import frames, run
from support.rivals import VIN

WIDTH = 24
GRID = ebm.Grid(2, walls=0, directions=True)
TASK = PlanningGrid(12)


def cell() -> ebm.MessageCell:
    """The model: a square hears who stands up, down, left and right of it, and may ask whether any of them is of a kind."""
    return ebm.MessageCell(GRID, WIDTH, nn.Linear(WIDTH, 4), hidden=32)


def plain() -> ebm.MessageCell:
    """The same without hidden units: what neighbours say is only summed."""
    return ebm.MessageCell(GRID, WIDTH, nn.Linear(WIDTH, 4))


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(GRID, 36, head, hidden=64)


def highway() -> Highway:
    """Sixteen layers that run once."""
    return Highway(layer, 16, nn.Linear(36, 4))


def vin(actions: int) -> VIN:
    """The rival that a sceptic would name for planning: value iteration, three rounds for each square of a side."""
    return VIN(2, 4, 32, actions)


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 60), steps=16)
RECIPE = Recipe(updates=2000, batch=32, learning_rate=2e-2, every=100)
SLOWER = replace(RECIPE, learning_rate=1e-2)
"""What the twin and the highway network get: as many updates, at half of the learning rate."""
VINS = tuple(
    Variant(f"{actions} actions, rate {rate}", partial(vin, actions), replace(RECIPE, learning_rate=rate))
    for actions in (10, 24)
    for rate in (2e-3, 5e-3, 2e-2)
)

EXPERIMENT = Experiment(
    name="planning_grid",
    title="Planning, trained on grids of 8 and 12 squares a side",
    tasks=(Pool(PlanningGrid(8), 4000), Pool(TASK, 4000)),
    contenders=(
        Contender("message cell, hidden units", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, SLOWER, trials=2),
        Contender("message cell", plain, RULE, RECIPE, trials=3, seeds=1),
        Contender("value iteration network", partial(vin, 10), Supervised(TASK.loss), RECIPE, variants=VINS),
        Contender("highway network", highway, Supervised(TASK.loss), SLOWER, seeds=2),
    ),
    looks=(Validation("12 a side", TASK, 100, 64), Validation("20 a side", PlanningGrid(20), 50, 128)),
    choice="20 a side",
    trials=(
        Trial("12 a side", TASK, 300, (4, 8, 16, 32, 64, 128), timed=100),
        Trial("16 a side", PlanningGrid(16), 300, (4, 8, 16, 32, 64, 128), timed=100),
        Trial("24 a side", PlanningGrid(24), 200, (8, 16, 32, 64, 128, 256), timed=50),
        Trial("32 a side", PlanningGrid(32), 100, (16, 32, 64, 128, 256, 512), timed=25, batch=25),
        Trial("48 a side", PlanningGrid(48), 50, (16, 32, 64, 128, 256, 512), timed=10, batch=10),
    ),
)


def strip(figure: Any, model: ebm.Objective) -> None:
    """Where the move that the cell would make leads nearer to the goal, green, and where not, red, at growing numbers of steps; obstacles dark, the goal and what is cut off from it white."""
    x, y = PlanningGrid(24).sample(1, torch.Generator().manual_seed(2))
    scored = y[0].sum(0) > 0

    def paint(axis: Any, answer: Tensor) -> None:
        move = answer.argmax(0)
        right = y[0].gather(0, move[None])[0] > 0
        colours = torch.ones(*move.shape, 3)
        colours[scored & right] = torch.tensor([0.45, 0.75, 0.45])
        colours[scored & ~right] = torch.tensor([0.9, 0.45, 0.4])
        colours[x[0, 0] > 0] = 0.2
        axis.imshow(colours, interpolation="nearest")

    frames(figure, model, x, (1, 4, 8, 16, 32, 64), paint)


if __name__ == "__main__":
    run(EXPERIMENT, "Policies on grids far beyond training.", seeds=3, strip=strip)
