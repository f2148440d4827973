"""Gauss-Seidel over the parts of a latent: any solver, applied to one part at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point, Product
from ebm.solvers.base import Field, Info, Solver, Step, View, Wrapper

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
        ValueError: a solver that needs more than the field of a part can answer, fewer than two blocks, or more than there
            are numbers.

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
        if self.blocks is not None and self.blocks < 2:
            raise ValueError(
                f"`Sweep(blocks=...)` must be at least 2; got {self.blocks}. Leave it out to take the leaves of the latent."
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

    def start(self, z: Any) -> Any:
        """Where the solver inside may start."""
        return self.inner.start(z)

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of the solver inside for each part, in order."""
        before, memories, infos = point.z, [], []
        for part, remembered in enumerate(memory["parts"]):
            view = _PartView(field, self, point, part)
            step = self.inner.step(view, self._part(point, part), remembered, draw)
            point = view.whole(step.point)
            memories.append(step.memory)
            infos.append(step.info)
        # parts that cannot move may say so in different sweeps: it holds for as long as no part moves
        still = _equal(rows.flatten(point.z), rows.flatten(before))
        none = torch.zeros_like(still)
        stuck = torch.stack([none if info.stalled is None else info.stalled for info in infos], 1)
        stuck = stuck | (memory["stuck"] & still[:, None])
        return Step(point, {"parts": tuple(memories), "stuck": stuck}, Info(_moved(infos), stuck.all(1)))

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


class _PartView(View):
    """The field of one part of a latent, the others fixed; remembers the whole points behind its answers."""

    def __init__(self, field: Field, sweep: Sweep, point: Point, part: int) -> None:
        super().__init__(field)
        self._sweep, self._point, self._index = sweep, point, part
        self._samples: Tensor | None = None
        self._seen: list[tuple[Point, Tensor | None]] = []

    def of(self, samples: Tensor) -> Field:
        """The same part of some rows; what they are told is remembered in one place."""
        some: Any = super().of(samples)
        some._samples = samples if self._samples is None else self._samples[samples]
        return some

    def __call__(self, z: Any) -> Point:
        whole = self.field(self._around(z))
        self._seen.append((whole, self._samples))
        return self._sweep._part(whole, self._index)

    def aside(self, z: Any) -> Point:
        return self._sweep._part(self.field.aside(self._around(z)), self._index)

    def curvature(self, z: Any) -> Product:
        return self._within(self.field.curvature(self._around(z)))

    def gauss_newton(self, z: Any) -> Product:
        return self._within(self.field.gauss_newton(self._around(z)))

    def whole(self, chosen: Point) -> Point:
        """The whole point of which the solver returned a part: the newest of those asked for that holds this part."""
        sides: list[tuple[Tensor, Point]] = []
        left = torch.ones(rows.count(chosen.z), dtype=torch.bool, device=chosen.z.device)
        for whole, samples in reversed(self._seen):
            match, whole = self._matched(chosen.z, whole, samples)
            sides.append((match, whole))
            left = left & ~match
            # an attempt that was thrown away must stay out of a graph even as the other side of a `where`
            if torch.is_grad_enabled() and not bool(left.any()):
                break
        point = self._point
        if torch.is_grad_enabled() and not bool(left.any()):
            point = sides.pop()[1]
        for match, whole in reversed(sides):
            point = Point(*rows.where(match, tuple(whole), tuple(point)))
        return point

    def _matched(self, chosen: Tensor, whole: Point, samples: Tensor | None) -> tuple[Tensor, Point]:
        """Which samples' chosen part is that of this point, bool (B,), and the point with a row for every sample."""
        part = self._sweep._split(whole.z)[self._index]
        if samples is None:
            return _equal(part, chosen), whole
        # rows that do not match are sent to a place of their own behind the batch
        batch = chosen.shape[0]
        match = _equal(part, chosen.index_select(0, samples))
        places = torch.where(match, samples, torch.full_like(samples, batch))
        none = torch.zeros(batch + 1, dtype=torch.bool, device=chosen.device)
        base = rows.map_rows(lambda leaf: torch.cat([leaf, leaf[:1]]), tuple(self._point))
        filled = rows.put(base, places, tuple(whole))
        return none.index_fill(0, places, True)[:batch], Point(*rows.map_rows(lambda leaf: leaf[:batch], filled))

    def _around(self, z: Tensor) -> Any:
        fixed = self._point.z if self._samples is None else rows.take(self._point.z, self._samples)
        parts = self._sweep._split(fixed)
        parts[self._index] = z
        return self._sweep._joined(parts, fixed)

    def _within(self, product: Product) -> Product:
        """A product with the whole latent, for directions of this part and seen by it."""

        def asked(direction: Any, needed: Tensor | None = None) -> Any:
            parts = [torch.zeros_like(leaf) for leaf in self._sweep._split(self._point.z)]
            parts[self._index] = direction
            found = product(self._sweep._joined(parts, self._point.z), needed)
            return self._sweep._split(found)[self._index]

        return asked


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """Which rows hold the same numbers, bool (B,); a NaN is the same as another."""
    same = (one == other) | ((one != one) & (other != other))
    return same if same.ndim == 1 else same.flatten(1).all(1)


def _moved(infos: list[Info]) -> Tensor | None:
    """Which samples accepted a proposal for any part; None: all."""
    each = [info.accepted for info in infos if info.accepted is not None]
    return torch.stack(each).any(0) if len(each) == len(infos) else None
