"""Nonlinear principal components by a Hebbian rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times
from hebbian.rule import LocalRule, State
from hebbian.rules.subspace import explained, pair_sums
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["NonlinearPCA"]


@dataclass(frozen=True)
class NonlinearPCA(LocalRule):
    r"""`Sanger`, or `OjaSubspace`, on units with a nonlinear answer.

    $$\Delta w_i = \eta \, \Big\langle f(y_i) \Big( x - \sum_{j \le i} f(y_j) \, w_j \Big) \Big\rangle$$

    with the sum over all $j$ where ``ordered`` is False. $y = W x$ is what the rule is shown as ``post``; it applies
    $f$ itself. With $f$ the identity this is Sanger's rule, or Oja's subspace rule. With a saturating $f$ the
    rows are drawn to directions whose projections are far from normal as well as large: on whitened input that is the
    nonlinear PCA way to independent components.

    Args:
        rate: $\eta$, at least 0.
        f: of the post-synaptic tensor, entry by entry; `torch.tanh`, `torch.relu`, or a function of your own.
        ordered: whether unit $i$ sees only those up to itself.

    Raises:
        TypeError: the rate is no number, or ``f`` cannot be called.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, NonlinearPCA, step
        >>> pre = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
        >>> synapse, weight = Dense(5, 3), torch.full((3, 5), 0.1)
        >>> step(NonlinearPCA(0.1), synapse, weight, pre, synapse.forward(weight, pre), None)[0].shape
        torch.Size([3, 5])

    Source:
        Oja (1997), The nonlinear PCA learning rule in independent component analysis, Neurocomputing 17 (all units);
        Karhunen and Joutsensalo (1995), Generalizations of principal component analysis, Neural Networks 8 (ordered); in
        deep networks Lagani et al. (2021), Hebbian semi-supervised learning in a sample efficiency setting.
    """

    rate: float
    f: Callable[[Tensor], Tensor] = torch.tanh
    ordered: bool = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        if not callable(self.f):
            raise TypeError(
                f"`NonlinearPCA` was given f={self.f!r}; a function of a tensor is wanted. Pass for example torch.tanh."
            )

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of the answer with the input, and that of the answers among themselves, (units, units)."""
        return pair_sums(synapse, pre, self.f(post))

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """Growth less what is explained; the state is not used."""
        return explained(statistics, weight, self.rate, self.ordered), state
