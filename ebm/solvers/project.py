"""Constraints: any solver, kept within a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Objective, Point, Product, variable
from ebm.solvers.base import Field, Solver, Step, View, Wrapper
from ebm.solvers.seen import SeenView

__all__ = ["Box", "Project", "Sphere"]


@dataclass(frozen=True)
class Box:
    """The box ``low <= z <= high``, number by number; ``Box(low=0)`` is the non-negative numbers.

    Example:
        >>> import torch, ebm
        >>> ebm.Box(0.0, 1.0)(torch.tensor([[-1.0, 0.5, 2.0]]))
        tensor([[0.0000, 0.5000, 1.0000]])
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError(
                "`Box()` without an end holds everything; got neither `low` nor `high`. Pass at least one."
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"`Box(low, high)` needs low <= high; got {self.low} > {self.high}. Swap them.")

    def __call__(self, z: Any) -> Any:
        """The nearest point of the box."""
        return rows.map_rows(lambda leaf: leaf.clamp(self.low, self.high), z)


@dataclass(frozen=True)
class Sphere:
    """The sphere of a radius around zero, over the last axis of each leaf.

    Example:
        >>> import torch, ebm
        >>> ebm.Sphere()(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    radius: float = 1.0

    def __call__(self, z: Any) -> Any:
        """The nearest point of the sphere; zero stays where it is, having no nearest one."""
        return rows.map_rows(self._leaf, z)

    def _leaf(self, leaf: Tensor) -> Tensor:
        # a leaf (B,) holds one number a sample: its last axis is the sample
        norm = leaf.abs() if leaf.ndim == 1 else torch.linalg.vector_norm(leaf, dim=-1, keepdim=True)
        return leaf * (self.radius / torch.where(norm > torch.finfo(leaf.dtype).tiny, norm, 1.0))


@dataclass(frozen=True)
class Project(Wrapper):
    r"""Any solver, with every proposal moved to the nearest point of a set: :math:`z' = P(z + \text{move})`.

    Rest is where the *projected* move vanishes, so the residual is the root mean square of :math:`P(z + F) - z`. A solver that
    searches along the force or learns from it (``learns``) is shown this move in place of the force, which at a wall does not
    vanish, and products with :math:`J H J + (1 - J)`, J the Jacobian of P there: those of the move.

    Args:
        inner: the solver to constrain.
        onto: maps a latent (a row tree) to the nearest latent allowed, sample by sample: `Box`, `Sphere`, or your own.

    Raises:
        TypeError: ``inner`` is no solver, or ``onto`` cannot be called.

    Example:
        >>> import ebm
        >>> ebm.Project(ebm.Descent(0.1), ebm.Box(low=0.0)).inner
        Descent(step_size=0.1, momentum=0.0, nesterov=False)

    Source: Goldstein (1964); Levitin and Polyak (1966), the gradient projection method.
    """

    inner: Solver
    onto: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver):
            raise TypeError(
                f"`Project` wraps a solver; got {type(self.inner).__name__}. Pass `Project(Descent(0.1), Box(0, 1))`, say."
            )
        if not callable(self.onto):
            raise TypeError(
                f"`Project(onto=...)` must be callable; got {type(self.onto).__name__}. Pass `Box(0, 1)`, say."
            )

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of the solver inside, over the projected field."""
        if not self.learns:
            return self.inner.step(_Projected(field, self.onto), point, memory, draw)
        return _Reduced(field, self.onto, point).stepped(self.inner, memory, draw)

    def start(self, z: Any) -> Any:
        """The start, moved into the set."""
        return self.onto(self.inner.start(z))

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        """Root mean square of the projected move."""
        return rows.rms(self.move(objective, point, c))

    def move(self, objective: Objective, point: Point, c: Any) -> Any:
        """The projected move."""
        return _move(self.onto, point.z, self.inner.move(objective, point, c))


def _move(onto: Callable[[Any], Any], z: Any, force: Any) -> Any:
    """``P(z + F) - z``; the force itself, to its last digit, where nothing is cut."""

    def cut(allowed: Tensor, target: Tensor, leaf: Tensor, along: Tensor) -> Tensor:
        return torch.where(allowed == target, along, allowed - leaf)

    target = rows.add(z, force)
    return rows.map_rows(cut, onto(target), target, z, force)


def _free(onto: Callable[[Any], Any], target: Any) -> Product:
    """Products with the Jacobian of the projection, which is symmetric: for a box, ones where it cuts nothing."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = rows.map_rows(lambda leaf: variable(leaf, keep), target)
        found = onto(inputs)
    leaves = [(put, got) for put, got in zip(rows.leaves(inputs), rows.leaves(found), strict=True)]
    moved = [got.requires_grad for _, got in leaves]

    def product(direction: Any) -> Any:
        along = [v for v, does in zip(rows.leaves(direction), moved, strict=True) if does]
        ends = [got for _, got in leaves if got.requires_grad]
        slopes = torch.autograd.grad(
            ends,
            [put for put, _ in leaves],
            along,
            retain_graph=True,
            create_graph=keep,
            allow_unused=True,
            materialize_grads=True,
        )
        each = iter(slopes)
        return rows.map_rows(lambda _: next(each), direction)

    return product


class _Projected(View):
    """A field that sees only latents of the set."""

    def __init__(self, field: Field, onto: Callable[[Any], Any]) -> None:
        super().__init__(field)
        self._onto = onto

    def __call__(self, z: Any) -> Point:
        return self.field(self._onto(z))


class _Reduced(SeenView):
    """A field that sees only latents of the set, and shows the projected moves there for forces."""

    def __init__(self, field: Field, onto: Callable[[Any], Any], point: Point) -> None:
        super().__init__(field, point)
        self._onto = onto

    def shown(self, point: Point) -> Point:
        return point._replace(force=_move(self._onto, point.z, point.force))

    def around(self, z: Any) -> Any:
        return self._onto(z)

    def curvature(self, z: Any) -> Product:
        return self._within(self.field.curvature(z))

    def gauss_newton(self, z: Any) -> Product:
        return self._within(self.field.gauss_newton(z))

    def _within(self, product: Product) -> Product:
        """Products with the slope of the projected move where the step begins, made symmetric."""
        point = self._point if self._samples is None else Point(*rows.take(tuple(self._point), self._samples))
        free = _free(self._onto, rows.add(point.z, point.force))

        def asked(direction: Any, needed: Tensor | None = None) -> Any:
            inside = free(direction)
            return rows.map_rows(
                lambda bent, v, kept: bent + (v - kept), free(product(inside, needed)), direction, inside
            )

        return asked
