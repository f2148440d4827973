"""The normalised delta rule: each sample corrects its own error, however long its input is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.delta import error
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["NormalisedDelta"]

_ROOM = 2.0**40  # for errors to be multiplied by a reciprocal that is next to the largest number


@dataclass(frozen=True)
class NormalisedDelta(LocalRule):
    r"""The delta rule over the squared length of the input (normalised least mean squares, NLMS).

    $$\Delta W = \eta \, \Big\langle \frac{(t - y) \, x^\top}{\epsilon + |x|^2} \Big\rangle$$

    With $y = W x$, one sample, $\eta = 1$ and $\epsilon = 0$ the new weight answers that sample exactly; any
    $0 < \eta < 2$ lessens its error, whatever the scale of the input, so no eigenvalue needs to be known. Each sample
    is divided by its own length before anything is summed, and in a convolution each place by the length of what the
    unit sees there. An input of zeros changes nothing; nor does one whose quotient would be beyond the dtype, in float32 one
    below 1e-25, or a patch of a picture that is below 1e-12 of its largest number.

    Args:
        rate: $\eta$, per step; at least 0, and below 2 for the error of a sample to shrink.
        epsilon: $\epsilon$, at least 0; above 0 it holds back samples that are close to zero, where noise is most of them.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting is negative or not finite; at the call, a teacher of another shape than ``post``.

    Example:
        >>> import torch
        >>> from hebbian import Dense, NormalisedDelta, step
        >>> synapse, rule, weight = Dense(2, 1), NormalisedDelta(1.0), torch.zeros(1, 2)
        >>> pre, target = torch.tensor([[30.0, 40.0]]), torch.tensor([[5.0]])
        >>> weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None, signal=target)
        >>> print(f"{synapse.forward(weight, pre).item():.4f}")
        5.0000

    Source:
        Nagumo and Noda (1967), A learning method for system identification, IEEE Trans. Automatic Control 12; the name
        is that of the least mean squares of Widrow and Hoff (1960). Here the mean over a batch.
    """

    rate: float
    epsilon: float = 0.0
    signal: ClassVar[str | None] = "the target of each unit, shaped like `post`: (B, units, *places)"

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.number(self, "epsilon", self.epsilon, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the error with the input, each use of the weight over the squared length of its input."""
        square, lacked = synapse.seen_square(pre) + self.epsilon, error(self, post, signal)
        least = _ROOM * torch.finfo(pre.dtype).tiny
        if bool(((square > least) & (square < 1 / least)).all()):
            return {"error": synapse.outer(lacked.div_(square), pre)}
        return {"error": self._of_any_scale(synapse, pre, lacked, least)}

    def _of_any_scale(self, synapse: Synapse, pre: Tensor, lacked: Tensor, least: float) -> Tensor:
        """The same where some inputs are silent, or so small or large that their squares are no numbers.

        Over the largest number of each sample: with x = m p the quotient e x / (epsilon + |x|^2) is e / (m |p|^2 + epsilon / m) times p.
        """
        largest = torch.linalg.vector_norm(pre.flatten(1), ord=torch.inf, dim=1)
        largest = torch.where(largest > 0, largest, 1.0)
        part = pre / largest.view(-1, *[1] * (pre.ndim - 1))
        largest = largest.view(-1, *[1] * (lacked.ndim - 1))
        square = synapse.seen_square(part)
        length = largest * square + self.epsilon / largest
        # zero before the product: a quotient that is not finite would make a number of no zero
        over = torch.where((square > least) & (length > least), 1 / length, 0.0)
        return synapse.outer(lacked.mul_(over), part)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The rate times the mean correlation; the state is not used."""
        return statistics.taken("error", self.rate), state
