"""Continuous time with fixed steps: the latent follows its force."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.tableaux import FIXED, runge_kutta

__all__ = ["Flow", "check_horizon", "check_method"]

_SLIVER = 1e-3  # a rest of less than this part of a step is taken along with the last one


@dataclass(frozen=True)
class Flow(Solver):
    r"""The latent follows its force through continuous time, :math:`\dot z = F(z)`, in steps of one size.

    Each sample has a time of its own, ``memory["t"]``. Its last step lands exactly on the horizon; then its schedule is
    over and it ends STALLED. The answer is the latent at that time, not the best one seen. A flow that should end where it comes
    to rest is given the stop rule ``AtRest``: the velocity is the force, so it tests the velocity, not the latent.

    Args:
        dt: the step size, > 0; a float or a tensor (). A rest of less than a thousandth of it is added to the last step.
        horizon: the time at which a sample is done, > 0; None: endless.
        method: ``"euler"`` (order 1), ``"midpoint"`` (2) or ``"rk4"`` (4, the three-eighths rule): one, two and four
            evaluations a step.

    Raises:
        ValueError: a step size or a horizon not above zero, or an unknown method.

    Example:
        >>> import torch, ebm
        >>> class Decay(ebm.Update):
        ...     def init_latent(self, c, draw):
        ...         return c
        ...     def forward(self, z, c):
        ...         return torch.zeros_like(z)
        >>> found = ebm.infer(Decay(), torch.ones(1, 1), steps=99, solver=ebm.Flow(0.3, horizon=1.0))
        >>> found.z, found.steps, found.carry.memory["t"]
        (tensor([[0.3679]]), tensor([4]), tensor([1.]))

    Source: Hairer, Nørsett and Wanner (1993), section II.1; methods and their names are those of torchdiffeq (Chen, 2018),
    where a batch shares one time.
    """

    dt: float | Tensor = 0.1
    horizon: float | None = None
    method: str = "rk4"
    keep: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        positive("Flow", "dt", self.dt)
        check_horizon("Flow", self.horizon)
        check_method("Flow", self.method, FIXED, "AdaptiveFlow")

    def init(self, point: Point) -> Any:
        """The time of each sample and the steps it took, (B,)."""
        zero = torch.zeros_like(rows.rms(point.force).detach())
        return {"t": zero, "taken": zero.to(torch.int64)}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """As many evaluations as the method has stages."""
        return {"point": len(FIXED[self.method].rows)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One step, the last one up to the horizon."""
        taken, t = memory["taken"], memory["t"]
        following = (taken + 1).to(t.dtype) * _value(self.dt)  # not added up, so that rounding does not either
        if self.horizon is None:
            new, _ = runge_kutta(field, point, self.dt, FIXED[self.method])
            return Step(new, {"t": following, "taken": taken + 1})
        number = self._number()
        over = taken + 1 >= number
        begun = taken.clamp_max(number - 1).to(t.dtype) * self.dt  # with the graph of a learned step size
        new, _ = runge_kutta(field, point, torch.where(over, self.horizon - begun, self.dt), FIXED[self.method])
        arrived = torch.where(over, self.horizon, following)
        return Step(new, {"t": arrived, "taken": taken + 1}, Info(stalled=over))

    def _number(self) -> Any:
        """How many steps lead to the horizon."""
        assert self.horizon is not None
        if isinstance(self.dt, Tensor):
            return (self.horizon / self.dt.detach() - _SLIVER).ceil().clamp_min(1).to(torch.int64)
        return max(1, math.ceil(self.horizon / self.dt - _SLIVER))


def _value(number: float | Tensor) -> float | Tensor:
    return number.detach() if isinstance(number, Tensor) else number


def check_horizon(owner: str, horizon: float | None) -> None:
    """Refuse a horizon that is no time ahead."""
    if horizon is not None and not 0 < horizon < math.inf:
        raise ValueError(
            f"`{owner}(horizon=...)` must be above zero and finite; got {horizon}. Pass a time, or None for an endless flow."
        )


def check_method(owner: str, method: str, known: dict[str, Any], other: str) -> None:
    """Refuse a method of another name."""
    if method not in known:
        named = ", ".join(f'"{name}"' for name in known)
        raise ValueError(
            f"`{owner}(method=...)` is one of {named}; got {method!r}. Choose among these, or use `{other}`."
        )
