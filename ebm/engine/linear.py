"""Linear solvers for implicit gradients: per sample, batched, each with its own tolerance and budget."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.anderson import Anderson

__all__ = ["GMRES", "AndersonLinear", "ConjugateGradient", "LinearSolveWarning", "LinearSolver", "Neumann"]

Matrix = Callable[[Tensor], Tensor]
_S = TypeVar("_S", bound="LinearSolver")


class LinearSolveWarning(UserWarning):
    """The linear solve behind an implicit gradient ended above its tolerance; the gradient of those samples is inexact.

    Example:
        >>> import warnings, ebm
        >>> warnings.simplefilter("error", ebm.LinearSolveWarning)  # make it an exception
    """


@dataclass(frozen=True)
class LinearSolver(ABC):
    r"""Solves :math:`A_i v_i = b_i` for every sample i, where A is known by its products alone.

    A sample that meets its tolerance moves no more; the others go on. The product is asked for all rows at once.

    Args:
        steps: the most products, at least 1.
        rtol: the residual to reach, relative to b; None: the square root of the dtype's machine precision.

    Raises:
        ValueError: a setting outside its range.
    """

    steps: int = 100
    rtol: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.steps < 1:
            raise ValueError(f"`{name}(steps=...)` must be at least 1; got {self.steps}. Try 100.")
        if self.rtol is not None and not self.rtol > 0:
            raise ValueError(f"`{name}(rtol=...)` must be above zero; got {self.rtol}. Leave it out, or try 1e-6.")

    def tolerance(self, dtype: torch.dtype) -> float:
        """The relative residual to reach in this dtype."""
        return math.sqrt(torch.finfo(dtype).eps) if self.rtol is None else self.rtol

    @abstractmethod
    def solve(self, product: Matrix, b: Tensor) -> Tensor:
        """The solutions, (B, D).

        Args:
            product: maps (B, D) to (B, D), row by row and linearly: A times each row.
            b: the right-hand sides, (B, D).
        """


def unit_size(b: Tensor) -> Tensor:
    """The largest number of each row, (B, 1), or one where that is zero or not finite; divided by it, no square underflows."""
    largest = b.abs().amax(1, keepdim=True) if b.numel() else b.new_ones(b.shape[0], 1)
    return torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)


def _safe(solve: Callable[[_S, Matrix, Tensor], Tensor]) -> Callable[[_S, Matrix, Tensor], Tensor]:
    """``solve`` for right-hand sides of any size and precision: rows of size one, and sums in float32 at least."""

    @functools.wraps(solve)
    def solved(self: _S, product: Matrix, b: Tensor) -> Tensor:
        size, half = unit_size(b), b.dtype in (torch.float16, torch.bfloat16)
        if not half:
            return solve(self, product, b / size) * size
        coarse = replace(self, rtol=self.tolerance(b.dtype))
        found = solve(coarse, lambda v: product(v.to(b.dtype)).float(), b.float() / size.float())
        return (found * size.float()).to(b.dtype)

    return solved


@dataclass(frozen=True)
class ConjugateGradient(LinearSolver):
    """Conjugate gradients: for symmetric positive definite A, which the Hessian at a strict minimum of an energy is.

    A sample that meets a direction of no or negative curvature stops there: its A is not positive definite.

    Args:
        steps: the most products, at least 1; D suffice in exact arithmetic.
        rtol: the residual to reach, relative to b; None: the square root of the dtype's machine precision.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> ebm.ConjugateGradient().solve(lambda v: v * torch.tensor([1.0, 4.0]), torch.ones(1, 2))
        tensor([[1.0000, 0.2500]])

    Source: Hestenes and Stiefel (1952).
    """

    @_safe
    def solve(self, product: Matrix, b: Tensor) -> Tensor:
        v, residual, direction = torch.zeros_like(b), b, b
        square = rows.dot(b, b)
        goal = square * self.tolerance(b.dtype) ** 2
        for _ in range(self.steps):
            active = square > goal
            if not bool(active.any()):
                break
            image = product(direction)
            curvature = rows.dot(direction, image)
            moves = active & (curvature > 0) & torch.isfinite(curvature)
            size = torch.where(moves, square / torch.where(moves, curvature, 1.0), 0.0)
            v = rows.where(moves, rows.add(v, direction, size), v)
            residual = rows.where(moves, rows.add(residual, image, -size), residual)
            new = rows.dot(residual, residual)
            turn = torch.where(moves, new / torch.where(moves, square, 1.0), 0.0)
            direction = rows.add(residual, direction, turn)
            square, goal = new, torch.where(active & ~moves, torch.inf, goal)  # a dead end counts as done
        return v


@dataclass(frozen=True)
class GMRES(LinearSolver):
    """Generalised minimal residuals, restarted: for any A, symmetric or not.

    Keeps ``window`` vectors like b, and begins anew from its answer when they are used up.

    Args:
        steps: the most products, at least 1.
        rtol: the residual to reach, relative to b; None: the square root of the dtype's machine precision.
        window: vectors before a restart, at least 1.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> ebm.GMRES().solve(lambda v: v @ turn, torch.tensor([[1.0, 2.0]])).round(decimals=4)
        tensor([[ 2., -1.]])

    Source: Saad and Schultz (1986), GMRES(m); orthogonalised twice by classical Gram-Schmidt.
    """

    window: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ValueError(f"`GMRES(window=...)` must be at least 1; got {self.window}. Try 20.")

    @_safe
    def solve(self, product: Matrix, b: Tensor) -> Tensor:
        v, left = torch.zeros_like(b), self.steps
        goal = torch.linalg.vector_norm(b, dim=1) * self.tolerance(b.dtype)
        residual = b
        while left > 0 and bool((torch.linalg.vector_norm(residual, dim=1) > goal).any()):
            move, used = self._cycle(product, residual, goal, min(self.window, left))
            v = v + move
            left -= used + 1
            if left > 0:
                residual = b - product(v)
        return v

    def _cycle(self, product: Matrix, residual: Tensor, goal: Tensor, most: int) -> tuple[Tensor, int]:
        """The best move within a Krylov space of up to ``most`` directions, and how many were used."""
        batch, eps = residual.shape[0], torch.finfo(residual.dtype).eps
        norm = torch.linalg.vector_norm(residual, dim=1)
        live = norm > goal
        basis = residual.new_zeros(batch, most + 1, residual.shape[1])
        basis[:, 0] = _unit(residual, norm, live)
        turned = torch.eye(most + 1, dtype=residual.dtype, device=residual.device).repeat(batch, 1, 1)
        triangle = residual.new_zeros(batch, most + 1, most)
        right = residual.new_zeros(batch, most + 1)
        right[:, 0] = norm
        used = 0
        for j in range(most):
            image = product(basis[:, j])
            size = torch.linalg.vector_norm(image, dim=1)
            column = residual.new_zeros(batch, most + 1)
            for _ in range(2):  # once loses orthogonality
                along = torch.bmm(basis[:, : j + 1], image[:, :, None])
                image = torch.baddbmm(image[:, None], along.mT, basis[:, : j + 1], alpha=-1)[:, 0]
                column[:, : j + 1] += along[:, :, 0]
            rest = torch.linalg.vector_norm(image, dim=1)
            column[:, j + 1] = rest
            column = torch.bmm(turned, column[:, :, None])[:, :, 0]
            turn = _rotation(column[:, j], column[:, j + 1])
            for held in (turned, right[:, :, None], column[:, :, None]):
                held[:, j : j + 2] = turn @ held[:, j : j + 2]
            triangle[:, :, j] = column
            used = j + 1
            # a row whose space is used up gets zero directions from here on, which move nothing
            live = live & (right[:, j + 1].abs() > goal) & (rest > 10 * eps * size)
            basis[:, j + 1] = _unit(image, rest, live)
            if not bool(live.any()):
                break
        return _combined(triangle[:, :used, :used], right[:, :used], basis[:, :used]), used


def _unit(vector: Tensor, norm: Tensor, live: Tensor) -> Tensor:
    return torch.where(live[:, None], vector / torch.where(live, norm, 1.0)[:, None], 0.0)


def _rotation(a: Tensor, b: Tensor) -> Tensor:
    """The rotations (B, 2, 2) that take (a, b) to (norm, 0)."""
    norm = torch.hypot(a, b)
    safe = torch.where(norm > 0, norm, 1.0)
    cos, sin = torch.where(norm > 0, a / safe, 1.0), b / safe
    return torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)


def _combined(triangle: Tensor, right: Tensor, basis: Tensor) -> Tensor:
    """The directions weighted by the solution of the triangular system; unused or singular ones get no weight."""
    diagonal, eps = triangle.diagonal(dim1=1, dim2=2).abs(), torch.finfo(right.dtype).eps
    largest = diagonal.amax(1, keepdim=True)
    if bool(((diagonal > 0) & (diagonal < eps**0.5 * largest)).any()):
        # nearly singular, which a diagonal does not show in full; a weight there would be rounding divided by rounding
        weights = torch.linalg.pinv(triangle, rtol=10 * triangle.shape[1] * eps) @ right[:, :, None]
    else:
        good = diagonal > 0
        safe = triangle + torch.diag_embed((~good).to(triangle.dtype))
        weights = torch.linalg.solve_triangular(safe, torch.where(good, right, 0.0)[:, :, None], upper=True)
        weights = torch.where(good[:, :, None], weights, 0.0)
    return torch.einsum("bm,bmd->bd", weights[:, :, 0], basis)


@dataclass(frozen=True)
class Neumann(LinearSolver):
    r"""The Neumann series, cut off: :math:`v \leftarrow v + a (b - A v)`, from zero.

    With a = 1, k steps on an update :math:`f` are k terms of the series of :math:`(1 - \partial f / \partial z)^{-1}`:
    what backpropagation through the last k steps would give, had they all been taken at rest. Few steps are the cheap,
    biased and shrunken gradient known as phantom.

    Args:
        steps: the most products, at least 1.
        rtol: the residual to reach, relative to b; None: the square root of the dtype's machine precision.
        step_size: a > 0; below 2 / L it converges where A is symmetric with eigenvalues in (0, L].

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> ebm.Neumann(steps=2, rtol=1e-9).solve(lambda v: 0.5 * v, torch.ones(1, 1))
        tensor([[1.5000]])

    Source: Lorraine, Vicol and Duvenaud (2020), section 4, for gradients; Geng et al. (2021), phantom gradients.
    """

    step_size: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step_size > 0:
            raise ValueError(f"`Neumann(step_size=...)` must be above zero; got {self.step_size}. Try 1.")

    @_safe
    def solve(self, product: Matrix, b: Tensor) -> Tensor:
        goal = torch.linalg.vector_norm(b, dim=1) * self.tolerance(b.dtype)
        v, residual = torch.zeros_like(b), b
        for step in range(self.steps):
            active = torch.linalg.vector_norm(residual, dim=1) > goal
            if not bool(active.any()):
                break
            v = rows.where(active, torch.add(v, residual, alpha=self.step_size), v)
            if step + 1 < self.steps:
                residual = b - product(v)
        return v


@dataclass(frozen=True)
class AndersonLinear(LinearSolver):
    r"""Anderson acceleration of :math:`v \leftarrow v + a (b - A v)`: for any A that this nearly settles.

    The mixing of `Anderson`, without its safeguard; on a linear system it does about what `GMRES` does with as many vectors,
    but slides where that restarts.

    Args:
        steps: the most products, at least 1.
        rtol: the residual to reach, relative to b; None: the square root of the dtype's machine precision.
        window: how many past vectors are mixed, at least 2.
        mixing: a > 0.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> ebm.AndersonLinear().solve(lambda v: v * torch.tensor([0.5, 1.5]), torch.ones(1, 2)).round(decimals=4)
        tensor([[2.0000, 0.6667]])

    Source: Walker and Ni (2011), section 2, on the likeness to GMRES; Bai et al. (2020) use it for implicit gradients.
    """

    window: int = 5
    mixing: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._solver()

    def _solver(self) -> Anderson:
        return Anderson(self.window, mixing=self.mixing, safeguard=None, every=1, spare=0.0)

    @_safe
    def solve(self, product: Matrix, b: Tensor) -> Tensor:
        solver, goal = self._solver(), torch.linalg.vector_norm(b, dim=1) * self.tolerance(b.dtype)

        def field(v: Any, samples: Any = None) -> Point:
            return Point(v, None, b - product(v))

        nothing: Any = None
        point = Point(torch.zeros_like(b), None, b)
        memory = solver.init(point)
        for _ in range(self.steps):
            active = torch.linalg.vector_norm(point.force, dim=1) > goal
            if not bool(active.any()):
                break
            step = solver.step(field, point, memory, nothing)  # pyright: ignore[reportArgumentType]
            point, memory = rows.where(active, (step.point, step.memory), (point, memory))
        return point.z
