"""The nuclear norm: what keeps the rank of a matrix low."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.models.terms import Weighted, total

__all__ = ["NuclearNorm"]


class NuclearNorm(Weighted):
    r"""The sum of singular values, :math:`g(Z) = w \sum_i \sigma_i(Z)`; it keeps the rank of a matrix low.

    The matrices are the last two axes of a leaf, (B, ..., m, n). With the observed entries of a matrix as the smooth part of a
    `Composite` energy, the lowest point is a completion of low rank. A step takes a singular value decomposition, which has no
    formula in FLOPs: `Solution.uncounted` lists it.

    Args:
        weight: w >= 0; a number, or a tensor of one number, learned if a parameter.

    Raises:
        ValueError: a weight below zero, not finite, or of several numbers; at the call, a leaf without two axes for a matrix.

    Example:
        >>> import torch, ebm
        >>> ebm.NuclearNorm(1.0).prox(torch.diag(torch.tensor([3.0, 0.5]))[None], 1.0)
        tensor([[[2., 0.],
                 [0., 0.]]])

    Source: Fazel, Hindi and Boyd (2001); its proximal map is that of Cai, Candes and Shen (2010), who threshold singular values.
    """

    def __init__(self, weight: float | Tensor) -> None:
        super().__init__(weight)
        if isinstance(weight, Tensor) and weight.numel() != 1:
            raise ValueError(
                f"`NuclearNorm(weight)` is one number for all singular values; got a tensor {tuple(weight.shape)}. Try 0.1."
            )

    def forward(self, z: Any) -> Tensor:
        def cost(leaf: Tensor) -> Tensor:
            safe, lost = _apart(_matrices(leaf))
            return self.weight * torch.linalg.svdvals(safe).masked_fill(lost[..., 0], float("nan"))

        return total(rows.map_rows(cost, z))

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """Every singular value falls by at most weight times step size, and not below zero."""

        def lower(leaf: Tensor) -> Tensor:
            step = torch.as_tensor(self.steps(size, _matrices(leaf)), dtype=leaf.dtype, device=leaf.device)
            return _Lowered.apply(leaf, step.expand(leaf.shape[0], *([1] * (leaf.ndim - 1))))  # pyright: ignore[reportReturnType]

        return rows.map_rows(lower, z)


def _apart(leaf: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros in place of matrices that are not finite, of which nothing can be factored, and which those are, (B, ..., 1, 1)."""
    lost = ~leaf.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    return leaf.masked_fill(lost, 0.0), lost


def _matrices(leaf: Tensor) -> Tensor:
    if leaf.ndim < 3:
        raise ValueError(
            f"`NuclearNorm` wants matrices (B, ..., m, n); got a leaf {tuple(leaf.shape)}. Give a sample two axes, `z[..., None]`, say."
        )
    return leaf


class _Lowered(torch.autograd.Function):
    r"""Singular values less a step, :math:`F(Z) = U f(S) V^\top`, with a gradient that is whole where singular values meet.

    The derivative of a spectral map is linear and its own transpose: in the basis of U and V it weighs the symmetric part of a change by
    :math:`(f_i - f_j) / (s_i - s_j)`, the skew part by :math:`(f_i + f_j) / (s_i + s_j)`, and what lies outside by
    :math:`f_j / s_j`.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, step: Tensor) -> Tensor:
        safe, lost = _apart(z)
        u, s, v = torch.linalg.svd(safe, full_matrices=False)
        lowered = (s - step[..., 0]).clamp_min(0.0)
        ctx.save_for_backward(u, s, v, lowered, step)
        return ((u * lowered[..., None, :]) @ v).masked_fill(lost, float("nan"))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The proximal map of `NuclearNorm` was differentiated with `create_graph=True`; it has a first derivative only. "
                "Leave `create_graph` out, or settle a smooth energy."
            )
        u, s, v, lowered, step = ctx.saved_tensors
        above = (s > step[..., 0]).to(s.dtype)
        inner = u.mT @ slope @ v.mT
        half, other = 0.5 * (inner + inner.mT), 0.5 * (inner - inner.mT)
        rise = _ratio(_table(lowered, -lowered), _table(s, -s), 0.5 * _table(above, above))
        turn = _ratio(_table(lowered, lowered), _table(s, s), 0.5 * _table(above, above))
        share = _ratio(lowered, s, above)
        left, right = slope @ v.mT - u @ inner, u.mT @ slope - inner @ v  # what lies outside the spans of U and V
        moved = (
            u @ (half * rise + other * turn) @ v + (left * share[..., None, :]) @ v + (u * share[..., None, :]) @ right
        )
        along = -(inner.diagonal(dim1=-2, dim2=-1) * above).flatten(1).sum(1)
        return moved, along.view(-1, *([1] * (slope.ndim - 1)))


def _table(first: Tensor, second: Tensor) -> Tensor:
    return first[..., :, None] + second[..., None, :]


def _ratio(above: Tensor, below: Tensor, limit: Tensor) -> Tensor:
    """A quotient, or its limit where there is nothing to divide by."""
    apart = below.abs() > torch.finfo(below.dtype).eps ** 0.5 * below.abs().amax((-1,), keepdim=True).clamp_min(1e-30)
    return torch.where(apart, above / torch.where(apart, below, torch.ones_like(below)), limit)
