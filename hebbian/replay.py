"""The solver of models that read or replay something, a step at a time."""

from __future__ import annotations

from dataclasses import dataclass

from ebm import Picard

__all__ = ["Replay"]


@dataclass(frozen=True)
class Replay(Picard):
    """`Picard` that keeps the last state: in a sequence the latest is wanted, not the one that moved least.

    Example:
        >>> from hebbian.replay import Replay
        >>> Replay().keep
        'last'
    """

    keep: str = "last"
