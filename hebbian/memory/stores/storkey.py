"""Storkey's rule: Hebb's, less what the memory already says about the pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hebbian.memory.stores.base import Store

__all__ = ["Storkey"]


@dataclass(frozen=True)
class Storkey(Store):
    r"""One pass, local, incremental, and more room than Hebb's rule.

    $$W_{ij} \leftarrow W_{ij} + \tfrac1N \big( \xi_i \xi_j - \xi_i h_{ji} - h_{ij} \xi_j \big), \qquad
      h_{ij} = \sum_{k \ne i, j} W_{ik} \xi_k$$

    pattern by pattern, so their order matters. A pattern costs three products of $N$ with $N$ numbers.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import HopfieldMemory, Storkey
        >>> memory = HopfieldMemory(4, Storkey())
        >>> memory.add(torch.tensor([[1.0, 1, -1, -1], [1.0, -1, 1, -1]]))
        >>> ebm.infer(memory, torch.tensor([[1.0, -1, 1, -1]])).answer
        tensor([[ 1., -1.,  1., -1.]])

    Source:
        Storkey (1997), Increasing the capacity of a Hopfield network without sacrificing functionality, ICANN; Storkey and
        Valabregue (1999), The basins of attraction of a new Hopfield learning rule, Neural Networks 12.
    """

    keeps: ClassVar[bool] = True  # only to forget: later patterns have seen the one that goes

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """Each pattern in turn."""
        for pattern in patterns.unbind(0):
            weight = _written(weight, pattern)
        return weight


def _written(weight: Tensor, pattern: Tensor) -> Tensor:
    r"""One pattern; with $h_i = \sum_k W_{ik} \xi_k$ and no diagonal, $h_{ij} = h_i - W_{ij} \xi_j$."""
    size = pattern.numel()
    arriving = weight @ pattern
    cross = pattern[:, None] * arriving  # xi_i h_j
    change = pattern[:, None] * pattern - cross - cross.T
    # the terms of h_ji and h_ij without k = j and k = i: xi_i W_ji xi_i + W_ij xi_j xi_j
    return (weight + (change + 2 * weight) / size).fill_diagonal_(0)
