"""The one loop of the library: step the samples that still run, until each is done or the budget is spent.

A `Settling` holds the samples in a *block*: those computed together, each a row of one carry. Finished samples stay in
the block, frozen, until it is packed; then their rows go home and the products get smaller. Nothing is ever written in
place, so a carry handed out stays true while the loop goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.field import Meter, read
from ebm.engine.stop import Look, Stop, as_known
from ebm.engine.walk import Outcome, walk
from ebm.objective import Gap, Objective, Point
from ebm.solution import Carry, Status
from ebm.solvers.base import Solver, Step

__all__ = ["Limits", "Problem", "Settling", "iterate"]


@dataclass(frozen=True)
class Problem:
    """What is settled and how; fixed for a call."""

    objective: Objective
    solver: Solver
    stop: Stop | None
    c: Any
    best: bool
    compact: bool | str
    meter: Meter
    walk: Callable[..., Outcome] = walk
    stride: int = 1  # steps between looks, where nothing but a failure could be seen in between

    def look(self, point: Point, c: Any, previous: Point | None, accepted: Tensor | None) -> Look:
        """What the stop rule may see of these rows."""
        return Look(
            point,
            previous,
            accepted,
            lambda: self.residual(point, c).detach(),
            lambda: self.meter.run("readout", partial(read, self.objective), point.z, c),
            lambda: Gap(*(part.detach() for part in self.objective.gap(point, c))),  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        )

    def residual(self, point: Point, c: Any) -> Tensor:
        """How far from rest points are, as far as that can be known; infinitely far where the energy is no finite number.

        Differentiable where the force is.
        """
        residual = as_known(self.solver.residual(self.objective, point, c), point)
        residual = residual if any(leaf.requires_grad for leaf in rows.leaves(point.force)) else residual.detach()
        return residual if point.energy is None else torch.where(point.energy.isfinite(), residual, torch.inf)

    def most(self, z: Any, differentiated: bool) -> int:
        """The most FLOPs that one step of one sample may execute, the stop rule's look included."""
        kinds = self.solver.most(z, differentiated).items()
        return sum(times * self.meter.price(kind, z) for kind, times in kinds) + self.looking(z)

    def looking(self, z: Any) -> int:
        """FLOPs a sample of a stop rule's look at the answer."""
        return self.meter.price("readout", z) if self.stop is not None and self.stop.reads else 0

    def rank(self, point: Point, c: Any) -> Tensor:
        """What best-so-far is judged by: the energy, or the residual where there is none; lower is better."""
        return self.residual(point, c) if point.energy is None else point.energy


class Limits(Protocol):
    """What ends samples for lack of resources."""

    def close(self, settling: Settling) -> None:
        """End the running samples that no resource is left for."""
        ...

    def begin(self, settling: Settling) -> bool:
        """Whether a step may start now, after whatever pause the caller made; what it may use is set aside."""
        ...

    def room(self, settling: Settling) -> int:
        """How many steps are sure to be granted to every running sample."""
        ...


class Block(NamedTuple):
    """Samples computed together. Counts of steps and work taken since the last `settle_up` are plain integers."""

    samples: Tensor | None  # their numbers in the batch; None: all of them
    carry: Carry
    c: Any
    active: Tensor | None  # bool, which of them still run; None: all
    running: int
    taken: int = 0
    asked: int | Tensor = 0
    spent: int | Tensor = 0

    @property
    def size(self) -> int:
        """How many samples are computed together."""
        return self.carry.status.shape[0]


