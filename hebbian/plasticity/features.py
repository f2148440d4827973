"""What keys and queries are made of before they address fast weights."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dpfp", "elu_plus_one", "sum_normalised", "unit"]


def unit(x: Tensor) -> Tensor:
    """Length one along the last axis; the delta rule then overwrites exactly. Zero stays zero.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import unit
        >>> unit(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    return torch.nn.functional.normalize(x, dim=-1)


def elu_plus_one(x: Tensor) -> Tensor:
    r""":math:`\text{elu}(x) + 1`, positive.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import elu_plus_one
        >>> elu_plus_one(torch.tensor([0.0, 2.0]))
        tensor([1., 3.])

    Source: Katharopoulos et al. (2020), Transformers are RNNs.
    """
    return torch.nn.functional.elu(x) + 1


def sum_normalised(x: Tensor) -> Tensor:
    """Positive entries over their sum along the last axis, which bounds what sums of writes can reach. Zeros stay zeros.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import sum_normalised
        >>> sum_normalised(torch.tensor([1.0, 3.0]))
        tensor([0.2500, 0.7500])

    Source: Schlag, Irie and Schmidhuber (2021).
    """
    total = x.sum(-1, keepdim=True)
    return x / torch.where(total == 0, 1.0, total)


def dpfp(x: Tensor, nu: int = 1) -> Tensor:
    r"""Deterministic parameter-free projection: products of rectified numbers with their neighbours, 2 D :math:`\nu` of them.

    With :math:`r = \text{relu}([x, -x])`, the features are :math:`r_i \, r_{i + j}` for j from 1 to :math:`\nu`, indices turning round: few of them are active
    together, so more keys are orthogonal.

    Args:
        x: (..., D).
        nu: neighbours, from 1 to 2 D - 1.

    Raises:
        ValueError: ``nu`` out of its range.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import dpfp
        >>> dpfp(torch.tensor([1.0, 2.0]))
        tensor([0., 2., 0., 0.])

    Source: Schlag, Irie and Schmidhuber (2021), section 5.3.
    """
    if not 1 <= nu < 2 * x.shape[-1]:
        raise ValueError(f"`dpfp(nu=...)` must be from 1 to {2 * x.shape[-1] - 1}, below twice the size; got {nu}.")
    both = torch.relu(torch.cat([x, -x], dim=-1))
    return torch.cat([both * both.roll(shift, dims=-1) for shift in range(1, nu + 1)], dim=-1)
