"""The feed-forward rival on matrices."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["EntryNet"]


class EntryNet(nn.Module):
    """Three layers on all entries of a 20 x 20 matrix; it knows neither rows nor columns."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(400, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, 400))

    def forward(self, x: Tensor) -> Tensor:
        """Observations (B, 1, 20, 20) to answers (B, 20, 20)."""
        return self.layers(x.flatten(1)).unflatten(1, (20, 20))
