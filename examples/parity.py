"""
Parity: trained on 16 places, asked about 512
=============================================

Is the number of plus ones odd? A gated cell on a line passes what it knows to the right and is asked at the last place. It sees vectors of 1 to 16 places, most of them short, because a single answer teaches nothing of a long one before short ones are understood, and is asked about
vectors of up to 512. Half of the batches begin at noise, so that a cell learns to take back what is wrong and to keep what is right for any number of steps. Beside it: the energy twin with the same parameters, a gated recurrent unit (GRU) that reads the vector once, a feed-forward highway network of more than thirty times as many, and the answers that
take no learning. Weights are chosen on held-out vectors of 32 places.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_parity.png"
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

import ebm
from ebm.tasks import Parity
from ebm.training import Recipe, Supervised, Validation
from support.highway import Highway
from support.reasoning import Contender, Experiment, Trial, Variant
from support.reasoning_report import run
from support.rivals import GRU

WIDTH = 20


class AtTheEnd(nn.Module):
    """Two scores, read off the last place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scores = nn.Conv1d(width, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, width, length) to (B, 2)."""
        return self.scores(z[..., -1:])[..., 0]


def cell() -> ebm.GatedCell:
    """The model: one gated convolution."""
    return ebm.GatedCell(1, WIDTH, AtTheEnd(WIDTH), dims=1)


def twin() -> ebm.EnergyTwin:
    """The energy with the same parameters."""
    return ebm.EnergyTwin(cell())


def layer(head: nn.Module | None) -> ebm.GatedCell:
    """A layer of the feed-forward rival."""
    return ebm.GatedCell(1, 32, head, dims=1)


def highway() -> Highway:
    """Sixteen layers that run once: as far as training reaches."""
    return Highway(layer, 16, AtTheEnd(32))


def gru(width: int) -> GRU:
    """The natural rival: one pass from left to right."""
    return GRU(width, at_the_end=True)


TASK = Parity(16)
RULE = ebm.Progressive(TASK.loss, burn_in=(0, 100), steps=16, noise_start=0.5)
RECIPE = Recipe(updates=1500, batch=128, learning_rate=1e-2, every=250)
GRUS = tuple(
    Variant(f"width {width}, rate {rate}", partial(gru, width), replace(RECIPE, learning_rate=rate))
    for width in (8, 16)
    for rate in (3e-3, 1e-2, 3e-2)
)

EXPERIMENT = Experiment(
    name="parity",
    title="Parity, trained on 1 to 16 places",
    tasks=tuple(Parity(length) for length in (1, 2, 3, 4, 6, 8, 12, 16)),
    contenders=(
        Contender("gated cell", cell, RULE, RECIPE),
        Contender("its energy twin", twin, RULE, RECIPE, trials=2),
        Contender("GRU", partial(gru, 8), Supervised(TASK.loss), RECIPE, variants=GRUS),
        Contender("highway network", highway, Supervised(TASK.loss), RECIPE, seeds=3),
    ),
    looks=(Validation("16 places", TASK, 200, 32), Validation("32 places", Parity(32), 200, 64)),
    choice="32 places",
    trials=(
        Trial("16 places", TASK, 1000, (4, 8, 16, 32, 64)),
        Trial("64 places", Parity(64), 1000, (16, 32, 64, 128, 256)),
        Trial("64 places, 33 to 64 filled", Parity(64, 33), 1000, (16, 32, 64, 128, 256)),
        Trial("128 places", Parity(128), 500, (32, 64, 128, 256, 512)),
        Trial("512 places", Parity(512), 100, (256, 512, 1024, 2048), timed=20),
    ),
)


if __name__ == "__main__":
    run(EXPERIMENT, "Parity far beyond training.")
