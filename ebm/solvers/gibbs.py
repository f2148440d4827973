"""Gibbs sampling of latents whose units take two values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.asynchronous import check_order, sweep
from ebm.solvers.base import Field, Solver, Step
from ebm.solvers.metropolis import check_hot

__all__ = ["Gibbs"]


@dataclass(frozen=True)
class Gibbs(Solver):
    r"""One sweep a step: every unit of a latent (B, N) is drawn, one at a time, from its distribution given the others.

    .. math:: P(\text{flip unit } i) = \frac{1}{1 + e^{\Delta_i / T}},\qquad \Delta_i = E(\text{flipped}) - E(\text{as it is})

    Samples :math:`p(z) \propto e^{-E(z)/T}` without a bias. At a low temperature it becomes `Asynchronous`, which settles
    instead.

    Args:
        temperature: T > 0.
        order: ``"random"``, a fresh order for every sample and sweep, or ``"cyclic"``, always 0..N-1. Both leave p as it is.

    Raises:
        ValueError: a temperature not above zero, or another order.

    Example:
        >>> import torch, ebm
        >>> magnet = ebm.Hopfield(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = ebm.infer(magnet, torch.ones(2000, 2), steps=10, solver=ebm.Gibbs(), generator=generator).z
        >>> bool((z.prod(1).mean() - torch.tensor(1.0).tanh()).abs() < 0.06)
        True

    Source: Geman and Geman (1984), the Gibbs sampler; Glauber (1963) for spins.
    """

    temperature: float = 1.0
    order: Literal["random", "cyclic"] = "random"
    needs: ClassVar[frozenset[str]] = frozenset({"flip"})
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    compiles: ClassVar[bool] = False
    samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_hot("Gibbs", self.temperature)
        check_order("Gibbs", self.order)

    def init(self, point: Point) -> Any:
        """Nothing to remember."""
        return None

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and a flip a unit."""
        return {"point": 1, "flip": rows.flatten(z).shape[1]}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One flip a unit, then one evaluation at the new state."""
        state = rows.flatten(point.z)
        levels = draw.uniform(state).unbind(1)
        for unit, level in zip(sweep(self.order, state, draw), levels, strict=True):
            flip = field.flip(rows.unflatten(state, point.z), unit)
            own = state.gather(1, unit[:, None]).flatten()
            taken = level < torch.sigmoid(-flip.rise / self.temperature)
            state = state.scatter(1, unit[:, None], torch.where(taken, flip.value, own)[:, None])
        return Step(field(rows.unflatten(state, point.z)), None)
