"""What calls took, added up for whoever keeps a ledger open around them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Ledger", "book", "ledger", "set_aside"]


@dataclass
class Ledger:
    """FLOPs of the calls of `infer` and `stream` that ended while it was open.

    Attributes:
        plain: of calls without a graph.
        graph: of the forward passes of calls with one; what the backward pass adds is not known to the engine.
        prices: of what ran for its price alone, once a shape.
    """

    plain: int = 0
    graph: int = 0
    prices: int = 0


_open: ContextVar[Ledger | None] = ContextVar("open ledger", default=None)


@contextlib.contextmanager
def ledger() -> Iterator[Ledger]:
    """A ledger of the calls inside."""
    own = Ledger()
    token = _open.set(own)
    try:
        yield own
    finally:
        _open.reset(token)


def book(flops: int, graph: bool) -> None:
    """Put a call in the open ledger, if there is one."""
    own = _open.get()
    if own is None:
        return
    if graph:
        own.graph += flops
    else:
        own.plain += flops


def set_aside(flops: int) -> None:
    """Work done for its price alone, in the open ledger, if there is one."""
    own = _open.get()
    if own is not None:
        own.prices += flops
