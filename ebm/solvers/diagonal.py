"""Diagonal settings of a solver: one positive number for each number of a latent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = ["check_diagonal", "over", "times"]


def check_diagonal(owner: str, name: str, value: Any) -> None:
    """A diagonal is None, or holds floating tensors above zero."""
    if value is None:
        return
    leaves = list(rows.leaves(value)) if isinstance(value, (Tensor, dict, tuple, list)) else []
    if not leaves or not all(leaf.is_floating_point() for leaf in leaves):
        raise TypeError(
            f"`{owner}({name}=...)` wants a floating tensor, or a tree of them like the latent; got {value!r}. "
            "Pass one number for each number of a latent, without the sample axis."
        )
    lowest = min(float(leaf.detach().amin()) for leaf in leaves)
    if not lowest > 0:
        raise ValueError(f"`{owner}({name}=...)` must be above zero everywhere; got {lowest}. Try ones.")


def over(diagonal: Any, like: Any) -> Any:
    """A diagonal laid out over a latent, leaf by leaf: broadcastable, whatever the number of samples; None stays None."""
    if not isinstance(diagonal, Tensor):
        return diagonal
    sizes = [leaf[:1].numel() if leaf.shape[0] else leaf.new_empty(1, *leaf.shape[1:]).numel() for leaf in _all(like)]
    if diagonal.numel() not in (1, sum(sizes)):
        raise ValueError(
            f"A diagonal setting wants one number, or one for each of the {sum(sizes)} numbers of a latent; got "
            f"{tuple(diagonal.shape)}. Reshape it."
        )
    laid = rows.unflatten(diagonal.reshape(1, -1).expand(1, sum(sizes)), like)
    return rows.map_rows(lambda part, leaf: part.to(leaf.dtype), laid, like)


def times(tree: Any, diagonal: Any) -> Any:
    """The product of a tree with a diagonal laid out over it; None is the identity."""
    return tree if diagonal is None else rows.map_rows(torch.mul, tree, diagonal)


def _all(like: Any) -> list[Tensor]:
    return list(rows.leaves(like))
