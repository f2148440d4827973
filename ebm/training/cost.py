"""What updates take, in FLOPs: one of each shape is counted, and the others are reckoned from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ebm import rows
from ebm.engine.flops import FlopCounter
from ebm.engine.ledger import ledger

__all__ = ["Cost"]


class Cost:
    """FLOPs of updates, forward and backward.

    The first update of each shape is counted as it runs. Of the others the engine says what settling took: calls without a graph are added as
    they are; what else an update takes grows with the forward passes that keep a graph, so where their number is drawn anew each time, a second
    update is counted for the slope. Linear solves of an implicit gradient are taken to be as long as in the update that was counted.

    Attributes:
        flops: of all updates so far.
        uncounted: operations without a formula in the updates that were counted, by name.
    """

    def __init__(self) -> None:
        self.flops = 0
        self.uncounted: dict[str, int] = {}
        self._points: dict[str, dict[int, int]] = {}  # by shape: prices at so many FLOPs with a graph
        self._wanted: set[str] = set()  # shapes of which another number of steps was seen

    @contextlib.contextmanager
    def update(self, x: Any, y: Any) -> Iterator[None]:
        """Around the loss of one update and its backward pass; one that raises is not counted."""
        shape = ", ".join(str(tuple(leaf.shape)) for leaf in rows.leaves((x, y)))
        counted = shape not in self._points or shape in self._wanted
        with ledger() as own, FlopCounter() if counted else contextlib.nullcontext() as counter:
            yield
        points = self._points.setdefault(shape, {})
        if counter is not None:
            points[own.graph] = counter.flops - own.plain - own.prices
            self.uncounted.update(counter.uncounted)
            self._wanted.discard(shape)
        elif len(points) == 1 and own.graph not in points:
            self._wanted.add(shape)
        self.flops += own.plain + _reckoned(points, own.graph)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "flops": self.flops,
            "uncounted": dict(self.uncounted),
            "points": self._points,
            "wanted": sorted(self._wanted),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.flops, self.uncounted = state["flops"], state["uncounted"]
        self._points, self._wanted = state["points"], set(state["wanted"])


def _reckoned(points: dict[int, int], graph: int) -> int:
    """The price at so many FLOPs with a graph: on the line through what was counted, or in proportion where that is one price."""
    if graph in points:
        return points[graph]
    (low, one), *others = sorted(points.items())
    if not others:
        return one * graph // low if low else one
    high, two = others[-1]
    return one + (two - one) * (graph - low) // (high - low)
