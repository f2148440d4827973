"""Breadth: many starts a sample, settled side by side under one budget, of which the best is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step, Wrapper
from ebm.solvers.choices import Choice, LowestEnergy
from ebm.solvers.descent import positive
from ebm.solvers.replicas import Herd, Replicas, Who, has_graph, with_graph

__all__ = ["Restarts"]


@dataclass(frozen=True)
class Restarts(Wrapper):
    r"""Several starts a sample, settled side by side by one solver; the best is shown, the worse may be dropped early.

    A step moves every replica that is still in the race, so it costs as many steps of the solver inside. The point of a
    step is that of the best replica: of the lowest energy (for an update, the smallest root mean square of the force), or as ``choose`` says. After every ``every`` steps
    the worse part is dropped for good: of k replicas in the race :math:`\max(l, \lceil k / \eta \rceil)` stay, with
    :math:`\eta` = ``eta`` and l = ``least``. A replica that turns non-finite is dropped, one that stalls is stepped no more.

    Replica 0 begins at the call's own start. The first step moves it and evaluates the others where they begin, which
    costs one evaluation each. A stop rule can end a sample when no more than ``least`` replicas still move (or at its start,
    before the first step): the best of many may be at rest long before a better one is. Energies that differ only by rounding count as equal; then the lower number wins.

    Args:
        n: replicas a sample, at least 1.
        inner: the solver that moves them.
        spread: where the others begin: Gaussian noise of this standard deviation, above zero, around the call's own start;
            or a function ``(z, draw)`` of that start that returns another; or None: the model's own ``init_latent``,
            drawn anew, which must then be random.
        every: steps between two drops, at least 1; None drops none.
        eta: a drop keeps one of so many, at least 2.
        least: how many replicas are never dropped for being worse, from 1 to ``n``.
        choose: which replica is the best: `LowestEnergy()`, `LowestResidual()`, `Agreement()`; with the last two a call keeps its last point.

    Raises:
        TypeError: ``inner`` is no solver, or ``choose`` no choice.
        ValueError: a setting outside its range; in the first step, ``spread=None`` and a model whose start is not random.

    Example:
        >>> import torch, ebm
        >>> class Rugged(ebm.Energy):
        ...     def init_latent(self, c, draw):
        ...         return c + 3.0
        ...     def forward(self, z, c):
        ...         return ((z - c).square() + 4 - 4 * (4 * (z - c)).cos()).sum(1)
        >>> x = torch.zeros(1, 2)
        >>> alone = ebm.infer(Rugged(), x, steps=40)
        >>> restarts = ebm.Restarts(32, ebm.AdaptiveDescent(), spread=3.0, every=10)
        >>> broad = ebm.infer(Rugged(), x, steps=40, solver=restarts, generator=torch.Generator().manual_seed(0))
        >>> bool(broad.energy < alone.energy)
        True

    Source: Jamieson and Talwalkar (2016), successive halving, with the energy as the loss. There all rounds are granted
    equal work, so they grow longer as replicas are dropped; here they are equally long, because the budget of an
    anytime call need not be known, and whatever is left of it goes to the survivors.
    """

    n: int
    inner: Solver
    spread: float | Callable[[Any, Draw], Any] | None = None
    every: int | None = None
    eta: int = 2
    least: int = 1
    choose: Choice = LowestEnergy()
    compiles: ClassVar[bool] = False
    recalls: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver):
            raise TypeError(
                f"`Restarts` wraps a solver; got {type(self.inner).__name__}. Pass `Restarts(8, Descent(0.1), spread=1.0)`, say."
            )
        if not isinstance(self.choose, Choice):
            raise TypeError(
                f"`Restarts(choose=...)` is a choice; got {type(self.choose).__name__}. Pass `LowestEnergy()` or `Agreement()`, say."
            )
        for name, lowest in (("n", 1), ("eta", 2), ("every", 1), ("least", 1)):
            value = getattr(self, name)
            if not (value is None and name == "every") and (not isinstance(value, int) or value < lowest):
                raise ValueError(
                    f"`Restarts({name}=...)` is a whole number of at least {lowest}; got {value!r}. Pass one."
                )
        if self.least > self.n:
            raise ValueError(
                f"`Restarts(least=...)` may not exceed n={self.n}; got {self.least}. To drop none, pass `every=None`."
            )
        if self.spread is not None and not callable(self.spread):
            positive("Restarts", "spread", self.spread)

    @property
    def keep(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the choice keeps, or else the solver inside."""
        return self.choose.keep or self.inner.keep

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The other replicas' starts are drawn."""
        return self.n > 1 or self.inner.noisy

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """What all replicas together ask before any is dropped.

        Under a graph twice that, since replicas that fail must not reach it, and one evaluation more for each whose
        force was computed without one.
        """
        inner, again = self.inner.most(z, differentiated), 2 if differentiated else 1
        asked = {kind: self.n * again * times for kind, times in inner.items()}
        asked["point"] = self.n * again * max(inner.get("point", 0), 1) + (self.n - 1) * (again - 1)
        return asked | ({"start": (self.n - 1) * again} if self.spread is None and self.n > 1 else {})

    def init(self, point: Point) -> Replicas:
        """Every replica at the call's own start; the first step moves the others to theirs."""
        first = rows.first_leaf(point.z)
        zeros = torch.zeros(first.shape[0], dtype=torch.int64, device=first.device)
        none = torch.zeros(first.shape[0], self.n, dtype=torch.bool, device=first.device)

        def copies(leaf: Tensor) -> Tensor:
            return torch.stack([leaf] * self.n, 1)

        points, inner = rows.map_rows(copies, point), rows.map_rows(copies, self.inner.init(point))
        return Replicas(points, inner, ~none, none, zeros, zeros, _all_have_graph(points, zeros))

    def step(self, field: Field, point: Point, memory: Replicas, draw: Draw) -> Step:
        """A step of every replica in the race; in the first one all but replica 0 are placed instead."""
        young = (memory.age == 0)[:, None] & (torch.arange(self.n, device=memory.age.device) > 0)
        race = memory.alive & ~memory.stalled
        place, move = Who.of(memory.alive & young), Who.of(race & ~young)
        herd = Herd.of(memory)
        herd = with_graph(field, point, herd, memory, move)
        herd = herd.asked(place, lambda who: self._placed(field, point, who, draw))
        before = herd
        herd = herd.asked(move, lambda who: self._moved(field, before, who, draw))
        return self._shown(memory, herd)

    def _placed(self, field: Field, point: Point, who: Who, draw: Draw) -> Step:
        """Replicas evaluated where they begin."""
        part, own = field.of(who.samples), rows.take(point.z, who.samples)
        mine = draw.of(who.samples, who.replicas)
        if self.spread is None:
            start = part.start(mine)
            if not mine.used:
                raise ValueError(
                    "`Restarts(spread=None)` begins where the model does, drawn anew for each replica; got a model whose `init_latent` "
                    "draws nothing, so all would be the same. Pass `spread=0.5`, say, the size of the noise around its start."
                )
        elif callable(self.spread):
            start = self.spread(own, mine)
        else:
            start = rows.add(own, mine.normal(own), self.spread)
        start = rows.map_rows(lambda leaf, like: leaf.to(like.dtype), start, own)
        begun = part(self.inner.start(start))
        return Step(begun, self.inner.init(begun))

    def _moved(self, field: Field, herd: Herd, who: Who, draw: Draw) -> Step:
        """A step of the solver inside."""
        point, memory = who.taken((herd.points, herd.inner))
        noise: Any = draw.of(who.samples, who.replicas) if self.inner.noisy else None
        return self.inner.step(field.of(who.samples), point, memory, noise)

    def _shown(self, memory: Replicas, herd: Herd) -> Step:
        """The best replica's point, and the memory after the worse are dropped where it is time."""
        alive, stalled, accepted = (leaf.view(-1, self.n) for leaf in (herd.alive, herd.stalled, herd.accepted))
        order = self.choose.order(herd.points, alive)
        age, shown = memory.age + 1, order[:, 0]
        lost = ~alive.any(1)
        alive = alive & (order.argsort(1) < self._kept(alive, age)[:, None])
        at = torch.arange(len(age), device=age.device) * self.n + shown
        best = Point(*rows.take(tuple(herd.points), at))
        # replicas keep their last finite point, so that a sample which has lost them all must be told from one at rest
        best = best._replace(z=rows.where(lost, rows.map_rows(lambda z: torch.full_like(z, torch.nan), best.z), best.z))
        going = (alive & ~stalled).sum(1)
        said = Info(accepted.flatten()[at] | (shown != memory.shown), ~lost & (going == 0), going > self.least)
        points, inner = rows.map_rows(lambda leaf: leaf.unflatten(0, alive.shape), (herd.points, herd.inner))
        return Step(best, Replicas(points, inner, alive, stalled, shown, age, _all_have_graph(points, age)), said)

    def _kept(self, alive: Tensor, age: Tensor) -> Tensor:
        """How many replicas of each sample stay in the race, (B,)."""
        count = alive.sum(1)
        if self.every is None:
            return count
        fewer = torch.div(count + self.eta - 1, self.eta, rounding_mode="floor").clamp_min(self.least)
        return torch.where(age % self.every == 0, fewer, count)


def _all_have_graph(points: Point, like: Tensor) -> Tensor:
    return torch.full_like(like, torch.is_grad_enabled() and has_graph(points), dtype=torch.bool)
