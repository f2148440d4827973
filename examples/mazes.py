"""
Mazes: trained on size 9, asked about size 59
=============================================

A message-passing cell on the squares of a maze marks the way from start to goal. It sees mazes of size 5 to 9 and is asked about sizes up to 59, for as many steps as the longest dead
end takes. Two things make it keep its reach. Its loss weighs squares on the path ten times, so a square that is still undecided counts as path, and all that is left to learn is when to take it
back; and most batches begin where a looser maze has settled, one with more squares marked as goals, so that it meets squares that have been undecided for long. Beside it: a feed-forward
highway network of more than thirty times as many parameters, and the answers that take no learning. Weights are chosen on held-out mazes of size 17.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.losses import Elsewhere
from ebm.tasks import WALL, Mazes
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial
from support.reasoning_report import arguments, run

WIDTH = 24


def cell() -> ebm.MessageCell:
    """The model: sums over the open squares beside each square."""
    return ebm.MessageCell(ebm.Grid(3, rooms=True), WIDTH, nn.Linear(WIDTH, 2))


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(ebm.Grid(3, rooms=True), 40, head)


def highway() -> Highway:
    """Sixteen layers that run once."""
    return Highway(layer, 16, nn.Linear(40, 2))


def weighed(answer: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy over open squares, those on the path counting ten times."""
    return functional.cross_entropy(answer, y, answer.new_tensor([1.0, 10.0]), ignore_index=WALL)


def looser(x: Tensor, generator: torch.Generator) -> Tensor:
    """The same mazes with up to a third of their open squares marked as goals: what joins them all contains the path."""
    share = torch.rand(len(x), 1, 1, 1, generator=generator) / 3
    marked = (torch.rand(x[:, :1].shape, generator=generator) < share) & (x.sum(1, keepdim=True) > 0)
    return torch.where(marked, x.new_tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), x)


RULE = ebm.Progressive(weighed, burn_in=(0, 50), steps=20, begin=Elsewhere(looser, (0, 60), odds=0.7))
RECIPE = Recipe(updates=2000, batch=32, learning_rate=1e-2, every=100)

EXPERIMENT = Experiment(
    name="mazes",
    title="Mazes, trained on sizes up to 9",
    tasks=(Mazes(5), Mazes(7), Mazes(9), Mazes(9)),
    contenders=(
        Contender("message cell", cell, RULE, RECIPE),
        Contender("highway network", highway, Supervised(Mazes(9).loss), RECIPE),
    ),
    looks=(
        Validation("size 9", Mazes(9), 60, 160),
        Validation("size 17", Mazes(17), 60, 320),
    ),
    choice="size 17",
    trials=(
        Trial("size 9", Mazes(9), 500, (10, 20, 40, 80, 160)),
        Trial("size 13", Mazes(13), 500, (20, 40, 80, 160, 320)),
        Trial("size 21", Mazes(21), 200, (40, 80, 160, 320, 640)),
        Trial("size 33", Mazes(33), 100, (80, 160, 320, 640, 1280)),
        Trial("size 59", Mazes(59), 30, (160, 320, 640, 1280, 2560), batch=10),
    ),
)


def strip(figure: object, model: ebm.Objective) -> None:
    """A maze of size 33 that solves itself: squares held to be path, at growing numbers of steps."""
    x, y = Mazes(33).sample(1, torch.Generator().manual_seed(4))
    axes = figure.subplots(1, 6)  # type: ignore[attr-defined]
    picture = x[0].permute(1, 2, 0)
    for axis, steps in zip(axes, (1, 10, 40, 160, 640), strict=False):
        path = ebm.infer(model, x, steps=steps, keep="last").answer[0].argmax(0).bool() & (y[0] != WALL)
        axis.imshow(
            torch.where(path[..., None], 0.4 * picture + torch.tensor([0.6, 0.3, 0.0]), picture),
            interpolation="nearest",
        )
        axis.set_title(f"{steps} steps")
    axes[5].imshow(
        torch.where((y[0] == 1)[..., None], 0.4 * picture + torch.tensor([0.0, 0.3, 0.6]), picture),
        interpolation="nearest",
    )
    axes[5].set_title("the path")
    for axis in axes:
        axis.set(xticks=[], yticks=[])


if __name__ == "__main__":
    run(
        EXPERIMENT,
        arguments("Mazes far beyond training.", "mazes", seeds=3),
        None,
        ebm.Patience(ebm.AtRest(1e-3), 3),
        strip,
    )
