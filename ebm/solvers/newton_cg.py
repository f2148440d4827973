"""Truncated Newton steps inside a trust region, for every sample its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, energy_of, extent, shorter, sufficient
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.conjugate import Inner, conjugate_gradients, forcing_after
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import all_known, evaluate_trial, held, pick

__all__ = ["NewtonCG"]


@dataclass(frozen=True)
class NewtonCG(Solver):
    r"""Newton steps by conjugate gradients on Hessian products, inside a trust region; never raises the energy.

    .. math:: p \approx \arg\min_{\|p\| \le r}\; -F^T p + \tfrac12 p^T \nabla^2 E\, p, \qquad z' = z + p

    The inner iteration stops as soon as its residual is small beside the force: a rough solution far from rest, an ever
    better one near it, so convergence is quadratic at the cost of few products. Where the energy bends down, the step
    follows that direction to the edge of the region, so saddle points are left. A step that lowers the energy by less
    than 1e-4 of what the model promised is turned down and the region shrinks. A step is two evaluations and at most
    ``products`` Hessian products, each about the cost of one more; compiled steps make all of them. A sample whose
    region has shrunk below rounding reports STALLED.

    Args:
        products: the most Hessian products a step, at least 1.
        forcing: the loosest inner tolerance, relative to the force, in (0, 1); small values solve every system well.
        radius: the first trust radius, a root mean square move of the latent's numbers, > 0 and finite.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.NewtonCG(products=10)
        NewtonCG(products=10, forcing=0.1, radius=1.0)

    Source: Steihaug (1983); Eisenstat and Walker (1996), choice 2; Nocedal and Wright (2006), algorithms 4.1 and 7.2. The
    radius is a root mean square here, and after a rejection it is the minimum of a parabola instead of a quarter.
    """

    products: int = 20
    forcing: float = 0.1
    radius: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})

    def __post_init__(self) -> None:
        inner_settings("NewtonCG", self.products, self.forcing)
        positive("NewtonCG", "radius", self.radius)
        if not math.isfinite(self.radius):
            raise ValueError(f"`NewtonCG(radius=...)` must be finite; got {self.radius}. Try 1.0, or 1e6 for no limit.")

    def init(self, point: Point) -> Any:
        """The trust radius and the inner tolerance, (B,)."""
        energy = energy_of(point)
        return {"radius": torch.full_like(energy, self.radius), "forcing": torch.full_like(energy, self.forcing)}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """The point of the Hessian, the trial (and one more where a graph is kept), and the products."""
        return {"point": 3 if differentiated else 2, "curvature": self.products}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        force = rows.flatten(point.force)
        size = math.sqrt(max(force.shape[1], 1))
        inner = conjugate_gradients(
            field.curvature(point.z), force, point.z, memory["forcing"], self.products, memory["radius"] * size
        )
        point, memory, calm = settled(field, point, memory, rows.rms(inner.move))
        inner = inner if calm is None else held(inner, ~calm)
        trial = evaluate_trial(field, rows.add(point.z, rows.unflatten(inner.move, point.z)), point, calm=calm)
        inner, force, there = held(inner, trial.live), rows.flatten(trial.before.force), rows.flatten(trial.after.force)
        slope = _dot(force, inner.move)
        accepted = sufficient(trial, point, slope, slope - _dot(there, inner.move))
        new = Point(*pick(accepted, tuple(trial.point), tuple(point)))
        length = rows.rms(inner.move)
        radius = _next_radius(memory["radius"], inner, length, trial.before, trial.after, accepted)
        forcing = forcing_after(memory["forcing"], force, there, accepted, self.forcing)
        stalled = ~accepted & at_rounding(radius, extent(point.z))
        return Step(
            ended(field, new, stalled),
            held({"radius": radius, "forcing": forcing}, trial.live),
            Info(accepted, stalled),
        )


def inner_settings(owner: str, products: int, forcing: float) -> None:
    """Check the settings of the inner solver."""
    if products < 1:
        raise ValueError(f"`{owner}(products=...)` must be at least 1; got {products}. Try 20.")
    if not 0 < forcing < 1:
        raise ValueError(f"`{owner}(forcing=...)` must lie between zero and one; got {forcing}. Try 0.1.")


def agreement(point: Point, trial: Point, gain: Tensor) -> Tensor:
    """What the energy fell by, over what was promised; one where rounding hides it, as Conn, Gould and Toint (2000) do."""
    noise = 10 * torch.finfo(gain.dtype).eps * energy_of(point).abs() + torch.finfo(gain.dtype).tiny ** 0.5
    fell = energy_of(point) - energy_of(trial)
    return (fell + noise) / (gain.clamp_min(0) + noise)


def _next_radius(radius: Tensor, inner: Inner, length: Tensor, point: Point, trial: Point, accepted: Tensor) -> Tensor:
    """Larger where the model was trusted to the edge and right, smaller where it was wrong."""
    ratio = agreement(point, trial, inner.gain)
    wider = torch.where(inner.edge & (ratio > 0.75), 2 * radius, radius).clamp_max(
        torch.finfo(radius.dtype).max ** 0.25
    )
    wider = torch.where(ratio < 0.25, torch.minimum(radius, 0.5 * length), wider)
    if all_known(accepted):
        return wider
    rise, finite = energy_of(trial) - energy_of(point), torch.isfinite(energy_of(trial))
    # along the move, a parabola from the slope at its beginning; the promised gain is about half of it
    one = torch.ones_like(length)
    drop = 2 * inner.gain.clamp_min(0)
    closer = length * shorter(one, drop, rise + drop, finite)
    closer = torch.where(torch.isfinite(closer) & (closer > 0), torch.minimum(closer, 0.5 * radius), 0.1 * radius)
    return torch.where(accepted, wider, closer)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
