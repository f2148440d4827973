"""What a layer makes of what its units receive; competition is along axis 1, the unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian import checks

__all__ = ["LINEAR", "Identity", "KWinners", "Relu", "Softmax", "Triangle"]


@dataclass(frozen=True)
class Identity:
    """The drive itself: a linear layer.

    Example:
        >>> import torch
        >>> from hebbian.layers import Identity
        >>> Identity()(torch.tensor([[-1.0, 2.0]]))
        tensor([[-1.,  2.]])
    """

    def __call__(self, drive: Tensor) -> Tensor:
        """``(B, units, *places)``, as it came."""
        return drive


LINEAR = Identity()


@dataclass(frozen=True)
class Relu:
    r"""$\max(u - \theta, 0)$.

    Args:
        threshold: $\theta$, any finite number.

    Raises:
        TypeError: the threshold is no number.
        ValueError: it is not finite.

    Example:
        >>> import torch
        >>> from hebbian.layers import Relu
        >>> Relu(0.5)(torch.tensor([[-1.0, 2.0]]))
        tensor([[0.0000, 1.5000]])
    """

    threshold: float = 0.0

    def __post_init__(self) -> None:
        checks.number(self, "threshold", self.threshold)

    def __call__(self, drive: Tensor) -> Tensor:
        """``(B, units, *places)``, none below zero."""
        return torch.relu(drive - self.threshold) if self.threshold else torch.relu(drive)


@dataclass(frozen=True)
class Softmax:
    r"""Soft competition among units, $e^{u_k / T} / \sum_j e^{u_j / T}$, at each place for itself.

    Args:
        temperature: $T$, above 0; the lower, the more the winner takes.

    Raises:
        TypeError: the temperature is no number.
        ValueError: it is not finite and above 0.

    Example:
        >>> import torch
        >>> from hebbian.layers import Softmax
        >>> Softmax(0.1)(torch.tensor([[0.0, 1.0]]))
        tensor([[4.5398e-05, 9.9995e-01]])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        checks.positive(self, "temperature", self.temperature)

    def __call__(self, drive: Tensor) -> Tensor:
        """``(B, units, *places)``, adding to one over the units."""
        return torch.softmax(drive / self.temperature, dim=1)


@dataclass(frozen=True)
class Triangle:
    r"""How far a unit is above the mean of all, $\max(u_k - \bar u, 0)^p$; about half of the units are silent.

    The mean over units is taken without a gradient, as in the authors' code.

    Args:
        power: $p$, above 0.

    Raises:
        TypeError: the power is no number.
        ValueError: it is not finite and above 0.

    Example:
        >>> import torch
        >>> from hebbian.layers import Triangle
        >>> Triangle()(torch.tensor([[0.0, 1.0, 5.0]]))
        tensor([[0., 0., 3.]])

    Source:
        Coates, Lee and Ng (2011), An analysis of single-layer networks in unsupervised feature learning, with distances;
        of responses, and with a power, Journe et al. (2023), Hebbian deep learning without feedback.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        checks.positive(self, "power", self.power)

    def __call__(self, drive: Tensor) -> Tensor:
        """``(B, units, *places)``, none below zero."""
        above = torch.relu(drive - drive.detach().mean(dim=1, keepdim=True))
        return above if self.power == 1 else above**self.power


@dataclass(frozen=True)
class KWinners:
    r"""The $k$ units that receive most keep what they receive, the others are silent; at each place for itself.

    Args:
        k: at least 1; of fewer units, all win. Of equal units at the limit, which ones win is not specified.

    Raises:
        ValueError: no whole number of at least 1.

    Example:
        >>> import torch
        >>> from hebbian.layers import KWinners
        >>> KWinners(2)(torch.tensor([[0.1, 3.0, 2.0]]))
        tensor([[0., 3., 2.]])

    Source:
        Makhzani and Frey (2014), k-sparse autoencoders.
    """

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(
                f"`KWinners` was given k={self.k!r}; a whole number of at least 1 is wanted. Pass for example k=1, "
                "where the winner takes all."
            )

    def __call__(self, drive: Tensor) -> Tensor:
        """``(B, units, *places)``, at most k not zero among the units of a place."""
        top = drive.topk(min(self.k, drive.shape[1]), dim=1)
        return torch.zeros_like(drive).scatter(1, top.indices, top.values)
