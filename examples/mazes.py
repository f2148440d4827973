"""
Mazes: trained up to size 9, asked up to 59
===========================================

Mark the path from start to goal. A message-passing cell whose squares hear the second largest of their neighbours sees mazes of sizes 5, 7 and 9 and is asked about
sizes 13 to 59, for as many steps as dead ends take to fill. Beside it: the energy twin with the same parameters, the same cell with sums, a U-Net, a feed-forward
highway network of more than thirty times as many parameters, and the answers that take no learning. Weights are chosen on held-out mazes of size 17.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_mazes.png"

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.tasks import WALL, Mazes
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import frames, run
from support.rivals import UNet

WIDTH = 32
GRID = ebm.Grid(3, rooms=True)


def cell() -> ebm.MessageCell:
    """The model: a square that hears of two open neighbours is no dead end."""
    return ebm.MessageCell(GRID, WIDTH, nn.Linear(WIDTH, 2), ebm.Aggregate.SECOND)


def adding() -> ebm.MessageCell:
    """The same with sums."""
    return ebm.MessageCell(GRID, WIDTH, nn.Linear(WIDTH, 2), ebm.Aggregate.SUM)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(GRID, 40, head, ebm.Aggregate.SECOND)


def highway() -> Highway:
    """Twenty-four layers that run once."""
    return Highway(layer, 24, nn.Linear(40, 2))


def unet(width: int) -> UNet:
    """The rival that a sceptic would name for pictures."""
    return UNet(3, 2, width)


def loss(answer: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with missed squares of the path weighing five times as much: a square not yet decided about stays open, as filling dead ends wants it."""
    return functional.cross_entropy(answer, y, answer.new_tensor([1.0, 5.0]), ignore_index=WALL)


RULE = ebm.Progressive(loss, burn_in=(0, 80), steps=12)
RECIPE = Recipe(updates=2000, batch=32, learning_rate=5e-3, every=50, patience=2)
UNETS = tuple(
    Variant(f"width {width}, rate {rate}", partial(unet, width), replace(RECIPE, learning_rate=rate))
    for width in (8, 16)
    for rate in (1e-3, 3e-3, 1e-2)
)

EXPERIMENT = Experiment(
    name="mazes",
    title="Mazes, trained on sizes 5 to 9",
    tasks=(Mazes(5), Mazes(7), Mazes(9)),
    contenders=(
        Contender("message cell, second largest", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE, trials=2),
        Contender("message cell, sum", adding, RULE, RECIPE, trials=3, seeds=3),
        Contender("U-Net", partial(unet, 16), Supervised(loss), RECIPE, variants=UNETS),
        Contender("highway network", highway, Supervised(loss), RECIPE, seeds=3),
    ),
    looks=(Validation("size 9", Mazes(9), 30, 512), Validation("size 17", Mazes(17), 20, 768)),
    choice="size 17",
    trials=(
        Trial("size 9", Mazes(9), 300, (4, 8, 16, 32, 64, 128), timed=100),
        Trial("size 13", Mazes(13), 300, (8, 16, 32, 64, 128, 256), timed=100),
        Trial("size 21", Mazes(21), 300, (16, 32, 64, 128, 256, 512), timed=30),
        Trial("size 33", Mazes(33), 300, (32, 64, 128, 256, 512, 1024), timed=10, batch=25),
        Trial("size 59", Mazes(59), 100, (64, 128, 256, 512, 1024, 2048), timed=2, batch=10),
    ),
)


def strip(figure: Any, model: ebm.Objective) -> None:
    """What the cell still holds open in a maze of size 21, orange, at growing numbers of steps; squares it has closed are white, walls dark."""
    x, y = Mazes(21).sample(1, torch.Generator().manual_seed(4))

    def paint(axis: Any, answer: Tensor) -> None:
        held = answer.argmax(0) == 1
        colours = torch.ones(*held.shape, 3)
        colours[held] = torch.tensor([1.0, 0.6, 0.15])
        colours[y[0] == WALL] = 0.2
        axis.imshow(colours, interpolation="nearest")

    frames(figure, model, x, (1, 16, 32, 64, 128, 256), paint)


if __name__ == "__main__":
    run(EXPERIMENT, "Mazes far beyond training.", seeds=6, strip=strip)
