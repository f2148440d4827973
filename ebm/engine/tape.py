"""Steps whose saved tensors are made again for the backward pass, rather than kept.

While a step is differentiated, autograd hands every tensor it would save to a hook. A tape takes them, gives back a number
each, and lets them go. When the backward pass asks for one, the tape finds the frame the step began with (by running on
from a kept one, or backwards from a later one), makes the step once more, and answers from what is saved this time.
So the graph is autograd's own, and reaches parameters, observation and whatever else the model closes over.

What is made again must be what was made: parameters and observation may not have been written over since, and each segment
must lead to where it led. Else there is an error and no gradient.

A tape holds no tensor of the graph it serves: Python could never collect such a cycle.
"""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ebm import rows
from ebm.engine.field import CountedField
from ebm.engine.moment import Moment, refuse, unwritten, version_of
from ebm.objective import Point

__all__ = ["Frame", "Replay", "ReversalWarning", "Rewind", "Tape"]

_DRIFT = 1e-3


class ReversalWarning(UserWarning):
    """Running a solver backwards lost so many digits that the gradient shows it.

    Example:
        >>> import warnings, ebm
        >>> warnings.simplefilter("error", ebm.ReversalWarning)  # make it an exception
    """


class Frame(NamedTuple):
    """What a step begins with; a row tree, one row a sample."""

    point: Point
    memory: Any
    keys: Tensor | None
    steps: Tensor | None


class _Mark(NamedTuple):
    """A step taken: whose, which leaves of its frame had a graph, and how many tensors it saved."""

    samples: Tensor | None
    graphs: list[bool]
    saved: int


@dataclass
class _Slot:
    """In the place of a saved tensor: which one of which step. The tensor is here only while that step is being made."""

    step: int
    number: int
    tensor: Tensor | None


class _Source(NamedTuple):
    """What a step is a function of beside its frame."""

    step: Callable[..., Any]
    objective: Any
    solver: Any
    c: Any
    moment: Moment

    def given(self, samples: Tensor | None) -> Any:
        """The condition of some samples."""
        return self.c if samples is None else rows.take(self.c, samples)

    def make(self, frame: Frame, c: Any) -> Any:
        """The outcome of a step."""
        return self.step(self.objective, self.solver, frame.point, frame.memory, c, frame.keys, frame.steps)


