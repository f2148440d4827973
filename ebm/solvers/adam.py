"""Adam on latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.descent import positive

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam(Solver):
    r"""Adam: each number of the latent has its own step size, from running means of the force and of its square.

    :math:`m \leftarrow b_1 m + (1 - b_1) F,\; v \leftarrow b_2 v + (1 - b_2) F^2,\;
    z \leftarrow z + a\, \hat m / (\sqrt{\hat v} + \epsilon)`, hats meaning division by :math:`1 - b^t`.

    Args:
        step_size: a > 0, about the distance each number may move in a step; float or tensor.
        betas: (b1, b2), each in [0, 1).
        eps: > 0, keeps the division finite.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.Adam(0.05)
        Adam(step_size=0.05, betas=(0.9, 0.999), eps=1e-08)

    Source: Kingma and Ba (2015), algorithm 1. Each sample counts its own steps.
    """

    step_size: float | Tensor = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("Adam", "step_size", self.step_size)
        positive("Adam", "eps", self.eps)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`Adam(betas=...)` must both lie in [0, 1); got {self.betas}. Try (0.9, 0.999).")

    def init(self, point: Point) -> Any:
        """Running means of the force and of its square, and the number of steps (B,)."""
        zeros = rows.map_rows(torch.zeros_like, point.force)
        first = next(rows.leaves(point.force))
        return {"mean": zeros, "square": zeros, "steps": first.new_zeros(first.shape[0])}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        b1, b2 = self.betas
        steps = memory["steps"] + 1
        mean = rows.add(rows.scale(memory["mean"], b1), point.force, 1 - b1)
        square = rows.map_rows(lambda v, f: b2 * v + (1 - b2) * f * f, memory["square"], point.force)
        unbiased = rows.scale(mean, 1 / (1 - b1**steps))
        spread = rows.map_rows(self._root, rows.scale(square, 1 / (1 - b2**steps)))
        move = rows.map_rows(torch.div, unbiased, spread)
        new = field(rows.add(point.z, move, self.step_size))
        return Step(new, {"mean": mean, "square": square, "steps": steps})

    def _root(self, square: Tensor) -> Tensor:
        """sqrt(v) + eps, with a finite slope where v is zero."""
        return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt() + self.eps