class Settling:
    """Samples on their way to rest.

    Args:
        problem: what is settled and how.
        carry: where the samples stand.
        graph: whether the steps are differentiated; then rows that end leave the block at once, so that none can
            poison a gradient.
    """

    def __init__(self, problem: Problem, carry: Carry, graph: bool = False) -> None:
        self.problem = problem
        self.graph = graph
        self.executed = 0
        self.taken = 0
        self.sample_steps = 0
        self._singly = 0  # steps to make one by one, since a stride was thrown away
        self._home = carry
        self._eval_price = problem.meter.price("point", carry.point.z)
        self._look_price = problem.looking(carry.point.z)
        self.block = self._opened(carry)

    @property
    def running(self) -> int:
        """How many samples still run."""
        return self.block.running

    def carry(self) -> Carry:
        """Where all samples stand, in the order of the batch."""
        return self._sent_home(_settle_up(self.block))

    def next_flops(self) -> int:
        """The most that the next step may execute."""
        block = self._packed()
        return self.problem.most(block.carry.point.z, self.graph) * block.size

    def end(self, status: Status, which: Tensor | None = None) -> None:
        """Close running samples: all of them, or those of the block where ``which`` is true."""
        block = _settle_up(self.block)
        active = _active(block)
        self.block = _closed(block, active if which is None else active & which, status)

    def advance(self, room: int = 1) -> bool:
        """A step of every running sample, or a stride of ``room`` at most; False if it was thrown away, because samples
        failed in a differentiated step."""
        block = self.block = self._packed()
        if self._singly:
            self._singly -= 1
        elif room >= self.problem.stride > 1 and block.active is None and not self.graph and self._stride(block):
            return True
        outcome = self._attempt(block)
        if self.graph and not math.isfinite(outcome.probe.item()):
            failed = ~rows.finite(tuple(outcome.step.point))
            if bool(failed.any()):
                self._throw_away(block, outcome, failed)
                return False
        self._accept(block, outcome)
        return True

    def _attempt(self, block: Block, count: int = 1) -> Outcome:
        problem, carry = self.problem, block.carry
        noisy = problem.solver.noisy
        keys, steps = (carry.keys, carry.steps + block.taken) if noisy else (None, None)
        with torch.set_grad_enabled(self.graph):
            return problem.walk(
                problem.objective, problem.solver, carry.point, carry.memory, block.c, keys, steps, count
            )

    def _stride(self, block: Block) -> bool:
        """Several steps with one look at the end; False if they cannot stand, because a sample ended on the way unseen.

        Then as many steps are made one by one, and end, or raise, where they should. What was executed in vain counts as
        executed, and is asked for by no sample.
        """
        count = self.problem.stride
        self._singly = count - 1
        try:
            outcome = self._attempt(block, count)
        except Exception:
            return False
        probe, stalled = _read(outcome.probe, outcome.stalled)
        charged = self._charged(block, outcome)
        if not math.isfinite(probe) or (stalled and not outcome.looked):
            return False
        self._singly, step = 0, outcome.step
        self.taken += outcome.taken
        self.sample_steps += outcome.taken * block.running
        changes = {"point": step.point, "memory": step.memory}
        if stalled:
            block = charged._replace(taken=block.taken + outcome.taken - 1)
            self.block = _frozen(block, changes, None, step.info.stalled)
        else:
            carry = block.carry._replace(**changes)
            self.block = charged._replace(carry=carry, taken=block.taken + outcome.taken)
        return True

    def _throw_away(self, block: Block, outcome: Outcome, failed: Tensor) -> None:
        """A differentiated step in which samples failed: close those; the others step again without them."""
        block = _settle_up(self._charged(block, outcome))
        self.block = _closed(block, failed, Status.NONFINITE)

    def _accept(self, block: Block, outcome: Outcome) -> None:
        step = outcome.step
        done, rest, better, rank = self._judged(block, step)
        probe, any_done, any_stalled, all_better, any_better = _read(
            outcome.probe,
            None if done is None else done.any(),
            outcome.stalled,
            None if better is None else better.all(),
            None if better is None else better.any(),
        )
        changes: dict[str, Any] = {"point": step.point, "memory": step.memory, "rest": rest}
        if all_better:
            changes |= {"best": step.point, "rank": rank}
        elif better is not None and any_better:
            old: Any = block.carry
            changes |= {"best": rows.where(better, step.point, old.best), "rank": torch.where(better, rank, old.rank)}
        block = self._charged(block, outcome)
        self.taken += 1
        self.sample_steps += block.running
        if block.active is None and math.isfinite(probe) and not (any_done or any_stalled):
            self.block = block._replace(carry=block.carry._replace(**changes), taken=block.taken + 1)
        else:
            self.block = _frozen(block, changes, done, step.info.stalled)

    def _judged(self, block: Block, step: Step) -> tuple[Tensor | None, Any, Any, Any]:
        """The stop rule's verdict and memory, which samples are the best so far, and by what."""
        problem = self.problem
        carry: Any = block.carry  # with a rank, where the best point is kept
        if problem.stop is None and not problem.best:
            return None, carry.rest, None, None
        with torch.no_grad():
            look = problem.look(step.point, block.c, carry.point, step.info.accepted)
            done, rest = (None, carry.rest) if problem.stop is None else problem.stop.check(look, carry.rest)
            if done is not None and step.info.busy is not None:
                done = done & ~step.info.busy
            rank = problem.rank(step.point, block.c).detach() if problem.best else None
            better = None if rank is None else rank <= carry.rank
        return done, rest, better, rank

    def _charged(self, block: Block, outcome: Outcome) -> Block:
        """The block with the work of a step on its account."""
        z, price = block.carry.point.z, self.problem.meter.price
        evals, each, whole = outcome.asked["point"], self._look_price, self._look_price * block.size
        for kind, computed in outcome.ran.items():
            cost = self._eval_price if kind == "point" else price(kind, z)
            each = each + outcome.asked[kind] * cost
            whole += computed * cost
        self.executed += whole
        return block._replace(asked=block.asked + evals, spent=block.spent + each)

    def _opened(self, carry: Carry) -> Block:
        """The block a carry stands for: what was computed together, and what runs."""
        running = carry.status == Status.RUNNING
        together = running if self.graph else carry.packed | running
        self._home = carry._replace(packed=together)
        if bool(together.all()):
            block = Block(None, self._home, self.problem.c, None, 0)
        else:
            samples = together.nonzero().flatten()
            block = Block(samples, rows.take(self._home, samples), rows.take(self.problem.c, samples), None, 0)
        return _closed(block, block.carry.status != Status.RUNNING, None)

    def _packed(self) -> Block:
        """The block without finished samples, where it pays to leave them out."""
        block, compact = self.block, self.problem.compact
        always = compact is True or self.graph
        if (
            block.active is None
            or not block.running
            or not (always or (compact == "auto" and 2 * block.running <= block.size))
        ):
            return block
        block = _settle_up(block)
        index = _active(block).nonzero().flatten()
        self._home = self._sent_home(block._replace(carry=block.carry._replace(packed=_active(block))))
        samples = index if block.samples is None else block.samples[index]
        carry = rows.take(block.carry, index)
        self.block = Block(samples, carry, rows.take(block.c, index), None, block.running)
        return self.block

    def _sent_home(self, block: Block) -> Carry:
        """The carry of the whole batch with the rows of the block put in their places."""
        return block.carry if block.samples is None else rows.put(self._home, block.samples, block.carry)


