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
        """Running means of the force and of its square, and the number of steps (B,); in no less than single precision."""
        zeros = rows.map_rows(lambda force: torch.zeros_like(force, dtype=_wide(force)), point.force)
        first = rows.first_leaf(zeros)
        return {"mean": zeros, "square": zeros, "steps": first.new_zeros(first.shape[0])}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        b1, b2 = self.betas
        steps = memory["steps"] + 1
        force = rows.map_rows(lambda leaf: leaf.to(_wide(leaf)), point.force)
        mean = rows.add(rows.scale(memory["mean"], b1), force, 1 - b1)
        square = rows.map_rows(lambda v, f: b2 * v + (1 - b2) * f * f, memory["square"], force)
        unbiased = rows.scale(mean, 1 / (1 - b1**steps))
        spread = rows.scale(square, 1 / (1 - b2**steps))
        move = rows.map_rows(self._move, unbiased, spread, point.z)
        new = field(rows.add(point.z, move, self.step_size))
        return Step(new, {"mean": mean, "square": square, "steps": steps})

    def _move(self, mean: Tensor, square: Tensor, z: Tensor) -> Tensor:
        """``m / (sqrt(v) + eps)``; without a slope where all forces so far were rounding, since it would be one over ``eps``."""
        tiny = torch.finfo(square.dtype).tiny
        move = mean / (square.clamp_min(tiny).sqrt() + self.eps)
        if torch.is_grad_enabled():
            known = (torch.finfo(z.dtype).eps * z.detach().to(square.dtype)).square().clamp_min(tiny)
            move = torch.where(square.detach() > known, move, move.detach())
        return move.to(z.dtype)


def _wide(leaf: Tensor) -> torch.dtype:
    """Half precision can neither count steps nor hold the square of a small force."""
    return torch.promote_types(leaf.dtype, torch.float32)
