"""Weight decay: what is not renewed fades."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["WeightDecay"]


@dataclass(frozen=True)
class WeightDecay(LocalRule):
    r"""Every weight shrinks by the same share of itself, whatever its ends do.

    $$\Delta W = -\eta \, W$$

    Meant for a `Chain`: ``Chain(Hebb(a), WeightDecay(b))`` rests where $b \, W = a (1 - b) \langle y x^\top \rangle$.
    A batch of no samples changes nothing, any other does so once.

    Args:
        rate: $\eta$, the share lost in a step; from 0 to 1.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is not from 0 to 1.

    Example:
        >>> import torch
        >>> from hebbian import Dense, WeightDecay, step
        >>> step(WeightDecay(0.25), Dense(2, 1), torch.tensor([[4.0, -8.0]]), torch.ones(3, 2), torch.ones(3, 1), None)[0]
        tensor([[ 3., -6.]])

    Source:
        Hanson and Pratt (1988), Comparing biases for minimal network construction with back-propagation.
    """

    rate: float

    def __post_init__(self) -> None:
        checks.part(self, "rate", self.rate)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """Nothing: neither end is looked at."""
        return {}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The lost share; the state is not used."""
        return Times(weight, -self.rate, lent=True), state
