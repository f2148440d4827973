"""What samplers with a test of acceptance share: the test, the tally of its outcomes, and the search for a step size."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw

__all__ = ["Search", "Tally", "accepts", "check_hot", "check_search", "searched"]

_SHRINK, _DELAY, _FORGET = 0.05, 10.0, 0.75  # gamma, t0 and kappa of Hoffman and Gelman


class Tally(NamedTuple):
    """How many proposals were made and accepted, int64, (B,) or (B, pairs); those of a warm-up are not counted."""

    accepted: Tensor
    proposed: Tensor

    def counted(self, accepted: Tensor, which: Tensor | None = None) -> Tally:
        """The tally with one more proposal, where ``which`` is true."""
        which = torch.ones_like(accepted) if which is None else which
        return Tally(self.accepted + (accepted & which).to(torch.int64), self.proposed + which.to(torch.int64))


def accepts(log_ratio: Tensor, draw: Draw) -> Tensor:
    """The test of Metropolis: true with the probability min(1, exp(log_ratio)); a ratio that is not a number is refused."""
    return draw.uniform(log_ratio).log() < log_ratio


class Search(NamedTuple):
    """Dual averaging of the logarithm of a step size, in units of the setting; each (B,).

    Attributes:
        steps: steps of the warm-up taken.
        offset: log of the step size in use over the one that was set.
        mean: the average that is used when the warm-up is over.
        error: running mean of the acceptance that was missing.
    """

    steps: Tensor
    offset: Tensor
    mean: Tensor
    error: Tensor

    @staticmethod
    def begun(like: Tensor) -> Search:
        """No step taken."""
        zeros = torch.zeros_like(like)
        return Search(torch.zeros_like(like, dtype=torch.int64), zeros, zeros, zeros)


def searched(search: Search, log_ratio: Tensor, target: float, warmup: int) -> Search:
    """The search after one more step; unchanged when the warm-up is over.

    Source: Hoffman and Gelman (2014), section 3.2.1, with their constants; each sample searches for itself.
    """
    rate = torch.nan_to_num(log_ratio.detach().clamp_max(0).exp(), nan=0.0)
    count = (search.steps + 1).to(rate.dtype)
    error = search.error + (target - rate - search.error) / (count + _DELAY)
    offset = math.log(10) - count.sqrt() / _SHRINK * error
    mean = search.mean + count**-_FORGET * (offset - search.mean)
    offset = torch.where(search.steps + 1 == warmup, mean, offset)
    return rows.where(search.steps < warmup, Search(search.steps + 1, offset, mean, error), search)


def check_hot(owner: str, temperature: float) -> None:
    """A temperature that may not be zero: the test of acceptance divides by it."""
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"`{owner}(temperature=...)` must be above zero; got {temperature}. One samples exp(-E); to descend, take a descent."
        )


def check_search(owner: str, warmup: int, target: float) -> None:
    """A warm-up is a number of steps; a target is a rate that can be reached."""
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
        raise ValueError(f"`{owner}(warmup=...)` is a whole number of steps; got {warmup!r}. Zero keeps the step size.")
    if not 0 < target < 1:
        raise ValueError(f"`{owner}(target=...)` is a rate of acceptance in (0, 1); got {target}. Try 0.8.")


def named(memory: Any, kind: type) -> Any:
    """The first part of a memory that is of a kind; None if there is none."""
    if isinstance(memory, kind):
        return memory
    parts = memory.values() if isinstance(memory, dict) else memory if isinstance(memory, (tuple, list)) else ()
    return next((found for part in parts if (found := named(part, kind)) is not None), None)
