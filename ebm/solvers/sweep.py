"""Gauss-Seidel over the parts of a latent: any solver, applied to one part at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point, Product
from ebm.solvers.base import Field, Info, Solver, Step, Wrapper
from ebm.solvers.seen import SeenView

__all__ = ["Sweep"]


@dataclass(frozen=True)
class Sweep(Wrapper):
    r"""Any solver, applied to the parts of a latent in turn, each given the newest values of the others.

    .. math:: z_p \leftarrow \text{step}\bigl(z_p;\; z_1', \dots, z_{p-1}', z_{p+1}, \dots, z_n\bigr), \qquad p = 1, \dots, n

    A part is a leaf of the latent, or with ``blocks`` one of so many blocks of columns of the flat latent, as even as can
    be. Every part has a memory of the solver's own, so step sizes fit it: parts of different curvature need no common one.

    A sweep costs what the solver asks for, once a part: with a solver of one evaluation a step, n evaluations, each of the
    whole objective. It pays where parts differ much in scale, or where updates of all parts at once overshoot.

    Args:
        inner: the solver to apply to each part; it may ask for points and for products with the curvature or the residuals.
        blocks: how many blocks of columns, at least 2 and at most the numbers of a sample; None takes the leaves.

    Raises:
        TypeError: ``inner`` is no solver.
        ValueError: a solver that needs more than the field of a part can answer or keeps points of its own (`Restarts`,
            `Tempering`), fewer than two blocks, or more than there are numbers.

    Example:
        >>> import ebm
        >>> ebm.Sweep(ebm.Descent(0.5), blocks=4)
        Sweep(inner=Descent(step_size=0.5, momentum=0.0, nesterov=False), blocks=4)

    Source: block coordinate descent, Bertsekas and Tsitsiklis (1989); with blocks of one number, an inner step of one over
    the curvature and a quadratic energy, the method of Gauss and Seidel.
    """

    inner: Solver
    blocks: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver):
            raise TypeError(
                f"`Sweep` wraps a solver; got {type(self.inner).__name__}. Pass `Sweep(AdaptiveDescent())`, say."
            )
        beyond = sorted(self.inner.needs - {"energy", "gradient", "residuals"})
        if beyond:
            raise ValueError(
                f"`Sweep` shows a solver one part of a latent, which cannot answer {', '.join(beyond)}; "
                f"{type(self.inner).__name__} needs that. Pass a solver that asks for points, such as `AdaptiveDescent()`."
            )
        if self.inner.recalls:
            raise ValueError(
                f"`Sweep` moves the parts in turn, and the points that {type(self.inner).__name__} keeps of a part would be those of "
                "other parts than there are by then. Turn them round, as in `Restarts(8, Sweep(AdaptiveDescent()), spread=1.0)`."
            )
        if self.blocks is not None and self.blocks < 2:
            raise ValueError(
                f"`Sweep(blocks=...)` must be at least 2; got {self.blocks}. Leave it out to take the leaves of the latent."
            )

    @property
    def additive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside is: a part is added to as the whole would be."""
        return self.inner.additive

    def init(self, point: Point) -> Any:
        """A memory of the solver inside for each part, and which parts are stuck, bool (B, parts)."""
        count = len(self._split(point.z))
        stuck = torch.zeros(rows.count(point.z), count, dtype=torch.bool, device=rows.first_leaf(point.z).device)
        return {"parts": tuple(self.inner.init(self._part(point, part)) for part in range(count)), "stuck": stuck}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """What the solver inside may ask for, added up over the parts."""
        total: dict[str, int] = {}
        for part in self._split(z):
            for kind, times in self.inner.most(part, differentiated).items():
                total[kind] = total.get(kind, 0) + times
        return total

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of the solver inside for each part, in order."""
        before, memories, infos = point.z, [], []
        for part, remembered in enumerate(memory["parts"]):
            step = _PartView(field, self, point, part).stepped(self.inner, remembered, draw)
            point = step.point
            memories.append(step.memory)
            infos.append(step.info)
        # parts that cannot move may say so in different sweeps: it holds for as long as no part moves
        still = rows.same_rows(point.z, before)
        none = torch.zeros_like(still)
        stuck = torch.stack([none if info.stalled is None else info.stalled for info in infos], 1)
        stuck = stuck | (memory["stuck"] & still[:, None])
        return Step(point, {"parts": tuple(memories), "stuck": stuck}, Info(_moved(infos), stuck.all(1), _busy(infos)))

    def _part(self, point: Point, part: int) -> Point:
        return Point(self._split(point.z)[part], point.energy, self._split(point.force)[part])

    def _split(self, tree: Any) -> list[Tensor]:
        if self.blocks is None:
            return list(rows.leaves(tree))
        flat = rows.flatten(tree)
        if self.blocks > flat.shape[1]:
            raise ValueError(
                f"`Sweep(blocks={self.blocks})` wants a latent of at least as many numbers; this one has {flat.shape[1]}. "
                "Take fewer blocks."
            )
        return list(flat.tensor_split(self.blocks, 1))

    def _joined(self, parts: list[Tensor], like: Any) -> Any:
        if self.blocks is not None:
            return rows.unflatten(torch.cat(parts, 1), like)
        found = iter(parts)
        return rows.map_rows(lambda _: next(found), like)


class _PartView(SeenView):
    """The field of one part of a latent, the others fixed."""

    def __init__(self, field: Field, sweep: Sweep, point: Point, part: int) -> None:
        super().__init__(field, point)
        self._sweep, self._index = sweep, part

    def shown(self, point: Point) -> Point:
        return self._sweep._part(point, self._index)

    def around(self, z: Any) -> Any:
        return self._joined(z, self._fixed())

    def start(self, draw: Draw) -> Any:
        return self._sweep._split(self.field.start(draw))[self._index]

    def curvature(self, z: Any) -> Product:
        return self._within(self.field.curvature(self.around(z)))

    def gauss_newton(self, z: Any) -> Product:
        return self._within(self.field.gauss_newton(self.around(z)))

    def _fixed(self) -> Any:
        """The whole latents that the parts are parts of."""
        return self._point.z if self._samples is None else rows.take(self._point.z, self._samples)

    def _joined(self, part: Tensor, fixed: Any) -> Any:
        parts = self._sweep._split(fixed)
        parts[self._index] = part
        return self._sweep._joined(parts, fixed)

    def _within(self, product: Product) -> Product:
        """A product with the whole latent, for directions of this part and seen by it."""
        none = rows.map_rows(torch.zeros_like, self._fixed())

        def asked(direction: Any, needed: Tensor | None = None) -> Any:
            return self._sweep._split(product(self._joined(direction, none), needed))[self._index]

        return asked


def _moved(infos: list[Info]) -> Tensor | None:
    """Which samples accepted a proposal for any part; None: all."""
    each = [info.accepted for info in infos if info.accepted is not None]
    return torch.stack(each).any(0) if len(each) == len(infos) else None


def _busy(infos: list[Info]) -> Tensor | None:
    """Which samples may not end yet for the sake of any part; None: none."""
    each = [info.busy for info in infos if info.busy is not None]
    return torch.stack(each).any(0) if each else None