def iterate(settling: Settling, limits: Limits) -> Iterator[Settling]:
    """Step until no sample runs; hand the settling out before the first step and after each step or stride."""
    while True:
        limits.close(settling)
        yield settling
        if not settling.running:
            return
        while limits.begin(settling) and not settling.advance(limits.room(settling)):
            limits.close(settling)
            if not settling.running:
                break


def _active(block: Block) -> Tensor:
    return torch.ones_like(block.carry.packed) if block.active is None else block.active


def _settle_up(block: Block) -> Block:
    """The block with its integer counts moved into the carry, on the account of the samples that run."""
    if not block.taken and isinstance(block.asked, int) and not (block.asked or block.spent):
        return block
    carry, runs = block.carry, 1 if block.active is None else block.active.to(torch.int64)
    carry = carry._replace(
        steps=carry.steps + block.taken * runs,
        evals=carry.evals + block.asked * runs,
        work=carry.work + block.spent * runs,
    )
    return block._replace(carry=carry, taken=0, asked=0, spent=0)


def _closed(block: Block, which: Tensor, status: Status | None) -> Block:
    """The block with some samples taken out of the running (``status`` None: it is set already)."""
    active = _active(block) & ~which
    running = int(active.sum())
    if status is not None:
        block = block._replace(carry=block.carry._replace(status=block.carry.status.masked_fill(which, int(status))))
    return block._replace(active=None if running == active.shape[0] else active, running=running)


def _frozen(block: Block, changes: dict[str, Any], done: Tensor | None, stalled: Tensor | None) -> Block:
    """The block after a step in which not all samples run on: the ended ones keep every bit they had."""
    block = _settle_up(block)
    active = _active(block)
    moved = active & rows.finite(tuple(changes["point"]))
    carry = rows.where(moved, block.carry._replace(**changes), block.carry)
    block = block._replace(carry=carry._replace(steps=carry.steps + moved.to(torch.int64)))
    block = _closed(block, active & ~moved, Status.NONFINITE)
    if done is not None:
        block = _closed(block, moved & done, Status.CONVERGED)
    if stalled is not None:
        block = _closed(block, moved & stalled & _active(block), Status.STALLED)
    return block


def _read(*flags: Tensor | None) -> list[float]:
    """The values of 0-dimensional tensors, with one wait for the device; zero for those that are None.

    They travel in the dtype of the first, a probe: a device need not have any other.
    """
    found = [flag for flag in flags if flag is not None]
    on_host = found[0].device.type == "cpu"
    values = iter(
        [flag.item() for flag in found]
        if on_host
        else torch.stack([flag.to(found[0].dtype) for flag in found]).tolist()
    )
    return [0.0 if flag is None else next(values) for flag in flags]
