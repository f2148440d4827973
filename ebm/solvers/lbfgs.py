"""Limited-memory BFGS: a curvature learnt from the last moves, for every sample its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, energy_of, extent, shorter, sufficient, teaches
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import all_known, evaluate_trial, held

__all__ = ["LBFGS", "Pair"]


class Pair(NamedTuple):
    """A move, the change of the gradient along it, both (B, D), and one over their product, (B,); zero: no use is made of it."""

    move: Tensor
    change: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class LBFGS(Solver):
    r"""Quasi-Newton steps from the last ``window`` moves; never raises the energy, and every sample has its own history.

    With moves :math:`s_i`, changes of the gradient :math:`y_i` and the matrix :math:`H` that the BFGS formula makes of
    them, starting at :math:`\gamma I`, :math:`\gamma = s^T y / y^T y`:

    .. math:: z' = z + a\,H F, \qquad E(z') \le E(z) - 10^{-4}\, a\, F^T H F

    Each step is one trial and one evaluation: a = 1 first, after a rejection the minimum of the parabola through what
    is known. A step that was rejected, or along which the gradient did not grow (:math:`s^T y \le 0`), takes a place in
    the window that counts for nothing, so a sample that keeps failing falls back on steepest descent. A sample whose
    trials have shrunk below rounding reports STALLED.

    Args:
        window: how many past moves are used, at least 1; memory is 2 x window latents a sample.
        first: the step size of the first trial, a descent step, > 0; a wrong guess costs a few evaluations.

    Raises:
        ValueError: ``window`` below one, or ``first`` not above zero.

    Example:
        >>> import ebm
        >>> ebm.LBFGS(window=3)
        LBFGS(window=3, first=1.0)

    Source: Nocedal (1980); Liu and Nocedal (1989), algorithm 2.1; Nocedal and Wright (2006), algorithm 7.4. Unlike there, the
    line search asks for a decrease only, one trial a step, and pairs without positive curvature are left out.
    """

    window: int = 5
    first: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"`LBFGS(window=...)` must be at least 1; got {self.window}. Try 5.")
        positive("LBFGS", "first", self.first)

    def init(self, point: Point) -> Any:
        """The past pairs, newest last, the scale of the first matrix, and the next trial size (B,)."""
        none, energy = torch.zeros_like(rows.flatten(point.force)), energy_of(point)
        blank = Pair(none, none, torch.zeros_like(energy))
        return {
            "pairs": (blank,) * self.window,
            "scale": torch.full_like(energy, self.first),
            "size": torch.ones_like(energy),
        }

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a trial that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        force = rows.flatten(point.force)
        along = two_loops(force, memory["pairs"], memory["scale"])
        length = memory["size"] * rows.rms(along)
        reach = extent(point.z)
        learned = teaches(length, reach)
        point, memory, calm = settled(field, point, memory, length)
        pairs, scale, size = memory["pairs"], memory["scale"], memory["size"]
        if calm is not None:
            force, along = rows.flatten(point.force), held(along, ~calm)
        move = along * size[:, None]
        slope = _dot(force, move)
        downhill = slope > 0  # fails by rounding only; at rest too, where nothing changes
        if not all_known(downhill):
            along = rows.where(downhill, along, force * scale[:, None])
            move = along * size[:, None]
            slope = _dot(force, move)
        trial = evaluate_trial(field, rows.add(point.z, rows.unflatten(move, point.z)), point, calm=calm)
        force, there = rows.flatten(trial.before.force), rows.flatten(trial.after.force)
        move, slope, along = held((move, slope, along), trial.live)
        slope_there = _dot(there, move)
        accepted = sufficient(trial, point, slope, slope - slope_there)
        certain = all_known(accepted)
        if not certain:  # a rejected move may be infinite
            move, there = rows.where(accepted, (move, there), (torch.zeros_like(move), force))
        pair, scale = _learnt(move, force - there, accepted & learned, slope - slope_there, scale, size)
        # at rest every trial passes: the step size is not to grow with each
        most = min(1e6, torch.finfo(size.dtype).max ** 0.5)
        grown = torch.where(learned, (2 * size).clamp_max(most), size)
        size, stalled = torch.where(pair.inverse > 0, 1.0, grown), None
        new = trial.point
        if not certain:
            new = Point(*rows.where(accepted, tuple(new), tuple(point)))
            rise = energy_of(trial.after) - energy_of(trial.before)
            closer = memory["size"] * shorter(torch.ones_like(size), slope, rise + slope, trial.finite, _least(pairs))
            size = torch.where(accepted, size, closer)
            stalled = ~accepted & at_rounding(closer * rows.rms(along), reach)
        memory = held({"pairs": (*pairs[1:], pair), "scale": scale, "size": size}, trial.live)
        return Step(ended(field, new, stalled), memory, Info(accepted, stalled))


def two_loops(force: Tensor, pairs: tuple[Pair, ...], scale: Tensor) -> Tensor:
    """The product of the inverse Hessian that the pairs describe with a force, (B, D)."""
    used = _used(pairs)
    weights = []
    for pair in reversed(used):
        weight = pair.inverse * _dot(pair.move, force)
        weights.append(weight)
        force = torch.addcmul(force, weight[:, None], pair.change, value=-1)
    along = force * scale[:, None]
    for pair, weight in zip(used, reversed(weights), strict=True):
        rest = weight - pair.inverse * _dot(pair.change, along)
        along = torch.addcmul(along, rest[:, None], pair.move)
    return along


def _used(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """The pairs without the oldest ones that count for no sample; all of them where looking would make the host wait."""
    if torch.compiler.is_compiling() or not pairs[0].inverse.is_cpu:
        return pairs
    blank = next((k for k, pair in enumerate(pairs) if bool(pair.inverse.any())), len(pairs))
    return pairs[blank:]


def _learnt(
    move: Tensor, change: Tensor, accepted: Tensor, overlap: Tensor, scale: Tensor, size: Tensor
) -> tuple[Pair, Tensor]:
    """The pair of a move whose product with the change is ``overlap``, and the scale it suggests."""
    floor = torch.finfo(scale.dtype)
    unit = size * scale  # about what turns a force into a move: the square of a change of forces may leave the range
    square = _dot(change * unit[:, None], change)
    steep = (overlap > floor.tiny) & (overlap * unit > floor.eps * scale * square)
    positive = accepted & steep & (square > floor.tiny)
    safe = torch.where(positive, overlap, 1.0)
    scale = torch.where(positive, safe * unit, scale) / torch.where(positive, square, 1.0)
    return Pair(move, change, positive / safe), scale


def _least(pairs: tuple[Pair, ...]) -> Tensor:
    """How far a rejected step may shrink at once: to a tenth, but without a limit while nothing is known of the scale."""
    known = sum((pair.inverse for pair in pairs[1:]), pairs[0].inverse)
    return torch.where(known > 0, 0.1, 1e-12).to(known.dtype)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
