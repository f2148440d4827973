"""Normalisation: what one synapse of a unit wins, its others lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Becomes
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse, per_unit

__all__ = ["Normalise"]


@dataclass(frozen=True)
class Normalise(LocalRule):
    r"""Scales the weights of each unit to a given norm.

    $$\Delta w_i = \frac{R}{\| w_i \|_p} \, w_i - w_i$$

    Meant for the end of a `Chain`: ``Chain(Hebb(0.1), Normalise())`` is Hebbian growth with multiplicative
    normalisation, of which Oja's rule is the first order in the rate. A unit whose weights are all zero stays so.

    Args:
        norm: $R$, above 0.
        p: which norm, at least 1; ``math.inf`` for the largest weight.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Normalise, step
        >>> step(Normalise(), Dense(2, 1), torch.tensor([[3.0, 4.0]]), torch.ones(1, 2), torch.ones(1, 1), None)[0]
        tensor([[0.6000, 0.8000]])

    Source:
        von der Malsburg (1973), Self-organization of orientation sensitive cells in the striate cortex, with the sum of
        the weights (p = 1 where none is negative).
    """

    norm: float = 1.0
    p: float = 2.0

    def __post_init__(self) -> None:
        checks.positive(self, "norm", self.norm)
        if self.p != math.inf:
            checks.number(self, "p", self.p, low=1)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """Nothing: neither end is looked at."""
        return {}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Becomes, State]:
        """From each unit's weights to the scaled ones; the state is not used."""
        flat = weight.flatten(1)
        largest = flat.abs().amax(dim=1)  # taken out first, or the squares of small weights would underflow
        safe = torch.where(largest > 0, largest, torch.ones_like(largest))
        size = torch.linalg.vector_norm(flat / safe[:, None], ord=self.p, dim=1) * safe
        scale = torch.where(largest > 0, self.norm / torch.where(largest > 0, size, safe), torch.ones_like(size))
        return Becomes(per_unit(scale, weight) * weight), state
