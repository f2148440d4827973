"""
Shortest path: which way first?
===============================

In a directed graph, which link from the start leads nearer to the goal? A message-passing cell with a maximum over neighbours, ahead and behind, sees graphs of 20
nodes and is asked about 25 to 100. Beside it: the energy twin with the same parameters, a graph net with as many layers as the cell takes steps, a feed-forward highway network of more than
thirty times as many, and the answers that take no learning. Weights are chosen on held-out graphs of 30 nodes.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_shortest_path.png"
from dataclasses import replace
from functools import partial

from torch import nn

import ebm
from ebm.tasks import ShortestPath
from ebm.training import Pool, Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import run
from support.rivals import GraphNet

WIDTH = 16
TASK = ShortestPath(20)


def cell() -> ebm.MessageCell:
    """The model."""
    return ebm.MessageCell(ebm.Nodes(), WIDTH, nn.Linear(WIDTH, 1), ebm.Aggregate.MAX)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.MessageCell:
    """A layer of the feed-forward rival."""
    return ebm.MessageCell(ebm.Nodes(), 40, head, ebm.Aggregate.MAX)


def highway() -> Highway:
    """Eight layers that run once."""
    return Highway(layer, 8, nn.Linear(40, 1))


def graph_net(width: int) -> GraphNet:
    """The rival that a sceptic would name: as many layers as the cell takes steps, each with weights of its own."""
    return GraphNet(ebm.Nodes(), width, 32)


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 30), steps=8)
RECIPE = Recipe(updates=1000, batch=64, learning_rate=1e-2, every=125)
GRAPH_NETS = tuple(
    Variant(f"width {width}, rate {rate}", partial(graph_net, width), replace(RECIPE, learning_rate=rate))
    for width in (16, 24)
    for rate in (1e-3, 3e-3, 1e-2)
)

EXPERIMENT = Experiment(
    name="shortest_path",
    title="Shortest path, trained on 20 nodes",
    tasks=(Pool(TASK, 8000),),
    contenders=(
        Contender("message cell, maximum", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE),
        Contender("graph net, 32 layers", partial(graph_net, 16), Supervised(TASK.loss), RECIPE, variants=GRAPH_NETS),
        Contender("highway network", highway, Supervised(TASK.loss), RECIPE, seeds=3),
    ),
    looks=(Validation("20 nodes", TASK, 200, 20), Validation("30 nodes", ShortestPath(30), 200, 20)),
    choice="30 nodes",
    trials=(
        Trial("20 nodes", TASK, 1000, (1, 2, 4, 8, 16, 32)),
        Trial("25 nodes", ShortestPath(25), 1000, (1, 2, 4, 8, 16, 32)),
        Trial("50 nodes, 6 to 10 links", ShortestPath(50, 0.2, (6, 10)), 500, (1, 2, 4, 8, 16, 32)),
        Trial("100 nodes, 8 to 14 links", ShortestPath(100, 0.1, (8, 14)), 200, (1, 2, 4, 8, 16, 32)),
    ),
)


if __name__ == "__main__":
    run(EXPERIMENT, "First steps of shortest paths.")
