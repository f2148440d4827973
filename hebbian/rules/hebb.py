"""Hebb's rule: cells that are active together are wired together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["Hebb"]


@dataclass(frozen=True)
class Hebb(LocalRule):
    r"""Plain Hebbian learning: a weight grows where both of its ends are active together.

    $$\Delta W = \eta \, \langle y x^\top \rangle$$

    The mean is over the batch (and the places of a convolution). One sample gives a change of rank one. Nothing
    bounds the weights: with $y = W x$ and $\eta > 0$ every row that answers at all grows without end, and turns towards
    the top eigenvector of $\langle x x^\top \rangle$. `Oja` is the same rule with the growth taken out.

    Args:
        rate: $\eta$, per step; any finite number. Below zero the rule is anti-Hebbian, and unlearns.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Hebb
        >>> synapse, rule, weight = Dense(2, 1), Hebb(0.5), torch.zeros(1, 2)
        >>> pre, post = torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[2.0], [1.0]])
        >>> change, _ = rule.delta(rule.statistics(synapse, pre, post, None), weight, None)
        >>> change
        tensor([[0.7500, 0.5000]])

    Source:
        Hebb (1949), The Organization of Behavior, states it in words; this is its usual formula, averaged over a batch.
    """

    rate: float

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends, shaped like the weight."""
        return {"outer": synapse.outer(post, pre)}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The rate times the mean correlation; the state is not used."""
        return statistics.taken("outer", self.rate), state
