"""Where a batch begins to settle: where another observation has settled, at noise, and at one of several places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ebm import rows
from ebm.engine import Detached, infer
from ebm.losses.spans import check_range, drawn, never
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective

__all__ = ["Begin", "Either", "Elsewhere", "Noisy", "neighbour"]


class Begin(Protocol):
    """Says where a batch begins to settle."""

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """A latent, a row tree of B samples, made without a gradient; or None for the model's own start."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """Begin where another observation has settled: latents that are old, sure of themselves, and wrong.

    What is settled on large problems has been undecided for longer than anything in training; a model that always begins afresh never
    sees such latents. With ``change=neighbour`` it begins at the answer to another problem and learns to give one that does not depend on the
    start; with a change to an easier or looser problem, whose answer contains the wanted one, it can only take back.

    Args:
        change: ``change(x, generator)``, another observation of the same shape; `neighbour`, say.
        steps: settled under it without a gradient: (least, most), both included, drawn once a batch.
        odds: probability that a batch begins so, in [0, 1].

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import Elsewhere, Progressive, neighbour
        >>> rule = Progressive(torch.nn.functional.cross_entropy, begin=Elsewhere(neighbour, (0, 20), odds=0.5))
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> loss = rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long(), torch.Generator().manual_seed(0))

    Source: ours; latents of another observation as in the measure of Anil et al. (2022), Path independent equilibrium models.
    """

    change: Callable[[Any, torch.Generator], Any]
    steps: tuple[int, int] = (0, 32)
    odds: float = 0.5

    def __post_init__(self) -> None:
        check_range("Elsewhere", "steps", self.steps, 0)
        if not 0 <= self.odds <= 1:
            raise ValueError(f"`Elsewhere(odds=...)` is a probability; got {self.odds}. Pass a number from 0 to 1.")

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """Latents of the changed observation, or None."""
        if torch.rand((), generator=generator, device=generator.device) >= self.odds:
            return None
        other, count = self.change(x, generator), drawn(self.steps, generator)
        return (
            infer(model, other, steps=count, adjoint=Detached(), keep="last", stop=never(model), generator=generator)
            .raise_for_status()
            .z
        )


def neighbour(x: Any, generator: torch.Generator) -> Any:
    """Each sample's observation is that of the sample before it.

    Example:
        >>> import torch
        >>> from ebm.losses import neighbour
        >>> neighbour(torch.tensor([[1.0], [2.0], [3.0]]), torch.Generator())
        tensor([[3.],
                [1.],
                [2.]])
    """
    return rows.map_rows(lambda leaf: leaf.roll(1, 0), x)


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
        if not self.odds or torch.rand((), generator=generator, device=generator.device) >= self.odds:
            return None
        keys = draw_keys(rows.count(x), next(rows.leaves(x)).device, generator)
        draw = Draw(keys, torch.full_like(keys, -1))
        with torch.no_grad():
            like = model.init_latent(model.condition(x), draw)
        return rows.scale(draw.normal(like), self.scale)


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
