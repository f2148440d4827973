"""What a store is: how patterns become the couplings of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

__all__ = ["Store"]


class Store(ABC):
    """How a memory writes: a frozen dataclass of settings, with all that changes in the memory.

    Patterns are (P, N), +-1; a weight is (N, N), symmetric, without diagonal. Nothing is written in place.

    Attributes:
        keeps: whether the memory has to keep the patterns themselves, because writing or forgetting one takes them all.
        fills: whether too many patterns are lost together, so that a memory warns of it; not where the oldest make room.
    """

    keeps: ClassVar[bool] = False
    fills: ClassVar[bool] = True

    @abstractmethod
    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """The weight with ``patterns`` written, in their order; ``held`` (P, N) are those in it, empty unless ``keeps``."""

    def rounding(self, weight: Tensor) -> float:
        """How far rounding may move a field in writing; a smaller one counts as zero. By default nothing: only reading rounds, unit by unit."""
        return 0.0

    def forget(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """The weight without ``patterns``; ``held`` are those that stay. By default all of these are written anew."""
        if self.keeps:
            return self.add(weight.new_zeros(weight.shape), held[:0], held)
        raise NotImplementedError(
            f"`{type(self).__name__}` cannot take a pattern back: what it has written depends on what came before and after. "
            "Make a new memory and add the patterns that are to stay."
        )
