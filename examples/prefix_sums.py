"""
Prefix sums: trained on 32 bits, asked about 2,048
==================================================

A gated cell on a line is trained to say, at every bit, whether the ones so far are odd. It sees strings of 32 bits and is asked about strings sixty-four times as
long, for as many steps as it takes. Beside it: the energy twin with the same parameters (not on the longest strings: a step of it costs three), a gated recurrent unit (GRU) that reads the string once, a feed-forward highway network of forty times as many, and the answers that take no
learning. Weights are chosen on held-out strings of 64 bits, twice the training's length.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_prefix_sums.png"

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

import ebm
from ebm.tasks import PrefixSums
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import run
from support.rivals import GRU

WIDTH = 20
TASK = PrefixSums(32)


def cell() -> ebm.GatedCell:
    """The model: one gated convolution."""
    return ebm.GatedCell(1, WIDTH, nn.Conv1d(WIDTH, 2, 1), dims=1)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.GatedCell:
    """A layer of the feed-forward rival."""
    return ebm.GatedCell(1, 40, head, dims=1)


def highway() -> Highway:
    """Twelve layers that run once."""
    return Highway(layer, 12, nn.Conv1d(40, 2, 1))


def gru(width: int) -> GRU:
    """The natural rival: one pass from left to right."""
    return GRU(width)


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 100), steps=24, noise_start=0.5)
RECIPE = Recipe(updates=400, batch=64, learning_rate=1e-2, every=50)
GRUS = tuple(
    Variant(f"width {width}, rate {rate}", partial(gru, width), replace(RECIPE, learning_rate=rate))
    for width in (8, 16)
    for rate in (3e-3, 1e-2, 3e-2)
)
LONG = Recipe(updates=1000, batch=32, learning_rate=3e-3, every=250)

EXPERIMENT = Experiment(
    name="prefix_sums",
    title="Prefix sums, trained on 32 bits",
    tasks=(TASK,),
    contenders=(
        Contender("gated cell", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE, trials=2),
        Contender("GRU", partial(gru, 8), Supervised(TASK.loss), RECIPE, variants=GRUS),
        Contender("highway network", highway, Supervised(TASK.loss), LONG, seeds=3),
    ),
    looks=(Validation("32 bits", PrefixSums(32), 100, 64), Validation("64 bits", PrefixSums(64), 100, 128)),
    choice="64 bits",
    trials=(
        Trial("32 bits", PrefixSums(32), 1000, (4, 8, 16, 24, 32, 48, 64), timed=50),
        Trial("128 bits", PrefixSums(128), 500, (16, 32, 64, 96, 128, 192, 256), timed=50),
        Trial("512 bits", PrefixSums(512), 300, (64, 128, 256, 384, 512, 640, 1024), timed=50),
        Trial("2,048 bits", PrefixSums(2048), 100, (512, 1024, 2048, 2560, 4096), batch=25, timed=5),
    ),
)


def strip(figure: Any, model: ebm.Objective) -> None:
    """The answer to one string, step by step: rows are steps, black where it is still wrong."""
    bits, sums = PrefixSums(128).sample(1, torch.Generator().manual_seed(3))
    items = list(ebm.stream(model, bits, steps=160, keep="last"))
    wrong = torch.stack([(item.answer.argmax(1) != sums)[0] for item in items])
    axis = figure.subplots()
    axis.imshow(wrong, cmap="Greys", aspect="auto", interpolation="nearest")
    axis.set(xlabel="position in a string of 128 bits", ylabel="step", title="where the answer is still wrong (black)")


if __name__ == "__main__":
    run(EXPERIMENT, "Prefix sums far beyond training.", strip=strip)
