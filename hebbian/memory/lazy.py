"""Fixed-point iteration that evaluates a latent only to leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step

__all__ = ["LazyPicard", "Sighted"]


class Sighted(Point):
    """A point that also knows how far the *next* latent can be from rest.

    Attributes:
        bound: (B,), never less than the root mean square of the force at ``z + force``; None where nothing is known.

    Example:
        >>> import torch
        >>> from hebbian.memory import Sighted
        >>> Sighted(torch.zeros(1, 2), None, torch.ones(1, 2)).seeing(torch.tensor([0.1])).bound
        tensor([0.1000])
    """

    bound: Tensor | None = None

    def seeing(self, bound: Tensor | None) -> Sighted:
        """The same point with a bound."""
        point = Sighted(*self)
        point.bound = bound
        return point


@dataclass(frozen=True)
class LazyPicard(Solver):
    r"""Fixed-point iteration :math:`z \leftarrow f(z)` that evaluates a latent only when it has to leave it.

    `Picard` evaluates where it arrives, so T steps cost T + 1 evaluations, the last of which only tells how far from rest
    the answer is. Here T steps cost T. What is told of the answer instead is

    - where the objective gives a bound on its next move (`SoftmaxMemory` does): that bound. `AtRest` then ends a sample
      that is *proven* to be at rest, and no evaluation confirms it;
    - elsewhere: the move that led to it. `AtRest` then means what most libraries mean, that the last move was small.

    So ``solution.residual`` is an upper bound, or lags by a step; it is exact at the start. ``force`` of a point is a vector of that
    length, not the force there. Wrappers that change what a solver sees (`Project`) do not fit.

    Raises:
        ValueError: in the first step, an objective with an energy: the answer's would be unknown.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import LazyPicard, SoftmaxMemory
        >>> memory = SoftmaxMemory(torch.eye(4), beta=20.0)
        >>> solution = ebm.infer(memory, torch.eye(4) + 0.1, steps=10, solver=LazyPicard(), stop=ebm.AtRest(1e-4))
        >>> solution.evals, solution.status[0].item() == ebm.Status.CONVERGED
        (tensor([1, 1, 1, 1]), True)

    Source: Picard (1890). That the last evaluation can be spared is arithmetic; the bound is `SoftmaxMemory`'s.
    """

    keep: ClassVar[str] = "last"  # pyright: ignore[reportIncompatibleVariableOverride]
    compiles: ClassVar[bool] = False

    def init(self, point: Point) -> Any:
        """That the start has been evaluated, and what is known of its successor, per sample."""
        if point.energy is not None:
            raise ValueError(
                "`LazyPicard` does not evaluate the answer, so it cannot tell its energy; got an objective with one. Use `Picard`, or an "
                "`Update` such as `SoftmaxMemory`."
            )
        leaf = rows.first_leaf(point.z)
        return {"known": torch.ones(len(leaf), dtype=torch.bool, device=leaf.device), "bound": _bound(point)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """The move, after an evaluation where there was none yet."""
        known, bound, force = memory["known"], memory["bound"], point.force
        if not bool(known.any()):
            now = field(point.z)
            force, bound = now.force, _bound(now)
        elif not bool(known.all()):
            index = (~known).nonzero().flatten()
            now = field.of(index)(rows.take(point.z, index))
            force = rows.put(force, index, now.force)
            bound = rows.put(bound, index, _bound(now))
        moved = Point(rows.add(point.z, force), None, _as_long_as(bound, force))
        return Step(moved, {"known": torch.zeros_like(known), "bound": bound})


def _bound(point: Point) -> Tensor:
    """The bound on the next move, (B,); infinite where the objective gives none, as with a graph."""
    bound = getattr(point, "bound", None)
    return torch.full_like(rows.rms(point.force).detach(), torch.inf) if bound is None else bound.detach()


def _as_long_as(bound: Tensor, force: Any) -> Any:
    """The force stretched or shrunk to a root mean square of ``bound`` where that is finite; a force of zero stays so."""
    force = rows.map_rows(torch.detach, force)
    length = rows.rms(force)
    return rows.scale(force, torch.where((length > 0) & bound.isfinite(), bound / length, torch.ones_like(bound)))
