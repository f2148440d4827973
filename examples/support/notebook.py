"""Examples run from a command line, and cell by cell in a notebook."""

from __future__ import annotations

import sys

__all__ = ["given"]


def given(argv: list[str] | None) -> list[str] | None:
    """The arguments that were handed in, or None for those of the command line; a notebook's kernel has arguments of its own, which are left aside."""
    return [] if argv is None and "ipykernel" in sys.modules else argv
