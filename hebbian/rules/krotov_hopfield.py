"""Competing hidden units: the winner learns, a runner-up unlearns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics, less_decay, one_over_largest
from hebbian.synapse import Synapse, few

__all__ = ["KrotovHopfield"]


@dataclass(frozen=True)
class KrotovHopfield(LocalRule):
    r"""The unit that is driven most learns, the $k$-th most unlearns a little.

    $$\Delta w_\mu \propto \langle g_\mu \, ( R^p \, x - I_\mu w_\mu ) \rangle, \qquad
      I_\mu = \sum_i \mathrm{sgn}(W_{\mu i}) |W_{\mu i}|^{p-1} x_i,$$

    with $g = 1$ for the unit of the largest $I$, $-\Delta$ for the $k$-th largest, and 0 for the others. The sums
    $\sum_i |W_{\mu i}|^p$ go to $R^p$. ``post`` is the currents $I$: for $p = 2$ simply $W x$; for other p apply
    the synapse to `weighed` of the weight, as every layer does by itself.

    The batch's change is scaled so that its largest entry is the rate (``scaled``), as published: the rate is then the
    largest change of a weight in one step. Let it fall to zero over training: ``Scheduled(KrotovHopfield(0.02), Falling(steps))``.

    Args:
        rate: at least 0; published 0.02.
        p: at least 2, the norm that the rows are kept in.
        k: which unit unlearns, at least 2, by falling current; of fewer units none does.
        anti: $\Delta$, at least 0; published 0.4, with which fewer units survive. Zero is winner-take-all with Oja's bound.
        radius: $R$, above 0.
        scaled: whether the largest entry of the change is the rate; else the rate times the mean.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Falling, KrotovHopfield, Scheduled, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> pre, weight = torch.rand(64, 10, generator=generator), 0.5 * torch.rand(4, 10, generator=generator)
        >>> synapse, rule = Dense(10, 4), Scheduled(KrotovHopfield(0.02), Falling(400))
        >>> state = rule.init_state(synapse, weight)
        >>> for _ in range(400):
        ...     weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
        >>> weight.square().sum(1).round(decimals=1)
        tensor([1., 1., 1., 1.])

    Source:
        Krotov and Hopfield (2019), Unsupervised learning by competing hidden units, PNAS 116, equations 3, 9 and 10, and
        the authors' notebook for the batch form.
    """

    rate: float = 0.02
    p: float = 2.0
    k: int = 2
    anti: float = 0.1
    radius: float = 1.0
    scaled: bool = True
    competes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.number(self, "p", self.p, low=2)
        checks.whole(self, "k", self.k, 2)
        checks.number(self, "anti", self.anti, low=0)
        checks.positive(self, "radius", self.radius)

    def weighed(self, weight: Tensor) -> Tensor:
        r"""What the currents are computed with, $\mathrm{sgn}(W) |W|^{p-1}$; the weight itself for p = 2."""
        return weight if self.p == 2 else weight.sign() * weight.abs() ** (self.p - 1)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the gates with the input; each unit's gates times its currents, and how far they were open, (units,)."""
        current, unit = post.topk(min(self.k, post.shape[1]), dim=1)
        ranks = [0, -1] if unit.shape[1] == self.k else [0]
        current, unit = current[:, ranks], unit[:, ranks]
        gate = torch.ones_like(current)
        gate[:, 1:] = -self.anti
        return {
            "outer": synapse.outer_of_winners(unit, gate, pre),
            "current": synapse.over_winners(unit, gate * current),
            "open": synapse.over_winners(unit, gate.abs()),
        }

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """Growth less each unit's own decay, in the scale of the rate; the state is not used."""
        rows = few(statistics.total("open"))  # no other unit changes
        if rows is None:
            return self._change(statistics, weight), state
        return statistics.put("outer", rows, self._change(statistics.of_units(rows), weight[rows])), state

    def _change(self, statistics: Statistics, weight: Tensor) -> Tensor:
        growth = self.radius**self.p
        change = less_decay(statistics, weight, "current", growth)
        return change.mul_(self.rate * (one_over_largest(change) if self.scaled else growth / statistics.count))
