"""Where settling starts: small objects that models take as a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ebm import rows
from ebm.noise import Draw

__all__ = ["Noise", "Start", "Zeros"]


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
