"""Continuous time with a step size a sample, found from an estimate of the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, extent, teaches
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.flow import check_horizon, check_method
from ebm.solvers.tableaux import ADAPTIVE, Tableau, blend, runge_kutta

__all__ = ["AdaptiveFlow"]

# Hairer and Wanner's choices for their code DOPRI5, written for an estimate of any order q: there 1/5 and 0.04 = 0.2/5
_SAFETY = 0.9
_MEMORY = 0.2
_SHRINK, _GROW = 0.2, 10.0
_LEAST_ERROR = 1e-4
_NEARLY_THERE = 1.01


@dataclass(frozen=True)
class AdaptiveFlow(Solver):
    r"""The latent follows its force, :math:`\dot z = F(z)`, each sample in steps as long as its own error allows.

    An embedded Runge-Kutta pair estimates the error e of a step; with :math:`|e|` the root mean square of
    :math:`e / (\text{atol} + \text{rtol} \max(|z|, |z'|))` over the latent, a step is taken if :math:`|e| \le 1`, and turned
    down otherwise. The next step size is :math:`0.9\, h\, |e|^{-0.85/q} |e_{\text{last}}|^{0.2/q}` for a pair of order q,
    within a fifth and ten times the last. Time, step size and error are the sample's own: a stiff neighbour changes nothing.

    The last step lands exactly on the horizon; then the schedule is over and the sample ends STALLED, as it does where the
    step size falls below the rounding of the time (a solution that ends in finite time). For an end at rest pass the stop
    rule ``AtRest``: it tests the force, which is the velocity; its tolerance should lie above ``rtol`` times the size of the
    latent, about which an adaptive flow hovers around rest. Gradients take the step sizes as given.

    Args:
        horizon: the time at which a sample is done, > 0; None: endless.
        rtol: error a step relative to the latent, >= 0.
        atol: error a step in units of the latent, > 0. Both together bound the error of a step, not of the whole way.
        method: ``"dopri5"`` (Dormand and Prince, order 5, six evaluations a step) or ``"bosh3"`` (Bogacki and Shampine, order
            3, three evaluations), which is cheaper at loose tolerances.
        first: the first step size tried, > 0; a wrong guess costs a few evaluations, never the answer.

    Raises:
        ValueError: a horizon, ``atol`` or ``first`` not above zero, a negative ``rtol``, or an unknown method.

    Example:
        >>> import torch, ebm
        >>> class Decay(ebm.Update):
        ...     def init_latent(self, c, draw):
        ...         return torch.ones_like(c)
        ...     def forward(self, z, c):
        ...         return (1 - c) * z
        >>> rates = torch.tensor([[1.0], [20.0]])
        >>> found = ebm.infer(Decay(), rates, steps=99, solver=ebm.AdaptiveFlow(1.0))
        >>> found.z.round(decimals=3).flatten(), found.steps
        (tensor([0.3680, 0.0000]), tensor([ 4, 23]))

    Source: Dormand and Prince (1980); Bogacki and Shampine (1989); the step size control of Hairer and Wanner (1996), section
    IV.2, as their code DOPRI5 has it, here for each sample by itself. torchdiffeq shares one step size over a batch.
    """

    horizon: float | None = None
    rtol: float = 1e-4
    atol: float = 1e-6
    method: str = "dopri5"
    first: float = 0.1
    keep: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        check_horizon("AdaptiveFlow", self.horizon)
        check_method("AdaptiveFlow", self.method, ADAPTIVE, "Flow")
        positive("AdaptiveFlow", "atol", self.atol)
        positive("AdaptiveFlow", "first", self.first)
        if not self.rtol >= 0:
            raise ValueError(f"`AdaptiveFlow(rtol=...)` may not be negative; got {self.rtol}. Try 1e-4.")

    def init(self, point: Point) -> Any:
        """Of each sample the time, the next step size, the error of the last step taken, and whether a try has just failed."""
        zero = torch.zeros_like(rows.rms(point.force).detach())
        return {"t": zero, "size": zero + self.first, "error": zero + _LEAST_ERROR, "failed": zero > 0}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation a stage but the first, and as many again where a try that is not finite must not reach a graph."""
        return {"point": len(ADAPTIVE[self.method].rows) * (2 if differentiated else 1)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One try."""
        t, tableau = memory["t"], ADAPTIVE[self.method]
        last = torch.zeros_like(memory["failed"])
        size = memory["size"]
        if self.horizon is not None:
            last = t + _NEARLY_THERE * size >= self.horizon
            size = torch.where(last, self.horizon - t, size)
        trial, slopes, finite = _try(field, point, size, tableau)
        error = torch.where(finite, self._error(point, trial, slopes, size, tableau), torch.inf)
        accepted = finite & (error <= 1)
        new = Point(*rows.where(accepted, tuple(trial), tuple(point)))
        length, reach = rows.rms(point.force).detach(), extent(point.z)
        factor = self._factor(error, memory, accepted, tableau.order)
        # at rest there is no error, and a step of any size is taken; but its derivative is wrong where it is too long
        factor = torch.where(teaches(size * length, reach), factor, factor.clamp_max(1.0))
        following = (size * factor).clamp_max(torch.finfo(t.dtype).max ** 0.5)
        over = accepted & last
        arrived = torch.where(over, self.horizon or 0.0, t + size)
        remembered = {
            "t": torch.where(accepted, arrived, t),
            "size": following,
            "error": torch.where(accepted, error.clamp_min(_LEAST_ERROR), memory["error"]),
            "failed": ~accepted,
        }
        stuck = following <= torch.finfo(t.dtype).eps * remembered["t"]
        return Step(
            new,
            remembered,
            Info(accepted, over | stuck | (~accepted & at_rounding(following * length, reach))),
        )

    @torch.no_grad()
    def _error(self, point: Point, trial: Point, slopes: list[Any], size: Tensor, tableau: Tableau) -> Tensor:
        """The estimated error of each sample in units of the tolerance, (B,); infinite where it is no number."""
        assert tableau.error is not None

        def relative(slope: Tensor, old: Tensor, new: Tensor) -> Tensor:
            return slope / (self.atol + self.rtol * torch.maximum(old.abs(), new.abs()))

        error = size * rows.rms(rows.map_rows(relative, blend(tableau.error, slopes), point.z, trial.z))
        return error.nan_to_num(nan=torch.inf)

    def _factor(self, error: Tensor, memory: Any, accepted: Tensor, order: int) -> Tensor:
        """By what to change the step size: after a step taken with an eye on the error before, after one turned down without."""
        memory_share = _MEMORY / order
        safe = error.clamp_min(torch.finfo(error.dtype).tiny)
        steady = _SAFETY * safe ** (0.75 * memory_share - 1 / order) * memory["error"] ** memory_share
        grown = steady.clamp(_SHRINK, _GROW)
        grown = torch.where(memory["failed"], grown.clamp_max(1.0), grown)  # no growth right after a failure
        return torch.where(accepted, grown, (_SAFETY * safe ** (-1 / order)).clamp(_SHRINK, _SAFETY))


def _try(field: Field, point: Point, size: Tensor, tableau: Tableau) -> tuple[Point, list[Any], Tensor]:
    """A step, its slopes and which samples stayed finite; under grad mode those that did not stay where they are.

    A row masked out with `torch.where` still sends 0 * inf = nan into shared parameters, so the attempt is thrown away.
    """
    trial, slopes = runge_kutta(field, point, size, tableau)
    finite = rows.finite((tuple(trial), slopes))
    if torch.is_grad_enabled() and not bool(finite.all()):
        trial, slopes = runge_kutta(field, point, torch.where(finite, size, 0.0), tableau)
    return trial, slopes, finite
