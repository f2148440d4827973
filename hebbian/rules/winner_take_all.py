"""Hard competition: the winners move towards the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Change, Times, as_change, as_weight
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics, decayed
from hebbian.synapse import Synapse, few

__all__ = ["WinnerTakeAll"]

_PART = 2**16  # numbers of the weight that are looked at together


@dataclass(frozen=True)
class WinnerTakeAll(LocalRule):
    r"""At each use of the weight the $k$ winning units move towards what they see, the others stay.

    $$\Delta w_i = \eta \, \langle g_i \, (x - w_i) \rangle, \qquad g_i = 1 \text{ for the } k \text{ largest of }
      u_i - \tfrac12 |w_i|^2, \text{ else } 0$$

    With $u = W x$ those are the $k$ nearest rows, since $|x - w_i|^2 = |x|^2 - 2 (u_i - \frac12 |w_i|^2)$, so with
    $k = 1$ this is online k-means. Plain competition by $u$ alone (``nearest=False``) is drawn to long rows, unless all
    are kept of one length, by `Normalise` at the end of a chain say.

    The rule cannot see the weight when it looks at the ends, so it remembers the lengths its own changes leave; `step` and
    layers take them anew. Who calls `statistics` by hand and writes the weight as well asks for `renewed` in between.

    Args:
        rate: $\eta$, from 0 to 1; each unit's share of the batch is part of the mean, so 1 is stable.
        k: how many win, at least 1; of fewer units, all.
        nearest: whether the nearest row wins, or the largest drive.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite, or k is no whole number of at least 1.

    Example:
        >>> import torch
        >>> from hebbian import Dense, WinnerTakeAll, step
        >>> pre = torch.tensor([[0.0, 1.0], [0.0, 3.0], [4.0, 0.0], [6.0, 0.0]])
        >>> synapse, rule, weight = Dense(2, 2), WinnerTakeAll(1.0), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> state = rule.init_state(synapse, weight)
        >>> for _ in range(60):
        ...     weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
        >>> (weight + 0.0).round(decimals=2)
        tensor([[0., 2.],
                [5., 0.]])

    Source:
        Rumelhart and Zipser (1985), Feature discovery by competitive learning, Cognitive Science 9; as k-means, MacQueen
        (1967). Batch updates sum over the winners' samples and are divided by the batch.
    """

    rate: float
    k: int = 1
    nearest: bool = True
    competes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.whole(self, "k", self.k, 1)

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """Half the squared length of each row, (units,), where the nearest is to win."""
        return _half_square(weight) if self.nearest else None

    def renewed(self, weight: Tensor, state: State) -> State:
        """The lengths that the rows have now."""
        return _half_square(checks.widen(weight)) if self.nearest else None

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the winners with the input, and how often each unit won, (units,)."""
        worth = post - state.to(post.dtype).view(1, -1, *[1] * (post.ndim - 2)) if self.nearest else post
        winners = worth.topk(min(self.k, post.shape[1]), dim=1).indices
        gate = post.new_ones(winners.shape)
        return {"outer": synapse.outer_of_winners(winners, gate, pre), "gate": synapse.over_winners(winners, gate)}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Change, State]:
        """Towards the mean of what was won, and the next lengths."""
        rows = few(statistics.total("gate"))  # no other unit changes
        if rows is None:
            change = decayed(statistics, weight, "gate", self.rate)
            return change, _half_square_after(weight, change) if self.nearest else None
        before = weight[rows]
        moved = as_change(decayed(statistics.of_units(rows), before, "gate", self.rate), before)
        change = statistics.put("outer", rows, moved)
        if not self.nearest:
            return change, None
        return change, state.to(weight.dtype).index_copy(0, rows, _half_square(before.add_(moved)))


def _half_square(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight.flatten(1), dim=1).square() / 2


def _half_square_after(weight: Tensor, change: Times) -> Tensor:
    """That of both together, some rows at a time, so that no sum of the weight's size is written."""
    rows = max(1, _PART // max(1, weight[0].numel()))
    parts = zip(weight.split(rows), change.direction.split(rows), strict=True)
    return torch.cat(
        [_half_square(as_weight(Times(moved, change.factor, lent=True), before)) for before, moved in parts]
    )
