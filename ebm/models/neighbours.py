"""Who is a neighbour of whom, and what neighbours say together: sums, means and maxima over lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Aggregate", "neighbour_lists", "two_largest"]


class Aggregate(Enum):
    """How the neighbours' latents become one message.

    Sums count, means say which share, maxima ask whether there is any neighbour of a kind, the second largest whether there are two.
    What works on larger graphs than those trained on depends on it: a sum grows with the number of neighbours and adds up their small
    errors, a maximum and a second largest do neither. A node that hears nobody, or of whom a second is asked and that hears one, hears zero.

    Example:
        >>> import ebm
        >>> ebm.Aggregate("max")
        <Aggregate.MAX: 'max'>

    Source: Xu et al. (2019), How powerful are graph neural networks?, section 5.
    """

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    SECOND = "second"


def neighbour_lists(links: Tensor) -> Tensor:
    """The columns linked from each row, int64 (B, n, K), filled up with -1; K is the most of any row, at least 1.

    Args:
        links: bool (B, n, n).

    Example:
        >>> import torch
        >>> from ebm.models.neighbours import neighbour_lists
        >>> neighbour_lists(torch.tensor([[[True, True], [False, True]]]))
        tensor([[[ 0,  1],
                 [ 1, -1]]])
    """
    nodes, most = links.shape[2], max(int(links.sum(2).max()), 1)
    number = torch.arange(nodes, device=links.device).expand_as(links)
    listed = number.masked_fill(~links, nodes).sort(2).values[..., :most]
    return listed.masked_fill(listed == nodes, -1)


def gather(z: Tensor, into: Tensor, back: Tensor, aggregate: Aggregate) -> Tensor:
    """The message to each node.

    Args:
        z: latents (B, n, ...).
        into: int64 (B, n, K), whom each node hears, -1 for nobody.
        back: the same lists seen from the other side: who hears each node.
        aggregate: what becomes of those heard; a node that hears nobody hears zero.

    Returns:
        like ``z``.
    """
    return _GATHERS[aggregate](z, into, back)


def _sum(z: Tensor, into: Tensor, back: Tensor) -> Tensor:
    flat = z.reshape(-1, z[0, 0].numel())
    return _SumOverLists.apply(flat, _rows(into), _rows(back)).view_as(z)


def _mean(z: Tensor, into: Tensor, back: Tensor) -> Tensor:
    heard = (into >= 0).sum(2).clamp_min(1)
    return _sum(z, into, back) / heard.view(*heard.shape, *(1,) * (z.ndim - 2)).to(z.dtype)


def _max(z: Tensor, into: Tensor, back: Tensor) -> Tensor:
    return _ranked(z, into, back, 0)


def _second(z: Tensor, into: Tensor, back: Tensor) -> Tensor:
    return _ranked(z, into, back, 1)


def _ranked(z: Tensor, into: Tensor, back: Tensor, rank: int) -> Tensor:
    return _Ranked.apply(z.reshape(-1, z[0, 0].numel()), _rows(into), _rows(back), rank).view_as(z)


def two_largest(values: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The largest and the second largest, number by number, of tensors that are read one after the other; -inf where there is no second."""
    rest = iter(values)
    largest = next(rest)
    second = torch.full_like(largest, float("-inf"))
    for value in rest:
        second = torch.maximum(second, torch.minimum(value, largest))
        largest = torch.maximum(largest, value)
    return largest, second


def _winners(flat: Tensor, lists: Tensor) -> tuple[Tensor, Tensor]:
    """Whose number is the largest and whose the second largest of each list, (n, width) each; the row after the last is nobody."""
    padded = torch.cat([flat, flat.new_full((1, flat.shape[1]), float("-inf"))])
    first = second = torch.full_like(flat, len(flat), dtype=torch.int64)
    largest = runner_up = torch.full_like(flat, float("-inf"))
    for other in lists.unbind(1):
        value, other = padded.index_select(0, other), other[:, None]
        ahead = value > largest
        second = torch.where(ahead, first, torch.where(value > runner_up, other, second))
        runner_up = torch.maximum(runner_up, torch.minimum(value, largest))
        first, largest = torch.where(ahead, other, first), torch.maximum(largest, value)
    return first, second


_GATHERS: dict[Aggregate, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Aggregate.SUM: _sum,
    Aggregate.MEAN: _mean,
    Aggregate.MAX: _max,
    Aggregate.SECOND: _second,
}


def _rows(lists: Tensor) -> Tensor:
    """Lists of each sample as lists over all samples' nodes, (B n, K); whoever is nobody is the row after the last."""
    samples, nodes, _ = lists.shape
    first = torch.arange(samples, device=lists.device).view(-1, 1, 1) * nodes
    return torch.where(lists < 0, samples * nodes, lists + first).flatten(0, 1)


class _SumOverLists(torch.autograd.Function):
    """Sums of listed rows. Its transpose is the same sum over the lists seen from the other side, so no gradient is scattered."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, into: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(into, back)
        return functional.embedding_bag(into, functional.pad(flat, (0, 0, 0, 1)), mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        into, back = ctx.saved_tensors
        return _SumOverLists.apply(grads[0], back, into), None, None


class _Ranked(torch.autograd.Function):
    """The largest (rank 0) or second largest (rank 1) of each list; whose it is, is asked only when a gradient comes back."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, into: Tensor, back: Tensor, rank: int) -> Tensor:
        ctx.save_for_backward(flat, into, back)
        ctx.rank = rank
        padded = torch.cat([flat, flat.new_full((1, flat.shape[1]), float("-inf"))])
        # one neighbour after the other: all at once would be a tensor of every link's latent
        found = two_largest(padded.index_select(0, other) for other in into.unbind(1))[rank]
        return found.masked_fill_(found == float("-inf"), 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flat, into, back = ctx.saved_tensors
        return _Returned.apply(grads[0], _winners(flat.detach(), into)[ctx.rank], back), None, None, None


class _Picked(torch.autograd.Function):
    """Each number of each row from the row that ``winner`` names; the row after the last is zero."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, winner: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(winner, back)
        return functional.pad(flat, (0, 0, 0, 1)).gather(0, winner)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Returned.apply(grads[0], *ctx.saved_tensors), None, None


class _Returned(torch.autograd.Function):
    """The transpose of `_Picked`: each number goes back to the row it came from. Whoever hears a row looks there, so nothing is scattered."""

    @staticmethod
    def forward(ctx: Any, picked: Tensor, winner: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(winner, back)
        padded, whose = functional.pad(picked, (0, 0, 0, 1)), functional.pad(winner, (0, 0, 0, 1), value=-1)
        mine = torch.arange(len(picked), device=picked.device)[:, None]
        total = torch.zeros_like(picked)
        for hearer in back.unbind(1):
            total += torch.where(whose.index_select(0, hearer) == mine, padded.index_select(0, hearer), 0.0)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Picked.apply(grads[0], *ctx.saved_tensors), None, None
