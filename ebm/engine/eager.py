"""Calls that `torch.compile` leaves alone when it traces what is around them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["eager", "refuse_tracing"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def eager(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that is run as it is wherever it is called from, with a graph break before and after it.

    An anytime call looks at numbers to decide what it does next, which no traced program can. The compiler is asked to
    stand back only once it is loaded: before, it can trace nothing, and loading it takes seconds.
    """
    unseen: list[Callable[..., Any]] = []

    @functools.wraps(fn)
    def _called(*args: _P.args, **given: _P.kwargs) -> _R:
        if "torch._dynamo" not in sys.modules:
            return fn(*args, **given)
        if not unseen:
            unseen.append(torch.compiler.disable(fn, reason="an anytime call decides by the numbers it finds"))
        return unseen[0](*args, **given)

    return _called


def refuse_tracing() -> None:
    """Raise where a call would be recorded rather than run: `torch.jit.trace`, `torch.export`."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise RuntimeError(
            "`infer` was called inside `torch.jit.trace` or `torch.export`, whose programs cannot look at numbers to decide when a sample "
            "is done. Trace the model's own methods, or call `infer` outside."
        )
