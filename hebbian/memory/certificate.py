"""How far a softmax memory can still move, told from one evaluation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Spread", "Weights", "next_move", "spread", "weighed"]


class Spread(NamedTuple):
    """How the patterns of a memory lie to one another.

    Attributes:
        leak: (N,), :math:`l_m` of each pattern, at most 1.
        reach: (N,), the distance :math:`D_m` of each pattern to the farthest other.
        largest: the largest norm.
        diameter: the largest distance between two.
    """

    leak: Tensor
    reach: Tensor
    largest: Tensor
    diameter: Tensor


@torch.no_grad()
def spread(patterns: Tensor, beta: float, chunk: int = 1024) -> Spread:
    r"""The leak and the reach of every pattern, from the products of all pairs; N x N is never held.

    .. math:: l_m = \sum_{i \ne m} e^{\beta (x_i - x_m)^T x_m}, \qquad D_m = \max_i |x_i - x_m|

    Args:
        patterns: (N, D).
        beta: inverse temperature.
        chunk: patterns at a time.

    Example:
        >>> import torch
        >>> from hebbian.memory.certificate import spread
        >>> spread(torch.eye(3), 1.0).leak.round(decimals=3)
        tensor([0.7360, 0.7360, 0.7360])
    """
    # in float64: what patterns have in common would else be in the rounding of every distance
    dtype, patterns = patterns.dtype, patterns.double()
    squares, leaks, reaches = patterns.square().sum(1), [], []
    for first in range(0, len(patterns), chunk):
        part = patterns[first : first + chunk]
        own = squares[first : first + chunk, None]
        products = part @ patterns.T
        reaches.append((squares + own - 2 * products).clamp_min(0).amax(1).sqrt())
        ahead = beta * (products - own)
        ahead.diagonal(first).fill_(-torch.inf)  # a pattern is no rival of itself
        leaks.append(ahead.logsumexp(1).clamp_max(0).exp())
    found = Spread(torch.cat(leaks), torch.cat(reaches), squares.amax().sqrt(), torch.cat(reaches).amax())
    return Spread(*(part.to(dtype) for part in found))


class Weights(NamedTuple):
    """What a certificate needs of the softmax weights p of one evaluation, each (B,).

    Attributes:
        top: the largest weight.
        leak: no less than the leak of the pattern that has it.
        reach: no less than its distance to any other pattern.
    """

    top: Tensor
    leak: Tensor
    reach: Tensor


@torch.no_grad()
def weighed(weight: Tensor, known: Spread) -> Weights:
    r"""The leak and reach of the pattern of the largest weight m, without looking for m, which costs more than the softmax.

    They are not negative, so :math:`l_m \le p^T l / p_m`, and the same for :math:`D_m`.

    Args:
        weight: (B, N), the weights p.
        known: of the patterns.
    """
    top = weight.amax(1)
    # two products with a vector; one with a matrix of two columns takes fifteen times as long
    return Weights(top, (weight @ known.leak) / top, torch.minimum((weight @ known.reach) / top, known.diameter))


@torch.no_grad()
def next_move(z: Tensor, new: Tensor, at: Weights, beta: float, largest: Tensor, diameter: Tensor) -> Tensor:
    r"""A bound on the root mean square of the move after the next, (B,), from one evaluation.

    Let :math:`p = \text{softmax}(\beta X z)`, :math:`f(z) = X^T p = z'`, :math:`r = |z' - z|`, and m the pattern of the largest
    weight, :math:`p_m = 1 - \varepsilon`. Three bounds hold for :math:`|f(z') - z'|`, and the least is taken.

    1. *One pattern has won.* :math:`z' - x_m = \sum_{i \ne m} p_i (x_i - x_m)`, so :math:`|z' - x_m| \le \varepsilon D_m`. With
       :math:`p'` the weights at :math:`z'`,

       .. math:: 1 - p'_m \le \sum_{i \ne m} \frac{p'_i}{p'_m} = \sum_{i \ne m} e^{\beta (x_i - x_m)^T x_m + \beta (x_i - x_m)^T (z' - x_m)}
                 \le l_m e^{\beta D_m^2 \varepsilon} =: \varepsilon'

       and :math:`f(z') - z' = \sum_{i \ne m} (p'_i - p_i)(x_i - x_m)` is at most :math:`D_m (\varepsilon + \min(1, \varepsilon'))`
       long.
    2. *The last move was short.* The Jacobian of f at :math:`\xi` is :math:`\beta` times the covariance of the patterns under
       :math:`p(\xi)`. On the way from z to z' no weight grows by more than :math:`e^{\beta D r}`, D the diameter, so that covariance has
       a trace of at most :math:`e^{\beta D r} V`, V the variance :math:`\sum_i p_i |x_i|^2 - |z'|^2`, which is at most
       :math:`M^2 - |z'|^2` and at most :math:`\varepsilon D^2`; and no eigenvalue above :math:`D^2 / 4`. So
       :math:`|f(z') - f(z)| \le \beta r \min(e^{\beta D r} V, D^2 / 4)`.
    3. Both ends lie in the hull of the patterns: at most D.

    The move that it bounds is computed with rounding, too. Sixteen roundings of M are added for the sums, and, since overlaps of the size
    :math:`\beta M |z|` are off by a rounding of theirs and weights by as large a factor, so much of the deviation of the patterns under the weights.

    Args:
        z: (B, D), where the weights were computed.
        new: (B, D), the next latent.
        at: of the weights there.
        beta: inverse temperature.
        largest: M, the largest norm of a pattern.
        diameter: D, no less than the largest distance between two.
    """
    width, rounding = z.shape[1], torch.finfo(z.dtype).eps
    slack = (1 - at.top).clamp_min(0) + rounding
    won = at.reach * (slack + (at.leak.log() + beta * at.reach.square() * slack).clamp_max(0).exp())
    short = torch.linalg.vector_norm(new - z, dim=1)
    variance = torch.minimum(largest.square() - new.square().sum(1), slack * diameter.square())
    variance = torch.maximum(variance, 4 * rounding * largest.square()) * (beta * diameter * short).exp()
    smooth = beta * short * torch.minimum(variance, diameter.square() / 4)
    least = torch.minimum(torch.minimum(won, smooth), diameter)
    wobble = (rounding * beta * largest * torch.linalg.vector_norm(new, dim=1)).clamp_max(1) * torch.minimum(
        variance.sqrt(), diameter
    )
    return (least + 16 * rounding * largest + wobble) / math.sqrt(width)
