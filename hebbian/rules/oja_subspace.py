"""Oja's subspace rule: units that share out the principal subspace."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.subspace import explained, pair_sums
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["OjaSubspace"]


@dataclass(frozen=True)
class OjaSubspace(LocalRule):
    r"""Linear units that together find the principal subspace of their input.

    $$\Delta W = \eta \, ( \langle y x^\top \rangle - \langle y y^\top \rangle \, W )$$

    With $y = W x$ and as many units as the subspace has dimensions, the rows go to an orthonormal basis of it,
    $W W^\top \to I$: which basis is left to chance. `Sanger` finds the axes themselves, in order. Every unit sees what
    the others explain, so the rule is local only to the layer.

    Args:
        rate: $\eta$, per step and per unit of $x^2$; at least 0, well below $1 / \lambda_1$, the largest eigenvalue of
            $\langle x x^\top \rangle$.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, OjaSubspace, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> pre = torch.randn(256, 3, generator=generator) * torch.tensor([3.0, 2.0, 0.5])
        >>> synapse, rule, weight = Dense(3, 2), OjaSubspace(0.05), 0.5 * torch.randn(2, 3, generator=generator)
        >>> for _ in range(200):
        ...     weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
        >>> bool(torch.allclose(weight @ weight.T, torch.eye(2), atol=1e-3))
        True

    Source:
        Oja (1989), Neural networks, principal components, and subspaces, Int. J. Neural Systems 1. There one sample at a
        time; here the mean over a batch.
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
        """Growth less what all units explain; the state is not used."""
        return explained(statistics, weight, self.rate, ordered=False), state
