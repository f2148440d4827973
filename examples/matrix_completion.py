"""
Matrix completion: one number learned, and steps
================================================

Half of the entries of a 20 x 20 matrix of low rank are shown; say all. The model is an energy: half the squared error on what is shown, plus the nuclear norm, whose one weight is all that is learned, from published
matrices of rank 10 with small entries. It is asked about others of the kind, the published harder ones, and matrices of rank 3, where far more can be known and more steps are needed. Beside it: a feed-forward net of
seven hundred thousand parameters and the answers that take no learning. Weights are chosen on held-out matrices of the kind trained on.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_matrix_completion.png"

from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import Completion
from ebm.training import Recipe, Supervised, Validation
from support.entry_net import EntryNet
from support.reasoning import Contender, Experiment, Trial
from support.reasoning_report import run

TASK = Completion(rank=10, scale=20.0)
LOW = Completion(rank=3, scale=2.0)


class Shown(ebm.Energy):
    """Half the squared error of the entries that are shown, which are those that are not zero."""

    def condition(self, x: Tensor) -> dict[str, Tensor]:
        """The shown entries, and which they are."""
        return {"x": x[:, 0], "shown": x[:, 0] != 0}

    def init_latent(self, c: dict[str, Tensor], draw: ebm.Draw) -> Tensor:
        """Zeros."""
        return torch.zeros_like(c["x"])

    def forward(self, z: Tensor, c: dict[str, Tensor]) -> Tensor:
        """The energy, (B,)."""
        return 0.5 * ((z - c["x"]) * c["shown"]).square().flatten(1).sum(1)

    def readout(self, z: Tensor, c: dict[str, Tensor]) -> Tensor:
        """What is shown as it is, the rest as the latent has it."""
        return torch.where(c["shown"], c["x"], z)


def low_rank() -> ebm.Composite:
    """The model."""
    return ebm.Composite(Shown(), ebm.NuclearNorm(nn.Parameter(torch.tensor(1.0))))


RULE = ebm.Progressive(TASK.loss, burn_in=(0, 20), steps=4)

EXPERIMENT = Experiment(
    name="matrix_completion",
    title="Matrix completion, trained on rank 10",
    tasks=(TASK,),
    contenders=(
        Contender("nuclear-norm energy", low_rank, RULE, Recipe(updates=100, batch=64, learning_rate=3e-2, every=20)),
        Contender("feed-forward net", EntryNet, Supervised(TASK.loss), Recipe(2000, batch=64, learning_rate=1e-3, every=200)),
    ),
    looks=(Validation("rank 10", TASK, 200, 32),),
    choice="rank 10",
    trials=(
        Trial("rank 10", TASK, 1000, (1, 2, 4, 8, 16, 32, 64)),
        Trial("rank 10, harder", Completion(rank=10, scale=5.0), 1000, (1, 2, 4, 8, 16, 32, 64)),
        Trial("rank 3", LOW, 1000, (1, 2, 4, 8, 16, 32, 64, 128)),
    ),
    fitted=5000,
)  # fmt: skip


def strip(figure: Any, model: ebm.Objective) -> None:
    """The error of one matrix of rank 3 at growing numbers of steps, white where there is none; the first shows nothing but what is given."""
    x, y = LOW.sample(1, torch.Generator().manual_seed(1))
    axes = figure.subplots(1, 6)
    for axis, steps in zip(axes, (0, 2, 4, 8, 16, 32), strict=True):
        answer = ebm.infer(model, x, steps=steps, keep="last").answer[0] if steps else x[0, 0]
        axis.imshow((answer - y[0]).abs(), cmap="Greys", vmin=0, vmax=2)
        axis.set(xticks=[], yticks=[], title=f"after {steps}")
    axes[0].set_ylabel("error of each entry")


if __name__ == "__main__":
    run(EXPERIMENT, "Matrices of low rank from half of their entries.", strip=strip)
