"""Lateral weights that hold the correlation of their units at a target."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["CorrelationTarget"]


@dataclass(frozen=True)
class CorrelationTarget(LocalRule):
    r"""Anti-Hebbian learning towards a target correlation: units that are active together too often inhibit each other.

    $$\Delta w_{ij} = -\eta \, ( \langle y_i y_j \rangle - p^2 )$$

    For weights among the units of a layer (`Lateral`). With $p$ the probability that a unit is active, $p^2$ is how often
    two independent ones are active together. Inhibition alone is kept by ``Chain(CorrelationTarget(0.1, 0.125), SignConstraint(-1))``.

    Args:
        rate: $\eta$, at least 0.
        probability: $p$, from 0 to 1.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import CorrelationTarget, Lateral, step
        >>> synapse, together = Lateral(2), torch.ones(1, 2)
        >>> step(CorrelationTarget(0.1, 0.5), synapse, torch.zeros(2, 2), together, together, None)[0]
        tensor([[ 0.0000, -0.0750],
                [-0.0750,  0.0000]])

    Source:
        Foldiak (1990), Forming sparse representations by local anti-Hebbian learning, Biological Cybernetics 64.
    """

    rate: float
    probability: float

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.part(self, "probability", self.probability)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """How far the correlations are above the target, summed."""
        target = self.probability**2 * synapse.count(post)
        ones = post.new_ones(1, synapse.weight_shape[0])
        return {"excess": synapse.outer(post, pre) - target * synapse.outer(ones, ones)}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """Down where the correlation is above its target; the state is not used."""
        return -self.rate * statistics.mean("excess"), state
