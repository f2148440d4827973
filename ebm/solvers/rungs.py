"""A latent on a ladder of landscapes, and how a solver that knows no rungs sees it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm.objective import Objective, Point, Product
from ebm.solvers.base import Field, View

__all__ = ["Inside", "OnRung", "RungView", "above", "below", "groups_of", "level_count"]


class OnRung(NamedTuple):
    """A latent on a ladder: the latent itself, and which landscape it stands in.

    Attributes:
        z: the latent, a row tree.
        rung: (B,), whole numbers from zero in the dtype of the latent.

    Example:
        >>> import torch
        >>> from ebm import OnRung
        >>> OnRung(torch.zeros(2, 3), torch.zeros(2)).rung
        tensor([0., 0.])
    """

    z: Any
    rung: Tensor


def level_count(rungs: int) -> str:
    """The capability of an objective that has so many landscapes."""
    return f"{rungs} levels"


class RungView(View):
    """A field of latents on a ladder, seen by a solver that knows no rungs."""

    def __init__(self, field: Field, rung: Tensor) -> None:
        super().__init__(field)
        self._rung = rung

    def of(self, samples: Tensor) -> Field:
        return RungView(self.field.of(samples), self._rung[samples])

    def __call__(self, z: Any) -> Point:
        return below(self.field(OnRung(z, self._rung)))

    def curvature(self, z: Any) -> Product:
        product = self.field.curvature(OnRung(z, self._rung))
        zero = torch.zeros_like(self._rung)
        return lambda direction, needed=None: product(OnRung(direction, zero), needed).z


class Inside:
    """An objective on a ladder, as the residual of a solver that knows no rungs sees it."""

    def __init__(self, objective: Objective, rung: Tensor) -> None:
        self._objective = objective
        self._rung = rung

    def residual(self, point: Point, c: Any) -> Tensor:
        """That of the ladder."""
        return self._objective.residual(above(point, self._rung), c)

    def move(self, point: Point, c: Any) -> Any:
        """That of the ladder, without its rung."""
        return self._objective.move(above(point, self._rung), c).z


def below(point: Point) -> Point:
    """A point on a ladder without its rung."""
    return Point(point.z.z, point.energy, point.force.z)


def above(point: Point, rung: Tensor) -> Point:
    """The point with its rung, on which no force acts."""
    return Point(OnRung(point.z, rung), point.energy, OnRung(point.force, torch.zeros_like(rung)))


def groups_of(rung: Tensor, own: list[int]) -> list[tuple[int, Tensor]]:
    """The samples of each solver: its number and an index; ``own`` says the number of each rung's."""
    if len(set(own)) == 1:
        return [(own[0], torch.arange(len(rung), device=rung.device))]
    numbers = torch.tensor(own, device=rung.device)[rung.round().to(torch.int64).clamp(0, len(own) - 1)]
    return [(number, (numbers == number).nonzero().flatten()) for number in numbers.unique().tolist()]
