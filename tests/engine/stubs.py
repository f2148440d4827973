"""A stub objective and a stub solver with scripted answers: the engine with no method in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

import ebm
from ebm.objective import Point

NAN, INF = float("nan"), float("inf")
_CODES = {7001.0: NAN, 7002.0: INF, 7003.0: -INF}  # an observation must be finite, so a script holds these in cipher
STALL = -99.0  # an energy at which the stub solver says that it is stalled


class Script(ebm.Energy):
    """The latent (B, 1) is a place in a script, the observation (B, T) the energy at each place; 8 FLOPs an evaluation."""

    provides = frozenset({"energy"})

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []  # how many rows each evaluation had

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.new_zeros(c.shape[0], 1)

    def point(self, z: Tensor, c: Tensor) -> Point:
        self.calls.append(z.shape[0])
        place = z.detach().long().clamp(0, c.shape[1] - 1)
        paid = (z.detach().expand(-1, 2) @ z.new_zeros(2, 2))[:, :1]  # 2 x 2 x 2 FLOPs
        energy = c.gather(1, place)[:, 0]
        for code, meaning in _CODES.items():
            energy = torch.where(energy == code, meaning, energy)
        return Point(z, energy, torch.ones_like(z) + paid)

    def readout(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.cat([z, -z], 1)


@dataclass(frozen=True)
class Walk(ebm.Solver):
    """One place further at each step; remembers how often it was asked for each row."""

    keep: str = "last"
    needs: ClassVar[frozenset[str]] = frozenset({"energy"})

    def init(self, point: Point) -> Any:
        return {"asked": torch.zeros_like(point.z[:, 0])}

    def step(self, field: Any, point: Point, memory: Any, draw: Any) -> ebm.Step:
        new = field(point.z + 1)
        return ebm.Step(new, {"asked": memory["asked"] + 1}, ebm.Info(None, new.energy == STALL))


@dataclass(frozen=True)
class Below(ebm.Stop):
    """Done where the energy is at most a threshold; remembers how often it looked."""

    threshold: float = 0.0

    def init(self, look: ebm.Look) -> Any:
        return torch.zeros_like(look.point.energy)

    def check(self, look: ebm.Look, memory: Any) -> tuple[Tensor, Any]:
        return look.point.energy <= self.threshold, memory + 1


def script(*lines: list[float]) -> Tensor:
    """Energies, one line a sample; a shorter line goes on with its last one."""
    longest = max(map(len, lines))
    x = torch.tensor([[*line, *[line[-1]] * (longest - len(line))] for line in lines], dtype=torch.float64)
    for code, meaning in _CODES.items():
        x[x.isnan() if meaning != meaning else x == meaning] = code
    return x
