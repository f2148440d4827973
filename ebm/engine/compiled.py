"""One compiled step a model and solver; the loop stays in Python."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ebm import rows
from ebm.engine.carry import describe
from ebm.engine.walk import Outcome, walk
from ebm.objective import Objective, Point
from ebm.solution import Carry
from ebm.solvers.base import Solver

__all__ = ["CompiledStep", "compiled_step"]


class CompiledStep:
    """`walk`, compiled: a function of its own for each shape and count of steps, since the compiler limits how often one is
    compiled anew."""

    def __init__(self) -> None:
        self._calls: dict[Any, Callable[..., Outcome]] = {}
        self._seen: set[Any] = set()
        self._differing: set[int] = set()

    def __call__(
        self,
        objective: Objective,
        solver: Solver,
        point: Point,
        memory: Any,
        c: Any,
        keys: Any,
        steps: Any,
        count: int = 1,
    ) -> Outcome:
        shapes = count, *(leaf.shape for leaf in rows.leaves((point.z, c)))
        call = self._calls.get(shapes)
        if call is None:
            own = FunctionType(walk.__code__.replace(), walk.__globals__, "walk", walk.__defaults__)
            call = self._calls[shapes] = torch.compile(own, fullgraph=True, dynamic=False)
        return call(objective, solver, point, memory, c, keys, steps, count)

    def ready(self, tree: Any, precision: torch.dtype | None, count: int) -> bool:
        """Whether there is a program for latents and conditions of these shapes, this precision and count of steps."""
        return _program(tree, precision, count) in self._seen

    def made(self, tree: Any, precision: torch.dtype | None, count: int) -> None:
        """From now on there is."""
        self._seen.add(_program(tree, precision, count))

    def compare(self, count: int, alone: Carry, together: Carry) -> None:
        """Distrust programs of ``count`` steps if they end elsewhere, by one bit, than single steps."""
        pairs = zip(rows.leaves(alone), rows.leaves(together), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            self._differing.add(count)

    def trusts(self, count: int) -> bool:
        """Whether programs of so many steps were never seen to differ from single steps."""
        return count not in self._differing


def _program(tree: Any, precision: torch.dtype | None, count: int) -> Any:
    return count, precision, tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in rows.leaves(tree))


_KNOWN: WeakKeyDictionary[Objective, dict[str, CompiledStep]] = WeakKeyDictionary()


def compiled_step(objective: Objective, solver: Solver) -> CompiledStep:
    """The compiled step of this model and solver, kept as long as the model lives."""
    known = _KNOWN.setdefault(objective, {})
    return known.setdefault(describe(solver), CompiledStep())