class _Kept:
    """A frame that is only handed out again if nobody wrote into it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = rows.map_rows(torch.detach, frame)
        self._marks = [unwritten(leaf) for leaf in rows.leaves(self._frame)]

    def frame(self) -> Frame:
        if not all(mark.intact() for mark in self._marks):
            refuse("a latent that they begin with")
        return self._frame


class Tape(ABC):
    """Remembers the frames of some steps, and makes again what all steps saved for the backward pass.

    Args:
        every: the frame before each so many steps is kept.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._marks: list[_Mark] = []
        self._starts: dict[int, _Kept] = {}
        self._saved: dict[int, list[tuple[Tensor, int]]] = {}
        self._source: Any = None

    def over(self, settling: Any) -> Callable[..., Any]:
        """The step of a settling, on tape."""
        problem, settling = settling.problem, weakref.ref(settling)

        def step(
            objective: Any, solver: Any, point: Point, memory: Any, c: Any, keys: Any, steps: Any, count: int = 1
        ) -> Any:
            if self._source is None:
                moment = Moment(objective, problem.c, rows.first_leaf(point.z).device.type)
                self._source = _Source(problem.walk, objective, solver, problem.c, moment)
            now: Any = settling()
            return self._taken(now.taken, now.block.samples, Frame(point, memory, keys, steps), c)

        return step

    @abstractmethod
    def _remake(self, n: int) -> None:
        """Fill ``_saved`` for step ``n``, and for no more steps than memory is meant for."""

    def _taken(self, n: int, samples: Tensor | None, frame: Frame, c: Any) -> Any:
        """Step ``n``, with what it saves let go. One that was thrown away is made again under the same number."""
        del self._marks[n:]
        if n % self._every == 0:
            self._starts[n] = _Kept(frame)
        slots: list[_Slot] = []

        def pack(tensor: Tensor) -> _Slot:
            slots.append(_Slot(n, len(slots), tensor.detach()))
            return slots[-1]

        try:
            with saved_tensors_hooks(pack, self._unpack):
                outcome = self._source.make(frame, c)
        finally:
            for slot in slots:
                slot.tensor = None
        self._marks.append(_Mark(samples, [leaf.requires_grad for leaf in rows.leaves(frame)], len(slots)))
        return outcome

    def _unpack(self, slot: _Slot) -> Tensor:
        if slot.tensor is not None:  # a model that differentiates within its own step
            return slot.tensor
        if slot.step not in self._saved:
            self._saved = {}
            self._source.moment.check()
            self._remake(slot.step)
        tensor, version = self._saved[slot.step][slot.number]
        if version_of(tensor) != version:  # a weight is saved as it is, and a second backward pass finds it here
            self._source.moment.check()
            refuse("a tensor that a step used")
        return tensor

    def _record(self, n: int, frame: Frame) -> Frame:
        """Make step ``n`` again from its frame, with what it saves put aside; the frame after it."""
        source, mark = self._source, self._marks[n]
        graphs, saved = iter(mark.graphs), []
        frame = rows.map_rows(lambda leaf: leaf.detach().requires_grad_(next(graphs)), frame)

        def pack(tensor: Tensor) -> Tensor:
            kept = tensor.detach()
            saved.append((kept, version_of(kept)))
            return kept

        def make() -> Any:
            c = source.given(mark.samples)
            with saved_tensors_hooks(pack, lambda tensor: tensor):
                return source.make(frame, c)

        with torch.enable_grad():
            outcome = source.moment.again(make)
        if len(saved) != mark.saved:
            self._refuse(f"saved {len(saved)} tensors, but {mark.saved} the first time")
        self._saved[n] = saved
        return _after(frame, outcome)

    def _compare(self, found: Point, wanted: Point, most: float) -> None:
        """What was made again leads to where it led, within a relative error; what is no number shows by itself."""
        worst = _apart(found, wanted)
        if worst > most:
            self._refuse(f"leads to another latent than the first time, {worst:.1g} of its size away")

    def _refuse(self, what: str) -> None:
        raise RuntimeError(
            f"A step made again for its gradient {what}. {type(self._source.objective).__name__} must be a function of its arguments alone: "
            "put it into eval mode, leave its tensors as they are until the backward pass, or use `Unroll()`, which makes nothing again."
        )


class Replay(Tape):
    """Runs on from the nearest frame kept before, a segment at a time."""

    def __init__(self, every: int) -> None:
        super().__init__(every)
        self._end: Any = None  # after the last step

    def _taken(self, n: int, samples: Tensor | None, frame: Frame, c: Any) -> Any:
        outcome = super()._taken(n, samples, frame, c)
        self._end = _Kept(_own(_after(frame, outcome)))
        return outcome

    def _remake(self, n: int) -> None:
        first = n - n % self._every
        after = min(first + self._every, len(self._marks))
        frame, whose = self._starts[first].frame(), self._marks[first].samples
        for m in range(first, after):
            frame, whose = self._of(m, frame, whose)
            frame = self._record(m, frame)
        if after == len(self._marks):
            wanted = self._end.frame()
        else:
            frame, _ = self._of(after, frame, whose)
            wanted = self._starts[after].frame()
        self._compare(frame.point, wanted.point, torch.finfo(rows.first_leaf(frame.point.z).dtype).eps ** 0.5)

    def _of(self, m: int, frame: Frame, whose: Tensor | None) -> tuple[Frame, Tensor | None]:
        """The rows of a frame that take step ``m``, and whose they are."""
        samples = self._marks[m].samples
        return (frame, whose) if samples is whose else (rows.take(frame, _within(whose, samples)), samples)


