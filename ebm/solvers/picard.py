"""Fixed-point iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step

__all__ = ["Picard"]


@dataclass(frozen=True)
class Picard(Solver):
    r"""Fixed-point iteration, damped: :math:`z \leftarrow d z + (1 - d) f(z)`.

    On an energy, :math:`f(z) = z + F(z)`, so it is descent with step size 1 - d.

    Args:
        damping: d in [0, 1). Zero takes the whole step; a half ends the two-cycles of a map whose slope is near -1.

    Raises:
        ValueError: a damping outside [0, 1).

    Example:
        >>> import ebm
        >>> ebm.Picard(damping=0.5)
        Picard(damping=0.5)

    Source: Picard (1890); Krasnoselskii (1955) for the damped form.
    """

    damping: float = 0.0
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.damping < 1:
            raise ValueError(f"`Picard(damping=...)` must lie in [0, 1); got {self.damping}. Try 0.5.")

    def init(self, point: Point) -> Any:
        """Nothing to remember."""
        return None

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation at the moved latent."""
        return Step(field(rows.add(point.z, point.force, 1 - self.damping)), None)
