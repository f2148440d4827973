"""Gradient descent with a line search that ends within the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, curve, energy_of, extent, shorter, sufficient, teaches, unlearnt
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import evaluate_trial, held

__all__ = ["Backtracking"]

_GROWTH = 2.0


class _Search(NamedTuple):
    """Where a line search stands; a row each of some samples."""

    point: Point
    size: Tensor
    accepted: Tensor
    calm: Tensor


@dataclass(frozen=True)
class Backtracking(Solver):
    r"""Gradient descent with Armijo's line search: one step tries shorter and shorter moves until one lowers the energy enough.

    A trial :math:`z + aF` is accepted if :math:`E(z + aF) \le E(z) - 10^{-4} a \|F\|^2`; a rejected one is shortened to
    the minimum of a parabola, within a tenth and a half. The next step begins with the step size
    that was accepted, or twice that if it was accepted at once. Only the samples whose trial was rejected are evaluated
    again, so each pays for its own trials; a compiled step makes all ``trials`` of every sample.

    The step is the unit of a step limit: with `AdaptiveDescent` a rejected trial uses a step up, here it does not. A FLOP
    budget is planned for the dearest step, ``trials`` evaluations.

    Args:
        first: the first trial step size, > 0; a wrong guess costs a few evaluations, never the answer.
        trials: the most evaluations of a step, at least 1. Where all fail the sample stays, and the next step goes on from
            the shortest.

    Raises:
        ValueError: ``first`` not above zero, or ``trials`` below one.

    Example:
        >>> import ebm
        >>> ebm.Backtracking(trials=5)
        Backtracking(first=1.0, trials=5)

    Source: Armijo (1966); Nocedal and Wright (2006), algorithm 3.1 and the interpolation of section 3.5. Where energies
    differ by rounding alone, the approximate condition of Hager and Zhang (2005) decides.
    """

    first: float = 1.0
    trials: int = 10
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})
    # energies rise by rounding alone, and the best of them by rounding may be further from rest than the last
    keep: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        positive("Backtracking", "first", self.first)
        if self.trials < 1:
            raise ValueError(f"`Backtracking(trials=...)` must be at least 1; got {self.trials}. Try 10.")

    def init(self, point: Point) -> Any:
        """The first trial step size of the next step, (B,)."""
        return torch.full_like(energy_of(point), self.first)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """The trials, and as many again where one that is not finite must not reach a graph."""
        return {"point": self.trials * (2 if differentiated else 1)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A line search: at most ``trials`` evaluations."""
        length = rows.rms(point.force).detach()
        reach = extent(point.z)
        learned = teaches(memory * length, reach)
        point, memory, calm = settled(field, point, memory, memory * length)
        none = torch.zeros_like(learned)
        search = _tried(field, point, _Search(point, memory, none, none if calm is None else calm))
        at_once = search.accepted
        for _ in range(self.trials - 1):
            if torch.compiler.is_compiling():
                search = _tried(field, point, search)
                continue
            left = (~search.accepted).nonzero().flatten()
            if not len(left):
                break
            again = _tried(
                field.of(left), Point(*rows.take(tuple(point), left)), _Search(*rows.take(tuple(search), left))
            )
            search = _Search(*rows.put(tuple(search), left, tuple(again)))
        # at rest every trial passes: the step size stays
        grown = torch.where(learned, search.size * _GROWTH, unlearnt(search.size, self.first, _GROWTH))
        most = torch.finfo(length.dtype).max ** 0.5
        following = torch.where(at_once, grown.clamp_max(most), search.size)
        stalled = ~search.accepted & at_rounding(following * length, reach)
        return Step(ended(field, search.point, stalled), following, Info(search.accepted, stalled))


def _tried(field: Field, start: Point, search: _Search) -> _Search:
    """The search after one more trial from ``start``; samples that had one accepted stay where they are."""
    point, size, done, calm = search
    move = rows.scale(start.force, size)
    trial = evaluate_trial(field, rows.where(done, point.z, rows.map_rows(torch.add, start.z, move)), start, calm=calm)
    before, after = trial.before, trial.after
    move = held(move, trial.known)
    drop = rows.dot(move, before.force)
    bend = drop - rows.dot(move, after.force)
    accepted = ~done & sufficient(trial, start, drop, bend)
    rise = energy_of(after) - energy_of(before)
    point = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
    size = torch.where(accepted | done, size, shorter(size, drop, curve(bend, drop, rise), trial.finite))
    return _Search(point, held(size, trial.live), accepted | done, calm)
