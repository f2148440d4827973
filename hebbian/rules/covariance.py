"""The covariance rule: Hebbian growth about the mean activity of both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse, per_unit

__all__ = ["Covariance", "Means"]


class Means(NamedTuple):
    """What `Covariance` remembers.

    Attributes:
        pre: the running mean of what a unit sees, shaped like the field of a unit.
        post: the running mean of each unit, (units,).
        batches: how many batches there were, ().
    """

    pre: Tensor
    post: Tensor
    batches: Tensor


@dataclass(frozen=True)
class Covariance(LocalRule):
    r"""Hebb's rule about running means: a synapse grows where both ends deviate together, and shrinks where one does alone.

    $$\Delta W = \eta \, \langle (y - \bar y)(x - \bar x)^\top \rangle, \qquad
      \bar x \leftarrow \bar x + m_t \, (\langle x \rangle - \bar x), \quad m_t = \max(1/t, m)$$

    Independent ends change nothing on average, and a constant added to the input changes nothing at all: the means move
    before the change is made, so the first batch is centred by its own. The means are those of what a unit sees, so the
    borders of a padded convolution have their own.

    Args:
        rate: $\eta$, per step and per unit of $x y$; any finite number.
        momentum: $m$, the share of a new batch in the means once $1/t$ is below it; from 0 (the mean of all
            batches so far) to 1 (of this batch alone).

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import Covariance, Dense, step
        >>> pre = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
        >>> post = torch.tensor([[1.0], [3.0]])
        >>> synapse, rule, weight = Dense(2, 1), Covariance(1.0), torch.zeros(1, 2)
        >>> step(rule, synapse, weight, pre, post, rule.init_state(synapse, weight))[0]
        tensor([[1., 0.]])

    Source:
        Sejnowski (1977), Storing covariance with nonlinearly interacting neurons, J. Math. Biology 4. The running means are ours.
    """

    rate: float
    momentum: float = 0.05

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate)
        checks.part(self, "momentum", self.momentum)

    def init_state(self, synapse: Synapse, weight: Tensor) -> Means:
        """Means of zero, over no batches."""
        return Means(
            torch.zeros_like(weight[0]),
            torch.zeros_like(weight.flatten(1)[:, 0]),
            weight.new_zeros((), dtype=torch.int64),
        )

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends about the last mean of the units, and the sums of both."""
        # about the last mean: in single precision, large means would else be the differences of large sums
        deviation = post - state.post.view(1, -1, *[1] * (post.ndim - 2)).to(post.dtype)
        return {
            "outer": synapse.outer(deviation, pre),
            "pre": synapse.seen_sum(post, pre)[0],
            "post": synapse.over_uses(deviation),
        }

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The mean product of the deviations from the new means, and these."""
        means = state
        seen, moved = statistics.mean("pre"), statistics.mean("post")
        batches = means.batches + 1
        share = (1 / batches.to(seen.dtype)).clamp_min(self.momentum)
        pre = means.pre.to(seen.dtype) + share * (seen - means.pre)
        shift = share * moved
        change = statistics.own("outer")
        # one after the other: a product of matrices of rank two takes longer
        for unit, field in ((shift, seen), (moved - shift, pre)):
            change.addcmul_(per_unit(unit, weight), field, value=-statistics.count)
        after = Means(pre, means.post.to(seen.dtype) + shift, batches)
        return Times(change, self.rate / statistics.count), after
