"""The inverse temperature of a memory that was told none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["suiting_beta"]

_OWN, _RUNS, _RUN = 128, 64, 32  # patterns looked at, and their rivals: so many runs of so many rows each
_ROOM = 8.0  # a query need keep only an eighth of its pattern's lead
_SAME = 1e-6  # a lead below this share of a pattern's square is none: the same pattern once more


@torch.no_grad()
def suiting_beta(patterns: Any) -> float:
    r"""The inverse temperature at which softmax recall tells these patterns apart, :math:`\beta = 8 \ln N / \text{median}_i \, \Delta_i`.

    :math:`\Delta_i = x_i^T x_i - \max_{j \ne i} x_j^T x_i` is the lead of a pattern over its closest rival. At :math:`\beta \Delta_i = \ln N` the
    rivals may weigh as much as the pattern together; eight times that leaves room for queries that are incomplete or noisy, and for patterns whose
    lead is an eighth of the median. Patterns without a lead are left out: products recall another in their place at any temperature. The leads are those of
    some patterns, evenly spread, over some thousand others. Where there are none, and for patterns that are a parameter, it is :math:`1 / \sqrt D`, as in attention: what
    will be learned is not known yet, and a softmax that has already chosen passes no gradient.

    Args:
        patterns: (N, D), a tensor, or anything with a ``shape`` that can be cut by a slice of rows.

    Example:
        >>> import math, torch
        >>> from ebm.models.temperature import suiting_beta
        >>> math.isclose(suiting_beta(torch.eye(4)), 8 * math.log(4)), suiting_beta(torch.nn.Parameter(torch.eye(4)))
        (True, 0.5)
    """
    count, width = patterns.shape
    if isinstance(patterns, nn.Parameter):
        return width**-0.5
    rivals = _some(patterns, count)
    own = rivals[:: -(-len(rivals) // _OWN)]
    square = own.square().sum(1, keepdim=True)
    lead = square - own @ rivals.T
    lead = lead.masked_fill(lead.abs() <= _SAME * square, torch.inf).amin(1)
    lead = lead[(lead > 0) & lead.isfinite()]
    return _ROOM * math.log(count) / float(lead.median()) if len(lead) and count > 1 else width**-0.5


def _some(patterns: Any, count: int) -> Tensor:
    """Evenly spread runs of rows, in float64; all rows where they are few."""
    runs = [slice(0, count)]
    if count > _RUNS * _RUN:
        runs = [slice(first, first + _RUN) for first in range(0, count - _RUN + 1, (count - _RUN) // (_RUNS - 1))]
    parts = [patterns[run] for run in runs]
    # a copy: a memory map may be read-only, which a tensor cannot be
    return torch.cat([part if isinstance(part, Tensor) else torch.tensor(part) for part in parts]).double()
