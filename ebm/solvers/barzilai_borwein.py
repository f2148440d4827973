"""The spectral gradient method: step sizes from the last move, and energies that may rise for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, curve, energy_of, extent, longer, shorter, sufficient, teaches, unlearnt
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import all_known, evaluate_trial, held

__all__ = ["BarzilaiBorwein"]

_GROWTH = 1e3  # wide enough for the spectrum of most energies; a leap beyond costs rejected trials, or another valley


@dataclass(frozen=True)
class BarzilaiBorwein(Solver):
    r"""Gradient descent with spectral step sizes behind a non-monotone line search, all for each sample.

    With the last move s and the change y of the gradient, the next step size is

    .. math:: a = \frac{s^T s}{s^T y} \;(\text{"long"}), \qquad a = \frac{s^T y}{y^T y} \;(\text{"short"}),

    or each in turn. A trial :math:`z + aF` is accepted if
    :math:`E(z + aF) \le \max_{i < \text{window}} E_{-i} - 10^{-4} a \|F\|^2`, over the last ``window`` energies; a
    rejected one is shortened to the minimum of a parabola, and tried in the next step. So each step is one evaluation, and
    the energy may rise for some steps, which is what makes these step sizes quick on ill-conditioned energies. The best
    point is kept.

    Args:
        rule: ``"long"``, ``"short"`` or ``"alternating"``.
        window: how many energies the line search looks back on, at least 1; with 1 the energy never rises.
        first: the first trial step size, > 0; a wrong guess costs a few evaluations, never the answer.

    Raises:
        ValueError: an unknown rule, a window below one, or ``first`` not above zero.

    Example:
        >>> import ebm
        >>> ebm.BarzilaiBorwein("short")
        BarzilaiBorwein(rule='short', window=10, first=1.0)

    Source: Barzilai and Borwein (1988); Raydan (1997), the globalised method; Grippo, Lampariello and Lucidi (1986), the
    line search. Where energies differ by rounding alone, the approximate condition of Hager and Zhang (2005) decides. A
    step size grows at most a thousandfold at once.
    """

    rule: Literal["long", "short", "alternating"] = "alternating"
    window: int = 10
    first: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})

    def __post_init__(self) -> None:
        if self.rule not in ("long", "short", "alternating"):
            raise ValueError(
                f'`BarzilaiBorwein(rule=...)` is "long", "short" or "alternating"; got {self.rule!r}. Leave it out.'
            )
        if self.window < 1:
            raise ValueError(f"`BarzilaiBorwein(window=...)` must be at least 1; got {self.window}. Try 10.")
        positive("BarzilaiBorwein", "first", self.first)

    def init(self, point: Point) -> Any:
        """The next trial step size (B,), the last energies (B, window), and how many trials were accepted (B,)."""
        energy = energy_of(point).detach()
        return {
            "size": torch.full_like(energy, self.first),
            "energies": energy[:, None].repeat(1, self.window),
            "moves": torch.zeros_like(energy, dtype=torch.int64),
        }

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a trial that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        length = rows.rms(point.force).detach()
        # a sample or a part at rest keeps its step size: one read off rounding would spoil the step that follows a change
        reach, ahead = extent(point.z), memory["size"] * length
        learned = teaches(ahead, reach)
        point, memory, calm = settled(field, point, memory, ahead)
        size, energies = memory["size"], memory["energies"]
        move = rows.scale(point.force, size)
        trial = evaluate_trial(field, rows.map_rows(torch.add, point.z, move), point, calm=calm)
        before, after = trial.before, trial.after
        tried, move = held((size, move), trial.known)
        change = rows.map_rows(torch.sub, before.force, after.force)
        # products with the move, not of forces: it has the size of the latent, so that no square leaves the range
        drop, bend, turn = (
            rows.dot(move, before.force),
            rows.dot(move, change),
            rows.dot(rows.scale(change, tried), change),
        )
        accepted = sufficient(trial, point, drop, bend, energies.amax(1))
        spectral = self._spectral(tried, drop, bend, turn, memory["moves"])
        following = torch.where(learned, spectral, unlearnt(size, self.first, _GROWTH))
        latest = torch.cat([energies[:, 1:], energy_of(trial.point).detach()[:, None]], 1)
        new, stalled = trial.point, ~accepted
        if not all_known(accepted):
            new = Point(*rows.where(accepted, tuple(new), tuple(point)))
            rise = energy_of(after) - energy_of(before)
            closer = shorter(size, drop, curve(bend, drop, rise), trial.finite)
            following = torch.where(accepted, following, closer)
            latest = torch.where(accepted[:, None], latest, energies)
            stalled = ~accepted & at_rounding(following * length, reach)
        memory = {"size": held(following, trial.live), "energies": latest, "moves": memory["moves"] + accepted}
        return Step(ended(field, new, stalled), memory, Info(accepted, stalled))

    def _spectral(self, size: Tensor, drop: Tensor, bend: Tensor, turn: Tensor, moves: Tensor) -> Tensor:
        """The next step size, from s's = size * drop, s'y = bend and y'y = turn / size."""
        long = longer(size, size * drop, bend, _GROWTH)
        if self.rule == "long":
            return long
        some = (bend > 0) & (turn > 0)
        short = torch.where(some, size * bend / torch.where(some, turn, torch.ones_like(turn)), long)
        short = torch.minimum(
            short, long
        )  # so they are by the inequality of Cauchy and Schwarz, but for the bound on growth
        return short if self.rule == "short" else torch.where(moves % 2 == 0, long, short)
