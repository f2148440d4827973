"""Broyden's method for the rest of a force, per sample, with limited memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.trial import evaluate_trial

__all__ = ["Broyden"]


@dataclass(frozen=True)
class Broyden(Solver):
    r"""Broyden's good method on F(z) = 0: a secant estimate of the inverse Jacobian, of low rank beside a multiple of the identity.

    With :math:`s = z' - z,\; y = F(z') - F(z)` and :math:`B_0 = -a I`:

    .. math:: z' = z - B F(z), \qquad B \leftarrow B + \frac{(s - B y)\, s^T B}{s^T B y}

    It needs no symmetry, so it suits an `Update` whose Jacobian has none. A sample forgets its estimate when it has ``memory``
    terms, when an update would divide by nearly nothing, and when a step raises the residual by more than ``growth``; such
    a step is not taken, and the next one is the plain step :math:`z + a F`.

    Args:
        memory: terms of the estimate, >= 1; 2 x memory latents a sample are kept.
        mixing: a > 0, the size of a plain step.
        growth: by how much a step may raise the residual, >= 1.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.Broyden(memory=10).mixing
        1.0

    Source: Broyden (1965), the first of its methods, with the update of the inverse by Sherman and Morrison, as in Kelley (1995),
    section 7.3; without a line search, and restarted as there when the memory is full.
    """

    memory: int = 20
    mixing: float = 1.0
    growth: float = 2.0

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"`Broyden(memory=...)` must be at least 1; got {self.memory}. Try 20.")
        positive("Broyden", "mixing", self.mixing)
        if not self.growth >= 1:
            raise ValueError(f"`Broyden(growth=...)` must be at least 1; got {self.growth}. Try 2.")

    @property
    def learns(self) -> bool:
        """Past forces say where the next latent lies."""
        return True

    def init(self, point: Point) -> Any:
        """The two sides of the terms, (B, memory, D) each, and how many there are, (B,)."""
        force = rows.flatten(point.force)
        none = force.new_zeros(force.shape[0], self.memory, force.shape[1])
        return {"left": none, "right": none, "filled": none.new_zeros(force.shape[0], dtype=torch.int64)}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a proposal that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the proposal."""
        force = rows.flatten(point.force)
        move = -self._applied(memory, force)
        trial = evaluate_trial(field, rows.add(point.z, rows.unflatten(move, point.z)), point)
        plain = memory["filled"] == 0
        calm = rows.rms(trial.point.force) <= self.growth * rows.rms(point.force)
        accepted = trial.finite & (plain | calm)
        new = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
        # a proposal that was turned down may be infinite, and must reach no product
        there = torch.where(accepted[:, None], rows.flatten(trial.point.force), force)
        learnt = self._learnt(memory, torch.where(accepted[:, None], move, torch.zeros_like(move)), there - force)
        return Step(new, learnt, Info(accepted, plain & ~trial.finite))

    def _applied(self, memory: Any, vector: Tensor) -> Tensor:
        """B times a vector, (B, D)."""
        return _through(memory["left"], memory["right"], vector) - self.mixing * vector

    def _learnt(self, memory: Any, move: Tensor, change: Tensor) -> Any:
        """The estimate with one more term; none at all where it is full, or where the move was turned down or taught nothing."""
        image = self._applied(memory, change)
        right = _through(memory["right"], memory["left"], move) - self.mixing * move
        slope = (right * change).sum(1)
        scale = torch.linalg.vector_norm(right, dim=1) * torch.linalg.vector_norm(change, dim=1)
        filled = memory["filled"]
        good = (slope.abs() > 1e-7 * scale) & (filled < self.memory)
        left = (move - image) / torch.where(good, slope, torch.ones_like(slope))[:, None]
        here = (torch.arange(self.memory, device=move.device) == filled[:, None])[:, :, None]
        zero = torch.zeros_like(memory["left"])
        keep = good[:, None, None]
        return {
            "left": torch.where(keep, torch.where(here, left[:, None], memory["left"]), zero),
            "right": torch.where(keep, torch.where(here, right[:, None], memory["right"]), zero),
            "filled": torch.where(good, filled + 1, torch.zeros_like(filled)),
        }


def _through(out: Tensor, into: Tensor, vector: Tensor) -> Tensor:
    """The sum of terms out into^T, (B, m, D) each, times a vector (B, D)."""
    with torch.autocast(vector.device.type, enabled=False):  # half precision is for the model's products
        return torch.einsum("bm,bmd->bd", torch.einsum("bmd,bd->bm", into, vector), out)
