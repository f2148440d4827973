"""A Hopfield network that is written to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ebm import Hopfield
from ebm.models.binary import check_patterns
from ebm.models.hopfield import warn_unless_held
from ebm.rows import Shared
from hebbian.memory.stores.base import Store
from hebbian.memory.stores.hebb import HebbStore
from hebbian.memory.stores.pseudo_inverse import PseudoInverse

__all__ = ["HopfieldMemory"]

_PROJECTION = PseudoInverse()


class HopfieldMemory(Hopfield):
    r"""A binary memory that patterns can be added to and taken out of; recall is ``ebm.infer(memory, query)``.

    The network is `ebm.Hopfield`, with its energy $-\tfrac12 s^\top W s$ and its asynchronous recall; how patterns become $W$ is the store's
    choice:

    ===================  ==================================  =========================  ========================
    store                random patterns it holds, P / N     a pattern costs            forget
    ===================  ==================================  =========================  ========================
    `HebbStore`          0.138                               one outer product          exact
    `Storkey`            all to 0.3, half at 0.5 (N = 500)   three products, in order   writes the rest anew
    `PseudoInverse`      1, correlated ones, too             a projection               writes the rest anew
    `Gardner`            to 1.5 tried, a margin you name     sweeps over all            learns the rest anew
    `Unlearning`         as Hebb, with wider basins          dreams over all            writes the rest anew
    `Palimpsest`         the latest 0.05, for ever           one outer product          by itself
    ===================  ==================================  =========================  ========================

    Args:
        units: N, at least 1.
        store: how it writes; by default `PseudoInverse`, which holds most and patterns that are alike.
        dtype: of the weights; None for the default.

    Attributes:
        written_by: the store.
        weight: (N, N), symmetric, without diagonal.
        patterns: (P, N), what is held, for stores that have to keep it; else (0, N).
        count: how many patterns were added less those forgotten.

    Raises:
        TypeError: ``units`` is no whole number, or ``store`` no `Store`.
        ValueError: no units; from `add` and `forget`, patterns of another shape or with numbers other than +-1.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import HopfieldMemory, PseudoInverse
        >>> patterns = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)).sign()
        >>> memory = HopfieldMemory(50, PseudoInverse())
        >>> memory.add(patterns[:10]); memory.add(patterns[10:])
        >>> bool((ebm.infer(memory, patterns).answer == patterns).all())
        True
        >>> memory.forget(patterns[:15])
        >>> memory.count
        5

    Source: Hopfield (1982); the stores name their own.
    """

    patterns: Tensor
    _count: Tensor

    def __init__(self, units: int, store: Store = _PROJECTION, *, dtype: torch.dtype | None = None) -> None:
        if isinstance(units, bool) or not isinstance(units, int):
            raise TypeError(f"`HopfieldMemory(units)` wants a whole number; got {units!r}. Pass 100, say.")
        if units < 1:
            raise ValueError(f"`HopfieldMemory(units)` must be at least 1; got {units}.")
        if not isinstance(store, Store):
            raise TypeError(
                f"`HopfieldMemory(store=...)` wants a store; got {store!r}. Pass `HebbStore()` or `PseudoInverse()`, say, with the brackets."
            )
        super().__init__(torch.zeros(units, units, dtype=dtype))
        self.written_by = store
        self._warned = False
        self.register_buffer("patterns", torch.zeros(0, units, dtype=dtype))
        self.register_buffer("_count", torch.zeros((), dtype=torch.int64))

    @classmethod
    def store(cls, patterns: Tensor) -> HopfieldMemory:
        """A memory that holds some patterns by Hebb's rule, and takes more; see `ebm.Hopfield.store`."""
        patterns = check_patterns("HopfieldMemory.store(patterns)", patterns, binary=True)
        memory = cls(patterns.shape[1], HebbStore(), dtype=patterns.dtype)
        memory.add(patterns)
        return memory

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query, and the field that counts as zero for each unit; no less than what writing may have moved it by."""
        c = super().condition(x)
        return c | {"slack": Shared(c["slack"].value.clamp_min(self.written_by.rounding(self.weight)))}

    @property
    def count(self) -> int:
        """How many patterns were added less those forgotten."""
        return int(self._count)

    @torch.no_grad()
    def add(self, patterns: Tensor) -> None:
        """Write patterns, (P, N), +-1, in their order; an error leaves the memory as it was.

        Warns:
            CapacityWarning: most of them are not held; once a memory.
        """
        patterns = self._checked("add", patterns)
        self.weight.copy_(self.written_by.add(self.weight.clone(), self.patterns, patterns))
        if self.written_by.keeps:
            self.patterns = torch.cat([self.patterns, patterns])
        self._count += len(patterns)
        if self.written_by.fills and not self._warned:
            owner, least = f"HopfieldMemory with {self.written_by}", self.written_by.rounding(self.weight)
            self._warned = warn_unless_held(owner, self.weight, patterns, self.count, least)

    @torch.no_grad()
    def forget(self, patterns: Tensor) -> None:
        """Take patterns out, (P, N), +-1.

        Raises:
            ValueError: a pattern is not held, where the store keeps what it holds.
            NotImplementedError: the store cannot take a pattern back.
        """
        patterns = self._checked("forget", patterns)
        stay = self._without(patterns) if self.written_by.keeps else self.patterns
        self.weight.copy_(self.written_by.forget(self.weight.clone(), stay, patterns))
        self.patterns = stay
        self._count -= len(patterns)

    def _without(self, patterns: Tensor) -> Tensor:
        """What is held, less one copy of each pattern."""
        stay = torch.ones(len(self.patterns), dtype=torch.bool)
        for k, pattern in enumerate(patterns):
            same = ((self.patterns == pattern).all(1) & stay).nonzero()
            if not len(same):
                raise ValueError(
                    f"`HopfieldMemory.forget(patterns)`: row {k} is not held ({len(self.patterns)} patterns are). "
                    "Pass patterns exactly as they were added; nothing was forgotten."
                )
            stay[same[0]] = False
        return self.patterns[stay]

    def _checked(self, verb: str, patterns: Any) -> Tensor:
        owner = f"HopfieldMemory.{verb}(patterns)"
        patterns = check_patterns(owner, patterns, binary=True)
        if patterns.shape[1] != self.units:
            raise ValueError(
                f"`{owner}` wants {self.units} numbers a pattern, as many as units; got {patterns.shape[1]}. "
                f"Reshape them, or make `HopfieldMemory({patterns.shape[1]})`."
            )
        return patterns.detach().to(self.weight)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """A saved memory may hold another number of patterns."""
        saved = state_dict.get(prefix + "patterns")
        if isinstance(saved, Tensor) and saved.ndim == 2 and saved.shape[1] == self.units:
            self.patterns = self.patterns.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
