"""What a call was asked for, word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.engine.adjoint import Adjoint
from ebm.engine.budget import Budget
from ebm.engine.door import check_options
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

    def check(self) -> None:
        """Each by itself, and those that exclude each other.

        Raises:
            TypeError: an option of the wrong kind.
            ValueError: a choice that there is not, or two that exclude each other.
        """
        check_options(
            {
                "budget": (self.budget, Budget, "Pass `ebm.Budget(steps=..., seconds=..., flops=...)`."),
                "stop": (self.stop, Stop, "Pass a stop rule, for example `AtRest(1e-4)`."),
                "solver": (self.solver, Solver, "Pass a solver, for example `Descent(0.1)`."),
                "adjoint": (self.adjoint, Adjoint, "Pass an adjoint, for example `Unroll()`."),
                "resume": (self.resume, Solution, "Pass the solution to go on from."),
                "precision": (self.precision, torch.dtype, "Pass a dtype, for example `torch.bfloat16`."),
                "generator": (self.generator, torch.Generator, "Pass a `torch.Generator`."),
            }
        )
        for name in ("callback", "clock"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"`{name}=` must be callable; got {type(value).__name__}. Pass a function.")
        if self.keep not in (None, "best", "last"):
            raise ValueError(f'`keep=` is "best", "last" or None; got {self.keep!r}. Leave it out for the default.')
        if self.compact not in (True, False, "auto"):
            raise ValueError(f'`compact=` is True, False or "auto"; got {self.compact!r}. Leave it out for "auto".')
        if self.start is not None and self.resume is not None:
            raise ValueError(
                "`start=` and `resume=` exclude each other; got both. Pass `start=` to begin anew, `resume=` to go on."
            )
        if isinstance(self.compile, float) or not isinstance(self.compile, int) or self.compile < 0:
            raise ValueError(
                f"`compile=` is False, True or a number of steps to put into one program; got {self.compile!r}. Try 10."
            )
        if self.compile and self.adjoint.graph:
            raise ValueError(
                f"`compile=True` serves; got it with {type(self.adjoint).__name__}, whose gradient passes twice through the model, which a "
                "compiled step cannot do. Train uncompiled, or use `Detached()`."
            )
