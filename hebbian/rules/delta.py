"""The delta rule: a teacher says what the unit should have answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["Delta"]


@dataclass(frozen=True)
class Delta(LocalRule):
    r"""The Widrow-Hoff or delta rule: a weight moves by what the answer lacked times what its input was.

    $$\Delta W = \eta \, \langle (t - y) \, x^\top \rangle$$

    With $y = W x$ this is minus the gradient of $\frac{1}{2} \langle |t - W x|^2 \rangle$, written without one: it goes
    to the least-squares solution if $\eta$ is below 2 over the largest eigenvalue of $\langle x x^\top \rangle$. The
    teacher $t$ is the ``signal``, shaped like ``post``.

    Args:
        rate: $\eta$, per step; at least 0.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite; at the call, a teacher of another shape than ``post``.

    Example:
        >>> import torch
        >>> from hebbian import Delta, Dense, step
        >>> pre, target = torch.eye(2), torch.tensor([[3.0], [-1.0]])
        >>> synapse, rule, weight, state = Dense(2, 1), Delta(1.0), torch.zeros(1, 2), None
        >>> for _ in range(30):
        ...     weight, state = step(rule, synapse, weight, pre, synapse.forward(weight, pre), state, signal=target)
        >>> weight
        tensor([[ 3., -1.]])

    Source:
        Widrow and Hoff (1960), Adaptive switching circuits, there one sample at a time; here the mean over a batch.
    """

    rate: float
    signal: ClassVar[str | None] = "the target of each unit, shaped like `post`: (B, units, *places)"

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the error with the input, shaped like the weight."""
        return {"error": synapse.outer(error(self, post, signal), pre)}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The rate times the mean correlation; the state is not used."""
        return statistics.taken("error", self.rate), state


def error(rule: LocalRule, post: Tensor, signal: Tensor | None) -> Tensor:
    """What the answer lacked, ``signal - post``.

    Raises:
        ValueError: the teacher has another shape than ``post``.
    """
    assert signal is not None
    checks.like_post(rule, post, signal)
    return signal.to(post.dtype) - post
