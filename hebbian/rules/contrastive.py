"""Contrastive Hebbian learning: what was there with a teacher, less what was there without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["Contrastive"]


@dataclass(frozen=True)
class Contrastive(LocalRule):
    r"""The difference of two Hebbian terms: of settled activity with the teacher held fixed, and of free activity.

    $$\Delta W = \eta \, ( \langle y^+ x^{+\top} \rangle - \langle y^- x^{-\top} \rangle )$$

    A batch may hold samples of both phases: the ``signal`` says of each whether it is clamped (+1) or free (-1).
    Statistics of the two phases are *added*, as those of workers are, and `phases` does both. Means are over the
    clamped samples, so there must be as many free ones; where all are free, only the unlearning is left, over their
    number. Where the two phases settle to the same activity nothing changes: the rule is at rest when the free answer is
    the teacher's.

    Args:
        rate: $\eta$, per step; any finite number.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is not finite; at the call, a phase that is not +1 or -1, or not one a sample.

    Example:
        >>> import torch
        >>> from hebbian import Contrastive, Dense
        >>> synapse, rule, weight = Dense(2, 1), Contrastive(0.5), torch.zeros(1, 2)
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> both = rule.phases(synapse, clamped=(x, torch.ones(1, 1)), free=(x, torch.zeros(1, 1)))
        >>> rule.delta(both, weight, None)[0]
        tensor([[0.5000, 1.0000]])

    Source:
        Movellan (1991), Contrastive Hebbian learning in the continuous Hopfield model; the layered form is
        `hebbian.LayeredNet`.
    """

    rate: float
    signal: ClassVar[str | None] = "the phase of each sample, +1 clamped or -1 free, shape (B,)"

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate)

    def phases(self, synapse: Synapse, clamped: tuple[Tensor, Tensor], free: tuple[Tensor, Tensor]) -> Statistics:
        """The statistics of both phases.

        Args:
            synapse: the geometry.
            clamped: pre and post as they settled with the teacher held fixed.
            free: pre and post of the same samples as they settled by themselves.

        Raises:
            ValueError: another number of samples in the two phases, or ends that do not fit.
        """
        if len(clamped[0]) != len(free[0]):
            raise ValueError(
                f"The clamped phase holds {len(clamped[0])} samples and the free one {len(free[0])}; as many are wanted. "
                "Settle the same batch twice."
            )
        ones = clamped[1].new_ones(len(clamped[1]))
        return self.statistics(synapse, *clamped, None, ones) + self.statistics(synapse, *free, None, -ones)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of both ends, clamped less free, and the number of uses in either phase."""
        assert signal is not None
        checks.one_each(self, len(pre), signal)
        if not bool((signal.abs() == 1).all()):
            raise ValueError(
                "`signal` of `Contrastive` holds other numbers than +1 (clamped) and -1 (free). Pass those."
            )
        phase = signal.to(post.dtype)
        places = synapse.count(post) // max(len(post), 1)
        outer = synapse.outer(post * phase.view(-1, *[1] * (post.ndim - 1)), pre)
        return {"difference": outer, "clamped": places * (phase > 0).sum(dtype=post.dtype)}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The rate times the difference of the means; the state is not used."""
        clamped = statistics.sums["clamped"]
        uses = torch.where(clamped > 0, clamped, torch.full_like(clamped, statistics.count))
        return self.rate * statistics.sums["difference"] / uses, state
