"""
Matrix inverse: trained on 20 x 20, asked about worse conditioned and larger ones
=================================================================================

Invert a symmetric positive definite matrix. A cell of matrix products sees matrices of 20 x 20 with condition numbers around ninety and is asked about four times worse ones, as published, and
about matrices of 60 x 60. Beside it: a multilayer perceptron of more than thirty times as many parameters, for the one size that it can read, the answers that take no
learning, and the classical iteration of products. Weights are chosen on held-out matrices of the harder kind.
"""

import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import Inverse
from ebm.training import Recipe, Supervised, Validation
from support.reasoning import Contender, Experiment, Trial
from support.reasoning_report import arguments, run

SIZE = 20
TASK, HARD = Inverse(SIZE, 0.5), Inverse(SIZE, 0.1)


def cell() -> ebm.MatrixCell:
    """The model: which products, nothing else."""
    return ebm.MatrixCell(width=2, products=4)


class Perceptron(nn.Module):
    """The feed-forward rival: it reads matrices of one size."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            nn.Linear(size * size, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, size * size),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, n, n) to (B, n, n)."""
        return self.layers(x.flatten(1)).unflatten(1, (self.size, self.size))


def perceptron() -> Perceptron:
    """As wide as the published ones."""
    return Perceptron(SIZE, 512)


def loss(answer: Tensor, y: Tensor) -> Tensor:
    """How far the product with the matrix is from the identity: every eigenvalue counts alike, while errors of the entries are those of the largest ones of the inverse."""
    left = torch.linalg.solve(y, answer) - torch.eye(y.shape[1])
    return left.square().sum((1, 2)).clamp(max=1e6).mean()


RULE = ebm.Progressive(loss, burn_in=(0, 24), steps=6)
RECIPE = Recipe(updates=1500, batch=32, learning_rate=5e-3, every=100)
LONG = Recipe(updates=3000, batch=128, learning_rate=1e-3, every=500)

EXPERIMENT = Experiment(
    name="matrix_inverse",
    title="Matrix inverse, trained on 20 x 20 with delta 0.5",
    tasks=(TASK,),
    contenders=(
        Contender("matrix cell", cell, RULE, RECIPE),
        Contender("perceptron", perceptron, Supervised(TASK.loss), LONG, trials=2, seeds=3),
    ),
    looks=(Validation("delta 0.5", TASK, 200, 16), Validation("delta 0.1", HARD, 200, 24)),
    choice="delta 0.1",
    trials=(
        Trial("delta 0.5", TASK, 1000, (2, 4, 8, 12, 16, 24)),
        Trial("delta 0.1", HARD, 1000, (2, 4, 8, 12, 16, 24, 32)),
        Trial("60 x 60, delta 0.5", Inverse(60, 0.5), 200, (2, 4, 8, 12, 16, 24, 32)),
    ),
)


if __name__ == "__main__":
    run(
        EXPERIMENT,
        arguments("Matrix inverses beyond training.", "matrix_inverse"),
        None,
        ebm.Patience(ebm.AtRest(1e-5), 2),
    )
