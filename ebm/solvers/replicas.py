"""The replicas of `Restarts`: many latents a sample, some of which are asked at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point
from ebm.solvers.base import Field, Step

__all__ = ["Herd", "Replicas", "Who", "has_graph", "with_graph"]


class Replicas(NamedTuple):
    """The memory of `Restarts`; leaves are (B, n, ...), the last three (B,).

    Attributes:
        points: where each replica stands.
        inner: the memory of the solver inside, one a replica.
        alive: bool (B, n), which replicas are still in the race.
        stalled: bool (B, n), which of them can make no further progress and are no longer stepped.
        shown: int64 (B,), the replica that the last step showed.
        age: int64 (B,), steps taken.
        graph: bool (B,), whether the forces of its points can be differentiated, where those of any sample can.
    """

    points: Point
    inner: Any
    alive: Tensor
    stalled: Tensor
    shown: Tensor
    age: Tensor
    graph: Tensor


class Who(NamedTuple):
    """Some replicas: their numbers among all, whose they are, and which of that sample's."""

    index: Tensor
    samples: Tensor
    replicas: Tensor
    everyone: bool

    @staticmethod
    def of(mask: Tensor) -> Who:
        """The replicas where a mask (B, n) is true."""
        samples, replicas = mask.nonzero().unbind(1)
        return Who(samples * mask.shape[1] + replicas, samples, replicas, len(samples) == mask.numel())

    def only(self, which: Tensor) -> Who:
        """Those of them where ``which`` is true."""
        return Who(self.index[which], self.samples[which], self.replicas[which], False)

    def taken(self, tree: Any) -> Any:
        """Their rows of a tree that holds one for each replica."""
        return tree if self.everyone else rows.take(tree, self.index)

    def put(self, tree: Any, part: Any) -> Any:
        """The tree with their rows replaced."""
        return part if self.everyone else rows.put(tree, self.index, part)


class Herd(NamedTuple):
    """All replicas of all samples, one a row; what a step does to them."""

    points: Point
    inner: Any
    alive: Tensor
    stalled: Tensor
    accepted: Tensor

    @staticmethod
    def of(memory: Replicas) -> Herd:
        """Those of a memory."""
        points, inner, alive, stalled = rows.map_rows(lambda leaf: leaf.flatten(0, 1), tuple(memory[:4]))
        return Herd(points, inner, alive, stalled, torch.zeros_like(alive))

    def asked(self, who: Who, ask: Callable[[Who], Step]) -> Herd:
        """After ``ask`` moved some replicas: those that stayed finite go on from there, the others are out of the race."""
        if not len(who.index):
            return self
        went, step = who, ask(who)
        good = rows.finite(tuple(step.point))
        if not bool(good.all()):
            went = who.only(good)
            if not len(went.index):
                return self._replace(alive=self.alive.index_fill(0, who.index, False))
            # under a graph a failed row would send nan into shared parameters, so the others are asked once more without it
            step = ask(went) if torch.is_grad_enabled() else Step(*rows.take(tuple(step), good.nonzero().flatten()))
        yes, info = torch.ones_like(went.index, dtype=torch.bool), step.info
        accepted, stalled = (yes if info.accepted is None else info.accepted), info.stalled
        return Herd(
            went.put(self.points, step.point),
            went.put(self.inner, step.memory),
            self.alive if went is who else self.alive.index_fill(0, who.index, False).index_fill(0, went.index, True),
            self.stalled if stalled is None else went.put(self.stalled, stalled),
            went.put(self.accepted, accepted),
        )


def has_graph(point: Point) -> bool:
    """Whether the force of a point can be differentiated."""
    return any(leaf.requires_grad for leaf in rows.leaves(point.force))


def with_graph(field: Field, point: Point, herd: Herd, memory: Replicas, who: Who) -> Herd:
    """The points of the replicas about to move, all with a graph: a force remembered without one would pass no gradient on."""
    bare = ~memory.graph if has_graph(memory.points) else torch.ones_like(memory.graph)
    if not torch.is_grad_enabled() or not has_graph(point) or not bool(bare.any()):
        return herd
    shown = memory.shown
    at = torch.arange(len(shown), device=shown.device) * (len(herd.alive) // len(shown)) + shown
    points = Point(*rows.put(tuple(herd.points), at, tuple(point)))
    others = who.only(bare[who.samples] & ~torch.isin(who.index, at))
    if len(others.index):
        points = Point(*others.put(tuple(points), tuple(field.of(others.samples)(others.taken(points.z)))))
    return herd._replace(points=points)
