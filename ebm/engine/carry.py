"""The state a call begins with: made anew, or taken up from an earlier solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.field import evaluate
from ebm.engine.loop import Problem
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective, Point
from ebm.solution import Carry, Status
from ebm.warned import warn_same_noise

__all__ = ["Starter", "describe", "identity"]

_REOPENED = (Status.OUT_OF_STEPS, Status.OUT_OF_TIME, Status.OUT_OF_FLOPS, Status.STOPPED)


def identity(model: Objective, owned: Mapping[str, Tensor]) -> str:
    """The model in words: its class, and the names and shapes of its parameters and buffers."""
    return f"{type(model).__qualname__}({', '.join(f'{name} {tuple(t.shape)}' for name, t in owned.items())})"


def describe(part: Any) -> str:
    """A solver or stop rule in words; tensors, which may be learned, by their shape alone."""
    if isinstance(part, Tensor):
        return f"tensor{tuple(part.shape)}"
    if isinstance(part, tuple):
        return f"({', '.join(map(describe, part))})"
    if not is_dataclass(part):
        return getattr(part, "__qualname__", None) or repr(part)
    settings = ", ".join(f"{f.name}={describe(getattr(part, f.name))}" for f in fields(part))
    return f"{type(part).__qualname__}({settings})"


class Starter:
    """Makes the first carry of a call, and counts what that takes.

    Attributes:
        fixed: FLOPs of the start, or of finding that nothing has changed since.
        executed: FLOPs of the samples' evaluations.
        guard: what an evaluation is made within.
    """

    guard: Callable[[], AbstractContextManager[None]] = nullcontext

    def __init__(
        self, problem: Problem, x: Any, dtype: torch.dtype, graph: bool, generator: torch.Generator | None
    ) -> None:
        self._problem = problem
        self._batch = rows.count(x)
        self._x = x
        self._dtype = dtype
        self._graph = graph
        self._generator = generator
        self.fixed = 0
        self.executed = 0

    def begin(self, start: Any) -> Carry:
        """A new carry, at ``start`` or where the model starts."""
        problem = self._problem
        device = next(rows.leaves(self._x)).device
        keys = draw_keys(self._batch, device, self._generator)
        z = self._initial(keys) if start is None else start
        z = rows.map_rows(torch.clone, z)  # it may be the observation, a parameter or the caller's own tensor
        z = problem.solver.start(self._latent_dtype(z))
        point = self._evaluate(z, problem.c)
        zeros = torch.zeros(self._batch, dtype=torch.int64, device=device)
        bad = ~rows.finite((point.force,) if point.energy is None else (point.energy, point.force))
        carry = Carry(
            point=point,
            best=None,
            rank=None,
            memory=problem.solver.init(point),
            rest=None,
            keys=keys,
            status=torch.where(bad, int(Status.NONFINITE), zeros),
            steps=zeros,
            evals=zeros + 1,
            work=zeros + problem.meter.price("point", z),
            packed=torch.ones_like(bad),
        )
        self.executed += self._batch * problem.meter.price("point", z)
        return self._checked(self._keeping(carry))

    def resume(self, carry: Carry, other_stop: bool, again: Any = None) -> Carry:
        """An earlier carry, with those samples open again that a resource or a callback had ended.

        ``again`` holds the latents to go on from where they, or what they were judged by, may have changed.
        """
        reopened = [*_REOPENED, Status.CONVERGED] if other_stop else list(_REOPENED)
        open_again = torch.isin(carry.status, torch.tensor([int(s) for s in reopened], device=carry.status.device))
        carry = self._keeping(carry._replace(status=carry.status.masked_fill(open_again, int(Status.RUNNING))))
        changed = None
        if again is not None:
            carry, changed = self._judged_again(carry, again)
        elif self._graph:
            carry = self.refresh(carry)
        if other_stop:
            return self._checked(carry)
        return carry if changed is None or not bool(changed.any()) else self._checked(carry, changed)

    def _judged_again(self, carry: Carry, z: Any) -> tuple[Carry, Tensor]:
        """The carry with its points evaluated again, and which samples are not what they were.

        Those begin anew where they stand: what solver and stop rule remember of them speaks of another energy. The evaluation is
        on their account; of samples that are what they were it belongs to the fixed part of the call.
        """
        problem, old = self._problem, carry.point
        z, times = problem.solver.start(z), 1
        point = self._evaluate(z, problem.c)
        changed, best, rank = ~rows.same_rows(old, point), carry.best, carry.rank
        if best is not None and rank is not None:
            kept = point
            if not bool(rows.same_rows(best.z, z).all()):
                kept, times = self._evaluate(best.z, problem.c), 2
            changed = changed | ~rows.same_rows(best, kept)
            with torch.no_grad():
                ranks = [problem.rank(each, problem.c).detach() for each in (kept, point)]
                found = rows.where(ranks[1] <= ranks[0], point, kept)
                found_rank = torch.where(ranks[1] <= ranks[0], ranks[1], ranks[0])
                best, rank = rows.where(changed, found, best), torch.where(changed, found_rank, rank)
        bad = ~rows.finite((point.force,) if point.energy is None else (point.energy, point.force))
        anew = torch.where(bad, int(Status.NONFINITE), torch.zeros_like(carry.status))
        price, anew_ones = problem.meter.price("point", z) * times, changed.to(torch.int64)
        self.executed += price * int(anew_ones.sum())
        self.fixed += price * (self._batch - int(anew_ones.sum()))
        carry = carry._replace(
            point=point,
            best=best,
            rank=rank,
            memory=rows.where(changed, problem.solver.init(point), carry.memory),
            status=torch.where(changed, anew, carry.status),
            evals=carry.evals + times * anew_ones,
            work=carry.work + price * anew_ones,
        )
        return carry, changed

    def refresh(self, carry: Carry) -> Carry:
        """The points of the running samples evaluated again, now with a graph: the cached force has none."""
        running = carry.status == Status.RUNNING
        index = running.nonzero().flatten()
        if not len(index):
            return carry
        everyone = len(index) == self._batch  # then a graph is spared taking rows out and putting them back
        z, c = carry.point.z, self._problem.c
        point = self._evaluate(z, c) if everyone else self._evaluate(rows.take(z, index), rows.take(c, index))
        price = self._problem.meter.price("point", point.z)
        self.executed += price * len(index)
        ones = running.to(torch.int64)
        point = point if everyone else Point(*rows.put(tuple(carry.point), index, tuple(point)))
        return carry._replace(point=point, evals=carry.evals + ones, work=carry.work + price * ones)

    def _initial(self, keys: Tensor) -> Any:
        problem = self._problem
        model, c = problem.objective, problem.c
        draw = Draw(keys, torch.full_like(keys, -1))
        z = problem.meter.run("start", lambda _: model.init_latent(c, draw), self._x)
        if draw.used and self._generator is None:
            warn_same_noise(model, f"{type(model).__name__} starts from noise")
        self.fixed += self._batch * problem.meter.price("start", self._x)
        got = rows.count(z)
        if got != self._batch:
            raise ValueError(
                f"`{type(model).__name__}.init_latent` must return one latent a sample, {self._batch} rows; got {got}. "
                "Make its first axis that of the observation."
            )
        return z

    def _latent_dtype(self, z: Any) -> Any:
        """Latents keep the precision of the model or the observation, in whatever dtype products run."""
        return rows.map_rows(
            lambda leaf: leaf.to(self._dtype) if leaf.dtype in (torch.bfloat16, torch.float16) else leaf, z
        )

    def _evaluate(self, z: Any, c: Any) -> Point:
        """The point at ``z``; where a graph is kept, rows that fail get theirs without one, so that they poison nothing."""
        problem = self._problem

        def at(latent: Any, condition: Any) -> Point:
            return evaluate(problem.objective, latent, condition)

        with torch.set_grad_enabled(self._graph), self.guard():
            point = problem.meter.run("point", at, z, c)
        good = rows.finite(tuple(point)) if self._graph else None
        if good is None or bool(good.all()):
            return point
        with torch.no_grad():
            point = at(rows.map_rows(torch.detach, z), c)
        index = good.nonzero().flatten()
        alone = at(rows.take(z, index), rows.take(c, index))
        return Point(*rows.put(tuple(point), index, tuple(alone)))

    def _keeping(self, carry: Carry) -> Carry:
        """The carry with a best point, or without, as this call keeps it."""
        if not self._problem.best:
            return carry._replace(best=None, rank=None)
        if carry.best is not None:
            return carry
        with torch.no_grad():
            return carry._replace(best=carry.point, rank=self._problem.rank(carry.point, self._problem.c).detach())

    def _checked(self, carry: Carry, which: Tensor | None = None) -> Carry:
        """The carry after the stop rule's first look at all samples, or at those that begin anew."""
        problem = self._problem
        if problem.stop is None:
            return carry._replace(rest=None)
        with torch.no_grad():
            look = problem.look(carry.point, problem.c, None, None)
            done, rest = problem.stop.check(look, problem.stop.init(look))
        if which is not None:
            done, rest = done & which, rows.where(which, rest, carry.rest)
        status = torch.where(done & (carry.status == Status.RUNNING), int(Status.CONVERGED), carry.status)
        price = problem.meter.price("readout", carry.point.z) if problem.stop.reads else 0
        self.executed += price * self._batch
        return carry._replace(rest=rest, status=status, work=carry.work + price)
