"""Dale's principle: a cell excites all the cells it reaches, or inhibits them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian.change import Becomes
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["SignConstraint"]


@dataclass(frozen=True)
class SignConstraint(LocalRule):
    r"""Sets weights of the wrong sign to zero: the nearest weights that keep Dale's principle.

    $$\Delta w_{ij} = \begin{cases} -w_{ij} & \text{if } s_j w_{ij} < 0 \\ 0 & \text{otherwise} \end{cases}$$

    The sign belongs to the cell *before* the synapse, $j$: an input, or an input channel of a convolution. Meant for the
    end of a `Chain`, after the rules that learn.

    Args:
        signs: +1 (excitatory), -1 (inhibitory) or 0 (free): one number for all, or one for each index of the weight's
            second axis.

    Raises:
        ValueError: another number than these; at the call, another count than the weight has inputs.

    Example:
        >>> import torch
        >>> from hebbian import Dense, SignConstraint, step
        >>> weight = torch.tensor([[1.0, 2.0], [-3.0, -4.0]])
        >>> step(SignConstraint((1, -1)), Dense(2, 2), weight, torch.ones(1, 2), torch.ones(1, 2), None)[0]
        tensor([[ 1.,  0.],
                [ 0., -4.]])

    Source:
        Eccles (1957), The Physiology of Nerve Cells, names the principle after Dale.
    """

    signs: int | Sequence[int] = 1

    def __post_init__(self) -> None:
        several = not isinstance(self.signs, int)
        signs = tuple(self.signs) if not isinstance(self.signs, int) else (self.signs,)
        if not signs or any(sign not in (-1, 0, 1) for sign in signs):
            raise ValueError(
                f"`SignConstraint` was given signs={self.signs!r}; +1, -1 or 0 is wanted, one for all inputs or one for "
                "each. Pass for example signs=(1, 1, -1)."
            )
        object.__setattr__(self, "signs", signs if several else self.signs)  # a tuple can be compared and hashed

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """Nothing: neither end is looked at."""
        return {}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Becomes, State]:
        """Minus every weight of the wrong sign; the state is not used."""
        signs = torch.as_tensor(self.signs, dtype=weight.dtype, device=weight.device)
        if signs.ndim and len(signs) != weight.shape[1]:
            raise ValueError(
                f"`SignConstraint` has {len(signs)} signs and the weight {weight.shape[1]} inputs (its second axis); as "
                "many are wanted, or one for all. Pass one sign for each input."
            )
        wrong = signs.view(-1, *[1] * (weight.ndim - 2)) * weight < 0
        return Becomes(weight.masked_fill(wrong, 0.0)), state
