"""What the tests of halting share: problems, a small cell, and a head that never says the same twice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from tests.contracts.members import seeded
from tests.energies import numbers

X = numbers(5, 1, 6)
Y = torch.tensor([[0, 1, 1, 0, 1, 0]] * 5)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Swinging(nn.Module):
    """A halting head that says something else at every step and for every sample."""

    def forward(self, z: Tensor) -> Tensor:
        return (40 * z).sin().flatten(1).sum(1) - 1.0


def cell() -> ebm.GatedCell:
    return seeded(lambda: ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1))


def each(answer: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(answer, y, reduction="none").mean(1)
