"""Grossberg's instar: a unit's weights move towards what it sees, as fast as it is active."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics, decayed
from hebbian.synapse import Synapse

__all__ = ["Instar", "instar_sums"]


def instar_sums(synapse: Synapse, pre: Tensor, gate: Tensor) -> dict[str, Tensor]:
    """The correlation of the gates with the input, and how far each unit's was open in all, (units,)."""
    return {"outer": synapse.outer(gate, pre), "gate": synapse.over_uses(gate)}


@dataclass(frozen=True)
class Instar(LocalRule):
    r"""A unit's weights move towards its input, in proportion to its activity.

    $$\Delta w_i = \eta \, \langle y_i \, (x - w_i) \rangle$$

    With activities from 0 to 1 each row goes to the mean of the inputs for which its unit is active. Who is active is
    for the layer to decide; `WinnerTakeAll` and `SoftCompetition` are this rule with the competition in the rule.

    Args:
        rate: $\eta$, from 0 to 1 for activities from 0 to 1.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Instar, step
        >>> pre, post = torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([[1.0], [1.0]])
        >>> step(Instar(1.0), Dense(2, 1), torch.zeros(1, 2), pre, post, None)[0]
        tensor([[2., 2.]])

    Source:
        Grossberg (1976), Adaptive pattern classification and universal recoding, Biological Cybernetics 23.
    """

    rate: float

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends, and the sum of each unit, (units,)."""
        return instar_sums(synapse, pre, post)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Towards the mean of what an active unit sees; the state is not used."""
        return decayed(statistics, weight, "gate", self.rate), state
