"""One compiled step a model and solver; the loop stays in Python."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ebm.engine.carry import describe
from ebm.engine.loop import one_step
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["compiled_step"]

_KNOWN: WeakKeyDictionary[Objective, dict[str, Callable[..., Any]]] = WeakKeyDictionary()


def compiled_step(objective: Objective, solver: Solver) -> Callable[..., Any]:
    """`one_step`, compiled for this model and solver, and kept as long as the model lives.

    Each gets a function of its own: the compiler limits how often one function may be compiled again.
    """
    known = _KNOWN.setdefault(objective, {})
    key = describe(solver)
    if key not in known:
        own = FunctionType(one_step.__code__.replace(), one_step.__globals__, "one_step")
        known[key] = torch.compile(own, fullgraph=True, dynamic=False)
    return known[key]
