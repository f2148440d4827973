"""The runs of a diagnosis: the batch as it goes, a twin that starts a little off, and other starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.diagnostics.measures import distance
from ebm.diagnostics.quality import Quality, copied, scored
from ebm.engine import Detached, FlopCounter, Look, Stop, infer, stream
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["LONGEST_PERIOD", "Bench", "Never", "Way"]

LONGEST_PERIOD = 12
_ROUNDING = 100.0  # in units of the machine's precision: sizes below are not trusted
_COARSEST = 0.01  # of half precision a hundred units would be everything


@dataclass(frozen=True)
class Never(Stop):
    """Keeps a model's own stop rule from ending the watch."""

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        leaf = rows.first_leaf(look.point.z)
        return torch.zeros(leaf.shape[0], dtype=torch.bool, device=leaf.device), None


@dataclass(frozen=True, eq=False)
class Way:
    """What was seen of the main run; S + 1 rows are before the first step and after each."""

    last: Solution
    residual: Tensor
    moves: Tensor
    energy: Tensor | None
    quality: Tensor | None
    changed: Tensor
    apart: Tensor | None
    recent: list[Any]
    size: Tensor  # (B,), of the latent, never zero

    @property
    def rounding(self) -> Tensor:
        return min(_ROUNDING * _precision(self.last.z), _COARSEST) * self.size


class Bench:
    """Settles one batch, again and again.

    Attributes:
        discrete: whether latents are signs, so that no start is near another.
        noisy: whether the solver draws noise.
        flops: executed so far.
    """

    def __init__(
        self, model: Objective, x: Any, steps: int, solver: Solver | None, generator: torch.Generator | None
    ) -> None:
        self.model, self.x, self.steps, self.solver = model, x, steps, solver
        self.flops = 0
        self.discrete = "discrete" in model.provides
        mover = solver or model.default_solver()
        self.noisy = mover is not None and mover.noisy
        self._given = generator
        self._noise = generator if generator is not None else torch.Generator().manual_seed(0)

    def watch(self, score: Quality | None, target: Any) -> Way:
        """The main run, and a twin that starts a little off."""
        same = copied(self._given)
        main = self._items(None, self._given)
        item = next(main)
        begin, answer = item.z, item.answer
        small = _precision(begin) ** 0.5 * _or_one(rows.rms(begin))
        twin = None if self.discrete else self._items(self._beside(begin, small), same)
        residual, moves, energy, qualities, apart = [], [], [], [], []
        recent: deque[Any] = deque(maxlen=2 * LONGEST_PERIOD)
        changed = torch.zeros(len(item), dtype=torch.bool, device=item.status.device)
        while item is not None:
            residual.append(item.residual)
            if recent:
                moves.append(distance(item.z, recent[-1]))
            if item.energy is not None:
                energy.append(item.energy)
            if score is not None:
                qualities.append(scored(score, item.answer, target, len(item)))
            if twin is not None:
                apart.append(distance(item.z, next(twin).z))
            changed |= _differs(item.answer, answer)
            recent.append(item.z)
            last, item = item, next(main, None)
        sizes = torch.maximum(rows.rms(begin), rows.rms(last.z)).nan_to_num(0.0, 0.0, 0.0)
        stacks = (torch.stack(part) if part else None for part in (energy, qualities, apart))
        energies, quality, distances = stacks
        return Way(
            last,
            torch.stack(residual),
            torch.stack(moves),
            energies,
            quality,
            changed,
            distances,
            list(recent),
            _or_one(sizes),
        )

    def again(self, scale: Tensor) -> Solution:
        """The same batch from another start: new noise keys, and noise about where the model then starts."""
        begin = self._settled(0, None)
        end = self._settled(self.steps, self._beside(begin.z, scale))
        self.flops += begin.flops + end.flops
        return end

    def _settled(self, steps: int, start: Any) -> Solution:
        return infer(
            self.model,
            self.x,
            steps=steps,
            solver=self.solver,
            stop=Never(),
            adjoint=Detached(),
            keep="last",
            start=start,
            generator=self._noise,
        )

    def _items(self, start: Any, generator: torch.Generator | None) -> Iterator[Solution]:
        """A stream of always S + 1 items: the last one again where every sample ended early."""
        items = stream(
            self.model,
            self.x,
            steps=self.steps,
            solver=self.solver,
            stop=Never(),
            adjoint=Detached(),
            keep="last",
            start=start,
            generator=generator,
        )
        item = next(items)
        self.flops += item.flops
        yield item
        with FlopCounter() as counter:
            second = next(items, None)
        # An item's read-out, which none but the last counts as its own.
        looks = 0 if second is None else counter.flops - (second.flops - item.flops)
        left = self.steps
        for following in chain([] if second is None else [second], items):
            self.flops += following.flops - item.flops + looks
            item, left = following, left - 1
            yield item
        for _ in range(left):
            yield item

    def _beside(self, z: Any, scale: Tensor) -> Any:
        """A latent near ``z``, at a distance of about ``scale`` (B,)."""
        keys = draw_keys(rows.count(z), rows.first_leaf(z).device, self._noise)
        draw = Draw(keys, torch.zeros_like(keys))
        if not self.discrete:
            return rows.add(z, draw.normal(z), scale)
        chance = 0.5 * (scale / _or_one(rows.rms(z))).clamp(max=1)
        return rows.map_rows(
            lambda leaf, u: torch.where(u < chance.view(-1, *[1] * (leaf.ndim - 1)), -leaf, leaf), z, draw.uniform(z)
        )


def _differs(a: Any, b: Any) -> Tensor:
    """Which rows of two trees differ anywhere, bool (B,)."""
    parts = [
        (left != right).flatten(1).any(1) if left.ndim > 1 else left != right
        for left, right in zip(rows.leaves(a), rows.leaves(b), strict=True)
    ]
    return torch.stack(parts).any(0)


def _or_one(size: Tensor) -> Tensor:
    return torch.where(size > 0, size, 1.0)


def _precision(z: Any) -> float:
    return max((torch.finfo(leaf.dtype).eps for leaf in rows.leaves(z) if leaf.is_floating_point()), default=1e-7)
