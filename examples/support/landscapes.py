"""Tasks with local minima: waves over a bowl, phase retrieval, a relaxed spin glass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ebm

__all__ = ["Task", "phases", "spins", "waves"]


@dataclass(frozen=True)
class Task:
    """Problems of one kind.

    Attributes:
        name: in words.
        model: the energy; its ``init_latent`` is random.
        x: the problems, a row tree.
        lowest: (B,), the least energy there is, or the least known.
        solved: how close to it counts as solved.
        temperatures: what Langevin dynamics is tried with.
        step: its step size.
    """

    name: str
    model: ebm.Energy
    x: Any
    lowest: Any
    solved: float
    temperatures: tuple[float, ...]
    step: float


class Waves(ebm.Energy):
    r"""A shallow bowl with plane waves: :math:`E = |z|^2/20 + \sum_k (1 - \cos(w_k z + \phi_k)) / \sqrt{K}`."""

    directions: Tensor

    def __init__(self, size: int, count: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("directions", 2 * torch.randn(size, count, generator=generator, dtype=torch.float64))

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        return 3 * draw.normal(c[:, : self.directions.shape[0]])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        rough = (1 - (z @ self.directions + c).cos()).sum(1) / c.shape[1] ** 0.5
        return rough + 0.05 * z.square().sum(1)


def waves(instances: int) -> Task:
    """Each problem has its own phases. Its least energy is not known: the lowest of 1,024 descents stands for it."""
    generator = torch.Generator().manual_seed(1)
    model = Waves(3, 24, generator)
    shifts = 2 * math.pi * torch.rand(instances, 24, generator=generator, dtype=torch.float64)
    many = ebm.Restarts(1024, ebm.AdaptiveDescent())
    lowest = ebm.infer(model, shifts, steps=60, solver=many, generator=torch.Generator().manual_seed(4)).energy
    return Task("waves over a bowl, 3 numbers", model, shifts, lowest, 0.01, (0.3, 1.0), 0.01)


class PhaseRetrieval(ebm.Energy):
    """A signal from squares of linear measurements: the mean squared error over them, a quarter of it."""

    rows: Tensor

    def __init__(self, size: int, count: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("rows", torch.randn(size, count, generator=generator, dtype=torch.float64))

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        return draw.normal(c[:, : self.rows.shape[0]])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.25 * ((z @ self.rows).square() - c).square().mean(1)


def phases(instances: int) -> Task:
    """The signal itself (or minus it) has energy zero."""
    generator = torch.Generator().manual_seed(2)
    model = PhaseRetrieval(12, 30, generator)
    signal = torch.randn(instances, 12, generator=generator, dtype=torch.float64)
    zero = torch.zeros(instances, dtype=torch.float64)
    return Task(
        "phase retrieval, 12 numbers from 30", model, (signal @ model.rows).square(), zero, 0.01, (1.0, 3.0), 0.001
    )


class Spins(ebm.Energy):
    r"""Spins relaxed to :math:`s = \tanh z`: :math:`E = -\tfrac12 s^T J s`; the couplings are the observation."""

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        return 0.5 * draw.normal(c[:, 0])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        spins = z.tanh()
        return -0.5 * (torch.bmm(c, spins[:, :, None])[:, :, 0] * spins).sum(1)


def spins(instances: int, size: int = 18) -> Task:
    """Random couplings (Sherrington and Kirkpatrick, 1975); the ground states by enumeration."""
    generator = torch.Generator().manual_seed(3)
    upper = torch.randn(instances, size, size, generator=generator, dtype=torch.float64).triu(1) / size**0.5
    couplings = upper + upper.mT
    bits = torch.arange(2 ** (size - 1))[:, None] >> torch.arange(size) & 1
    states = 2 * bits.double() - 1  # the last spin is down: turning all round changes nothing
    lowest = torch.stack([-0.5 * ((states @ own) * states).sum(1).max() for own in couplings])
    return Task(f"spin glass, {size} relaxed spins", Spins(), couplings, lowest, 0.05, (0.1, 0.3), 0.1)
