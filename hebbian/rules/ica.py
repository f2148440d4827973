"""Independent components by the natural gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["ICA", "sub_gaussian", "super_gaussian"]


def super_gaussian(y: Tensor) -> Tensor:
    r"""The score of sparse sources, $\varphi(y) = \tanh y$.

    Example:
        >>> import torch
        >>> from hebbian.rules.ica import super_gaussian
        >>> super_gaussian(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7616])
    """
    return torch.tanh(y)


def sub_gaussian(y: Tensor) -> Tensor:
    r"""The score of flat or bimodal sources, $\varphi(y) = y - \tanh y$.

    Example:
        >>> import torch
        >>> from hebbian.rules.ica import sub_gaussian
        >>> sub_gaussian(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.2384])
    """
    return y - torch.tanh(y)


@dataclass(frozen=True)
class ICA(LocalRule):
    r"""Natural-gradient independent component analysis: linear units whose answers become independent.

    $$\Delta W = \eta \, \big( I - \langle \varphi(y) \, y^\top \rangle \big) W$$

    With $y = W x$ and $x$ a mixture of as many independent sources, $y$ goes to the sources, up to their order and
    scale. The input is centred first; whitening it as well makes one rate fit all. The rule needs the answers alone, and
    as many units as directions in the input: start with an invertible weight, the identity say.

    Args:
        rate: $\eta$, per step; at least 0, about 0.1 for whitened input.
        phi: $\varphi$, the score assumed of the sources: `super_gaussian` for sparse ones (speech, edges),
            `sub_gaussian` for flat or bimodal ones.

    Raises:
        TypeError: the rate is no number, or ``phi`` cannot be called.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, ICA, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> sources = torch.distributions.Laplace(0.0, 1.0).icdf(0.001 + 0.998 * torch.rand(4000, 2, generator=generator))
        >>> pre = sources @ torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> synapse, rule, weight = Dense(2, 2), ICA(0.1), torch.eye(2)
        >>> for _ in range(300):
        ...     weight, _ = step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)
        >>> unmixed = weight @ torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> bool(unmixed[0, 1].abs() < 0.05 * unmixed[0, 0].abs())
        True

    Source:
        Amari, Cichocki and Yang (1996), A new learning algorithm for blind signal separation; the two scores as in Lee,
        Girolami and Sejnowski (1999), extended infomax, less its common term. There one sample at a time; here the mean over a batch.
    """

    rate: float
    phi: Callable[[Tensor], Tensor] = super_gaussian

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        if not callable(self.phi):
            raise TypeError(
                f"`ICA` was given phi={self.phi!r}; a function of a tensor is wanted. Pass for example super_gaussian."
            )

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of scores and answers, (units, units)."""
        uses = synapse.uses(post)
        return {"among": self.phi(uses).T @ uses}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """Towards uncorrelated scores and answers; the state is not used."""
        flat = weight.flatten(1)
        change = torch.addmm(flat, statistics.mean("among", self.rate), flat, beta=self.rate, alpha=-1)
        return change.view_as(weight), state
