"""What can be read off the way samples went: rates, periods, growth of small differences, alignment, ranks."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = [
    "alignment",
    "different",
    "distance",
    "growth",
    "period",
    "rank_correlation",
    "rate",
    "settled_from",
    "way_left",
]

_LONGEST_TAIL = 64  # pairs of steps grow with its square
_APART = 0.1  # answers further apart than this share of their size are different answers
_RECURS = 0.1  # a latent comes back if it misses its place of k steps ago by less than this share of a step


def rate(sizes: Tensor, last: Tensor, floor: Tensor) -> Tensor:
    r"""By what factor a size shrinks a step at the end, (B,): the exponential of the median slope of its logarithm.

    .. math:: \log \rho = \operatorname{median}_{i < j} \frac{\log s_j - \log s_i}{j - i}

    over the pairs of steps in the last half of those before the size reached ``floor`` (B,), where rounding takes over;
    no step after ``last`` (B,) counts. NaN where fewer than two steps are left.

    Source: Theil (1950) and Sen (1968) for the median of slopes: exact for a geometric sequence, and not moved by some rejected
    or swinging steps.
    """
    count = sizes.shape[0]
    step = torch.arange(count, device=sizes.device)[:, None]
    end = torch.minimum(_first(sizes <= floor) - 1, last)
    begin = torch.maximum(torch.div(end + 1, 2, rounding_mode="floor"), end - _LONGEST_TAIL)
    inside = (step >= begin) & (step <= end) & sizes.isfinite() & (sizes > floor)
    logs = sizes.double().log().masked_fill(~inside, torch.nan)
    width = min(count, _LONGEST_TAIL + 1, count // 2 + 2)
    rows_of = (begin.clamp(min=0) + torch.arange(width, device=sizes.device)[:, None]).clamp(max=count - 1)
    tail = logs.gather(0, rows_of)  # repeats of the last row are zero slopes over zero steps: NaN, and left out
    first, second = torch.triu_indices(width, width, 1, device=sizes.device)
    steps_apart = rows_of[second] - rows_of[first]
    slopes = (tail[second] - tail[first]) / steps_apart.masked_fill(steps_apart == 0, 1).double()
    return slopes.masked_fill(steps_apart == 0, torch.nan).nanmedian(0).values.exp()


def settled_from(residual: Tensor, tolerance: float) -> Tensor:
    """The step from which on the residual stays within ``tolerance``, int64 (B,); the number of steps plus 1 if it never does."""
    beyond = residual > tolerance
    return beyond.shape[0] - _first(beyond.flip(0))


def way_left(move: Tensor, factor: Tensor, steps: int) -> Tensor:
    r"""How far so many further steps would go, (B,): :math:`m \sum_{k=1}^{S} \rho^k`, with a rate above one, or unknown, taken for one."""
    factor = factor.nan_to_num(1.0).clamp(max=1)
    powers = factor[None] ** torch.arange(1, steps + 1, device=factor.device)[:, None]
    return move * powers.sum(0)


def period(recent: list[Any], floor: Tensor, longest: int) -> Tensor:
    """After how many steps, 2 to ``longest``, a sample comes back to where it was; 0 where it does not, int64 (B,).

    Args:
        recent: the last latents, oldest first; twice ``longest`` of them look over a whole period at least.
        floor: (B,), moves that small are rounding.
        longest: the longest period looked for.
    """
    found = torch.zeros_like(floor, dtype=torch.int64)
    for k in range(min(longest, len(recent) - 2), 1, -1):  # so that the shortest is what remains
        ends = range(max(k, len(recent) - longest), len(recent))
        back = torch.stack([distance(recent[t], recent[t - k]) for t in ends]).mean(0)
        move = torch.stack([distance(recent[t], recent[t - 1]) for t in ends]).mean(0)
        found = torch.where((back < _RECURS * move) & (move > floor), k, found)
    return found


def growth(apart: Tensor, floor: Tensor, ceiling: Tensor) -> Tensor:
    r"""The rate at which two near samples separate, (B,): :math:`(\log d_s - \log d_0) / s`, per step.

    The last step s is the last one before their distance ``apart`` (steps, B) leaves the range from ``floor`` (rounding) to
    ``ceiling`` (as far as the latents go at all), but one at least. Minus infinity where they fall together at once.

    Source: the finite-time Lyapunov exponent, as in Benettin et al. (1980), with one pair and no renormalisation.
    """
    outside = (apart <= floor) | (apart >= ceiling) | ~apart.isfinite()
    outside[0] = False
    end = (_first(outside) - 1).clamp(min=min(1, apart.shape[0] - 1))
    there = apart.double().gather(0, end[None])[0]
    return (there.log() - apart[0].double().log()) / end


def distance(a: Any, b: Any) -> Tensor:
    """Root mean square of the difference of two row trees, (B,)."""
    return rows.rms(
        rows.map_rows(lambda left, right: (left - right).to(torch.promote_types(left.dtype, torch.float32)), a, b)
    )


def alignment(ends: list[Any]) -> Tensor:
    """Mean cosine over all pairs of several row trees, (B,); two trees of zeros count as aligned.

    Source: the asymptotic alignment score of Anil et al. (2022), Path independent equilibrium models.
    """
    ends = [rows.map_rows(lambda leaf: leaf.to(torch.float64), end) for end in ends]
    sizes = [rows.dot(end, end).sqrt() for end in ends]
    cosines = []
    for i, j in combinations(range(len(ends)), 2):
        cosine = rows.dot(ends[i], ends[j]) / (sizes[i] * sizes[j])
        cosines.append(torch.where((sizes[i] == 0) & (sizes[j] == 0), 1.0, cosine.nan_to_num(0.0)))
    return torch.stack(cosines).mean(0)


def different(ends: list[Any]) -> Tensor:
    """Which samples have row trees that differ by more than a tenth of their size, bool (B,)."""
    size = torch.stack([rows.rms(end) for end in ends]).amax(0)
    apart = torch.stack([distance(a, b) for a, b in combinations(ends, 2)]).amax(0)
    return apart > _APART * size


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation along the last axis, ties sharing their mean rank; NaN where one of the two is constant.

    Source: Spearman (1904).
    """
    left, right = _ranks(a), _ranks(b)
    left, right = left - left.mean(-1, keepdim=True), right - right.mean(-1, keepdim=True)
    return (left * right).sum(-1) / (left.square().sum(-1) * right.square().sum(-1)).sqrt()


def _ranks(values: Tensor) -> Tensor:
    values = values.double().contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto + 1).double() / 2


def _first(flags: Tensor) -> Tensor:
    """The first step at which a flag is up, (B,); the number of steps where it never is."""
    return torch.where(flags.any(0), flags.int().argmax(0), flags.shape[0])
