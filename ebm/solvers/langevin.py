"""Langevin sampling, overdamped and underdamped: no test of acceptance, and so a bias that the step size sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.diagonal import check_diagonal, over, times

__all__ = ["Langevin", "UnderdampedLangevin"]


@dataclass(frozen=True)
class Langevin(Solver):
    r"""Unadjusted Langevin dynamics: :math:`z' = z + a P F(z) + \sqrt{2 a T P}\,\xi,\; \xi \sim N(0, I)`.

    Samples from :math:`p(z) \propto e^{-E(z)/T}` up to a bias of order ``step_size``: on a Gaussian of curvature k the
    variance is :math:`(T / k) / (1 - a k / 2)`. A sampler returns the last point, not the best: picking the lowest energy
    would turn it into a mode seeker.

    Args:
        step_size: a > 0; float or tensor.
        temperature: T >= 0; zero is plain descent.
        preconditioner: the diagonal P > 0: a tensor with one number for each number of a latent, a tree of tensors like
            the latent without its sample axis, or None for ones. About the variances wanted is a good choice.

    Raises:
        ValueError: a step size or preconditioner not above zero, or a negative temperature; at the call, a preconditioner
            of another size than the latent.
        TypeError: a preconditioner without floating tensors.

    Example:
        >>> import ebm
        >>> ebm.Langevin(0.01, temperature=0.5)
        Langevin(step_size=0.01, temperature=0.5, preconditioner=None)

    Source: Roberts and Tweedie (1996), the unadjusted Langevin algorithm; there without a preconditioner.
    """

    step_size: float | Tensor = 0.01
    temperature: float = 1.0
    preconditioner: Any = None
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    additive: ClassVar[bool] = True
    samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("Langevin", "step_size", self.step_size)
        check_cold("Langevin", self.temperature)
        check_diagonal("Langevin", "preconditioner", self.preconditioner)

    def init(self, point: Point) -> Any:
        """Nothing to remember: the noise is a function of the sample's key and step."""
        return None

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        scale = over(self.preconditioner, point.z)
        drift = rows.add(point.z, times(point.force, scale), self.step_size)
        if not self.temperature:
            return Step(field(drift), None)
        noise = times(draw.normal(point.z), rows.map_rows(torch.sqrt, scale))
        return Step(field(rows.add(drift, noise, (2 * self.step_size * self.temperature) ** 0.5)), None)


@dataclass(frozen=True)
class UnderdampedLangevin(Solver):
    r"""Langevin dynamics with momentum: :math:`dz = v\,dt,\; M dv = F\,dt - \gamma M v\,dt + \sqrt{2 \gamma T M}\,dW`.

    Each step is the splitting BAOAB: half a kick by the force, half a drift, friction and noise for a whole step (exactly),
    half a drift, half a kick. One evaluation a step. Momentum crosses flat and narrow regions quicker than `Langevin`, and
    the bias is of order :math:`a^2`; on a Gaussian the distribution of z is exact at every stable step size.

    Args:
        step_size: a > 0, a time; float or tensor. Stable on a Gaussian of curvature k while :math:`a^2 k / M < 4`.
        friction: gamma >= 0, the rate at which velocities are forgotten. Zero never forgets, and then does not sample.
        temperature: T >= 0; zero is descent with friction.
        mass: the diagonal M > 0: a tensor with one number for each number of a latent, a tree of tensors like the latent
            without its sample axis, or None for ones.

    Raises:
        ValueError: a step size or mass not above zero, a negative friction or temperature; at the call, a mass of another
            size than the latent.
        TypeError: a mass without floating tensors.

    Example:
        >>> import ebm
        >>> ebm.UnderdampedLangevin(0.2, friction=0.5).keep
        'last'

    Source: Leimkuhler and Matthews (2013), the method BAOAB. Chains begin with zero velocity.
    """

    step_size: float | Tensor = 0.1
    friction: float = 1.0
    temperature: float = 1.0
    mass: Any = None
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("UnderdampedLangevin", "step_size", self.step_size)
        if not self.friction >= 0:
            raise ValueError(f"`UnderdampedLangevin(friction=...)` may not be negative; got {self.friction}. Try 1.")
        check_cold("UnderdampedLangevin", self.temperature)
        check_diagonal("UnderdampedLangevin", "mass", self.mass)

    def init(self, point: Point) -> Any:
        """The velocity, zero at first."""
        return rows.map_rows(torch.zeros_like, point.force)

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """Kick, drift, friction and noise, drift; one evaluation; kick."""
        mass = over(self.mass, point.z)
        inverse = rows.map_rows(torch.reciprocal, mass)
        half = 0.5 * self.step_size
        velocity = rows.add(memory, times(point.force, inverse), half)
        z = rows.add(point.z, velocity, half)
        velocity = self._thermal(velocity, inverse, draw)
        new = field(rows.add(z, velocity, half))
        return Step(new, rows.add(velocity, times(new.force, inverse), half))

    def _thermal(self, velocity: Any, inverse: Any, draw: Draw) -> Any:
        """The exact solution of friction and noise alone over a whole step."""
        elapsed = self.friction * self.step_size
        kept = (-elapsed).exp() if isinstance(elapsed, Tensor) else math.exp(-elapsed)
        slower = rows.scale(velocity, kept)
        if not self.temperature or not self.friction:
            return slower
        noise = times(draw.normal(velocity), rows.map_rows(torch.sqrt, inverse))
        return rows.add(slower, noise, ((1 - kept * kept) * self.temperature) ** 0.5)


def check_cold(owner: str, temperature: float) -> None:
    """A temperature that may be zero."""
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"`{owner}(temperature=...)` may not be negative; got {temperature}. Zero is plain descent, one samples exp(-E)."
        )
