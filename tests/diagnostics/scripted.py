"""Objectives whose way is written down beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ebm


class Map(ebm.Update):
    """z' = f(z), from z = x."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.clone()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.step(z)


class Bowl(ebm.Energy):
    """E = |z - x|^2 / 2, from zero."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * (z - c).square().sum(1)


class Well(ebm.Energy):
    """Two wells a number, at 1 and -1, from z = x."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.clone()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.25 * (z.square() - 1).square().sum(1)


class Script(ebm.Update):
    """Counts its steps; x (B, S + 1, classes) says the logits after each. A step is one multiply-add a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1, 1, dtype=torch.float64))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.new_zeros(c.shape[0], 1)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return z @ self.one + 1

    def readout(self, z: Tensor, c: Tensor) -> Tensor:
        step = z[:, 0].long().clamp(0, c.shape[1] - 1)
        return c[torch.arange(len(c)), step]


def script(right: Tensor, sure: Tensor) -> Tensor:
    """Logits of two classes, (B, S + 1, 2), whose answer to label 1 is ``right`` (bool) with confidence ``sure``."""
    logit = (sure / (1 - sure)).log() * torch.where(right, 1.0, -1.0)
    return torch.stack([torch.zeros_like(logit), logit], 2)
