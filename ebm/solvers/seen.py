"""A field shown to a solver in other words, which remembers the points behind its answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field, Solver, Step, View

__all__ = ["SeenView"]


class SeenView(View):
    """A field that shows a solver something else than its points; `whole` finds the point behind what the solver returned.

    Args:
        field: the field behind.
        point: where the step begins.
    """

    def __init__(self, field: Field, point: Point) -> None:
        super().__init__(field)
        self._point = point
        self._samples: Tensor | None = None
        self._seen: list[tuple[Point, Tensor | None]] = []

    def shown(self, point: Point) -> Point:
        """What the solver sees of a point; its latent must tell one answer from another."""
        raise NotImplementedError

    def around(self, z: Any) -> Any:
        """The latent to evaluate where the solver asks for ``z``."""
        return z

    def of(self, samples: Tensor) -> Field:
        """The same for some rows; what they are told is remembered in one place."""
        some: Any = super().of(samples)
        some._samples = samples if self._samples is None else self._samples[samples]
        return some

    def __call__(self, z: Any) -> Point:
        whole = self.field(self.around(z))
        self._seen.append((whole, self._samples))
        return self.shown(whole)

    def aside(self, z: Any) -> Point:
        return self.shown(self.field.aside(self.around(z)))

    def stepped(self, solver: Solver, memory: Any, draw: Any) -> Step:
        """A step of the solver over what it is shown, with the whole point it ends at."""
        step = solver.step(self, self.shown(self._point), memory, draw)
        return step._replace(point=self.whole(step.point, solver.recalls))

    def whole(self, chosen: Point, recalls: bool = False) -> Point:
        """The whole point behind what the solver returned: the newest of those asked for that shows this latent.

        A solver that ``recalls`` may return what an earlier step asked for; that is evaluated once more.
        """
        sides: list[tuple[Tensor, Point]] = []
        left = torch.ones(rows.count(chosen.z), dtype=torch.bool, device=rows.first_leaf(chosen.z).device)
        for whole, samples in reversed(self._seen):
            match, whole = self._matched(chosen.z, whole, samples)
            fresh, left = match & left, left & ~match
            # an attempt that was thrown away must stay out of a graph even as the other side of a `where`
            if torch.is_grad_enabled() and not bool(fresh.any()):
                continue
            sides.append((fresh, whole))
            if torch.is_grad_enabled() and not bool(left.any()):
                break
        point = self._point
        if torch.is_grad_enabled() and not bool(left.any()):
            point = sides.pop()[1]
        elif recalls and bool((left & ~rows.same_rows(chosen.z, self.shown(point).z)).any()):
            # a row that is not finite is left alone: it ends the sample, whatever it is made of
            point = self.field(self.around(rows.where(left, chosen.z, self.shown(point).z)))
        for match, whole in reversed(sides):
            point = Point(*rows.where(match, tuple(whole), tuple(point)))
        return point

    def _matched(self, chosen: Any, whole: Point, samples: Tensor | None) -> tuple[Tensor, Point]:
        """Which samples' chosen latent is that of this point, bool (B,), and the point with a row for every sample."""
        part = self.shown(whole).z
        if samples is None:
            return rows.same_rows(part, chosen), whole
        # rows that do not match are sent to a place of their own behind the batch
        batch = rows.count(chosen)
        match = rows.same_rows(part, rows.take(chosen, samples))
        places = torch.where(match, samples, torch.full_like(samples, batch))
        none = torch.zeros(batch + 1, dtype=torch.bool, device=samples.device)
        base = rows.map_rows(lambda leaf: torch.cat([leaf, leaf[:1]]), tuple(self._point))
        filled = rows.put(base, places, tuple(whole))
        return none.index_fill(0, places, True)[:batch], Point(*rows.map_rows(lambda leaf: leaf[:batch], filled))
