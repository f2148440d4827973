"""The BCM rule: a threshold that slides with the activity makes units selective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse, per_unit

__all__ = ["BCM"]


@dataclass(frozen=True)
class BCM(LocalRule):
    r"""Activity above a threshold strengthens, below it weakens; the threshold follows the mean square of the activity.

    $$\Delta w_i = \eta \, \langle y_i (y_i - \theta_i) \, x \rangle, \qquad
      \theta_i \leftarrow \theta_i + \tfrac{1}{\tau} ( \langle y_i^2 \rangle - \theta_i )$$

    Over $\theta_i$ as well where ``divided`` (Law and Cooper): learning is then slow where activity is strong, and
    larger rates stay stable. After a long silence $\theta_i$ is next to nothing, so it counts as no less there than what this batch adds
    to it, $\langle y_i^2 \rangle / \tau$. A unit comes to answer one of several patterns and to be silent for the others: at rest
    each pattern has $y \in \{0, \theta\}$, so with $K$ patterns that are equally frequent and linearly independent the one
    answered has $y = \theta = K$. The threshold must move faster than the weights: keep $\eta \, |x|^2 \, \tau$ well
    below 1, or activity swings up and down.

    Args:
        rate: $\eta$, at least 0.
        tau: $\tau$, in steps, at least 1: 1 takes the mean square of this batch.
        threshold: what $\theta$ begins at, above 0.
        divided: whether the change is over $\theta$.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian import BCM, Dense, step
        >>> patterns = torch.eye(2)
        >>> synapse, rule, weight = Dense(2, 1), BCM(0.02, tau=5), torch.tensor([[0.6, 0.5]])
        >>> state = rule.init_state(synapse, weight)
        >>> for _ in range(2000):
        ...     weight, state = step(rule, synapse, weight, patterns, synapse.forward(weight, patterns), state)
        >>> bool(torch.allclose(synapse.forward(weight, patterns), torch.tensor([[2.0], [0.0]]), atol=1e-2))
        True

    Source:
        Bienenstock, Cooper and Munro (1982), Theory for the development of neuron selectivity, J. Neuroscience 2; the
        threshold that tracks the mean square, Intrator and Cooper (1992), Neural Networks 5; the division, Law and
        Cooper (1994), PNAS 91. There one sample at a time; here means over a batch.
    """

    rate: float
    tau: float = 10.0
    threshold: float = 1.0
    divided: bool = False

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.number(self, "tau", self.tau, low=1)
        checks.positive(self, "threshold", self.threshold)

    def init_state(self, synapse: Synapse, weight: Tensor) -> Tensor:
        """The threshold of each unit, (units,)."""
        return torch.full_like(weight.flatten(1)[:, 0], self.threshold)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of $y (y - theta)$ with the input, and the square of each unit, (units,)."""
        threshold = state.to(post.dtype).view(1, -1, *[1] * (post.ndim - 2))
        return {
            "outer": synapse.outer(post * (post - threshold), pre),
            "square": synapse.over_uses(post.square()),
        }

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The rate times the mean correlation, and the next threshold."""
        change, square = statistics.taken("outer", self.rate), statistics.mean("square")
        threshold = state.to(square.dtype)
        if self.divided:
            by = torch.maximum(threshold, square / self.tau)
            change = change._replace(factor=change.factor / per_unit(torch.where(by > 0, by, 1.0), weight))
        return change, threshold + (square - threshold) / self.tau
