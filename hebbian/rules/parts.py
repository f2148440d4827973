"""Sums over a batch, taken part by part."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hebbian.synapse import Synapse

__all__ = ["summed"]

_PART = 2**18  # numbers of ``post`` that are looked at together: about what a processor's own cache holds

Sums = Callable[[Synapse, Tensor, Tensor], dict[str, Tensor]]


def summed(sums: Sums, synapse: Synapse, pre: Tensor, post: Tensor) -> dict[str, Tensor]:
    """The sums of a batch as the sum over its parts, on a processor; at once on an accelerator.

    What a rule writes on the way to its sums has the size of a part then, so it stays in the cache, and its memory is
    used again instead of being asked of the system each time.

    Args:
        sums: from the synapse and both ends of a part to its sums, which add and are its own.
        synapse: the geometry.
        pre: (B, ...).
        post: ``(B, units, *places)``.
    """
    size = max(1, _PART // max(1, post[:1].numel()))
    if post.device.type != "cpu" or len(post) <= size:
        return sums(synapse, pre, post)
    total: dict[str, Tensor] = {}
    for seen, driven in zip(pre.split(size), post.split(size), strict=True):
        for name, value in sums(synapse, seen, driven).items():
            total[name] = total[name].add_(value) if name in total else value
    return total
