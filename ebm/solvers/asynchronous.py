"""Asynchronous updates of discrete latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step

__all__ = ["Asynchronous", "check_order", "sweep"]


@dataclass(frozen=True)
class Asynchronous(Solver):
    """One sweep a step: every unit of a discrete latent (B, N) is set, one at a time, to what it wants given the others.

    With symmetric weights and no self-coupling no flip raises the energy, so a sample comes to rest in a fixed point.

    Args:
        order: ``"random"``, a fresh order for every sample and sweep, or ``"cyclic"``, always 0..N-1, which is many times as fast
            on models with a sweep of their own (`Hopfield`).

    Raises:
        ValueError: another order.

    Example:
        >>> import ebm
        >>> ebm.Asynchronous(order="cyclic")
        Asynchronous(order='cyclic')

    Source: Hopfield (1982), the asynchronous rule.
    """

    order: Literal["random", "cyclic"] = "random"
    needs: ClassVar[frozenset[str]] = frozenset({"conditional"})
    incidental: ClassVar[bool] = True
    compiles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_order("Asynchronous", self.order)

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A random order is drawn from the sample's key."""
        return self.order == "random"

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and a conditional a unit or a whole sweep."""
        if self.order == "cyclic":
            return {"point": 1, "sweep": 1}
        return {"point": 1, "conditional": rows.flatten(z).shape[1]}

    def init(self, point: Point) -> Any:
        """Nothing to remember."""
        return None

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One conditional a unit, or a sweep, then one evaluation at the new state."""
        if self.order == "cyclic":
            return Step(field(field.sweep(point.z)), None)
        state = rows.flatten(point.z)
        for unit in sweep(self.order, state, draw):
            wanted = field.conditional(rows.unflatten(state, point.z), unit)
            state = state.scatter(1, unit[:, None], wanted[:, None])
        return Step(field(rows.unflatten(state, point.z)), None)


def check_order(owner: str, order: str) -> None:
    """The two orders of a sweep."""
    if order not in ("random", "cyclic"):
        raise ValueError(f'`{owner}(order=...)` is "random" or "cyclic"; got {order!r}. Leave it out for "random".')


def sweep(order: str, state: Tensor, draw: Draw) -> tuple[Tensor, ...]:
    """The order of the units: one (B,) index tensor for each place in the sweep."""
    if order == "random":
        return draw.uniform(state).argsort(1).unbind(1)
    return torch.arange(state.shape[1], device=state.device).expand(state.shape[0], -1).unbind(1)
