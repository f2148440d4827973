"""One anytime call: what it was asked for, and the stages it goes through."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine import door, given
from ebm.engine.adjoint import Stage
from ebm.engine.budget import Account, CallLimits
from ebm.engine.carry import Starter, describe, identity
from ebm.engine.compiled import CompiledStep, compiled_step
from ebm.engine.eager import refuse_tracing
from ebm.engine.field import Meter, learn_prices, read
from ebm.engine.guard import guarded, handed_out
from ebm.engine.loop import Problem, Settling
from ebm.engine.modules import refusal, survey, watched
from ebm.engine.options import Options
from ebm.engine.runner import Runner
from ebm.engine.walk import walk
from ebm.engine.watch import Progress, Trace, wants_stop
from ebm.objective import Objective, Point, Update
from ebm.provenance import Provenance, Source
from ebm.solution import Origin, Solution, Status
from ebm.solvers import AdaptiveDescent, Picard
from ebm.warned import users_level

__all__ = ["Call"]

_STRIDE = 10  # steps between looks at an uncompiled call that nobody watches


class Call:
    """One call of `infer` or `stream`: checked when made, run by `run` or `solutions`."""

    def __init__(self, model: Objective, x: Any, options: Options) -> None:
        refuse_tracing()
        self._begun = options.clock()
        self.options = options
        self.model = model
        door.check_model(model)
        given.check_methods(model)
        options.check()
        owned, self._unsteady = survey(model)
        if self._unsteady and not options.adjoint.trains:
            raise refusal(model, self._unsteady[0])
        home = next((t for t in owned.values() if t.is_floating_point()), None)
        x = given.as_tensors("x", x, home)
        options = self.options = replace(
            options, start=given.as_tensors("start", options.start, home), steps=given.as_steps(options.steps)
        )
        door.check_transforms(options.adjoint, model, [*owned.values(), *rows.leaves(x)])
        self.batch = door.check_observation(x, home)
        self._steps = self._granted_steps()
        door.check_limits(self._steps, options.seconds, options.flops, options.budget, self.batch)
        self.solver = (
            options.solver or model.default_solver() or (Picard() if isinstance(model, Update) else AdaptiveDescent())
        )
        # a chain that ended where the model is at rest would draw from another distribution
        self.stop = None if options.stop is None and self.solver.samples else options.stop or model.default_stop()
        door.check_fit(self.solver, self.stop, model, options.compile)
        door.check_adjoint(options.adjoint, self.solver, model)
        self.origin = Origin(identity(model, owned), describe(self.solver), describe(self.stop))
        if options.resume is not None:
            door.check_resume(options.resume, self.origin, self.batch)
        if options.start is not None:
            door.check_latent("start", options.start, self.batch, home)
        self.graph = options.adjoint.graph and torch.is_grad_enabled()
        self.x = self._own(x, copy=True)  # a model that writes into it leaves the caller's alone
        self.dtype = (
            home
            if home is not None
            else next((leaf for leaf in rows.leaves(x) if leaf.is_floating_point()), torch.empty(()))
        ).dtype
        if options.resume is not None:
            door.check_resumed_dtype(options.resume, self.dtype)
        self.account = Account(options.budget, self._begun)
        self._source = Source(owned, self.x, self.dtype, self._precision())
        self._stage: Stage | None = None
        self._trace = Trace(options.record, model)
        self.meter = Meter(model, self.origin.model)
        self._read: tuple[Point, Any] | None = None
        self._streamed = False

    def run(self) -> Solution:
        """All stages; the last one's solution."""
        if self.options.callback is None:
            with self._inside():
                for _ in self._stages():
                    pass
        else:
            for _ in self._watched():
                pass
        return self.solution()

    def solutions(self) -> Generator[Solution]:
        """The solution at every stage."""
        self._streamed = True
        for item in self._watched(always=True):
            assert item is not None
            yield item

    def solution(self) -> Solution:
        """What is known now; raises if nothing is."""
        assert self._stage is not None and self.limits is not None
        with self._inside():
            return self._solution(self._stage)

    def attach(self, error: BaseException) -> None:
        """Let the best answer so far ride on an exception as ``error.solution``, read out without a graph.

        The signals by which PyTorch's checkpoints break off a second pass are none: there nobody waits for an answer.
        """
        if self._stage is None or type(error).__module__ == "torch.utils.checkpoint":
            return
        for settling in self.account.settlings[-1:]:
            settling.end(Status.STOPPED)
        with contextlib.suppress(Exception), self._inside(), torch.no_grad():
            error.solution = self._solution(self._stage)  # pyright: ignore[reportAttributeAccessIssue]

    # The door

    def _granted_steps(self) -> int | Tensor | None:
        """The step limit, or the model's default where there is no limit at all."""
        o = self.options
        if o.steps is None and o.seconds is None and o.flops is None and o.budget is None:
            return self.model.default_steps
        return o.steps

    def _own(self, tree: Any, copy: bool = False) -> Any:
        """A tree the call may use: out of inference mode, and without a graph unless one is kept."""

        def own(leaf: Tensor) -> Tensor:
            leaf = leaf.clone() if copy or leaf.is_inference() else leaf
            return leaf if self.graph else leaf.detach()

        with torch.inference_mode(False):
            return rows.map_rows(own, tree)

    # The run

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Where the model is evaluated: out of inference mode, in the precision asked for."""
        with contextlib.ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(self.graph))
            if self.options.precision is not None:
                stack.enter_context(torch.autocast(self._device.type, dtype=self.options.precision))
            yield

    def _precision(self) -> str:
        """What products are run in."""
        device, asked = self._device.type, self.options.precision
        ambient = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.dtype
        return str(ambient if asked is None else asked)

    @property
    def _device(self) -> torch.device:
        return next(rows.leaves(self.x)).device

    def _watched(self, always: bool = False) -> Iterator[Solution | None]:
        """The stages, each entered and left with the caller's modes in force, shown to the callback."""
        callback, seen = self.options.callback, None
        with contextlib.closing(self._stages()) as stages:
            while True:
                with self._inside():
                    stage = next(stages, None)
                if stage is None:
                    return
                item = self._apart(self.solution()) if always or callback else None
                moment = (id(stage), getattr(stage, "taken", None))
                if callback and moment != seen and wants_stop(callback(item)):  # pyright: ignore[reportArgumentType]
                    callback = None
                    self.account.settlings[-1].end(Status.STOPPED)
                    item = self._apart(self.solution()) if always else None
                seen = moment
                yield item

    def _stages(self) -> Generator[Stage, None, None]:
        with given.explained(self.model, self.x):
            self.limits = self._prepared()
        progress = Progress(self.options.progress, self._steps)
        try:
            for stage in self.options.adjoint.settle(Runner(self), self.first):
                self._stage = stage
                self._trace.add(stage, self)
                progress.show(stage)
                yield stage
        finally:
            progress.close()
            if self.options.budget is not None:
                self.account.charge(self.options.clock())

    def _prepared(self) -> CallLimits:
        """The condition, the problem, the first carry and the limits; everything here is on the clock."""
        o, model, meter = self.options, self.model, self.meter
        c = meter.run("condition", model.condition, self.x)
        c = self._c = guarded(c) if self.graph else c
        self._c_version = rows.versions(c)
        self.account.fixed += self.batch * meter.price("condition", self.x)
        meter.given(c)
        keep = o.keep or ("last" if self.graph else self.solver.keep)
        limits = CallLimits(
            self._steps, o.seconds, o.flops, self.account, o.clock, self._begun, self._device, self._streamed
        )
        compact = False if o.compile and o.compact == "auto" else o.compact
        self._compiled = compiled_step(model, self.solver) if o.compile else None
        stride = self._stride(keep)
        self.problem = Problem(
            model, self.solver, self.stop, c, keep == "best", compact, meter, self._compiled or walk, stride
        )
        starter = Starter(self.problem, self.x, self.dtype, self.graph, o.generator)
        if self._unsteady:
            # training: what runs once a call may be in train mode, what runs in a step may not
            starter.guard = partial(watched, model, self._unsteady)
        if o.start is not None:
            given.check_start(model, o.start, c, "levels" in self.solver.needs)
        if o.resume is None:
            self.first = starter.begin(None if o.start is None else self._own(o.start))
        else:
            sure = o.resume.provenance is not None and o.resume.provenance.holds(self._source, o.resume.state)
            again = None if sure else self._own(o.resume.z_to_go_on_from())
            self.first = starter.resume(self._own(o.resume.carry), o.resume.origin.stop != self.origin.stop, again)
        self._check_condition()
        self.account.fixed += starter.fixed
        self.account.executed += starter.executed
        self._learn_prices(limits)
        if self._compiled is not None:
            self._prepare_program(self._compiled, limits.deadline)
        limits.aim(self.first)
        self._check_flops_end(limits)
        return limits

    def _stride(self, keep: str) -> int:
        """How many steps to make between looks: more than one only where nobody and nothing looks after each."""
        o, steps = self.options, self._steps
        seen = (self.stop, o.callback, o.record, o.seconds, o.flops, o.budget)
        watched = self._streamed or o.progress or keep == "best" or any(part is not None for part in seen)
        wanted = int(o.compile) or _STRIDE
        return 1 if watched or self.graph or (isinstance(steps, int) and steps < wanted) else wanted

    def _prepare_program(self, compiled: CompiledStep, deadline: bool) -> None:
        """Have a program for these shapes; a deadline is not spent on compiling one, which takes seconds."""
        stride, shapes = self.problem.stride, (self.first.point.z, self._c)
        if not compiled.ready(shapes, self.options.precision, stride):
            if deadline:
                warnings.warn(
                    f"`compile=True` has no program for this {type(self.model).__name__} at a batch of {self.batch} yet, and compiling one "
                    "would outlast the deadline: this call steps uncompiled. Make it ahead, with `infer(model, x, steps=0, compile=True)`.",
                    UserWarning,
                    stacklevel=users_level(),
                )
                self.problem = replace(self.problem, walk=walk, stride=1)
                return
            self._rehearse(compiled)
            compiled.made(shapes, self.options.precision, stride)
        if not compiled.trusts(stride):
            self.problem = replace(self.problem, stride=1)

    def _rehearse(self, compiled: CompiledStep) -> None:
        """Steps made and thrown away, so that compiling counts as elapsed time but not as the length of a step.

        Twice, since the first may see a latent that shares memory with the condition, which compiles to another program.
        A program of several steps is used only if it ends at the same bits as those steps one by one.
        """
        stride, first = self.problem.stride, self.first._replace(status=torch.zeros_like(self.first.status))
        alone, together = Settling(replace(self.problem, stride=1), first), Settling(self.problem, first)
        for settling in (alone, together) if stride > 1 else (alone,):
            while settling.taken < 2 * stride and settling.running:
                settling.advance(stride)
        if stride > 1:
            compiled.compare(stride, alone.carry(), together.carry())

    def _learn_prices(self, limits: CallLimits) -> None:
        """Everything the call may ask for is priced before the first step; a model new to a resumed state has no price yet.

        The read-out is priced, and timed, ahead of its use only where something is limited by it.
        """
        z, meter, clock = self.first.point.z, self.meter, self.options.clock
        learn_prices(meter, self.model, self.solver.most(z), z, self._c)
        reads = self.stop is not None and self.stop.reads
        if limits.deadline or limits.pot is not None or limits.flops is not None or reads:
            began = clock() if limits.deadline and not meter.knows("readout", z) else None
            with torch.no_grad():
                meter.learn("readout", partial(read, self.model), z, self._c)
            if began is not None:
                meter.took(clock, z, limits.now() - began)
        if limits.deadline:
            self.account.tail = meter.takes(clock, z)
        self.account.read = self.batch * meter.price("readout", z)

    def _check_condition(self) -> None:
        if rows.versions(self._c) != self._c_version:
            raise RuntimeError(
                f"`{type(self.model).__name__}` must leave its condition as it is; one of its methods wrote into it. Make a new tensor, "
                "`c + z` in the place of `c += z`, and leave out `inplace=True` in modules such as `torch.nn.ReLU`."
            )

    def _check_flops_end(self, limits: CallLimits) -> None:
        """A FLOP budget ends a call only if a step costs FLOPs."""
        granted = limits.granted_flops()
        if granted is None:
            return
        point = self.first.point
        free = not self.problem.most(point.z, self.graph)
        ends = self._steps is not None or limits.deadline or (limits.pot is not None and limits.pot.steps is not None)
        if free and granted > 0 and not ends:
            raise ValueError(
                f"`flops=` alone would never end this call: an evaluation of {type(self.model).__name__} has no operation with a FLOP "
                "formula. Pass `steps=` or `seconds=` as well."
            )

    def _solution(self, stage: Stage) -> Solution:
        assert self.limits is not None
        carry, account = stage.carry(), self.account
        kept = carry.point if carry.best is None else carry.best
        if self.graph and not self.batch:
            # no step was made that could have led the graph on: a gradient of no sample is zero
            kept = kept._replace(z=rows.add(kept.z, self.first.point.force))
        if self.graph:
            kept = kept._replace(z=handed_out(kept.z), energy=handed_out(kept.energy))
        answer = self._answer(kept)
        return Solution(
            z=kept.z,
            answer=answer,
            energy=kept.energy,
            residual=self.problem.residual(kept, self._c),
            status=carry.status,
            steps=carry.steps,
            evals=carry.evals,
            flops_per_sample=carry.work,
            flops=account.flops,
            fixed_flops=account.fixed + account.read,
            uncounted=dict(self.meter.uncounted),
            seconds=self.limits.now() - self._begun,
            carry=carry,
            origin=self.origin,
            trace=self._trace.stacked(),
            provenance=Provenance(self._source, (kept.z, carry)),
        )

    def _answer(self, kept: Point) -> Any:
        """The read-out of the kept point; the one just made, if the point is the same. What it took is kept back from a deadline."""
        assert self.limits is not None
        if self._read is not None and self._read[0] is kept:
            return self._read[1]
        answer = self.meter.run("readout", partial(read, self.model), kept.z, self._c)
        self._check_condition()
        self.account.read = self.batch * self.meter.price("readout", kept.z)
        if self.limits.deadline:
            took = self.limits.since_lap()
            self.account.tail = took
            self.meter.took(self.options.clock, kept.z, took)
        self._read = None if self.graph else (kept, answer)
        return answer

    def _apart(self, solution: Solution) -> Solution:
        """A view of a call that goes on: what an observer writes into it cannot reach the call."""
        seen = ["z", "answer", "energy", "residual", "status", "steps", "evals", "flops_per_sample"]
        if not self.graph:  # of a graph autograd itself sees what is written
            seen.append("carry")
        parts = {name: rows.map_rows(torch.clone, getattr(solution, name)) for name in seen}
        state = parts["z"], parts.get("carry", solution.carry)
        return replace(solution, **parts, provenance=Provenance(self._source, state))
