"""A ladder of landscapes, climbed rung by rung, each with a solver of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Objective, Point
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.rungs import Inside, OnRung, RungView, above, below, groups_of, level_count

__all__ = ["Annealed"]


@dataclass(frozen=True)
class Annealed(Solver):
    r"""A solver for each rung of a `Ladder`, each for its number of steps; then the schedule is over and the sample ends STALLED.

    A sample enters the next rung after the steps of this one, or once the solver of this one has stalled. On entering its
    latent is scaled by :math:`s_{k+1} / s_k`, evaluated in the new landscape (one evaluation more in that step), and the new
    solver begins without memory of the old. Samples on different rungs settle side by side: each is moved by its own solver
    alone, and costs what that asks. The answer is the last latent: energies of different landscapes do not compare.

    A sample comes to rest on the last rung only, so below it the residual is infinite, and ``stop=AtRest(...)`` ends no
    schedule early.

    Args:
        solvers: one for each rung, or one for all.
        steps: of each rung, >= 1: a number for each, or one for all.
        rungs: how many there are; needed where ``solvers`` and ``steps`` are both one for all.
        scales: :math:`s_k > 0`, a number for each rung; None: latents stay as they are.

    Raises:
        TypeError: something that is no solver, or steps that are no whole numbers.
        ValueError: no rung, lengths that differ, fewer than one step, or a scale not above zero.

    Example:
        >>> import torch, ebm
        >>> near, far = (ebm.ModernHopfield(torch.eye(2), beta=beta) for beta in (8.0, 1.0))
        >>> ladder = ebm.Ladder([far, near])
        >>> solver = ebm.Annealed((ebm.Descent(0.5), ebm.Descent(1.0)), steps=(2, 3))
        >>> found = ebm.infer(ladder, torch.tensor([[0.6, 0.4]]), steps=9, solver=solver)
        >>> found.answer.round(decimals=2), found.steps, found.z.rung
        (tensor([[1., 0.]]), tensor([5]), tensor([1.]))

    Source: Kirkpatrick, Gelatt and Vecchi (1983), simulated annealing; Song and Ermon (2019), annealed Langevin dynamics; Du,
    Mao and Tenenbaum (2024), Learning iterative reasoning through energy diffusion (IRED).
    """

    solvers: Solver | tuple[Solver, ...]
    steps: int | tuple[int, ...] = 10
    rungs: int | None = None
    scales: tuple[float, ...] | None = None
    keep: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        for name in ("solvers", "steps", "scales"):  # a list is as good as a tuple, but a setting must not change
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        for solver in _each(self.solvers):
            if not isinstance(solver, Solver):
                raise TypeError(
                    f"`Annealed` takes a solver, or one for each rung; got {type(solver).__name__}. Pass `Annealed(Descent(0.1), 10, rungs=5)`, say."
                )
        for steps in _each(self.steps):
            if not isinstance(steps, int) or isinstance(steps, bool):
                raise TypeError(f"`Annealed(steps=...)` counts whole steps; got {steps!r}. Pass an int, or one a rung.")
            if steps < 1:
                raise ValueError(f"`Annealed(steps=...)` must be at least 1 on every rung; got {steps}. Try 10.")
        if self.scales is not None and not all(scale > 0 for scale in self.scales):
            raise ValueError(f"`Annealed(scales=...)` must be above zero; got {self.scales}. Leave it out for none.")
        self._check_count()

    def _check_count(self) -> None:
        given = {"solvers": self.solvers, "steps": self.steps, "scales": self.scales}
        counts = {name: len(value) for name, value in given.items() if isinstance(value, tuple)}
        if self.rungs is not None:
            counts["rungs"] = self.rungs
        if len(set(counts.values())) == 1 and min(counts.values()) >= 1:
            return
        shown = ", ".join(f"{name} for {count}" for name, count in counts.items()) or "none of them"
        raise ValueError(
            f"`Annealed` must know how many rungs there are, at least one; got {shown}. "
            "Pass a tuple of `solvers` or `steps`, one for each rung, or `rungs=`, and all of one length."
        )

    @property
    def count(self) -> int:
        """How many rungs there are."""
        given = (self.solvers, self.steps, self.scales)
        return self.rungs or next(len(value) for value in given if isinstance(value, tuple))

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A ladder of as many rungs, and what the solvers need; that forces are gradients is a promise of every ladder."""
        inner = frozenset[str]().union(*(solver.needs for solver in _each(self.solvers)))
        return (inner - {"gradient"}) | {"levels", level_count(self.count)}

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one of the solvers draws noise."""
        return any(solver.noisy for solver in _each(self.solvers))

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """What the most demanding solver asks, and an evaluation on entering a rung."""
        most = {"point": 0}
        for solver in _each(self.solvers):
            for kind, times in solver.most(z.z, differentiated).items():
                most[kind] = max(most.get(kind, 0), times)
        return {**most, "point": most["point"] + 1}

    def start(self, z: Any) -> Any:
        """Where the first solver may start; a latent without a rung begins on the first."""
        if not isinstance(z, OnRung):
            z = OnRung(z, torch.zeros_like(rows.rms(z)))
        begun, own = z.z, self._own()
        for number, index in groups_of(z.rung, own):
            part = self._solver(number).start(rows.take(z.z, index))
            begun = rows.put(begun, index, part)
        return OnRung(begun, z.rung)

    def init(self, point: Point) -> Any:
        """The steps of each sample on its rung (B,), and the memory of its solver.

        Solvers whose memories have one shape share theirs, since a sample uses one at a time; others have one each.
        """
        taken = torch.zeros_like(point.z.rung, dtype=torch.int64)
        own = self._own()
        memories = [self._solver(number).init(below(point)) for number in sorted(set(own))]
        alike = len({_signature(memory) for memory in memories}) == 1
        inner = (memories[0],) if alike else tuple(memories)
        memory = {"taken": taken, "inner": inner}
        return self._begun(memory, point, groups_of(point.z.rung, own), None)

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of each sample's own solver, and for those that are through with a rung the way onto the next."""
        groups = groups_of(point.z.rung, self._own())
        if len(groups) == 1:
            outcome = self._moved(groups[0][0], field, point, memory, draw, None)
        else:
            outcome = self._moved_by_group(groups, field, point, memory, draw)
        return self._climbed(field, outcome, memory["taken"] + 1)

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        """That of the last solver in the last landscape; infinite below it, where no sample can rest."""
        solver = _each(self.solvers)[-1]
        own = solver.residual(Inside(objective, point.z.rung), below(point), c)
        return torch.where(point.z.rung.round() >= self.count - 1, own, torch.inf)

    # The solver of each rung

    def _own(self) -> list[int]:
        """The number of each rung's solver: rungs with equal solvers share one, so that their samples move together."""
        each = self.solvers if isinstance(self.solvers, tuple) else (self.solvers,) * self.count
        return [next(k for k, other in enumerate(each) if other is solver) for solver in each]

    def _solver(self, number: int) -> Solver:
        return _each(self.solvers)[number]

    def _slot(self, memory: Any, number: int) -> int:
        """Which of the kept memories is that of a solver."""
        return 0 if len(memory["inner"]) == 1 else sorted(set(self._own())).index(number)

    def _moved(self, number: int, field: Field, point: Point, memory: Any, draw: Any, index: Tensor | None) -> Step:
        """A step of one solver for all samples, or for those of ``index`` alone."""
        slot = self._slot(memory, number)
        kept, chosen, noise = memory["inner"][slot], point, draw
        if index is not None:
            chosen, kept = Point(*rows.take(tuple(point), index)), rows.take(kept, index)
            noise = None if draw is None else Draw(draw.keys[index], draw.step[index])
        solver, view = self._solver(number), RungView(field if index is None else field.of(index), chosen.z.rung)
        outcome = solver.step(view, below(chosen), kept, noise if solver.noisy else None)  # pyright: ignore[reportArgumentType]
        inner = outcome.memory
        if index is not None:
            inner = rows.put(memory["inner"][slot], index, inner)
        slots = tuple(inner if k == slot else other for k, other in enumerate(memory["inner"]))
        return Step(above(outcome.point, chosen.z.rung), {**memory, "inner": slots}, outcome.info)

    def _moved_by_group(self, groups: list[Any], field: Field, point: Point, memory: Any, draw: Any) -> Step:
        parts: list[Step] = []
        for number, index in groups:
            part = self._moved(number, field, point, memory, draw, index)
            memory = part.memory
            parts.append(part)
        order = torch.cat([index for _, index in groups]).argsort()
        new = rows.take(rows.cat([tuple(part.point) for part in parts]), order)
        flags: dict[str, Tensor | None] = {}
        for name, default in (("accepted", True), ("stalled", False), ("busy", False)):
            found = [getattr(part.info, name) for part in parts]
            if all(flag is None for flag in found):
                flags[name] = None
                continue
            filled = [
                torch.full_like(part.point.z.rung, default, dtype=torch.bool) if flag is None else flag
                for flag, part in zip(found, parts, strict=True)
            ]
            flags[name] = torch.cat(filled)[order]
        return Step(Point(*new), memory, Info(**flags))

    # From rung to rung

    def _climbed(self, field: Field, outcome: Step, taken: Tensor) -> Step:
        """The step, with the samples that are through with their rung set onto the next; on the last one they are done."""
        point, memory, (accepted, stalled, busy) = outcome
        rung = point.z.rung.to(torch.int64)
        through = taken >= torch.tensor(self._each_steps(), device=rung.device)[rung]
        through = through if stalled is None else through | stalled
        over = through & (rung == self.count - 1)
        entering = through & ~over
        memory = {**memory, "taken": taken.masked_fill(entering, 0)}
        index = entering.nonzero().flatten()
        if len(index):
            point, memory = self._entered(field, point, memory, index)
            accepted = None if accepted is None else accepted | entering
        return Step(point, memory, Info(accepted, over, busy))

    def _entered(self, field: Field, point: Point, memory: Any, index: Tensor) -> tuple[Point, Any]:
        """The given samples on their next rung: scaled, evaluated there, with a fresh memory."""
        z, rung = rows.take(tuple(point.z), index)
        if self.scales is not None:
            scales = torch.tensor(self.scales, dtype=rung.dtype, device=rung.device)
            now = rung.to(torch.int64)
            z = rows.scale(z, scales[now + 1] / scales[now])
        z = self.start(OnRung(z, rung + 1))
        everyone = len(index) == len(point.z.rung)
        new = (field if everyone else field.of(index))(z)
        memory = self._begun(memory, new, groups_of(z.rung, self._own()), None if everyone else index)
        return new if everyone else Point(*rows.put(tuple(point), index, tuple(new))), memory

    def _begun(self, memory: Any, point: Point, groups: list[Any], index: Tensor | None) -> Any:
        """The memory with a fresh start for the samples of ``point``, which are those of ``index`` in the batch."""
        inner = list(memory["inner"])
        for number, part in groups:
            slot = self._slot(memory, number)
            fresh = self._solver(number).init(below(Point(*rows.take(tuple(point), part))))
            inner[slot] = rows.put(inner[slot], part if index is None else index[part], fresh)
        return {**memory, "inner": tuple(inner)}

    def _each_steps(self) -> list[int]:
        return list(self.steps) if isinstance(self.steps, tuple) else [self.steps] * self.count


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _signature(memory: Any) -> str:
    """The structure of a memory in words: where it is the same, one can stand in the place of another."""
    return repr(rows.map_rows(lambda leaf: leaf.new_empty(leaf.shape[1:], device="meta"), memory))
