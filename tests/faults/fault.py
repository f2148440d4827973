"""What a deliberate fault is."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A fault: in ``path`` the text ``old``, which must occur once, becomes ``new``; ``tests`` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str
