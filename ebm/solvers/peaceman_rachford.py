"""Peaceman-Rachford splitting for monotone equilibrium maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.descent import positive

__all__ = ["PeacemanRachford"]


@dataclass(frozen=True)
class PeacemanRachford(Solver):
    r"""Operator splitting for :math:`z = \sigma(W z + b(x))` with I - W strongly monotone and :math:`\sigma` a proximal map.

    .. math:: \hat u = 2 z - u,\quad \hat z = (I + a(I - W))^{-1}(\hat u + a b),\quad
              u' = 2 \hat z - \hat u,\quad z' = \operatorname{prox}_a(u')

    It converges for every a > 0, also where the plain iteration of the map diverges. A step is one resolvent, one proximal map
    and one evaluation, which tells how far from rest the new latent is.

    Args:
        size: a > 0. Small values converge surely but slowly; the fastest is near one over the root of the smallest times the
            largest curvature of I - W.

    Raises:
        ValueError: a size not above zero.

    Example:
        >>> import torch, ebm
        >>> _ = torch.manual_seed(0)
        >>> cell = ebm.MonotoneCell(2, 4)
        >>> ebm.infer(cell.eval(), torch.ones(3, 2), steps=100, solver=ebm.PeacemanRachford(), stop=ebm.AtRest(1e-6)).converged.all()
        tensor(True)

    Source: Peaceman and Rachford (1955); Winston and Kolter (2020), Monotone operator equilibrium networks, section 3.
    """

    size: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"prox", "resolvent"})
    compiles: ClassVar[bool] = False  # the inverse behind the resolvent is made at the first step

    def __post_init__(self) -> None:
        positive("PeacemanRachford", "size", self.size)

    def init(self, point: Point) -> Any:
        """The auxiliary variable u, at first the latent."""
        return point.z

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One of each."""
        return {"point": 1, "prox": 1, "resolvent": 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """Reflect, solve the linear part, reflect, apply the proximal map."""
        half = rows.add(rows.scale(point.z, 2.0), memory, -1.0)
        inner = field.resolvent(half, self.size)
        auxiliary = rows.add(rows.scale(inner, 2.0), half, -1.0)
        return Step(field(field.prox(auxiliary, self.size)), auxiliary)
