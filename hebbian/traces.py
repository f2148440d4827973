"""What a rule remembers of each sample, and how such memory is split, joined and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = ["Rows", "Traced", "forget", "map_tensors", "take", "traces_of", "with_traces"]

Rows: TypeAlias = Mapping[str, Tensor]
"""Traces by name, each with the sample as its first axis."""


class Traced(NamedTuple):
    """The state of a rule that follows each sample through time.

    What belongs to the synapse moves in `LocalRule.delta`, alike for all workers. What belongs to a sample moves in
    `LocalRule.statistics`, wherever that sample is, and travels with the `Statistics` to `delta`, which hands it on.

    Attributes:
        shared: what all samples have in common (running means), a tree of tensors or None.
        samples: the traces of each sample by name, first axis B; None before the first batch, which then begins them.

    Example:
        >>> import torch
        >>> from hebbian import Traced, forget
        >>> forget((Traced(None, {"pre": torch.ones(2, 3)}), torch.zeros(1)))
        (Traced(shared=None, samples=None), tensor([0.]))
    """

    shared: Any
    samples: Rows | None


def traces_of(state: Any) -> tuple[Rows, ...]:
    """The traces of every `Traced` in a state, in order; none where none has begun."""
    return tuple(node.samples for node in _traced(state) if node.samples is not None)


def with_traces(state: Any, traces: Sequence[Rows]) -> Any:
    """The state with other traces, one mapping for each `Traced` in order; no traces at all leave it as it is.

    Raises:
        ValueError: another number of traces than the state has places for.
    """
    if not traces:
        return state
    places = sum(1 for _ in _traced(state))
    if places != len(traces):
        raise ValueError(
            f"The statistics follow their samples in {len(traces)} sets of traces; this state has {places}. "
            "Pass the state that the statistics were taken with."
        )
    given = iter(traces)
    return _replaced(state, lambda node: node._replace(samples=dict(next(given))))


def forget(state: Any) -> Any:
    """The state without what it remembers of single samples: for a new batch, or new sequences.

    Args:
        state: of any rule.

    Returns:
        the same tree; running means stay.

    Example:
        >>> import torch
        >>> from hebbian import Traced, forget
        >>> forget(Traced({"mean": torch.ones(1)}, {"pre": torch.ones(2, 3)}))
        Traced(shared={'mean': tensor([1.])}, samples=None)
    """
    return _replaced(state, lambda node: node._replace(samples=None))


def take(state: Any, index: slice | Tensor) -> Any:
    """The state of some of the samples: a worker's part. What is shared stays whole.

    Args:
        state: of any rule.
        index: rows, a slice or int64 numbers.

    Returns:
        the same tree; the parts' traces join again where their statistics are added.

    Example:
        >>> import torch
        >>> from hebbian import Traced, take
        >>> take(Traced(None, {"pre": torch.tensor([1.0, 2.0])}), slice(1, 2))
        Traced(shared=None, samples={'pre': tensor([2.])})
    """

    def rows(node: Traced) -> Traced:
        samples = None if node.samples is None else {name: value[index] for name, value in node.samples.items()}
        return node._replace(samples=samples)

    return _replaced(state, rows)


def joined(one: Sequence[Rows], other: Sequence[Rows]) -> tuple[Rows, ...]:
    """The traces of two batches, one after the other."""
    return tuple(
        {name: torch.cat([value, second[name]]) for name, value in first.items()}
        for first, second in zip(one, other, strict=True)
    )


def map_tensors(fn: Callable[[Tensor], Any], state: Any) -> Any:
    """The state with every tensor replaced; traces that have not begun stay None."""
    if isinstance(state, Tensor):
        return fn(state)
    if isinstance(state, dict):
        return {name: map_tensors(fn, part) for name, part in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [map_tensors(fn, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state


def _traced(state: Any) -> Iterator[Traced]:
    if isinstance(state, Traced):
        yield state
    elif isinstance(state, (dict, tuple, list)):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _traced(part)


def _replaced(state: Any, fn: Callable[[Traced], Traced]) -> Any:
    if isinstance(state, Traced):
        return fn(state)
    if isinstance(state, dict):
        return {name: _replaced(part, fn) for name, part in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [_replaced(part, fn) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state
