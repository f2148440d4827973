"""Storing by Hebb's rule."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian.memory.stores.base import Store

__all__ = ["HebbStore"]


@dataclass(frozen=True)
class HebbStore(Store):
    r"""The outer products of the patterns, added up.

    $$W \leftarrow W + \tfrac1N \sum_\mu \xi^\mu \xi^{\mu\top} \quad \text{off the diagonal}$$

    One pass, any order, and what was added can be taken away. Random patterns are stable together up to a load
    $P / N$ of 0.138; beyond it all are lost.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import HebbStore, HopfieldMemory
        >>> memory = HopfieldMemory(8, HebbStore())
        >>> memory.add(torch.tensor([[1.0, 1, 1, 1, -1, -1, -1, -1]]))
        >>> ebm.infer(memory, torch.tensor([[-1.0, 1, 1, 1, -1, -1, -1, -1]])).answer
        tensor([[ 1.,  1.,  1.,  1., -1., -1., -1., -1.]])

    Source:
        Hopfield (1982), Neural networks and physical systems with emergent collective computational abilities, PNAS 79; the
        capacity, Amit, Gutfreund and Sompolinsky (1985), Physical Review Letters 55.
    """

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """The weight and the outer products."""
        return (weight + patterns.T @ patterns / patterns.shape[1]).fill_diagonal_(0)

    def forget(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """The weight less the outer products, exactly what was added but for rounding."""
        size = patterns.shape[1]
        left = weight - patterns.T @ patterns / size
        # weights are whole multiples of 1 / N: what is far below one is rounding, and would decide for a unit that feels nothing else
        return left.masked_fill_(left.abs() < 0.25 / size, 0).fill_diagonal_(0)
