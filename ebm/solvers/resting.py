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


def settled(
    field: Field, point: Point, memory: Any, length: Tensor, size: Tensor | None = None
) -> tuple[Point, Any, Tensor | None]:
    r"""The same point and memory, with the derivative of the rest instead of that of the way there, where the sample rests.

    A sample rests if its next move, of root mean square ``length``, is below two thirds of the digits of its latent. Newton's step changes nothing at rest, where the force F vanishes, but its derivative is right whatever came before:

    .. math:: dz \leftarrow dz + H^{-1} dF = H^{-1} \partial F, \qquad dF = \partial F - H\, dz

    H is the Hessian of the energy, and the derivative :math:`\partial F` holds z fixed. The backward pass applies
    :math:`H^{-1}` by conjugate gradients; what these do not reach, such as a direction in which the energy does not bend,
    keeps the derivative it had. Force and memory of these rows get none: they are rounding.

    Where rest is a proximal step that leads nowhere, :math:`z = P(z + a F)`, ``size`` is a; with D the derivative of P, which
    is a symmetric matrix, the system is :math:`dz = D (dz - a H dz + a\, \partial F)`.

    Returns:
        The point, the memory and which samples rest, bool (B,); without a graph what was given, and None.

    Source: Christianson (1994), Reverse accumulation and attractive fixed points; Gilbert (1992), Automatic differentiation
    and iterative processes.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return point, memory, None
    far = rows.rms(point.z).detach()
    calm = length.detach() <= torch.finfo(far.dtype).eps ** (2 / 3) * far
    if not bool(calm.any()):
        return point, memory, None
    return _resting(field, point, calm, size), held(memory, ~calm), calm


def ended(field: Field, point: Point, stalled: Tensor | None, size: Tensor | None = None) -> Point:
    """The same point; samples that can make no further progress are at rest as well as their energies can tell."""
    if stalled is None or not torch.is_grad_enabled() or torch.compiler.is_compiling() or not bool(stalled.any()):
        return point
    return _resting(field, point, stalled, size)


def _resting(field: Field, point: Point, calm: Tensor, size: Tensor | None) -> Point:
    flat = rows.flatten(point.z)
    flat = flat if flat.requires_grad else flat.detach().requires_grad_()
    inverse = _Inverse(calm) if size is None else _Kinked(calm, size)
    here = inverse.z = rows.unflatten(_Gate.apply(inverse, flat), point.z)
    moved = inverse.force = field.aside(here).force
    if isinstance(inverse, _Kinked):
        inverse.ahead = rows.add(here, moved, inverse.step)
        moved = inverse.moved = field.prox(inverse.ahead, inverse.step)
    there = rows.unflatten(_Settled.apply(inverse, flat, rows.flatten(moved)), point.z)
    return Point(rows.where(calm, there, point.z), point.energy, held(point.force, ~calm))


class _Inverse:
    """Solutions of :math:`H w = v` for samples at rest, and what is left of v; H is minus the derivative of ``force`` in ``z``."""

    def __init__(self, calm: Tensor) -> None:
        self.calm = calm
        self.z: Any = None
        self.force: Any = None
        self.once = True  # whether nobody has asked for a derivative of the derivative

    def __call__(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """w and v - H w; of samples that are not at rest zero and v."""
        found, rest = self._solved(self._bent, torch.where(self.calm[:, None], right, 0.0))
        return found, torch.where(self.calm[:, None], rest, right)

    def _bent(self, direction: Tensor) -> Tensor:
        return -_pulled(direction, self.force, self.z)

    def _solved(self, product: Callable[[Tensor], Tensor], right: Tensor) -> tuple[Tensor, Tensor]:
        """The solution for a symmetric matrix without negative eigenvalues, and the residual: zero where it is rounding.

        Source: Hestenes and Stiefel (1952).
        """
        limits = torch.finfo(right.dtype)
        eps = 10 * limits.eps
        unit = right.detach().abs().amax(1, keepdim=True)  # squares of small numbers would underflow
        unit = torch.where(unit > 0, unit, torch.ones_like(unit))
        rest = along = right / unit
        found, square = torch.zeros_like(rest), _dot(rest, rest)
        goal, steepest, active = eps * eps * square, torch.zeros_like(square), square > 0
        for _ in range(_PRODUCTS):
            if not bool(active.any()):
                break
            bent = product(along)
            length, curve = _dot(along, along), _dot(along, bent)
            steepest = torch.maximum(steepest, (curve / length.clamp_min(limits.tiny)).detach())
            up = active & (curve > eps * steepest * length)
            size = torch.where(up, square, 0.0) / torch.where(up, curve, 1.0)
            found = torch.addcmul(found, size[:, None], along)
            rest = torch.addcmul(rest, size[:, None], bent, value=-1)
            new = _dot(rest, rest)
            ratio = torch.where(up, new, 0.0) / torch.where(up, square, 1.0)
            along = torch.addcmul(rest, ratio[:, None], along)
            square, active = torch.where(up, new, square), up & (new > goal)
        return unit * found, unit * torch.where((square <= goal)[:, None], 0.0, rest)


class _Kinked(_Inverse):
    r"""Solutions of :math:`w - (I - a H) D w = v`: with :math:`D w = D u` it is :math:`(D - D^2 + a D H D) u = D v`."""

    def __init__(self, calm: Tensor, size: Tensor) -> None:
        super().__init__(calm)
        self.step, self.size = size, size[:, None]
        self.ahead: Any = None
        self.moved: Any = None

    def __call__(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """w and what is left of v; of samples that are not at rest zero and v."""
        calm = self.calm[:, None]
        own = torch.where(calm, right, 0.0)
        found, rest = self._solved(self._shrunk, self._projected(own))
        inside = self._projected(found)
        found, rest = (part - self.size * self._bent(part) for part in (inside, rest))
        return own + found, torch.where(calm, rest, right)

    def _projected(self, direction: Tensor) -> Tensor:
        return _pulled(direction, self.moved, self.ahead)

    def _shrunk(self, direction: Tensor) -> Tensor:
        inside = self._projected(direction)
        return self._projected(direction - inside + self.size * self._bent(inside))


def _pulled(direction: Tensor, outcome: Any, origin: Any) -> Tensor:
    """The product of a direction (B, D) with the derivative of a row tree in another."""
    ends, inputs = list(rows.leaves(outcome)), list(rows.leaves(origin))
    along = list(rows.leaves(rows.unflatten(direction, outcome)))
    found = torch.autograd.grad(
        ends, inputs, along, retain_graph=True, create_graph=torch.is_grad_enabled(), materialize_grads=True
    )
    return rows.flatten(tuple(found))


class _Gate(torch.autograd.Function):
    """The latent that the force is evaluated at. It sends nothing back, since `_Settled` says all that is left."""

    @staticmethod
    def forward(ctx: Any, inverse: _Inverse, z: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.inverse = inverse
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, torch.zeros_like(cotangent) if ctx.inverse.once else cotangent


class _Settled(torch.autograd.Function):
    """The latent, with the derivative of a Newton step from it.

    What is left of a cotangent is known to be nothing, where it is rounding; the sum of the two ways back, over the latent
    and over the force, would be of the size of that rounding, and the way before rest may be chaotic. A derivative of
    second order needs both ways.
    """

    @staticmethod
    def forward(ctx: Any, inverse: _Inverse, z: Tensor, force: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.inverse = inverse
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inverse = ctx.inverse
        inverse.once = inverse.once and not torch.is_grad_enabled()
        found, rest = inverse(cotangent)
        return None, rest if inverse.once else cotangent, found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
