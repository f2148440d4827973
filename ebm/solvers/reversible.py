"""Fixed-point iteration of two coupled states, which can be run backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.descent import positive

__all__ = ["Reversible"]


@dataclass(frozen=True)
class Reversible(Solver):
    r"""Two states that follow each other, so that every step can be undone exactly.

    .. math:: y' = (1 - b)\, y + b f(z),\qquad z' = (1 - b)\, z + b f(y'),\qquad f(z) = z + a F(z)

    .. math:: z = (z' - b f(y')) / (1 - b),\qquad y = (y' - b f(z)) / (1 - b)

    At rest both are the fixed point. A step asks for two evaluations. Each step undone multiplies rounding errors by up to
    :math:`(1 - b)^{-2}`, and by more where the curvature of an energy nears 2 / a: undo few steps in a row (see `Reverse`).

    Args:
        mixing: b in (0, 1).
        step_size: a > 0, a float or a tensor; for an update 1, for an energy as for `Descent`.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> ebm.infer(ebm.ModernHopfield(torch.eye(2), beta=0.7), torch.eye(2), steps=30, solver=ebm.Reversible()).z.round(decimals=2)
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])

    Source: McCallum, Arora and Foster (2025), Reversible deep equilibrium models; their f is an update, so that a = 1.
    """

    mixing: float = 0.5
    step_size: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.mixing < 1:
            raise ValueError(f"`Reversible(mixing=...)` must lie in (0, 1); got {self.mixing}. Try 0.5.")
        positive("Reversible", "step_size", self.step_size)

    @property
    def provides(self) -> frozenset[str]:
        """A step backwards, too."""
        return super().provides | {"reverse"}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """Two evaluations."""
        return {"point": 2}

    def init(self, point: Point) -> Any:
        """The other state, y: at first the latent itself."""
        return point.z

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """Both states, one after the other."""
        other = self._mixed(memory, point)
        return Step(field(self._mixed(point.z, field(other))), other)

    def reverse(self, field: Field, point: Point, memory: Any) -> tuple[Point, Any]:
        """Both states before the step; two evaluations."""
        before = field(self._unmixed(point.z, field(memory)))
        return before, self._unmixed(memory, before)

    def _mixed(self, state: Any, at: Point) -> Any:
        return rows.map_rows(lambda old, image: torch.lerp(old, image, self.mixing), state, self._image(at))

    def _unmixed(self, state: Any, at: Point) -> Any:
        return rows.map_rows(lambda new, image: (new - self.mixing * image) / (1 - self.mixing), state, self._image(at))

    def _image(self, at: Point) -> Any:
        return rows.add(at.z, at.force, self.step_size)
