"""SoftHebb: a soft winner learns, the losers unlearn, and each unit has a rate of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.parts import summed
from hebbian.statistics import Statistics, less_decay, one_over_largest
from hebbian.synapse import Synapse, per_unit

__all__ = ["SoftHebb"]

_LN_2 = math.log(2)
_NEGLIGIBLE = -115.0  # below, a power of two is a denormal number, which takes processors many times as long


@dataclass(frozen=True)
class SoftHebb(LocalRule):
    r"""Soft winner-take-all with Oja's bound; all but the winner may learn the other way round.

    $$\Delta w_k = \eta_k \, \langle \tilde y_k \, ( x - u_k w_k ) \rangle, \qquad y = \mathrm{softmax}(u / T)$$

    with $\tilde y_k = y_k$ for the unit of the largest drive (for all of them, should several be equal) and $-y_k$ for the
    others (``anti``), or $\tilde y = y$.
    ``post`` is the drive $u = W x$. The length of a row that is active goes to one. With ``adaptive`` each
    unit slows down as its length nears one, $\eta_k = \eta \, \big| |w_k| - 1 \big|^{a}$, so that units which have converged stay;
    begin with rows that are longer than one, else most are close to it from the start. ``scaled`` divides the mean change by its largest
    entry first, as the published code does, so that the rate is the largest change of a weight.

    Args:
        rate: $\eta$, at least 0; 0.02 is a good one where ``scaled``. Let it fall: ``Scheduled(SoftHebb(0.02), Falling(steps))``.
        temperature: $T$, above 0, in units of the drive; for inputs of length one, 0.02 to 0.04. At 0.1 all units become alike. The
            published code has $1 / T$ near 1 at rows of length about 25.
        anti: whether losers unlearn, as in the published code; on digits and photographs features are as good or better without.
        adaptive: $a$, at least 0; 0 for the same rate everywhere, published 0.5.
        scaled: whether the largest entry of the mean change is one before the rates.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import Dense, SoftHebb, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> pre, weight = torch.rand(64, 10, generator=generator), 0.5 * torch.rand(4, 10, generator=generator)
        >>> synapse, rule = Dense(10, 4), SoftHebb(0.02)
        >>> for _ in range(400):
        ...     weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
        >>> weight.norm(dim=1).round(decimals=1)
        tensor([1., 1., 1., 1.])

    Source:
        Moraitis et al. (2022), SoftHebb: Bayesian inference in unsupervised Hebbian soft winner-take-all networks; the losers and
        the rates as in Journe et al. (2023), Hebbian deep learning without feedback, and its code. There are no biases.
    """

    rate: float
    temperature: float = 0.02
    anti: bool = False
    adaptive: float = 0.0
    scaled: bool = True
    competes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.positive(self, "temperature", self.temperature)
        checks.number(self, "adaptive", self.adaptive, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the shares with the input, and each unit's shares times its drives, (units,)."""
        return summed(self._sums, synapse, pre, post)

    def _sums(self, synapse: Synapse, pre: Tensor, post: Tensor) -> dict[str, Tensor]:
        """`sums` of a part of the batch, in two buffers of the size of ``post``."""
        behind = post - post.amax(dim=1, keepdim=True)  # zero for the winner, below for the others
        behind /= self.temperature * _LN_2  # a power of two is half the price of one of e
        share = behind.clamp_min(_NEGLIGIBLE).exp2_()
        share /= share.sum(dim=1, keepdim=True)
        if self.anti:
            share.copysign_(behind)  # x - x is +0: the winner, or each of several equal ones, keeps its sign
        drive = synapse.over_uses(torch.mul(share, post, out=behind))
        return {"outer": synapse.outer(share, pre), "drive": drive}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Growth less each unit's own decay, each at its own rate; the state is not used."""
        change = less_decay(statistics, weight, "drive")
        rate = self.rate * (one_over_largest(change) if self.scaled else 1 / statistics.count)
        if self.adaptive:
            length = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            rate = per_unit(rate * (length - 1).abs() ** self.adaptive, weight)
        return Times(change, rate), state
