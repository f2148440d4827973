"""A cell whose latent is a few matrices and whose operations are products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm.noise import Draw
from ebm.objective import Update
from ebm.solvers import Picard
from ebm.solvers.base import Solver

__all__ = ["MatrixCell"]


class MatrixCell(Update):
    r"""An iterated map of matrices made of products alone.

    With the observation scaled to a spectral norm of at most one, :math:`X = x / \sqrt{|x|_1 |x|_\infty}`, and the stack
    :math:`S = (I, X, X^\top, Z, Z^\top)`,

    .. math:: P = (A S)(B S), \qquad Q = \bigl(C [S, P]\bigr) \bigl(D [S, P]\bigr), \qquad f(Z; X) = E [S, P, Q],

    where A to E mix the matrices of a stack by numbers, and products are of matrices. So a step can hold :math:`Z (2 I - X Z)`, the step of Newton and
    Schulz. There is no other parameter: the cell knows neither the size of the matrices nor their basis, :math:`f(O Z O^\top; O X O^\top) = O f(Z; X) O^\top`
    for orthogonal O, and what it learns on small matrices it does on large ones. Settling starts at :math:`Z = (X^\top, 0, \ldots)`.

    Args:
        width: matrices in the latent (B, width, n, n), at least 1; the first is the answer.
        products: products in each of P and Q, at least 1.
        bound: above 0; a latent of a larger Frobenius norm is scaled back to it, so that no settings run away. An inverse has, in the scale of X, at most
            about the condition number of x.
        power: the answer is :math:`Z_1 s^{p}` with s the scale :math:`\sqrt{|x|_1 |x|_\infty}` and p = ``power``: -1 for an inverse, 1 for a part of x.

    Raises:
        ValueError: a setting outside its range; at the call, an observation other than (B, 1, n, n).

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MatrixCell(width=2, products=3)
        >>> problems = ebm.tasks.Inverse(size=6).sample(4, torch.Generator().manual_seed(0))
        >>> ebm.infer(cell.eval(), problems.x, steps=5).answer.shape, sum(p.numel() for p in cell.parameters())
        (torch.Size([4, 6, 6]), 128)

    Source: ours; the iteration that it can hold is that of Schulz (1933), with the start of Ben-Israel and Cohen (1966).
    """

    def __init__(self, width: int = 2, products: int = 4, power: float = -1.0, bound: float = 1e5) -> None:
        super().__init__()
        for name, value in (("width", width), ("products", products)):
            if type(value) is not int or value < 1:
                raise ValueError(f"`MatrixCell({name}=...)` is a whole number of at least 1; got {value!r}. Try 2.")
        if not bound > 0:
            raise ValueError(f"`MatrixCell(bound=...)` is above 0; got {bound!r}. Try 1e5.")
        self.width, self.power, self.bound = width, power, bound
        stack = 3 + 2 * width
        self.first = nn.Parameter(0.3 * torch.randn(2, products, stack))  # A, B
        self.second = nn.Parameter(0.3 * torch.randn(2, products, stack + products))  # C, D
        out = torch.zeros(width, stack + 2 * products)
        out[:, 3 : 3 + width] = torch.eye(width)  # at first, f keeps Z
        self.out = nn.Parameter(out + 0.03 * torch.randn_like(out))  # E

    def condition(self, x: Tensor) -> dict[str, Tensor]:
        """The scaled observation and its scale."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != 1 or x.shape[2] != x.shape[3]:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"`MatrixCell` reads square matrices (B, 1, n, n); got {got}. Add an axis, or cut it square."
            )
        size = (x.abs().sum(2).amax(2) * x.abs().sum(3).amax(2)).sqrt()[..., None, None]
        return {"scaled": x / size, "size": size}

    def init_latent(self, c: dict[str, Tensor], draw: Draw) -> Tensor:
        """The transpose of the scaled observation, then zeros."""
        first = c["scaled"].transpose(2, 3)
        return torch.cat([first, torch.zeros_like(first).expand(-1, self.width - 1, -1, -1)], 1)

    def forward(self, z: Tensor, c: dict[str, Tensor]) -> Tensor:
        """The next matrices."""
        x = c["scaled"]
        identity = torch.eye(x.shape[3], dtype=x.dtype, device=x.device).expand_as(x)
        stack = torch.cat([identity, x, x.transpose(2, 3), z, z.transpose(2, 3)], 1)
        stack = torch.cat([stack, _products(self.first, stack)], 1)
        moved = _mixed(self.out, torch.cat([stack, _products(self.second, stack)], 1))
        norm = moved.flatten(1).norm(dim=1).clamp_min(self.bound)
        return moved * (self.bound / norm)[:, None, None, None]

    def readout(self, z: Tensor, c: dict[str, Tensor]) -> Any:
        """The first matrix, scaled back."""
        return z[:, 0] * c["size"][:, 0] ** self.power

    def default_solver(self) -> Solver:
        """`Picard`: the cell's own step."""
        return Picard()


def _mixed(weights: Tensor, stack: Tensor) -> Tensor:
    """Sums of a stack's matrices, (B, out, n, n)."""
    return (weights @ stack.flatten(2)).unflatten(2, stack.shape[2:])


def _products(weights: Tensor, stack: Tensor) -> Tensor:
    """Products of two sums each."""
    left, right = weights
    return _mixed(left, stack) @ _mixed(right, stack)
