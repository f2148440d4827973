"""Where settling starts: small objects that models take as a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ebm import rows
from ebm.noise import Draw

__all__ = ["Amortised", "FeedForward", "Noise", "Start", "Zeros"]


class Start(Protocol):
    """Fills a latent to start from."""

    def __call__(self, like: Any, draw: Draw) -> Any:
        """A latent of the shapes, dtypes and device of ``like``; ``draw`` is the only source of noise."""
        ...


@dataclass(frozen=True)
class Zeros:
    """Start at zero.

    Example:
        >>> import torch, ebm
        >>> ebm.Zeros()(torch.ones(1, 2), None)
        tensor([[0., 0.]])
    """

    def __call__(self, like: Any, draw: Draw) -> Any:
        """Zeros like ``like``."""
        return rows.map_rows(torch.zeros_like, like)


@dataclass(frozen=True)
class Noise:
    """Start from normal noise of a standard deviation, drawn from each sample's own key.

    Args:
        scale: the standard deviation, >= 0.

    Raises:
        ValueError: a negative scale.

    Example:
        >>> import ebm
        >>> ebm.Noise(0.5)
        Noise(scale=0.5)
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"`Noise(scale=...)` may not be negative; got {self.scale}. Zero is `Zeros()`.")

    def __call__(self, like: Any, draw: Draw) -> Any:
        """Noise like ``like``."""
        return rows.scale(draw.normal(like), self.scale)


@dataclass(frozen=True)
class FeedForward:
    """Start every free layer of a layered model at its prediction from below; a free bottom layer starts at zero.

    Example:
        >>> import ebm
        >>> ebm.FeedForward()
        FeedForward()
    """


class Amortised(nn.Module):
    """Start where a network guesses; it learns through any adjoint that keeps a graph, and settling corrects it.

    Args:
        module: takes the observation of a layered model, the pair (bottom, top) in which a free end is None, and returns
            the free layers from the bottom up: a tuple, or a tensor if there is one.

    Raises:
        TypeError: no module.

    Example:
        >>> import torch, ebm
        >>> class Guess(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = torch.nn.Linear(4, 8)
        ...     def forward(self, ends):
        ...         bottom, top = ends
        ...         return self.hidden(bottom)
        >>> model = ebm.PredictiveCoding([4, 8, 2], start=ebm.Amortised(Guess()))
        >>> ebm.infer(model.eval(), (torch.randn(5, 4), torch.randn(5, 2)), steps=3).z[0].shape
        torch.Size([5, 8])

    Source: Gershman and Goodman (2014), amortized inference; Tschantz et al. (2023), hybrid predictive coding.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"`Amortised` wants a `torch.nn.Module`; got {type(module).__name__}. Wrap a function in a module."
            )
        self.module = module
