"""What a call was asked for, word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.engine.adjoint import Adjoint
from ebm.engine.budget import Budget
from ebm.engine.stop import Stop
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The keyword arguments of `infer` and `stream`, as they were given."""

    steps: int | Tensor | None
    seconds: float | None
    flops: int | None
    budget: Budget | None
    stop: Stop | None
    solver: Solver | None
    adjoint: Adjoint
    start: Any
    resume: Solution | None
    keep: str | None
    compact: bool | str
    compile: bool | int
    precision: torch.dtype | None
    record: Iterable[str] | None
    callback: Callable[[Solution], bool | None] | None
    progress: bool
    generator: torch.Generator | None
    clock: Callable[[], float]
