"""Softmax over patterns and the mixture by it, without the work that changes no answer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode

__all__ = ["mixture", "plain", "softmax"]


def plain(like: Tensor) -> bool:
    """Whether nothing will be differentiated, transformed, traced, cast or counted, so that values may decide what is computed, and where.

    While an evaluation is priced (a dispatch mode is on), all of it runs: the price must not depend on the samples that came first.
    """
    watched = torch.is_grad_enabled() or torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None
    return not (watched or peek_interpreter_stack() is not None or torch.is_autocast_enabled(like.device.type))


def softmax(overlap: Tensor) -> Tensor:
    """Softmax over patterns, (B, N), in the place of the overlaps where that does no harm.

    A second tensor of that size costs more in fresh memory than the exponentials do in arithmetic.
    """
    return torch.softmax(overlap, 1, out=overlap) if plain(overlap) else overlap.softmax(1)


def mixture(weight: Tensor, patterns: Tensor) -> Tensor:
    """The weighed sum of patterns, (B, D), over those alone that weigh anything for any sample, where they are few.

    Left out are patterns whose weight is nowhere above a rounding of one over N. All of them together weigh less than a rounding of
    one, so the sum is that of all patterns to rounding. Near rest few are left, and the product is nearly free.
    """
    if weight.device.type != "cpu" or not plain(weight) or not len(weight):
        return weight @ patterns
    nothing = torch.finfo(weight.dtype).eps / len(patterns)
    if 2 * int((weight[0] > nothing).sum()) > len(patterns):  # one sample can tell that it does not pay
        return weight @ patterns
    # not "above": a weight that is not a number must stay in the sum
    counts = ~(weight.amax(0) <= nothing)
    index = counts.nonzero().flatten()
    if 2 * len(index) > len(patterns):
        return weight @ patterns
    return weight.index_select(1, index) @ patterns.index_select(0, index)
