"""Accelerated gradient descent that restarts its momentum and finds its step size, sample by sample."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, energy_of, extent, teaches
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import evaluate_trial, held

__all__ = ["Accelerated", "Nesterov"]

_SEARCHING = 2.0  # growth of the step size until one is too long for the curvature met
_RENEWED = (
    1.5  # growth at a restart: the curvature may have fallen since; grown along the way, it would break the momentum
)


@dataclass(frozen=True)
class Accelerated(Solver):
    """What `Nesterov` and `FISTA` share: the momentum, its restarts, and a step size by backtracking.

    The running point is the one looked ahead at, so that a step asks for one evaluation; a subclass says where a step
    without momentum lands.
    """

    first: float = 1.0
    restart: Literal["gradient", "energy"] | None = "gradient"

    def __post_init__(self) -> None:
        name = type(self).__name__
        positive(name, "first", self.first)
        if self.restart not in ("gradient", "energy", None):
            raise ValueError(
                f'`{name}(restart=...)` is "gradient", "energy" or None; got {self.restart!r}. Leave it out for "gradient".'
            )

    @abstractmethod
    def landing(self, field: Field, point: Point, size: Tensor) -> Any:
        """Where a step of these sizes (B,) lands without momentum."""

    def init(self, point: Point) -> Any:
        """The last landing, the age of the momentum (B,), the next step size (B,), and whether any was ever too long (B,)."""
        size = torch.full_like(rows.dot(point.force, point.force), self.first)
        never = torch.zeros_like(size, dtype=torch.bool)
        return {"landing": point.z, "age": torch.ones_like(size), "size": size, "found": never}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a proposal that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation, where the momentum leads."""
        point, memory, calm = self._settled(field, point, memory)
        size = memory["size"]
        landing = self.landing(field, point, size)
        along = rows.map_rows(torch.sub, landing, memory["landing"])
        age = self._age(point, landing, along, memory["age"])
        older = 0.5 + (0.25 + age.square()).sqrt()
        trial = evaluate_trial(field, rows.add(landing, along, (age - 1) / older), point, calm=calm)
        before, after = trial.before, trial.after
        move = rows.map_rows(torch.sub, after.z, before.z)
        bend = rows.dot(move, rows.map_rows(torch.sub, before.force, after.force))
        squared = rows.dot(move, move)
        length = rows.rms(move).detach()
        reach = extent(point.z)
        taught = teaches(length, reach)
        tie = 1 + torch.finfo(squared.dtype).eps ** 0.5  # else a bit decides where the first step size is 1 / L
        # at rest the curvature of a move is rounding, which is not to set a step size
        accepted = trial.finite & ((size * bend <= tie * squared) | ~taught)
        longer = torch.where(taught, _longer(size, memory["found"], age == 1), size)
        shorter = _shorter(size, squared, bend, trial.finite)
        if self.restart == "energy":
            older = torch.where(energy_of(trial.point) > energy_of(point), torch.ones_like(age), older)
        memory = {
            "landing": rows.where(accepted, landing, memory["landing"]),
            # a momentum that leads where nothing is finite is dropped: a shorter step alone would lead there again
            "age": torch.where(accepted, older, torch.where(trial.finite, age, torch.ones_like(age))),
            "size": held(torch.where(accepted, longer, shorter), trial.live),
            "found": memory["found"] | (trial.finite & ~accepted),
        }
        new = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
        stalled = ~accepted & at_rounding(length * (shorter / size), reach)
        return Step(ended(field, new, stalled, self._kinks(memory)), memory, Info(accepted, stalled))

    @torch.no_grad()
    def _length(self, field: Field, point: Point, memory: Any) -> Tensor:
        """How far the force or the momentum moves a sample, a root mean square, (B,)."""
        ahead, past = (
            rows.rms(rows.map_rows(torch.sub, point.z, other))
            for other in (self.landing(field, point, memory["size"]), memory["landing"])
        )
        return torch.maximum(ahead, past)

    def _kinks(self, memory: Any) -> Tensor | None:
        """The size of a proximal step, where rest is one that leads nowhere."""
        return None

    def _settled(self, field: Field, point: Point, memory: Any) -> tuple[Point, Any, Tensor | None]:
        """As `settled`, where neither force nor momentum moves a sample; the momentum, which is rounding, gets no derivative."""
        if not torch.is_grad_enabled():
            return point, memory, None
        new, memory, calm = settled(field, point, memory, self._length(field, point, memory), self._kinks(memory))
        if calm is None:
            return point, memory, None
        follow = rows.map_rows(lambda past, z: past.detach() + (z - z.detach()), memory["landing"], new.z)
        return new, memory | {"landing": rows.where(calm, follow, memory["landing"])}, calm

    def _age(self, point: Point, landing: Any, along: Any, age: Tensor) -> Tensor:
        """The age of the momentum, one again where it points against the step."""
        if self.restart != "gradient":
            return age
        against = rows.dot(rows.map_rows(torch.sub, landing, point.z), along) < 0
        return torch.where(against, torch.ones_like(age), age)


def _longer(size: Tensor, found: Tensor, young: Tensor) -> Tensor:
    growth = torch.where(found, torch.where(young, _RENEWED, 1.0), _SEARCHING).to(size.dtype)
    return (size * growth).clamp_max(torch.finfo(size.dtype).max ** 0.5)


def _shorter(size: Tensor, squared: Tensor, bend: Tensor, finite: Tensor) -> Tensor:
    """Nine tenths of the step size that the curvature of a rejected move allows, and at least a tenth of the last."""
    upwards = finite & (bend > 0)
    # not all of it: the same move again would pass or fail by its last bit
    wanted = 0.9 * squared / torch.where(upwards, bend, torch.ones_like(bend))
    return torch.where(upwards, torch.maximum(wanted, 0.1 * size), 0.1 * size)


@dataclass(frozen=True)
class Nesterov(Accelerated):
    r"""Nesterov's accelerated gradient, which needs no tuning: restarts and step sizes are found for each sample.

    .. math:: x_{k+1} = y_k + a F(y_k),\qquad t_{k+1} = \tfrac12 + \sqrt{\tfrac14 + t_k^2},\qquad
              y_{k+1} = x_{k+1} + \frac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k)

    The momentum begins anew (t = 1) where it points against the step just made (``"gradient"``) or where the energy rose
    (``"energy"``). A move d to :math:`y_{k+1}` that changes the force by y is accepted if :math:`d^T y \le d^T d / a` (to rounding),
    that is if the energy bends along it by no more than 1 / a; otherwise the step size shrinks to what that bend allows, and
    may grow by half at each restart. Each step is one evaluation, accepted or not. The energy may rise for some steps; the
    best point is kept.

    Args:
        first: the first step size, > 0; a wrong guess costs a few evaluations, never the answer.
        restart: ``"gradient"``, ``"energy"``, or None for a momentum that only grows.

    Raises:
        ValueError: ``first`` not above zero, or an unknown restart.

    Example:
        >>> import ebm
        >>> ebm.Nesterov()
        Nesterov(first=1.0, restart='gradient')

    Source: Nesterov (1983); O'Donoghue and Candes (2015), adaptive restart. The test of curvature by forces follows Becker,
    Candes and Grant (2011); ours looks along the whole move between two look-aheads, which costs no second evaluation.
    """

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A gradient, and an energy where restarts go by it."""
        return frozenset({"gradient", "energy"} if self.restart == "energy" else {"gradient"})

    def landing(self, field: Field, point: Point, size: Tensor) -> Any:
        """Along the force."""
        return rows.add(point.z, point.force, size)
