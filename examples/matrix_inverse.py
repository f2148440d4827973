"""
Matrix inverse: a known energy, a learned cell, and a feed-forward net
======================================================================

Invert a symmetric positive definite matrix of 20 rows. Where the energy of a problem is known nothing need be learned: half the trace of Y S Y less the trace of Y is lowest at the inverse, and steps are all it takes. Beside
it: a cell of 174 numbers whose operations are products of matrices and which has to find an iteration of its own, a feed-forward net on the entries, the best linear predictor, and the iteration of Newton and Schulz. Trained on matrices with a
least eigenvalue of at least 0.5; asked about those, about worse conditioned ones, and about 40 rows, which the net cannot read.
"""

# sphinx_gallery_thumbnail_path = "images/reasoning_matrix_inverse.png"

from typing import Any

import torch
from torch import Tensor

import ebm
from ebm.tasks import Inverse
from ebm.training import Recipe, Supervised, Validation
from support.entry_net import EntryNet
from support.reasoning import Contender, Experiment, Trial
from support.reasoning_report import frames, run

TASK = Inverse(size=20, delta=0.5)


class Inverting(ebm.Energy):
    """The energy whose lowest point is the inverse."""

    def condition(self, x: Tensor) -> Tensor:
        """The matrices, (B, n, n)."""
        return x[:, 0]

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        """The identity over the mean eigenvalue."""
        mean = c.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        return torch.eye(c.shape[1], dtype=c.dtype, device=c.device) / mean

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """The energy, (B,)."""
        return (0.5 * z * (c @ z)).flatten(1).sum(1) - z.diagonal(dim1=1, dim2=2).sum(1)

    def default_solver(self) -> ebm.Solver:
        """Quasi-Newton steps."""
        return ebm.LBFGS()


def cell() -> ebm.MatrixCell:
    """The learned model."""
    return ebm.MatrixCell(width=2, products=4)


def misfit(answer: Tensor, y: Tensor) -> Tensor:
    """The mean logarithm of how far the answer times the matrix is from the identity: every eigenvalue counts alike, near or far."""
    away = torch.eye(y.shape[1]) - torch.linalg.solve(y, answer)
    return (away.square().flatten(1).sum(1) / y.shape[1]).clamp(max=1e6).add(1e-6).log().mean()


EXPERIMENT = Experiment(
    name="matrix_inverse",
    title="Matrix inverse, trained on a least eigenvalue of 0.5",
    tasks=(TASK,),
    contenders=(
        Contender("known energy", Inverting, None, None, seeds=1),
        Contender("matrix cell", cell, ebm.Progressive(misfit, burn_in=(0, 12), steps=6), Recipe(1500, batch=32, learning_rate=5e-3), seeds=3),
        Contender("feed-forward net", EntryNet, Supervised(TASK.loss), Recipe(4000, batch=64, learning_rate=1e-3, every=400), trials=2, seeds=3),
    ),
    looks=(Validation("at least 0.25", Inverse(20, 0.25), 100, 32),),
    choice="at least 0.25",
    trials=(
        Trial("20 rows", TASK, 1000, (2, 4, 8, 16, 32, 64, 128), batch=100),
        Trial("20 rows, harder", Inverse(20, 0.1), 1000, (2, 4, 8, 16, 32, 64, 128), batch=100),
        Trial("40 rows, harder", Inverse(40, 0.1), 200, (2, 4, 8, 16, 32, 64, 128, 256), batch=100),
    ),
    fitted=5000,
)  # fmt: skip


def strip(figure: Any, model: ebm.Objective) -> None:
    """The product of a matrix and its inverse as found so far: what is not yet the identity."""
    x, _ = Inverse(20, 0.1).sample(1, torch.Generator().manual_seed(3))

    def paint(axis: Any, answer: Tensor) -> None:
        axis.imshow(x[0, 0] @ answer, cmap="RdBu_r", vmin=-1, vmax=1)

    axes = frames(figure, model, x, (1, 4, 8, 16, 32, 64), paint)
    axes[0].set_ylabel("S Y")


if __name__ == "__main__":
    run(EXPERIMENT, "Inverses by settling.", strip=strip)
