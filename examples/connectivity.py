"""
Connectivity: trained on 12 nodes, asked about 100
==================================================

Which nodes of a graph hang together? A message-passing cell with a maximum over neighbours sees graphs of 12 nodes and is asked about graphs of 13 to 100, for as many
steps as word takes to go round. Beside it: the energy twin with the same parameters, the same cell with sums in place of maxima, a graph net with as many layers as the cell takes steps, a feed-forward highway network of
more than thirty times as many parameters, and the answers that take no learning. Weights are chosen on held-out graphs of 20 nodes.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_connectivity.png"

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

import ebm
from ebm.tasks import Connectivity, balanced_accuracy
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import run
from support.rivals import GraphNet

WIDTH = 8
TASK = Connectivity(12, 0.2)


def cell() -> ebm.MessageCell:
    """The model: each node of each copy of the graph hears the loudest of its neighbours."""
    return ebm.MessageCell(ebm.Pairs(), WIDTH, nn.Linear(WIDTH, 1), ebm.Aggregate.MAX)


def adding() -> ebm.MessageCell:
    """The same with sums."""
    return ebm.MessageCell(ebm.Pairs(), WIDTH, nn.Linear(WIDTH, 1), ebm.Aggregate.SUM)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(ebm.Pairs(), 24, head, ebm.Aggregate.MAX)


def highway() -> Highway:
    """Six layers that run once."""
    return Highway(layer, 6, nn.Linear(24, 1))


def graph_net(width: int) -> GraphNet:
    """The rival that a sceptic would name: as many layers as the cell takes steps, each with weights of its own."""
    return GraphNet(ebm.Pairs(), width, 32)


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 20), steps=8)
RECIPE = Recipe(updates=300, batch=32, learning_rate=1e-2, every=100)
GRAPH_NETS = tuple(
    Variant(f"width {width}, rate {rate}", partial(graph_net, width), replace(RECIPE, learning_rate=rate))
    for width in (8, 16)
    for rate in (1e-3, 3e-3, 1e-2)
)

EXPERIMENT = Experiment(
    name="connectivity",
    title="Connectivity, trained on 12 nodes",
    tasks=(TASK,),
    contenders=(
        Contender("message cell, maximum", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE),
        Contender("message cell, sum", adding, RULE, RECIPE, seeds=3),
        Contender("graph net, 32 layers", partial(graph_net, 16), Supervised(TASK.loss), RECIPE, variants=GRAPH_NETS),
        Contender("highway network", highway, Supervised(TASK.loss), RECIPE, seeds=3),
    ),
    looks=(Validation("12 nodes", TASK, 100, 24), Validation("20 nodes", Connectivity(20, 0.1), 100, 40)),
    choice="20 nodes",
    trials=(
        Trial("12 nodes", TASK, 500, (2, 4, 8, 16, 32)),
        Trial("15 nodes", Connectivity(15, 0.2), 500, (2, 4, 8, 16, 32)),
        Trial("18 nodes", Connectivity(18, 0.2), 500, (2, 4, 8, 16, 32)),
        Trial("20 nodes", Connectivity(20, 0.1), 500, (2, 4, 8, 16, 32)),
        Trial("100 nodes", Connectivity(100, 0.02), 100, (4, 8, 16, 32, 64), batch=10, timed=30),
        Trial(
            "100 nodes, balanced",
            Connectivity(100, 0.02),
            100,
            (4, 8, 16, 32, 64),
            balanced_accuracy,
            batch=100,
            timed=30,
        ),
    ),
)


def strip(figure: Any, model: ebm.Objective) -> None:
    """Who the cell thinks is joined to whom in one graph of 40 nodes, at growing numbers of steps; nodes sorted by component."""
    x, y = Connectivity(40, 0.04).sample(1, torch.Generator().manual_seed(2))
    order = (y[0] > 0).int().argmax(1).argsort(stable=True)
    axes = figure.subplots(1, 6)
    for axis, steps in zip(axes, (0, 1, 2, 4, 16), strict=False):
        seen = ebm.infer(model, x, steps=steps, keep="last").answer[0] > 0
        axis.imshow(seen[order][:, order], cmap="Blues", vmin=0, vmax=1.5, interpolation="nearest")
        axis.set_title(f"{steps} steps")
    axes[5].imshow(y[0][order][:, order] > 0, cmap="Greens", vmin=0, vmax=1.5, interpolation="nearest")
    axes[5].set_title("truth")
    for axis in axes:
        axis.set(xticks=[], yticks=[])


if __name__ == "__main__":
    run(EXPERIMENT, "Connectivity far beyond training.", strip=strip)
