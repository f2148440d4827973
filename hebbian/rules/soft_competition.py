"""Soft competition: every unit moves towards the input, by its share of the softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.instar import instar_sums
from hebbian.statistics import Statistics, decayed
from hebbian.synapse import Synapse

__all__ = ["SoftCompetition"]


@dataclass(frozen=True)
class SoftCompetition(LocalRule):
    r"""Soft winner-take-all: the softmax of the drive says how far each unit moves.

    $$\Delta w_i = \eta \, \langle z_i \, (x - w_i) \rangle, \qquad z = \mathrm{softmax}(u / T)$$

    As $T \to 0$ the largest drive takes all, which is `WinnerTakeAll` with ``nearest=False``.

    Args:
        rate: $\eta$, from 0 to 1.
        temperature: $T$, above 0, in units of the drive.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import Dense, SoftCompetition, step
        >>> synapse, weight, pre = Dense(2, 2), torch.eye(2), torch.tensor([[1.0, 1.0]])
        >>> step(SoftCompetition(1.0), synapse, weight, pre, synapse.forward(weight, pre), None)[0]
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])

    Source:
        Nowlan (1990), Maximum likelihood competitive learning; as a rule of convolutional layers Lagani et al. (2022),
        FastHebb, whose batch form this is.
    """

    rate: float
    temperature: float = 1.0
    competes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.positive(self, "temperature", self.temperature)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the shares with the input, and the share of each unit in all, (units,)."""
        return instar_sums(synapse, pre, (post / self.temperature).softmax(dim=1))

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Towards the mean of what each unit had its share in; the state is not used."""
        return decayed(statistics, weight, "gate", self.rate), state
