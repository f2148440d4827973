"""How alike a state and each pattern are, and what a memory makes of that: the two choices of a universal Hopfield network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hebbian.checks import widen

__all__ = [
    "Linear",
    "Power",
    "Separation",
    "Similarity",
    "Softmax",
    "TopK",
    "cosine",
    "dot",
    "euclidean",
    "manhattan",
]


class Similarity(Protocol):
    """Scores (B, N) of states (B, D) against patterns (N, D); larger is more alike."""

    def __call__(self, state: Tensor, patterns: Tensor, /) -> Tensor: ...


class Separation(Protocol):
    """Weights (B, N) from scores (B, N): pulls the most alike away from the rest."""

    def __call__(self, scores: Tensor, /) -> Tensor: ...


def dot(state: Tensor, patterns: Tensor) -> Tensor:
    """The inner product.

    Example:
        >>> import torch
        >>> from hebbian.memory import dot
        >>> dot(torch.tensor([[1.0, 2.0]]), torch.eye(2))
        tensor([[1., 2.]])
    """
    return state @ patterns.T


def cosine(state: Tensor, patterns: Tensor) -> Tensor:
    """The inner product of directions; zero has none and is unlike everything.

    Example:
        >>> import torch
        >>> from hebbian.memory import cosine
        >>> cosine(torch.tensor([[3.0, 4.0]]), torch.eye(2))
        tensor([[0.6000, 0.8000]])
    """
    return torch.nn.functional.normalize(state, dim=1) @ torch.nn.functional.normalize(patterns, dim=1).T


def euclidean(state: Tensor, patterns: Tensor) -> Tensor:
    r"""Minus the distance, :math:`-|x - q|`, by one product of what is left when the mean of the patterns is taken off both.

    Without that, a common offset would be squared, and the distances lost in its rounding.

    Example:
        >>> import torch
        >>> from hebbian.memory import euclidean
        >>> euclidean(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[-5.]])
    """
    dtype, state, patterns = state.dtype, widen(state), widen(patterns)
    mean = patterns.detach().mean(0)  # no distance depends on it, so no slope does
    state, patterns = state - mean, patterns - mean
    square = state.square().sum(1, keepdim=True) + patterns.square().sum(1) - 2 * state @ patterns.T
    # the slope of a root is infinite at zero, which rounding may reach
    return -square.clamp_min(torch.finfo(square.dtype).eps ** 2).sqrt().to(dtype)


def manhattan(state: Tensor, patterns: Tensor) -> Tensor:
    r"""Minus the sum of absolute differences, :math:`-|x - q|_1`; no batch x N x D is built.

    Example:
        >>> import torch
        >>> from hebbian.memory import manhattan
        >>> manhattan(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[-7.]])
    """
    return -torch.cdist(state, patterns, p=1.0)


@dataclass(frozen=True)
class Linear:
    """The scores themselves: patterns are superposed, as in Hebb's store.

    Example:
        >>> from hebbian.memory import Linear
        >>> Linear()
        Linear()
    """

    def __call__(self, scores: Tensor) -> Tensor:
        """The scores."""
        return scores


@dataclass(frozen=True)
class Power:
    """A power of the positive part of each score, as in a dense associative memory.

    Args:
        n: the power, at least 1.
        normalise: whether the weights of a state add up to one (if any is above zero).

    Raises:
        ValueError: a power below 1.

    Example:
        >>> import torch
        >>> from hebbian.memory import Power
        >>> Power(2)(torch.tensor([[3.0, 1.0, -2.0]]))
        tensor([[9., 1., 0.]])
    """

    n: float
    normalise: bool = False

    def __post_init__(self) -> None:
        if not self.n >= 1:
            raise ValueError(f"`Power(n=...)` must be at least 1; got {self.n}. Try 3.")

    def __call__(self, scores: Tensor) -> Tensor:
        """The powers."""
        if not self.normalise:
            return scores.relu().pow(self.n)
        # of the share of the largest, so that no power overflows
        largest = scores.amax(1, keepdim=True)
        scores = scores.relu() / torch.where(largest > torch.finfo(scores.dtype).tiny, largest, 1.0)
        powers = scores.pow(self.n)
        return powers / powers.sum(1, keepdim=True).clamp_min(1)  # the largest is one, or all are zero


@dataclass(frozen=True)
class Softmax:
    """Weights proportional to the exponential of ``beta`` times the score.

    Args:
        beta: inverse temperature > 0.

    Raises:
        ValueError: a beta not above zero.

    Example:
        >>> import torch
        >>> from hebbian.memory import Softmax
        >>> Softmax(1.0)(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"`Softmax(beta=...)` must be above zero and finite; got {self.beta}. Try 1.0.")

    def __call__(self, scores: Tensor) -> Tensor:
        """The weights."""
        return (self.beta * scores).softmax(1)


@dataclass(frozen=True)
class TopK:
    """The same weight on the k most alike, none on the others; with k = 1 the nearest pattern alone.

    Of equal scores those of the lower numbers win. The weights have no slope: gradients through them are zero.

    Args:
        k: how many, at least 1; more than there are patterns takes all.

    Raises:
        ValueError: a k below 1.

    Example:
        >>> import torch
        >>> from hebbian.memory import TopK
        >>> TopK(1)(torch.tensor([[0.3, 0.9, 0.9]]))
        tensor([[0., 1., 0.]])
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"`TopK(k=...)` must be at least 1; got {self.k}. One recalls the nearest pattern.")

    def __call__(self, scores: Tensor) -> Tensor:
        """The weights."""
        k = min(self.k, scores.shape[1])
        # a stable sort, so that ties end the same way alone and in company
        best = scores.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
        # a score that is not a number must not turn into a clean answer
        spoilt = torch.zeros_like(scores) + 0 * scores.detach().sum(1, keepdim=True)
        return spoilt.scatter_add(1, best, torch.full_like(best, 1 / k, dtype=scores.dtype))
