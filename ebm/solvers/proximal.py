"""Proximal gradient: a smooth energy and a simple term that has kinks or walls, plain and accelerated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, curve, energy_of, extent, longer, shorter, sufficient, teaches, unlearnt
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.nesterov import Accelerated
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import evaluate_trial, held

__all__ = ["FISTA", "Proximal"]

_GROWTH = 1e3  # the most by which a step size may change at once


@dataclass(frozen=True)
class Proximal(Solver):
    r"""The proximal gradient method for :math:`E = f + g`, with a step size for each sample (ISTA for a lasso).

    .. math:: z' = \operatorname{prox}_{a g}(z + a F(z)), \qquad
              \operatorname{prox}_{a g}(v) = \arg\min_u g(u) + \tfrac{1}{2a} \|u - v\|^2

    with F minus the gradient of the smooth part f. A trial is accepted if
    :math:`E(z') \le E(z) - 10^{-4} \|z' - z\|^2 / a`, which every :math:`a \le 1 / L` passes where f has curvature L; then
    the next step size is the length of the move over that of the change of F, the geometric mean of the two of Barzilai and
    Borwein. A rejected trial is shortened. So each step is one evaluation and one proximal map, the energy never rises but
    by rounding, and nothing needs tuning. See `Composite`.

    Args:
        first: the first trial step size, > 0; a wrong guess costs a few evaluations, never the answer.

    Raises:
        ValueError: ``first`` not above zero.

    Example:
        >>> import ebm
        >>> ebm.Proximal()
        Proximal(first=1.0)

    Source: Beck and Teboulle (2009), ISTA with backtracking; Wright, Nowak and Figueiredo (2009), spectral step sizes and
    the test of decrease (of the whole energy, not of a bound on the smooth part); Dai, Al-Baali and Yang (2015), the step
    size, which grows at most a thousandfold at once. Where energies differ by rounding alone, the approximate condition of
    Hager and Zhang (2005) decides.
    """

    first: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "prox"})
    # energies rise by rounding alone, and the best of them by rounding may be further from rest than the last
    keep: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        positive("Proximal", "first", self.first)

    def init(self, point: Point) -> Any:
        """The next trial step size, (B,)."""
        return torch.full_like(energy_of(point), self.first)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation and one proximal map, and an evaluation more where a trial that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1, "prox": 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        proposal = field.prox(rows.add(point.z, point.force, memory), memory)
        length = rows.rms(rows.map_rows(torch.sub, proposal, point.z)).detach()
        reach = extent(point.z)
        learned = teaches(length, reach)
        point, size, calm = settled(field, point, memory, length, memory.detach())
        if calm is not None:
            follow = rows.map_rows(lambda new, z: new.detach() + (z - z.detach()), proposal, point.z)
            proposal = rows.where(calm, follow, proposal)
        trial = evaluate_trial(field, proposal, point, calm=calm)
        before, after = trial.before, trial.after
        move = rows.map_rows(torch.sub, after.z, before.z)
        change = rows.map_rows(torch.sub, before.force, after.force)
        squared, bend = rows.dot(move, move), rows.dot(move, change)
        drop = squared / held(size, trial.known)
        accepted = sufficient(trial, point, drop, bend)
        new = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
        rise = energy_of(after) - energy_of(before)
        mean = _mean(move, change)
        following = torch.where(
            accepted,
            torch.where(learned, longer(size, mean * bend, bend, _GROWTH), unlearnt(size, self.first, _GROWTH)),
            shorter(size, drop, curve(bend, drop, rise), trial.finite),
        )
        stalled = ~accepted & at_rounding(length * (following / size), reach)
        new = ended(field, new, stalled, memory.detach())
        return Step(new, held(following, trial.live), Info(accepted, stalled))


def _mean(move: Any, change: Any) -> Tensor:
    """The length of the move over that of the change; one where either is zero, to keep 1 / 0 out of a graph."""
    with torch.no_grad():
        unit = rows.rms(change)  # its own square may leave the range
        unit = torch.where((unit > 0) & torch.isfinite(unit), unit, torch.ones_like(unit))
    squared, turn = rows.dot(move, move), rows.dot(rows.scale(change, 1 / unit), rows.scale(change, 1 / unit))
    some = (squared > 0) & (turn > 0)
    return torch.where(some, squared, 1.0).sqrt() / torch.where(some, turn, 1.0).sqrt() / unit


@dataclass(frozen=True)
class FISTA(Accelerated):
    r"""The accelerated proximal gradient method for :math:`E = f + g`, with restarts and step sizes found for each sample.

    .. math:: x_{k+1} = \operatorname{prox}_{a g}(y_k + a F(y_k)),\qquad
              y_{k+1} = x_{k+1} + \frac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k)

    with F minus the gradient of the smooth part f; momentum, restarts and step sizes as in `Nesterov`, and one evaluation and
    one proximal map a step. Quicker than `Proximal` where f is ill-conditioned; the energy may rise for some steps, and
    the best point is kept.

    Args:
        first: the first step size, > 0; a wrong guess costs a few evaluations, never the answer.
        restart: ``"gradient"``, ``"energy"``, or None for a momentum that only grows.

    Raises:
        ValueError: ``first`` not above zero, or an unknown restart.

    Example:
        >>> import ebm
        >>> ebm.FISTA(restart="energy")
        FISTA(first=1.0, restart='energy')

    Source: Beck and Teboulle (2009), FISTA; O'Donoghue and Candes (2015), adaptive restart, for composites by the
    generalised gradient. Ours looks at the look-aheads alone, for their curvature too (see `Nesterov`), and keeps them where
    the simple term is finite.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"energy", "prox"})

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation and one proximal map, and an evaluation more where a proposal that is not finite must not reach a graph."""
        return {**super().most(z, differentiated), "prox": 1}

    def _kinks(self, memory: Any) -> Tensor | None:
        """The step size."""
        return memory["size"].detach()

    def landing(self, field: Field, point: Point, size: Tensor) -> Any:
        """The proximal step."""
        return field.prox(rows.add(point.z, point.force, size), size)
