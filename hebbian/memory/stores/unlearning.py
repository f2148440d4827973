"""Unlearning: dream, and forget what you dreamt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import ebm
from hebbian import checks
from hebbian.memory.stores.base import Store
from hebbian.memory.stores.hebb import HebbStore

__all__ = ["Unlearning"]


@dataclass(frozen=True)
class Unlearning(Store):
    r"""Stores by Hebb's rule, then settles from random states and takes away a little of each false memory it falls into.

    $$W \leftarrow W - \tfrac{\epsilon}{N} \sum_d s^d s^{d\top} \quad \text{for dreams } s^d \ne \pm \xi^\mu$$

    False memories, mixtures above all, get shallower and true ones are easier to reach; dreaming for too long erases these as
    well. Dreams are settled together in rounds, through `ebm.infer`.

    Args:
        rate: $\epsilon$, at least 0; about 0.01.
        rounds: how often the network dreams, at least 0. The rate times all dreams over the patterns stored should stay below about 0.5.
        dreams: random states settled in one round, at least 1.
        seed: of the random states.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> import torch
        >>> from hebbian.memory import HopfieldMemory, Unlearning
        >>> patterns = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).sign()
        >>> memory = HopfieldMemory(40, Unlearning(rate=0.01, rounds=5))
        >>> memory.add(patterns)
        >>> bool((memory.weight.diagonal() == 0).all())
        True

    Source:
        Hopfield, Feinstein and Palmer (1983), "Unlearning" has a stabilizing effect in collective memories, Nature 304. There one dream at
        a time, whatever it is; here rounds of dreams, and true memories are spared.
    """

    rate: float = 0.01
    rounds: int = 20
    dreams: int = 32
    seed: int = 0
    keeps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate, low=0)
        checks.whole(self, "rounds", self.rounds, 0)
        checks.whole(self, "dreams", self.dreams, 1)
        checks.whole(self, "seed", self.seed, 0)

    def add(self, weight: Tensor, held: Tensor, patterns: Tensor) -> Tensor:
        """Hebb's rule for all patterns from the beginning, then the dreams: earlier ones knew nothing of what is new."""
        known = torch.cat([held, patterns])
        weight = HebbStore().add(weight.new_zeros(weight.shape), held[:0], known)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.rounds):
            start = torch.randint(2, (self.dreams, weight.shape[0]), generator=generator).to(weight) * 2 - 1
            model, cyclic = ebm.Hopfield(weight), ebm.Asynchronous("cyclic")
            found = ebm.infer(model, start, solver=cyclic, adjoint=ebm.Detached(), keep="last").z
            false = found[(found @ known.T).abs().amax(1) < weight.shape[0]]
            weight = (weight - self.rate * false.T @ false / weight.shape[0]).fill_diagonal_(0)
        return weight
