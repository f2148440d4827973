"""Oja's rule: Hebbian growth with just the decay that keeps a unit's weight at length one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics, decayed
from hebbian.synapse import Synapse

__all__ = ["Oja"]


@dataclass(frozen=True)
class Oja(LocalRule):
    r"""Oja's one-unit rule, for each unit on its own: a linear unit finds the first principal axis of its input.

    $$\Delta w_i = \eta \, \langle y_i \, (x - y_i w_i) \rangle
      = \eta \, ( \langle y_i x \rangle - \langle y_i^2 \rangle \, w_i )$$

    With $y = W x$, and $C = \langle x x^\top \rangle$ with largest eigenvalue $\lambda_1$, a row goes to length one
    and to the top eigenvector of $C$, up to sign. (Not of the covariance: centre the input first if that is meant.) The
    rows learn independently, so **all units find the same axis**. Several different axes need a rule in which units
    see one another, such as the subspace rule, which is not this one.

    The whole-batch iteration is stable at that point if $\eta \lambda_1 < 1$, and grows without bound from a row
    along it with $|w|^2 > 1 + 2 / (\eta \lambda_1)$: start with rows of about length one. A row orthogonal to the
    top eigenvector stays so.

    Args:
        rate: $\eta$, per step and per unit of $x^2$; at least 0 (below zero the decay becomes growth). Well below
            $1 / \lambda_1$ for small batches.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Oja, step
        >>> draws = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
        >>> pre = draws * torch.tensor([3.0, 1.0])  # most of the spread is along the first axis
        >>> synapse, rule, weight, state = Dense(2, 1), Oja(0.05), torch.tensor([[0.6, 0.8]]), None
        >>> for _ in range(100):
        ...     weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state)
        >>> print(f"length {weight.norm():.3f}, along the first axis {weight[0, 0]:.2f}")
        length 1.000, along the first axis 1.00

    Source:
        Oja (1982), A simplified neuron model as a principal component analyzer, J. Math. Biology 15. There one
        sample at a time; here the mean over a batch, at the weight the batch was seen with.
    """

    rate: float

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends, shaped like the weight, and the square of each unit, (units,)."""
        return {"outer": synapse.outer(post, pre), "square": synapse.over_uses(post.square())}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Hebbian growth less the decay of each unit by its own mean square; the state is not used."""
        return decayed(statistics, weight, "square", self.rate), state
