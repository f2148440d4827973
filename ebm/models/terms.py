"""Simple terms: parts of an energy with kinks or walls, which a proximal map takes in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.solvers.project import Box

__all__ = ["L1", "GroupL1", "NonNegative", "Term", "Weighted", "Within", "total"]


class Term(nn.Module):
    r"""A convex term g(z) simple enough for its proximal map :math:`\arg\min_u g(u) + \|u - z\|^2 / 2a`.

    Define ``forward(z)``, one number a sample (B,), and ``prox(z, size)``; where the term is infinite outside a set, also
    ``inside(z)``. Latents are row trees.

    Attributes:
        separable: whether the proximal map takes each number by itself, whatever the others are; then numbers may be `Clamped`.

    Example:
        >>> import torch, ebm
        >>> class Ridge(ebm.Term):
        ...     def forward(self, z):
        ...         return 0.5 * z.square().sum(1)
        ...     def prox(self, z, size):
        ...         return ebm.rows.scale(z, 1 / (1 + size))
        >>> Ridge().prox(torch.tensor([[3.0]]), torch.tensor([2.0]))
        tensor([[1.]])

    Source: Moreau (1965), proximal maps.
    """

    separable: bool = False

    def forward(self, z: Any) -> Tensor:
        """The term, (B,)."""
        raise NotImplementedError

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """The proximal map with a step size for all, or one a sample (B,)."""
        raise NotImplementedError

    def inside(self, z: Any) -> Any:
        """The nearest latent where the term is finite; by default it is so everywhere."""
        return z

    def move(self, z: Any, force: Any) -> Any:
        """The proximal step of size one from ``z`` along a force, zero at rest; a term may spare it the rounding of a far ``z``."""
        return rows.map_rows(torch.sub, self.prox(rows.add(z, force), 1.0), z)


class Weighted(Term):
    """A term with a weight: a number, or a tensor that broadcasts over the numbers of a sample, learned if a parameter."""

    weight: Any

    def __init__(self, weight: float | Tensor) -> None:
        super().__init__()
        if not isinstance(weight, Tensor):
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"`{type(self).__name__}(weight)` is a finite number of at least zero; got {weight}. Try 0.1."
                )
            self.weight = weight
        elif isinstance(weight, nn.Parameter):
            self.weight = weight
        else:
            self.register_buffer("weight", weight)

    def extra_repr(self) -> str:
        return str(tuple(self.weight.shape) if isinstance(self.weight, Tensor) else self.weight)

    def steps(self, size: float | Tensor, like: Tensor) -> Any:
        """Weight times step size, shaped to broadcast over a leaf."""
        if isinstance(size, Tensor) and size.ndim == 1 and like.ndim > 1:
            size = size.view(-1, *([1] * (like.ndim - 1)))
        return size * self.weight


class L1(Weighted):
    r"""The sum of absolute values, :math:`g(z) = w \sum_i |z_i|`; it makes latents sparse.

    Args:
        weight: w >= 0; a number, or a tensor with one for each number of a sample.

    Raises:
        ValueError: a weight below zero, or not finite.

    Example:
        >>> import torch, ebm
        >>> ebm.L1(0.5).prox(torch.tensor([[2.0, -0.3]]), 1.0)
        tensor([[1.5000, 0.0000]])

    Source: Tibshirani (1996), the lasso; its map, soft thresholding, is that of Donoho and Johnstone (1994).
    """

    separable = True

    def forward(self, z: Any) -> Tensor:
        return total(rows.map_rows(lambda leaf: self.weight * leaf.abs(), z))

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """Soft thresholding: every number moves towards zero by at most weight times step size."""

        def soften(leaf: Tensor) -> Tensor:
            step = self.steps(size, leaf)
            return leaf - leaf.clamp(-step, step)

        return rows.map_rows(soften, z)

    def move(self, z: Any, force: Any) -> Any:
        """Along the force less the weight, or all the way to zero."""

        def soften(leaf: Tensor, along: Tensor) -> Tensor:
            step = self.steps(1.0, leaf)
            return along - (leaf + along).clamp(-step, step)

        return rows.map_rows(soften, z, force)


class NonNegative(Weighted):
    r"""No number below zero, and a cost for what is above: :math:`g(z) = w \sum_i z_i` where all :math:`z_i \ge 0`, else infinite.

    Args:
        weight: w >= 0; zero (the default) is the wall alone.

    Raises:
        ValueError: a weight below zero, or not finite.

    Example:
        >>> import torch, ebm
        >>> ebm.NonNegative(0.5).prox(torch.tensor([[2.0, -0.3]]), 1.0)
        tensor([[1.5000, 0.0000]])

    Source: Hoyer (2002), non-negative sparse coding.
    """

    separable = True

    def __init__(self, weight: float | Tensor = 0.0) -> None:
        super().__init__(weight)

    def forward(self, z: Any) -> Tensor:
        cost = total(rows.map_rows(lambda leaf: self.weight * leaf, z))
        lowest = rows.flatten(z).amin(1)
        return cost.masked_fill(lowest < 0, float("inf"))

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """Down by weight times step size, but not below zero."""
        return rows.map_rows(lambda leaf: (leaf - self.steps(size, leaf)).clamp_min(0.0), z)

    def move(self, z: Any, force: Any) -> Any:
        """Along the force less the weight, or down to zero."""

        def lower(leaf: Tensor, along: Tensor) -> Tensor:
            step = self.steps(1.0, leaf)
            return torch.where(leaf + along > step, along - step, -leaf)

        return rows.map_rows(lower, z, force)

    def inside(self, z: Any) -> Any:
        return rows.map_rows(lambda leaf: leaf.clamp_min(0.0), z)


class GroupL1(Weighted):
    r"""The sum of the lengths of groups, :math:`g(z) = w \sum_j \|z_j\|`; whole groups become zero.

    A group is the last axis of a leaf; a leaf (B,) holds one number a sample, a group of its own.

    Args:
        weight: w >= 0; a number, or a tensor with one for each group, of shape (..., 1).

    Raises:
        ValueError: a weight below zero, or not finite.

    Example:
        >>> import torch, ebm
        >>> ebm.GroupL1(2.5).prox(torch.tensor([[[3.0, 4.0], [0.6, 0.8]]]), 1.0)
        tensor([[[1.5000, 2.0000],
                 [0.0000, 0.0000]]])

    Source: Yuan and Lin (2006), the group lasso, without their weights by the size of a group.
    """

    def forward(self, z: Any) -> Tensor:
        return total(rows.map_rows(lambda leaf: self.weight * _lengths(leaf), z))

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """Every group is shortened by at most weight times step size."""

        def shorten(leaf: Tensor) -> Tensor:
            length, step = _lengths(leaf), self.steps(size, leaf)
            longer = length > step
            # the safe length keeps 1 / 0 out of a graph, where the masked branch would send a NaN
            kept = 1 - step / torch.where(longer, length, torch.ones_like(length))
            return leaf * torch.where(longer, kept, torch.zeros_like(length))

        return rows.map_rows(shorten, z)


class Within(Term):
    """A wall around a convex set: nothing inside, infinite outside. Its proximal map is the projection.

    Args:
        onto: maps a latent to the nearest one of a convex set, sample by sample, such as `Box`.

    Raises:
        TypeError: ``onto`` cannot be called.

    Example:
        >>> import torch, ebm
        >>> ebm.Within(ebm.Box(0.0, 1.0)).prox(torch.tensor([[-1.0, 0.5, 2.0]]), 1.0)
        tensor([[0.0000, 0.5000, 1.0000]])

    Source: Rockafellar (1976), where the proximal map of an indicator is the projection.
    """

    def __init__(self, onto: Callable[[Any], Any]) -> None:
        super().__init__()
        if not callable(onto):
            raise TypeError(f"`Within(onto)` must be callable; got {type(onto).__name__}. Pass `Box(0, 1)`, say.")
        self.onto = onto
        self.separable = isinstance(onto, Box)

    def extra_repr(self) -> str:
        return repr(self.onto)

    def forward(self, z: Any) -> Tensor:
        apart = rows.flatten(rows.map_rows(torch.ne, self.onto(z), z)).any(1)
        return torch.zeros_like(rows.flatten(z)[:, 0]).masked_fill(apart, float("inf"))

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """The nearest latent of the set, whatever the step size."""
        return self.onto(z)

    def inside(self, z: Any) -> Any:
        return self.onto(z)


def _lengths(leaf: Tensor) -> Tensor:
    return leaf.abs() if leaf.ndim == 1 else torch.linalg.vector_norm(leaf, dim=-1, keepdim=True)


def total(tree: Any) -> Tensor:
    """The sum over all numbers of each sample, (B,)."""
    parts = [leaf.flatten(1).sum(1) if leaf.ndim > 1 else leaf for leaf in rows.leaves(tree)]
    return sum(parts[1:], parts[0])
