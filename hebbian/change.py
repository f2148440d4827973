"""In which words a rule may say its change: numbers, a direction and a factor, or the weight it leads to."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = ["Becomes", "Change", "Times", "as_change", "as_weight"]


class Times(NamedTuple):
    r"""A change as a direction and a factor, $\Delta W = \eta \, D$: a step then adds both to the weight in one pass.

    Attributes:
        direction: shaped like the weight.
        factor: a rate over a count, say; a number, or a tensor that broadcasts over the direction.
        lent: whether the direction is somebody else's memory, the weight itself say, which is then not written in.

    Example:
        >>> import torch
        >>> from hebbian.change import Times, as_change, as_weight
        >>> weight = torch.tensor([[1.0, 2.0]])
        >>> as_weight(Times(torch.tensor([[4.0, 8.0]]), 0.25), weight), as_change(Times(weight, -0.5, lent=True), weight)
        (tensor([[2., 4.]]), tensor([[-0.5000, -1.0000]]))
    """

    direction: Tensor
    factor: float | Tensor
    lent: bool = False


class Becomes(NamedTuple):
    r"""A change as the weight that it leads to, $\Delta W = W' - W$: for constraints, which a step then keeps to the last bit.

    Attributes:
        weight: W', in memory of its own.
    """

    weight: Tensor


Change: TypeAlias = Tensor | Times | Becomes
"""What `LocalRule.change` may return. A plain tensor, in memory of its own, is always right; the others spare passes over the weight."""


def as_change(found: Change, weight: Tensor) -> Tensor:
    """The numbers to be added to the weight, in memory of their own."""
    if isinstance(found, Becomes):
        return found.weight - weight
    if isinstance(found, Times):
        return found.direction * found.factor if found.lent else found.direction.mul_(found.factor)
    return found


def as_weight(found: Change, weight: Tensor) -> Tensor:
    """The weight after the change, in memory of its own."""
    if isinstance(found, Becomes):
        return found.weight
    if isinstance(found, Times):
        out = None if found.lent else found.direction
        if isinstance(found.factor, Tensor):
            return torch.addcmul(weight, found.direction, found.factor, out=out)
        return torch.add(weight, found.direction, alpha=found.factor, out=out)
    return found.add_(weight)
