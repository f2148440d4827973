"""Sanger's rule: the principal axes, in order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.subspace import explained, pair_sums
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["Sanger"]


@dataclass(frozen=True)
class Sanger(LocalRule):
    r"""The generalised Hebbian algorithm: each unit learns from what those before it leave unexplained.

    $$\Delta w_i = \eta \, \Big\langle y_i \Big( x - \sum_{j \le i} y_j w_j \Big) \Big\rangle$$

    With $y = W x$, row $i$ goes to the $i$-th eigenvector of $\langle x x^\top \rangle$, by falling eigenvalue, up to its
    sign. Later rows wait for earlier ones, and axes of nearly equal eigenvalues take long to tell apart. (Not of the
    covariance: centre the input first if that is meant.)

    Args:
        rate: $\eta$, per step and per unit of $x^2$; at least 0, well below $1 / \lambda_1$, the largest eigenvalue.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Sanger, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> pre = torch.randn(2000, 3, generator=generator) * torch.tensor([3.0, 2.0, 0.5])
        >>> synapse, rule, weight = Dense(3, 2), Sanger(0.05), 0.5 * torch.randn(2, 3, generator=generator)
        >>> for _ in range(300):
        ...     weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
        >>> (weight.abs() > 0.99).tolist()
        [[True, False, False], [False, True, False]]

    Source:
        Sanger (1989), Optimal unsupervised learning in a single-layer linear feedforward neural network, Neural Networks
        2. There one sample at a time; here the mean over a batch.
    """

    rate: float

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends, and that of the units among themselves, (units, units)."""
        return pair_sums(synapse, pre, post)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Growth less what each unit and those before it explain; the state is not used."""
        return explained(statistics, weight, self.rate, ordered=True), state
