"""Who is a neighbour of whom, and what neighbours say together: sums, means and maxima over lists."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Aggregate", "neighbour_lists"]


class Aggregate(Enum):
    """How the neighbours' latents become one message.

    Sums count, maxima ask whether there is any, means say which share. What works on larger graphs than those trained on
    depends on it: a sum grows with the number of neighbours, a maximum does not.

    Example:
        >>> import ebm
        >>> ebm.Aggregate("max")
        <Aggregate.MAX: 'max'>

    Source: Xu et al. (2019), How powerful are graph neural networks?, section 5.
    """

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"


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
    flat = z.reshape(-1, z[0, 0].numel())
    padded = torch.cat([flat, flat.new_full((1, flat.shape[1]), float("-inf"))])
    first, *others = _rows(into).unbind(1)
    largest = padded.index_select(0, first)
    for other in others:  # one after the other: all at once would be a tensor of every link's latent
        largest = torch.maximum(largest, padded.index_select(0, other))
    return torch.where((into < 0).all(2).view(-1, 1), 0.0, largest).view_as(z)


_GATHERS: dict[Aggregate, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Aggregate.SUM: _sum,
    Aggregate.MEAN: _mean,
    Aggregate.MAX: _max,
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
