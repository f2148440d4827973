"""Unadjusted Langevin dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.descent import positive

__all__ = ["Langevin"]


@dataclass(frozen=True)
class Langevin(Solver):
    r"""Unadjusted Langevin dynamics: :math:`z' = z + a F(z) + \sqrt{2 a T}\,\xi,\; \xi \sim N(0, I)`.

    Samples from :math:`p(z) \propto e^{-E(z)/T}` up to a bias of order ``step_size``. A sampler returns the last
    point, not the best: picking the lowest energy would turn it into a mode seeker.

    Args:
        step_size: a > 0; float or tensor.
        temperature: T >= 0; zero is plain descent.

    Raises:
        ValueError: a step size not above zero or a negative temperature.

    Example:
        >>> import ebm
        >>> ebm.Langevin(0.01, temperature=0.5)
        Langevin(step_size=0.01, temperature=0.5)

    Source: Roberts and Tweedie (1996), eq. 1.4 (ULA).
    """

    step_size: float | Tensor = 0.01
    temperature: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("Langevin", "step_size", self.step_size)
        if self.temperature < 0:
            raise ValueError(
                f"`Langevin(temperature=...)` may not be negative; got {self.temperature}. Zero is plain descent."
            )

    def init(self, point: Point) -> Any:
        """Nothing to remember: the noise is a function of the sample's key and step."""
        return None

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        drift = rows.add(point.z, point.force, self.step_size)
        size = (2 * self.step_size * self.temperature) ** 0.5
        return Step(field(rows.add(drift, draw.normal(point.z), size)), None)
