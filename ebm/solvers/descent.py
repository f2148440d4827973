"""Descent along the force with one step size for all, plain or with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step

__all__ = ["Descent"]


@dataclass(frozen=True)
class Descent(Solver):
    r"""Descent with a fixed step size: :math:`v \leftarrow m v + F(z),\; z \leftarrow z + a v`.

    With ``nesterov=True`` the move is :math:`z \leftarrow z + a (F(z) + m v)`. Without momentum it is gradient descent
    on an energy, and damped fixed-point iteration of an update.

    Args:
        step_size: a > 0; a float or a tensor (a learned step size). Below 2 / L it never raises an energy of curvature L.
        momentum: m in [0, 1).
        nesterov: look ahead; needs momentum.

    Raises:
        ValueError: a step size not above zero, a momentum outside [0, 1), or ``nesterov`` without momentum.

    Example:
        >>> import ebm
        >>> ebm.Descent(0.1, momentum=0.9)
        Descent(step_size=0.1, momentum=0.9, nesterov=False)

    Source: Polyak (1964), eq. 9; Sutskever et al. (2013), section 2, in the form that asks for the force once a step.
    """

    step_size: float | Tensor = 1.0
    momentum: float | Tensor = 0.0
    nesterov: bool = False
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("Descent", "step_size", self.step_size)
        if not isinstance(self.momentum, Tensor) and not 0 <= self.momentum < 1:
            raise ValueError(f"`Descent(momentum=...)` must lie in [0, 1); got {self.momentum}. Try 0.9.")
        if self.nesterov and not self._heavy:
            raise ValueError("`Descent(nesterov=True)` needs momentum; got momentum=0. Pass momentum=0.9, say.")

    @property
    def _heavy(self) -> bool:
        return isinstance(self.momentum, Tensor) or self.momentum > 0

    def init(self, point: Point) -> Any:
        """The velocity, zero at first; None without momentum."""
        return rows.map_rows(torch.zeros_like, point.force) if self._heavy else None

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        if memory is None:
            return Step(field(rows.add(point.z, point.force, self.step_size)), None)
        velocity = rows.add(point.force, memory, self.momentum)
        move = rows.add(point.force, velocity, self.momentum) if self.nesterov else velocity
        return Step(field(rows.add(point.z, move, self.step_size)), velocity)


def positive(owner: str, name: str, value: float | Tensor) -> None:
    """Refuse a number that is not above zero; tensors are taken on trust."""
    if isinstance(value, Tensor) or value > 0:
        return
    raise ValueError(f"`{owner}({name}=...)` must be above zero; got {value}. Pass a positive number.")
