"""Descent with a step size a sample, found as it goes: the safe default for an energy that names no solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import (
    SUFFICIENT,
    at_rounding,
    curve,
    energy_of,
    extent,
    longer,
    shorter,
    teaches,
)
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import all_known, evaluate_trial, held

__all__ = ["AdaptiveDescent"]


@dataclass(frozen=True)
class AdaptiveDescent(Solver):
    r"""Descent that needs no tuning and never raises the energy, with its own step size for every sample.

    A trial :math:`z + a F` is accepted if :math:`E(z + aF) \le E(z) - 10^{-4} a \|F\|^2`. After an accepted trial the
    next step size is the shorter one of Barzilai and Borwein, :math:`a = s^T y / y^T y` with s the move and y the change of
    the gradient, at most ``growth`` times the last; after a rejected one the minimum of the parabola through what is known.
    Each step is one evaluation, accepted or not. A sample whose trials have shrunk below rounding reports STALLED.

    Args:
        first: the first trial step size, > 0; a wrong guess costs a few evaluations, never the answer.
        growth: the most by which a step size may grow from one step to the next, > 1.

    Raises:
        ValueError: ``first`` not above zero, or ``growth`` not above one.

    Example:
        >>> import ebm
        >>> ebm.AdaptiveDescent()
        AdaptiveDescent(first=1.0, growth=1000.0)

    Source: Barzilai and Borwein (1988); Armijo (1966); Nocedal and Wright (2006), section 3.5, eq. 3.58.
    Unlike the method of 1988 every accepted step lowers the energy.
    """

    first: float = 1.0
    growth: float = 1000.0
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})

    def __post_init__(self) -> None:
        positive("AdaptiveDescent", "first", self.first)
        if not self.growth > 1:
            raise ValueError(f"`AdaptiveDescent(growth=...)` must be above one; got {self.growth}. Try 1000.")

    def init(self, point: Point) -> Any:
        """The next trial step size, and whether it is smaller than one that failed, both (B,)."""
        size = torch.full_like(energy_of(point), self.first)
        return {"size": size, "shrunk": torch.zeros_like(size, dtype=torch.bool)}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a trial that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        length = rows.rms(point.force).detach()
        reach, ahead = extent(point.z), memory["size"] * length
        learned = teaches(ahead, reach)
        point, memory, calm = settled(field, point, memory, ahead)
        size = memory["size"]
        move = rows.scale(point.force, size)
        trial = evaluate_trial(field, rows.map_rows(torch.add, point.z, move), point, calm=calm)
        before, after = trial.before, trial.after
        tried, move = held((size, move), trial.known)
        # products with the move, not of forces: it has the size of the latent, so that no square leaves the range
        drop, overlap = rows.dot(move, before.force), rows.dot(move, after.force)
        bend = drop - overlap
        change = bend + (rows.dot(rows.scale(after.force, tried), after.force) - overlap)
        rise = energy_of(after) - energy_of(before)
        # compared as energies, not as a difference: near rest the decrease asked for rounds to nothing, and a tie may pass
        accepted = trial.finite & (energy_of(trial.point) <= energy_of(point) - SUFFICIENT * drop)
        known = change > 0
        squared = torch.where(known, tried * bend * (bend / torch.where(known, change, torch.ones_like(change))), drop)
        following = torch.where(learned, longer(tried, squared, bend, self.growth), size)
        # after a failure a move within rounding that gains nothing is the end, too; before one the step size is yet to grow
        stalled = memory["shrunk"] & (rise >= 0) & at_rounding(0.1 * size * length, reach) & (drop > 0)
        new = trial.point
        if not all_known(accepted):
            new = Point(*rows.where(accepted, tuple(new), tuple(point)))
            closer = shorter(size, drop, curve(bend, drop, rise), trial.finite)
            following = torch.where(accepted, following, closer)
            stalled = (~accepted & at_rounding(following * length, reach)) | stalled
        return Step(
            ended(field, new, stalled),
            held({"size": following, "shrunk": ~accepted}, trial.live),
            Info(accepted, stalled),
        )
