"""Energies that are half a sum of squared residuals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Energy, Point, variable
from ebm.solvers import GaussNewton
from ebm.solvers.base import Solver

__all__ = ["LeastSquares"]


class LeastSquares(Energy):
    r"""An energy :math:`E(z; x) = \tfrac12 \|r(z; x)\|^2` that is given by its residuals.

    Define ``residuals(z, c)``, which returns (B, M), and ``init_latent(c, draw)``. The force is :math:`-J^T r`, one product
    with the transposed Jacobian. A weighted sum of squares is one of residuals times the square roots of the weights.

    Raises:
        ValueError: from `point`, if ``residuals`` returns anything but (B, M), or does not depend on the latent.

    Example:
        >>> import torch, ebm
        >>> class Circle(ebm.LeastSquares):
        ...     def init_latent(self, c, draw):
        ...         return torch.ones_like(c)
        ...     def residuals(self, z, c):
        ...         return torch.stack([z.square().sum(1) - 2, z[:, 0] - z[:, 1] - c[:, 0]], 1)
        >>> ebm.infer(Circle(), torch.zeros(1, 2) + 0.5, steps=20).z.square().sum(1).round(decimals=4)
        tensor([2.])

    Source: nonlinear least squares; Nocedal and Wright (2006), chapter 10.
    """

    provides = frozenset({"energy", "gradient", "residuals"})

    def residuals(self, z: Any, c: Any) -> Tensor:
        """What is to be made small, (B, M)."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say what it wants to be small. Define `residuals(self, z, c)`, shape (B, M)."
        )

    def forward(self, z: Any, c: Any) -> Tensor:
        """Half the squared length of the residuals, (B,)."""
        return 0.5 * self._checked_residuals(z, c).square().sum(1)

    def point(self, z: Any, c: Any) -> Point:
        """Energy and force by one product with the transposed Jacobian; differentiable where the grad mode asks for it."""
        if torch.compiler.is_compiling():
            found, pull = torch.func.vjp(lambda latent: self._checked_residuals(latent, c), z)  # pyright: ignore
            return Point(z, 0.5 * found.square().sum(1), rows.map_rows(torch.neg, pull(found)[0]))
        keep_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            latent = rows.map_rows(lambda leaf: variable(leaf, keep_graph), z)
            found = self._checked_residuals(latent, c)
            if not found.requires_grad:
                raise ValueError(
                    f"`{type(self).__name__}.residuals` must depend on the latent; got residuals without a graph. "
                    "Compute them from `z` with differentiable operations, without `.detach()`."
                )
            inputs = list(rows.leaves(latent))
            slopes = iter(torch.autograd.grad(found, inputs, found, create_graph=keep_graph, materialize_grads=True))
            energy = 0.5 * found.square().sum(1)
        force = rows.map_rows(lambda _: -next(slopes), latent)
        return Point(z, energy if keep_graph else energy.detach(), force)

    def default_solver(self) -> Solver | None:
        """`GaussNewton`."""
        return GaussNewton()

    def _checked_residuals(self, z: Any, c: Any) -> Tensor:
        found, batch = self.residuals(z, c), rows.count(z)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != batch:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"`{type(self).__name__}.residuals` must return one row of residuals a sample, shape ({batch}, M); got {got}. "
                "Flatten every axis but the first."
            )
        return found
