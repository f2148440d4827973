"""Constraints: any solver, kept within a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Objective, Point
from ebm.solvers.base import Field, Solver, Step, View, Wrapper

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

    Rest is where the *projected* move vanishes, so the residual is the root mean square of :math:`P(z + F) - z`.

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

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the solver inside needs."""
        return self.inner.needs

    @property
    def keep(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the solver inside keeps."""
        return self.inner.keep

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside draws noise."""
        return self.inner.noisy

    @property
    def samples(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside draws from a distribution."""
        return self.inner.samples

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of the solver inside, over the projected field."""
        return self.inner.step(_Projected(field, self.onto), point, memory, draw)

    def start(self, z: Any) -> Any:
        """The start, moved into the set."""
        return self.onto(self.inner.start(z))

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        """Root mean square of the projected move."""
        target = self.onto(rows.add(point.z, point.force))
        return rows.rms(rows.map_rows(torch.sub, target, point.z))

    def move(self, objective: Objective, point: Point, c: Any) -> Any:
        """The projected move."""
        target = self.onto(rows.add(point.z, self.inner.move(objective, point, c)))
        return rows.map_rows(torch.sub, target, point.z)


class _Projected(View):
    """A field that sees only latents of the set."""

    def __init__(self, field: Field, onto: Callable[[Any], Any]) -> None:
        super().__init__(field)
        self._onto = onto

    def __call__(self, z: Any) -> Point:
        return self.field(self._onto(z))
