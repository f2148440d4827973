"""How a dense memory tells its patterns apart: the function of the overlaps that its energy sums."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Around", "Exponential", "Polynomial", "RectifiedPolynomial", "Separation"]


class Around(NamedTuple):
    """F of the overlaps (B, P) and of the overlaps less and plus two, where a flip takes them; to a factor > 0 a sample."""

    below: Tensor
    here: Tensor
    above: Tensor


class Separation(ABC):
    """A function F of overlaps: the steeper, the less the other patterns disturb; a frozen dataclass of settings."""

    @abstractmethod
    def energy(self, overlap: Tensor) -> Tensor:
        """The energy (B,) of overlaps (B, P)."""

    @abstractmethod
    def around(self, overlap: Tensor) -> Around:
        """F at the overlaps and beside them."""

    @abstractmethod
    def log_largest(self, units: int, patterns: int) -> float:
        """The logarithm of the largest number that settling may meet; it must fit the dtype."""


@dataclass(frozen=True)
class Polynomial(Separation):
    r"""A power of the overlap, :math:`F(m) = m^n`. With n = 2 the memory is the Hopfield network with Hebb's store.

    Args:
        n: the power, a whole number >= 2. An odd power tells a pattern from its negative.

    Raises:
        ValueError: another power.

    Example:
        >>> import ebm
        >>> ebm.Polynomial(3)
        Polynomial(n=3)

    Source: Krotov and Hopfield (2016).
    """

    n: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 2:
            raise ValueError(
                f"`{type(self).__name__}(n=...)` wants a whole power of at least 2; got {self.n!r}. Two is Hebb's store; try 3."
            )

    def energy(self, overlap: Tensor) -> Tensor:
        """Minus the sum of F over patterns."""
        return -self._power(overlap).sum(1)

    def around(self, overlap: Tensor) -> Around:
        """F three times."""
        return Around(self._power(overlap - 2), self._power(overlap), self._power(overlap + 2))

    def log_largest(self, units: int, patterns: int) -> float:
        """All patterns at full overlap, with room for the sums over a batch."""
        return self.n * math.log(units + 2) + math.log(4 * patterns)

    def _power(self, overlap: Tensor) -> Tensor:
        return overlap.pow(self.n)


@dataclass(frozen=True)
class RectifiedPolynomial(Polynomial):
    r"""A power of the positive overlap, :math:`F(m) = \max(m, 0)^n`: patterns on the far side do not count.

    Args:
        n: the power, a whole number >= 2.

    Raises:
        ValueError: another power.

    Example:
        >>> import ebm
        >>> ebm.RectifiedPolynomial(3)
        RectifiedPolynomial(n=3)

    Source: Krotov and Hopfield (2016).
    """

    def _power(self, overlap: Tensor) -> Tensor:
        return overlap.relu().pow(self.n)


@dataclass(frozen=True)
class Exponential(Separation):
    r"""The exponential, :math:`F(m) = e^m`, in log space: the energy reported is :math:`-\log\sum_\mu e^{m_\mu}`.

    That is a monotone transform of the original :math:`-\sum_\mu e^{m_\mu}`, with the same order of states and the same
    updates, and it overflows for no number of units.

    Example:
        >>> import ebm
        >>> ebm.Exponential()
        Exponential()

    Source: Demircigil et al. (2017), whose energy is the sum itself.
    """

    def energy(self, overlap: Tensor) -> Tensor:
        """Minus the logarithm of the sum of F."""
        return -overlap.logsumexp(1)

    def around(self, overlap: Tensor) -> Around:
        """F relative to the largest of each sample."""
        here = (overlap - overlap.amax(1, keepdim=True)).exp()
        return Around(here * math.exp(-2), here, here * math.exp(2))

    def log_largest(self, units: int, patterns: int) -> float:
        """The overlap itself, and sums of numbers up to e squared."""
        return math.log(max(units, 8 * patterns))


def check_range(separation: Separation, units: int, patterns: int, dtype: torch.dtype) -> None:
    """The numbers that settling may meet fit the dtype."""
    largest, limit = separation.log_largest(units, patterns), math.log(torch.finfo(dtype).max)
    if largest > limit:
        raise ValueError(
            f"{patterns} patterns of {units} units with {separation} reach 1e{largest / math.log(10):.0f}; {dtype} ends at "
            f"1e{limit / math.log(10):.0f}. Convert the patterns with `.double()`, lower the power, or use `Exponential()`, which works "
            "in log space."
        )
