"""Feed-forward rivals of the cells: the same gates and neighbours, but every layer has weights of its own and runs once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ebm

__all__ = ["Highway"]


class Highway(nn.Module):
    """A highway network: cells in a row, each with weights of its own, each stepped once.

    Args:
        make: one layer; that of the last is given the head.
        depth: layers.
        head: maps the last latent to the answer.

    Source: Srivastava et al. (2015), Training very deep networks.
    """

    def __init__(self, make: Callable[[nn.Module | None], ebm.Gated], depth: int, head: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([make(head if layer == depth - 1 else None) for layer in range(depth)])

    def forward(self, x: Any) -> Any:
        """The answer after the last layer."""
        z: Any = None
        c: Any = None
        for layer in self._layers():
            c = layer.condition(x)
            z = layer(_begun(layer, c) if z is None else z, c)
        return self._layers()[-1].readout(z, c)

    def _layers(self) -> list[ebm.Gated]:
        return list(self.layers)  # pyright: ignore[reportReturnType]


def _begun(layer: ebm.Gated, c: Any) -> Tensor:
    """Where the first layer begins: at zero, for which nothing is drawn."""
    return layer.init_latent(c, ebm.Draw(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)))
