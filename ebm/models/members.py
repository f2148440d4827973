"""What the other members of a group say to each member: sums, means, and the largest numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm.models.neighbours import Aggregate, two_largest

__all__ = ["others"]


def others(z: Tensor, axis: int, aggregate: Aggregate) -> Tensor:
    """What the other members of each group say together, to each member; like ``z``.

    Args:
        z: numbers of the members, a group lying along ``axis``.
        axis: 0 or above.
        aggregate: what becomes of the others. A member that has none (for the second largest: that has one) hears zero.

    Example:
        >>> import torch
        >>> from ebm.models import Aggregate
        >>> from ebm.models.members import others
        >>> others(torch.tensor([1.0, 5.0, 3.0]), 0, Aggregate.MAX)
        tensor([5., 3., 5.])
    """
    size = z.shape[axis]
    if aggregate is Aggregate.SUM:
        return z.sum(axis, keepdim=True) - z
    if aggregate is Aggregate.MEAN:
        return (z.sum(axis, keepdim=True) - z) / max(size - 1, 1)
    if size < (2 if aggregate is Aggregate.MAX else 3):
        return torch.zeros_like(z)
    if aggregate is Aggregate.MAX:
        return _Largest.apply(z, axis)
    _, second, third = z.topk(3, axis).values.split(1, axis)
    return torch.where(z >= second, third, second)


class _Largest(torch.autograd.Function):
    """The largest of the others: the largest of all, but the second largest for the largest itself."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, axis: int) -> Tensor:
        largest, second = (found.unsqueeze(axis) for found in two_largest(z.unbind(axis)))
        ctx.save_for_backward(z, largest, second)
        ctx.axis = axis
        return torch.where(z == largest, second, largest)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Returned.apply(grads[0], *ctx.saved_tensors, ctx.axis), None


class _Returned(torch.autograd.Function):
    """What each member said comes back to it, in equal shares where several said the same."""

    @staticmethod
    def forward(ctx: Any, said: Tensor, z: Tensor, largest: Tensor, second: Tensor, axis: int) -> Tensor:
        ctx.save_for_backward(z, largest, second)
        ctx.axis = axis
        first, runner = _shares(z, largest, axis), _shares(z, second, axis)
        of_the_first = (said * (first > 0)).sum(axis, keepdim=True)
        return first * (said.sum(axis, keepdim=True) - of_the_first) + runner * of_the_first

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        z, largest, second = ctx.saved_tensors
        first, runner = _shares(z, largest, ctx.axis), _shares(z, second, ctx.axis)
        of_the_first, of_the_runner = ((grads[0] * shares).sum(ctx.axis, keepdim=True) for shares in (first, runner))
        return torch.where(first > 0, of_the_runner, of_the_first), None, None, None, None


def _shares(z: Tensor, value: Tensor, axis: int) -> Tensor:
    """One over their number for the members that hold the value, else zero."""
    holds = (z == value).to(z.dtype)
    return holds / holds.sum(axis, keepdim=True)