class Rewind(Tape):
    """Runs the solver backwards from the nearest frame known after, a step at a time.

    Rows of samples that end are kept when they do, one frame each in all.
    """

    def __init__(self, every: int) -> None:
        super().__init__(every)
        self._ends: dict[int, _Kept] = {}  # after the last two steps: the very last may be thrown away
        self._left: dict[int, tuple[Tensor, Frame]] = {}
        self._at: tuple[int, Frame] | None = None

    def _taken(self, n: int, samples: Tensor | None, frame: Frame, c: Any) -> Any:
        self._part(n, samples)
        outcome = super()._taken(n, samples, frame, c)
        self._ends = {m: end for m, end in self._ends.items() if m == n - 1} | {n: _Kept(_own(_after(frame, outcome)))}
        return outcome

    def _part(self, n: int, samples: Tensor | None) -> None:
        """Keep the rows of the samples that took the step before ``n`` and do not take this one."""
        self._left.pop(n, None)
        if n == 0 or samples is self._marks[n - 1].samples:
            return
        before = self._ends[n - 1].frame()
        stay = _within(self._marks[n - 1].samples, samples)
        gone = torch.ones(rows.count(before.point.z), dtype=torch.bool, device=stay.device).index_fill(0, stay, False)
        gone = gone.nonzero().flatten()
        self._left[n] = torch.cat([stay, gone]).argsort(), rows.take(before, gone)

    def _remake(self, n: int) -> None:
        frame = self._entry(n)
        after = self._record(n, frame)
        if n + 1 == len(self._marks) or (self._at is not None and self._at[0] == n + 1):
            self._compare(after.point, self._exit(n).point, _DRIFT)
        self._at = n, frame

    def _entry(self, n: int) -> Frame:
        """The frame that step ``n`` began with."""
        if n not in self._starts:
            return self._back(n, self._exit(n))
        if self._at is not None and self._at[0] == n + 1 and n + 1 not in self._starts:
            self._check(self._back(n, self._exit(n)), self._starts[n].frame())
        return self._starts[n].frame()

    def _exit(self, n: int) -> Frame:
        """The frame that step ``n`` led to."""
        if n + 1 == len(self._marks):
            return self._ends[n].frame()
        known = self._at is not None and self._at[0] == n + 1
        frame = self._at[1] if self._at is not None and known else self._entry(n + 1)
        if n + 1 not in self._left:
            return frame
        order, gone = self._left[n + 1]
        return rows.take(rows.cat([frame, gone]), order)

    def _back(self, n: int, frame: Frame) -> Frame:
        source = self._source

        def undone() -> Any:
            field = CountedField(source.objective, source.given(self._marks[n].samples), rows.count(frame.point.z))
            return source.solver.reverse(field, frame.point, frame.memory)

        with torch.no_grad():
            point, memory = source.moment.again(undone)
        return Frame(point, memory, frame.keys, None if frame.steps is None else frame.steps - 1)

    def _check(self, found: Frame, exact: Frame) -> None:
        """How far a segment's beginning, run back to, is from the one that was kept."""
        worst = _apart(found.point, exact.point)
        if not worst <= _DRIFT:
            warnings.warn(
                f"Running {type(self._source.solver).__name__} backwards for {self._every} steps missed by {worst:.1g} of the latent. "
                "Use shorter segments, `Reverse(segment=...)`, a smaller step of the solver, or float64.",
                ReversalWarning,
                stacklevel=2,
            )


def _apart(found: Point, wanted: Point) -> float:
    """How far the furthest latent and its force are from where they should be, relative to both."""
    errors = [rows.rms(rows.map_rows(torch.sub, a, b)) for a, b in ((found.z, wanted.z), (found.force, wanted.force))]
    size = rows.rms(wanted.z) + rows.rms(wanted.force)
    apart = (errors[0] + errors[1]) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return float(apart.max()) if len(apart) else 0.0


def _bare(frame: Frame) -> Frame:
    return rows.map_rows(torch.detach, frame)


def _after(frame: Frame, outcome: Any) -> Frame:
    """The frame that an outcome leads to, without a graph."""
    step = outcome.step
    steps = None if frame.steps is None else frame.steps + 1
    return _bare(Frame(step.point, step.memory, frame.keys, steps))


def _own(frame: Frame) -> Frame:
    """A frame whose latent is the tape's own: that of the last step is the answer, and its owner may write into it."""
    return frame._replace(point=frame.point._replace(z=rows.map_rows(torch.clone, frame.point.z)))


def _within(whole: Tensor | None, part: Tensor | None) -> Tensor:
    """Where the samples of ``part`` stand among those of ``whole``; both are in the order of the batch."""
    assert part is not None  # samples leave a block, and none come
    return part if whole is None else torch.searchsorted(whole, part)
