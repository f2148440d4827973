"""Where a batch begins to settle, beside `Elsewhere`: at noise, and at one of several places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ebm.losses.stretch import Begin, Stretch
from ebm.objective import Objective

__all__ = ["Either", "Noisy"]


@dataclass(frozen=True)
class Noisy:
    """Begin at normal noise, drawn from each sample's own key.

    Args:
        scale: standard deviation, >= 0, in units of the latent.
        odds: probability that a batch begins so, in [0, 1].

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import Noisy
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> Noisy(0.5)(cell, torch.ones(3, 1, 6), torch.Generator().manual_seed(0)).shape
        torch.Size([3, 4, 6])

    Source: random initialisation in Anil et al. (2022), Path independent equilibrium models.
    """

    scale: float = 1.0
    odds: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"`Noisy(scale=...)` may not be negative; got {self.scale}. Try 1.")
        if not 0 <= self.odds <= 1:
            raise ValueError(f"`Noisy(odds=...)` is a probability; got {self.odds}. Pass a number from 0 to 1.")

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """Noise, or None."""
        return Stretch(noise_start=self.odds, noise_scale=self.scale)._begin(model, x, generator).get("start")


@dataclass(frozen=True, init=False)
class Either:
    """Begin where the first of several says so; where none does, at the model's own start.

    Args:
        begins: asked in turn, each with its odds: at least one.

    Raises:
        ValueError: none.
        TypeError: one that cannot be called.

    Example:
        >>> import torch
        >>> from ebm.losses import Either, Elsewhere, Noisy, Progressive, neighbour
        >>> begin = Either(Noisy(0.5, odds=0.25), Elsewhere(neighbour, (0, 20), odds=0.33))  # a quarter each, half afresh
        >>> rule = Progressive(torch.nn.functional.cross_entropy, begin=begin)
    """

    begins: tuple[Begin, ...]

    def __init__(self, *begins: Begin) -> None:
        if not begins:
            raise ValueError("`Either` chooses among at least one; got none. Pass Either(Noisy(0.5, odds=0.5)), say.")
        for begin in begins:
            if not callable(begin):
                raise TypeError(
                    f"`Either` takes begins; got {type(begin).__name__}. Pass Either(Noisy(0.5, odds=0.5)), say."
                )
        object.__setattr__(self, "begins", begins)

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """The first latent that is not None, or None."""
        for begin in self.begins:
            latent = begin(model, x, generator)
            if latent is not None:
                return latent
        return None
