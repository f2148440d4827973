"""What an adjoint is handed to run the solver with, as many times as its gradient needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.adjoint import Rest, Stage
from ebm.engine.carry import Starter
from ebm.engine.field import evaluate
from ebm.engine.loop import Settling, iterate
from ebm.engine.tape import Tape
from ebm.objective import Point
from ebm.solution import Carry

if TYPE_CHECKING:
    from ebm.engine.call import Call

__all__ = ["Runner"]


class Runner:
    """The `run` that an adjoint is handed."""

    def __init__(self, call: Call) -> None:
        self._call = call
        o = call.options
        shared = (o.seconds, o.flops, o.budget, o.callback)
        self.steps_only = call.stop is None and all(option is None for option in shared)

    def __call__(
        self,
        carry: Carry,
        *,
        graph: bool,
        spare: int = 0,
        twice: int = 0,
        after: int = 0,
        target: Tensor | None = None,
        tape: Tape | None = None,
    ) -> Iterator[Stage]:
        call, limits = self._call, self._call.limits
        problem, graph = call.problem, graph and call.graph
        limits = limits.again() if target is None else limits.only_steps(target)
        limits = limits.spare(spare, carry) if spare else limits
        if twice:
            limits = limits.holding_back(call.batch * twice, self._flops_of(carry, twice))
        if after:
            limits = limits.holding_back(0, after * self._flops_of(carry, 0))
        before = 0
        if graph and carry is not call.first:
            starter = Starter(problem, call.x, call.dtype, True, None)
            carry = starter.refresh(carry)
            before = starter.executed
        settling = Settling(problem, carry, graph)
        settling.executed = before
        if tape is not None and graph:
            settling.problem = replace(problem, walk=tape.over(settling))
        call.account.settlings.append(settling)
        return iterate(settling, limits)

    def rest(self, carry: Carry, samples: Tensor, times: int) -> Rest:
        call = self._call
        problem, meter = call.problem, call.meter
        kept = carry.point if carry.best is None else carry.best
        everyone = len(samples) == call.batch
        z, c = (kept.z, problem.c) if everyone else (rows.take(kept.z, samples), rows.take(problem.c, samples))

        def at(latent: Any) -> tuple[Point, Any]:
            point = evaluate(problem.objective, latent, c, guard=False)
            return point, call.solver.move(problem.objective, point, c)

        price = meter.price("point", z) * times
        call.account.executed += price * len(samples)
        one = torch.zeros_like(carry.evals).index_fill(0, samples, 1)
        carry = carry._replace(evals=carry.evals + times * one, work=carry.work + price * one)
        return Rest(rows.map_rows(torch.detach, z), at, "gradient" in call.model.provides, carry)

    def _flops_of(self, carry: Carry, steps: int) -> int:
        """The most that so many differentiated steps of the whole batch execute, their first point included."""
        call, z = self._call, carry.point.z
        return call.batch * (call.meter.price("point", z) + steps * call.problem.most(z, True))
