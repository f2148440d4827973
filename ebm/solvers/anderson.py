"""Anderson acceleration of a fixed-point iteration, per sample and safeguarded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.trial import evaluate_trial

__all__ = ["Anderson"]


@dataclass(frozen=True)
class Anderson(Solver):
    r"""Anderson acceleration: the next latent mixes the last ``window`` ones so that their forces nearly cancel.

    With past latents :math:`z_i` and forces :math:`g_i`:

    .. math:: \min_\alpha \|\textstyle\sum_i \alpha_i g_i\|^2 + \rho\,\overline{\|g\|^2}\,\|\alpha\|^2,\quad
              \textstyle\sum_i \alpha_i = 1,\qquad z' = \textstyle\sum_i \alpha_i (z_i + \beta g_i)

    The ridge is relative to the mean squared force of the window, so the method keeps its speed at small residuals. If
    the mixed latent fails the safeguard, the sample stays, forgets its past, and its next step is a plain one.

    Args:
        window: how many past latents are mixed, at least 2; memory is 2 x window latents a sample.
        ridge: rho >= 0, relative.
        mixing: beta > 0, the step size of the underlying iteration; for an energy choose it as for `Descent`.
        safeguard: what may not get worse: ``"residual"`` (by more than ``growth``), ``"energy"``, or None.
        growth: the most by which the residual may grow in an accepted step.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.Anderson(window=5, mixing=0.5).window
        5

    Source: Anderson (1965); Walker and Ni (2011), algorithm AA, in the constrained form. The relative ridge and the
    safeguard are ours.
    """

    window: int = 5
    ridge: float = 1e-10
    mixing: float = 1.0
    safeguard: Literal["residual", "energy"] | None = "residual"
    growth: float = 2.0

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"`Anderson(window=...)` must be at least 2; got {self.window}. Try 5.")
        if self.ridge < 0:
            raise ValueError(f"`Anderson(ridge=...)` may not be negative; got {self.ridge}. Try 1e-10.")
        if self.safeguard not in ("residual", "energy", None):
            raise ValueError(
                f'`Anderson(safeguard=...)` is "residual", "energy" or None; got {self.safeguard!r}. Leave it out.'
            )
        positive("Anderson", "mixing", self.mixing)
        positive("Anderson", "growth", self.growth)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """An energy, where that is the safeguard."""
        return frozenset({"energy"}) if self.safeguard == "energy" else frozenset()

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a proposal that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def init(self, point: Point) -> Any:
        """The past latents and forces, newest last, and how much of the window they and the running point fill (B,)."""
        z = rows.flatten(point.z)
        empty = torch.zeros(z.shape[0], self.window - 1, z.shape[1], dtype=z.dtype, device=z.device)
        return {"z": empty, "force": empty, "filled": torch.ones(z.shape[0], dtype=torch.int64, device=z.device)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the mixed latent."""
        # the running point is not in the memory: where a graph begins anew, its force has one and a remembered force has none
        past_z = torch.cat([memory["z"], rows.flatten(point.z)[:, None]], 1)
        past_force = torch.cat([memory["force"], rows.flatten(point.force)[:, None]], 1)
        filled = memory["filled"]
        weights = self._weights(past_force, filled)
        mixed = torch.einsum("bm,bmd->bd", weights, past_z + self.mixing * past_force)
        trial = evaluate_trial(field, rows.unflatten(mixed, point.z), point)
        plain = filled == 1
        accepted = trial.finite & (plain | self._no_worse(trial.point, point))
        new = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
        memory = {
            "z": past_z[:, 1:],
            "force": past_force[:, 1:],
            "filled": torch.where(accepted, (filled + 1).clamp_max(self.window), torch.ones_like(filled)),
        }
        return Step(new, memory, Info(accepted, plain & ~trial.finite))

    def _weights(self, past: Tensor, filled: Tensor) -> Tensor:
        """The mixing weights (B, window), in float64: the Gram matrix squares the spread of the residuals."""
        slots = torch.arange(self.window, device=past.device)
        used = slots >= self.window - filled[:, None]
        gram = (past @ past.transpose(1, 2)).to(torch.float64)
        mean = (gram.diagonal(dim1=1, dim2=2) * used).sum(1) / filled
        mean = torch.where(mean > 0, mean, torch.ones_like(mean))
        gram = gram / mean[:, None, None] + torch.eye(self.window, dtype=gram.dtype, device=gram.device) * self._floor(
            past
        )
        both = used[:, :, None] & used[:, None, :]
        gram = torch.where(both, gram, torch.eye(self.window, dtype=gram.dtype, device=gram.device))
        raw, _ = torch.linalg.solve_ex(gram, used.to(gram.dtype))
        total = raw.sum(1, keepdim=True)
        newest = torch.zeros_like(raw)
        newest[:, -1] = 1.0
        usable = torch.isfinite(total) & (total.abs() > torch.finfo(gram.dtype).eps)
        return torch.where(usable, raw / torch.where(usable, total, torch.ones_like(total)), newest).to(past.dtype)

    def _floor(self, past: Tensor) -> float:
        """The ridge, and never less than what keeps an exactly singular system solvable."""
        return max(self.ridge, torch.finfo(torch.float64).eps)

    def _no_worse(self, new: Point, old: Point) -> Tensor:
        if self.safeguard == "energy":
            assert new.energy is not None and old.energy is not None  # `needs` says so at the door
            return new.energy <= old.energy
        if self.safeguard is None:
            return torch.ones(rows.count(new.z), dtype=torch.bool, device=next(rows.leaves(new.z)).device)
        return rows.rms(new.force) <= self.growth * rows.rms(old.force)
