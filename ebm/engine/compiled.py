"""One compiled step a model and solver; the loop stays in Python."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ebm import rows
from ebm.engine.carry import describe
from ebm.engine.loop import Outcome, one_step
from ebm.objective import Objective, Point
from ebm.solvers.base import Solver

__all__ = ["CompiledStep", "compiled_step"]


class CompiledStep:
    """`one_step`, compiled: a function of its own for each shape, since the compiler limits how often one is compiled anew."""

    def __init__(self) -> None:
        self._calls: dict[Any, Callable[..., Outcome]] = {}
        self._seen: set[Any] = set()

    def __call__(
        self, objective: Objective, solver: Solver, point: Point, memory: Any, c: Any, keys: Any, steps: Any
    ) -> Outcome:
        shapes = tuple(leaf.shape for leaf in rows.leaves((point.z, c)))
        call = self._calls.get(shapes)
        if call is None:
            own = FunctionType(one_step.__code__.replace(), one_step.__globals__, "one_step")
            call = self._calls[shapes] = torch.compile(own, fullgraph=True, dynamic=False)
        return call(objective, solver, point, memory, c, keys, steps)

    def first_time(self, latent: Any, precision: torch.dtype | None) -> bool:
        """Whether this shape and precision were never asked for, so that the next step compiles."""
        key = precision, tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in rows.leaves(latent))
        fresh = key not in self._seen
        self._seen.add(key)
        return fresh


_KNOWN: WeakKeyDictionary[Objective, dict[str, CompiledStep]] = WeakKeyDictionary()


def compiled_step(objective: Objective, solver: Solver) -> CompiledStep:
    """The compiled step of this model and solver, kept as long as the model lives."""
    known = _KNOWN.setdefault(objective, {})
    return known.setdefault(describe(solver), CompiledStep())
