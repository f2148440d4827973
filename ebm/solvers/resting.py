"""The derivative of a step at rest.

At rest a step is rounding: its size, direction and momentum say nothing, and their derivatives grow without bound. What
is well defined there is the derivative of the rest itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field
from ebm.solvers.trial import held

__all__ = ["ended", "settled"]

_PRODUCTS = 50  # where they do not suffice, the next step at rest goes on


def settled(field: Field, point: Point, memory: Any, length: Tensor) -> tuple[Point, Any, Tensor | None]:
    r"""The same point and memory, with the derivative of the rest instead of that of the way there, where the sample rests.

    A sample rests if its next move, of root mean square ``length``, is below two thirds of the digits of its latent. Newton's step changes nothing at rest, where the force F vanishes, but its derivative is right whatever came before:

    .. math:: dz \leftarrow dz + H^{-1} dF = H^{-1} \partial F, \qquad dF = \partial F - H\, dz

    H is the Hessian of the energy, and the derivative :math:`\partial F` holds z fixed. The backward pass applies
    :math:`H^{-1}` by conjugate gradients; what these do not reach, such as a direction in which the energy does not bend,
    keeps the derivative it had. Force and memory of these rows get none: they are rounding.

    Returns:
        The point, the memory and which samples rest, bool (B,); without a graph what was given, and None.

    Source: Christianson (1994), Reverse accumulation and attractive fixed points; Gilbert (1992), Automatic differentiation
    and iterative processes.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return point, memory, None
    size = rows.rms(point.z).detach()
    calm = length.detach() <= torch.finfo(size.dtype).eps ** (2 / 3) * size
    if not bool(calm.any()):
        return point, memory, None
    return _resting(field, point, calm), held(memory, ~calm), calm


def ended(field: Field, point: Point, stalled: Tensor | None) -> Point:
    """The same point; samples that can make no further progress are at rest as well as their energies can tell."""
    if stalled is None or not torch.is_grad_enabled() or torch.compiler.is_compiling() or not bool(stalled.any()):
        return point
    return _resting(field, point, stalled)


def _resting(field: Field, point: Point, calm: Tensor) -> Point:
    inverse = _Inverse(calm, point.z)
    here = rows.unflatten(_Gate.apply(inverse, rows.flatten(point.z)), point.z)
    inverse.latent, inverse.force = here, field(here).force
    there = rows.unflatten(
        _Settled.apply(inverse, rows.flatten(point.z), rows.flatten(inverse.force)), point.z
    )
    return Point(rows.where(calm, there, point.z), point.energy, held(point.force, ~calm))


class _Inverse:
    """Solutions of :math:`H w = v` for samples at rest, and what is left of v."""

    def __init__(self, calm: Tensor, like: Any) -> None:
        self.calm, self.like = calm, like
        self.latent: Any = None
        self.force: Any = None

    def product(self, direction: Tensor) -> Tensor:
        """H times a direction, (B, D)."""
        along = list(rows.leaves(rows.unflatten(direction, self.like)))
        found = torch.autograd.grad(
            list(rows.leaves(self.force)),
            list(rows.leaves(self.latent)),
            along,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            materialize_grads=True,
        )
        return -rows.flatten(tuple(found))

    def __call__(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """w and the residual v - H w, which is zero where only rounding is left of it; of other samples, zero and v.

        Source: Hestenes and Stiefel (1952).
        """
        eps = 10 * torch.finfo(right.dtype).eps
        unit = right.detach().abs().amax(1, keepdim=True)  # squares of small numbers would underflow
        unit = torch.where(unit > 0, unit, torch.ones_like(unit))
        rest = torch.where(self.calm[:, None], right / unit, 0.0)
        found, along, square = torch.zeros_like(rest), rest, _dot(rest, rest)
        goal, steepest, active = eps * eps * square, torch.zeros_like(square), square > 0
        for _ in range(_PRODUCTS):
            if not bool(active.any()):
                break
            bent = self.product(along)
            length, curve = _dot(along, along), _dot(along, bent)
            steepest = torch.maximum(steepest, (curve / length.clamp_min(torch.finfo(right.dtype).tiny)).detach())
            up = active & (curve > eps * steepest * length)
            size = torch.where(up, square, 0.0) / torch.where(up, curve, 1.0)
            found = torch.addcmul(found, size[:, None], along)
            rest = torch.addcmul(rest, size[:, None], bent, value=-1)
            new = _dot(rest, rest)
            ratio = torch.where(up, new, 0.0) / torch.where(up, square, 1.0)
            along = torch.addcmul(rest, ratio[:, None], along)
            square, active = torch.where(up, new, square), up & (new > goal)
        rest = torch.where((square <= goal)[:, None], 0.0, rest)
        return unit * found, torch.where(self.calm[:, None], unit * rest, right)


class _Gate(torch.autograd.Function):
    """The latent, which sends nothing back where `_Settled` has said what is left; but in a derivative of second order."""

    @staticmethod
    def forward(ctx: Any, inverse: _Inverse, z: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.inverse = inverse
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            return None, cotangent
        return None, torch.zeros_like(cotangent)


class _Settled(torch.autograd.Function):
    """The latent, with the derivative of a Newton step from it."""

    @staticmethod
    def forward(ctx: Any, inverse: _Inverse, z: Tensor, force: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.inverse = inverse
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found, rest = ctx.inverse(cotangent)
        return None, cotangent if torch.is_grad_enabled() else rest, found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
