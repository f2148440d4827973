"""Hebbian learning of a dictionary: what is left of a signal is laid onto the atoms that were active."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse, per_unit

__all__ = ["ResidualHebb"]


@dataclass(frozen=True)
class ResidualHebb(LocalRule):
    r"""Hebb's rule between the residual of a signal and its code, with every atom kept at length one.

    .. math:: \phi_i \leftarrow \frac{\phi_i + \eta \, \langle a_i r \rangle_i}{\| \cdot \|}, \qquad r = s - \Phi a

    ``pre`` is the residual and ``post`` the code (`SparseCoding.ends` gives both). The mean of an atom is over the uses in which
    it was active, so that rare atoms learn as fast as common ones; with ``per_atom=False`` it is over all uses, and the
    step is that of gradient descent on the energy. An atom that was not active, or
    whose step is zero or would end at zero, stays as it is.

    Lengths are part of the rule: without them the energy falls as atoms grow and codes shrink. They are taken over all of an
    atom, channels and places of its kernel included.

    Args:
        rate: eta >= 0, in units of one over the square of the code.
        per_atom: whether each atom has a mean of its own.

    Raises:
        TypeError: the rate is no number.
        ValueError: the rate is negative or not finite.

    Example:
        >>> import torch
        >>> from hebbian import Dense, step
        >>> from hebbian.sparse import ResidualHebb
        >>> atoms, residual, code = torch.eye(2), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        >>> step(ResidualHebb(0.75), Dense(2, 2), atoms, residual, code, None)[0]
        tensor([[0.8000, 0.6000],
                [0.0000, 1.0000]])

    Source: Olshausen and Field (1996), eq. for the basis functions, averaged over a batch; the division by an atom's own count is
    that of the LCA toolbox lca-pytorch; lengths of exactly one instead of their control of each code's variance.
    """

    rate: float
    per_atom: bool = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The correlation of code and residual, shaped like the dictionary, and how often each atom was active, (atoms,)."""
        active = (synapse.uses(post) != 0).to(post.dtype).sum(0)
        return {"outer": synapse.outer(post, pre), "active": active}

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The way to the new atoms, of length one."""
        uses = (
            statistics.sums["active"] if self.per_atom else torch.full_like(statistics.sums["active"], statistics.count)
        )
        step = self.rate * statistics.sums["outer"] / per_unit(uses.clamp_min(1.0), weight)
        moved = step.flatten(1).any(1)
        grown = weight + step
        length = torch.linalg.vector_norm(grown.flatten(1), dim=1)
        renewed = grown / per_unit(torch.where(length > 0, length, 1.0), weight)
        # a step to zero has no direction to keep, and an atom of zeros would never be active again
        return torch.where(per_unit(moved & (length > 0), weight), renewed - weight, 0.0), state
