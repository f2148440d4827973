"""Broyden's method for the rest of a force, per sample, with limited memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import extent, teaches
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.trial import evaluate_trial, pick

__all__ = ["Broyden"]


_LONG = 10.0  # a secant step of more plain ones must lower the residual in proportion,
_MOST = 300.0  # and none is longer than this
_SLOPE = 1e-3  # the least cosine between a change of the force and what was expected


@dataclass(frozen=True)
class Broyden(Solver):
    r"""Broyden's good method on F(z) = 0: a secant estimate of the inverse Jacobian, of low rank beside a multiple of the identity.

    With :math:`s = z' - z,\; y = F(z') - F(z)` and :math:`B_0 = -a I`:

    .. math:: z' = z - B F(z), \qquad B \leftarrow B + \frac{(s - B y)\, s^T B}{s^T B y}

    It needs no symmetry, so it suits an `Update` whose Jacobian has none. A sample forgets its estimate when it has ``memory``
    terms, when an update would divide by nearly nothing or learn from rounding, and when a step raises the residual by more
    than ``growth``; such a step is not taken, and the next one is the plain step :math:`z + a F`. A step of more than ten
    plain ones must lower the residual in proportion. At rest, where the force is all rounding, the estimate is kept, and is a
    constant to gradients.

    Args:
        memory: terms of the estimate, >= 1; 2 x memory latents a sample are kept.
        mixing: a > 0, the size of a plain step.
        growth: by how much a step may raise the residual, >= 1; a long step by less.

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
        force, size, reach = rows.flatten(point.force), rows.rms(point.force), extent(point.z)
        # a force that is all rounding teaches nothing: the estimate stays, and is a constant to a gradient
        live, plain = teaches(size, reach), memory["filled"] == 0
        if torch.is_grad_enabled():
            memory = pick(live, memory, rows.map_rows(torch.Tensor.detach, memory))
        move = -self._applied(memory, force)
        stretch = rows.rms(move) / torch.where(size > 0, self.mixing * size, 1.0)
        move = move * torch.where(stretch > _MOST, _MOST / torch.where(stretch > _MOST, stretch, 1.0), 1.0)[:, None]
        z = rows.add(point.z, rows.unflatten(move, point.z))
        trial = evaluate_trial(field, z, point)
        after = rows.rms(trial.point.force)
        # two forces that are all rounding say nothing of each other
        accepted = trial.finite & (plain | ~teaches(after, reach) | self._calm(after, size, stretch))
        new = Point(*pick(accepted, tuple(trial.point), tuple(point)))
        taught = (accepted & live)[:, None]
        # a proposal that was turned down may be infinite, and must reach no product
        there = torch.where(taught, rows.flatten(trial.point.force), force)
        moved = move + (rows.flatten(trial.point.z) - rows.flatten(z))  # a constraint may have cut it
        learnt = self._learnt(memory, torch.where(taught, moved, 0.0), there - force, reach)
        memory = pick(live, learnt, memory)
        return Step(new, memory, Info(accepted, plain & ~trial.finite))

    def _calm(self, after: Tensor, before: Tensor, stretch: Tensor) -> Tensor:
        """Whether a secant step may be taken, bool (B,): the farther it leads, the less residual may be left."""
        return after * (stretch / _LONG).clamp_min(1.0) <= self.growth * before

    def _applied(self, memory: Any, vector: Tensor) -> Tensor:
        """B times a vector, (B, D)."""
        return _through(memory["left"], memory["right"], vector) - self.mixing * vector

    def _learnt(self, memory: Any, move: Tensor, change: Tensor, reach: Tensor) -> Any:
        """The estimate with one more term; none at all where it is full, or where the move was turned down or taught nothing."""
        image = self._applied(memory, change)
        right = _through(memory["right"], memory["left"], move) - self.mixing * move
        slope = (right * change).sum(1)
        scale = torch.linalg.vector_norm(right, dim=1) * torch.linalg.vector_norm(change, dim=1)
        filled = memory["filled"]
        good = (slope.abs() > _SLOPE * scale) & teaches(rows.rms(change), reach) & (filled < self.memory)
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
