"""Adjoints: how a loss differentiates a settled latent. Each knows no solver and no loop: it is handed ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.tape import Replay, Tape
from ebm.objective import Point
from ebm.solution import Carry, Status

__all__ = ["Adjoint", "Detached", "Ended", "Rest", "Run", "Stage", "Truncated", "Unroll"]


class Stage(Protocol):
    """A moment of a run: where all samples stand."""

    @property
    def running(self) -> int:
        """How many samples still run."""
        ...

    def carry(self) -> Carry:
        """Where all samples stand."""
        ...


class Run(Protocol):
    """What an adjoint is handed: it runs the loop and hands out each stage, the one before the first step included."""

    steps_only: bool  # whether the only limit is a number of steps, so that the last step is known in advance

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
        """Settle from ``carry``; ``graph`` keeps one.

        ``spare`` leaves out the last steps; ``twice`` holds back resources to make so many steps once more, ``after`` for so
        many evaluations; ``target`` overrides all limits; ``tape`` makes again what the steps saved for the graph.
        """
        ...

    def rest(self, carry: Carry, samples: Tensor, times: int) -> Rest:
        """What is needed to evaluate the kept points of some samples so many times more."""
        ...


class Rest(NamedTuple):
    """The kept latents of some samples, and how to ask what vanishes there.

    Attributes:
        z: the latents, without a graph.
        at: maps a latent to its point, and to what vanishes at rest under the solver, a row tree like the latent.
        gradient: whether forces are minus a gradient, so that their Jacobian is symmetric.
        carry: the carry handed in, with the evaluations on its account.
    """

    z: Any
    at: Callable[[Any], tuple[Point, Any]]
    gradient: bool
    carry: Carry


class Adjoint(ABC):
    """How a loss differentiates a settled latent; a frozen dataclass of settings.

    Attributes:
        graph: whether anything is differentiated; then the last point is kept by default, not the best.
        trains: whether the call is part of training, so that modules which run once a call (in `condition`, the start or the read-out)
            may be in train mode.
        needs: what the solver must provide (see `Solver.provides`).
        transforms: those of PyTorch that its steps go through around an update: ``"Grad"``, ``"Jvp"``.
    """

    graph: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    transforms: frozenset[str] = frozenset()

    @abstractmethod
    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        """The stages of a call, of which the last is differentiable as the adjoint says."""


@dataclass(frozen=True)
class Detached(Adjoint):
    """No gradient: the latent is data. For serving, and for contrastive, two-phase and local learning.

    Memory: one step.

    Example:
        >>> import torch, ebm
        >>> ebm.infer(ebm.ModernHopfield(torch.eye(2)), torch.eye(2), steps=1).z.requires_grad
        False

    Source: the convention of energy-based learning, LeCun et al. (2006).
    """

    graph: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    transforms: ClassVar[frozenset[str]] = frozenset({"Grad"})

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        return run(carry, graph=False)


@dataclass(frozen=True)
class Unroll(Adjoint):
    """The exact gradient of what was computed, through every step of the call. Memory grows with the steps.

    With ``checkpoint=k`` one state in k is kept, and the backward pass makes k steps at a time again: memory for T / k
    states and k steps, for the time of one forward pass more; the gradient is the same to the last bit. Noise is a function of
    the samples' keys, so it is drawn again as it was; the model must be a function of its arguments, which dropout in training
    mode is not, and nothing may be written into its tensors or the observation before the backward pass. A row index is kept
    wherever samples end, and a few numbers a step by autograd itself.

    Args:
        checkpoint: k >= 1 steps; None keeps all. The root of the number of steps needs the least memory.

    Raises:
        ValueError: ``checkpoint`` below one.
        RuntimeError: in the backward pass, where a step made again is not the step that was made.

    Example:
        >>> import torch, ebm
        >>> query = torch.eye(2).requires_grad_()
        >>> solution = ebm.infer(ebm.ModernHopfield(torch.eye(2)), query, steps=2, adjoint=ebm.Unroll())
        >>> solution.z.sum().backward()
        >>> query.grad.shape
        torch.Size([2, 2])

    Source: backpropagation through time; Domke (2012), section 3, for optimisers. Checkpoints: Griewank and Walther (2000);
    Chen et al. (2016) for networks.
    """

    checkpoint: int | None = None

    @property
    def transforms(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Both, where no step is made again."""
        return frozenset({"Grad", "Jvp"} if self.checkpoint is None else ())

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.checkpoint < 1:
            raise ValueError(
                f"`Unroll(checkpoint=...)` must be at least 1; got {self.checkpoint}. Leave it out to keep every step."
            )

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        return run(carry, graph=True, tape=None if self.checkpoint is None else Replay(self.checkpoint))


@dataclass(frozen=True)
class Truncated(Adjoint):
    """The gradient through the last ``last`` steps that each sample was granted; memory for that many.

    The point before the tail is evaluated again with a graph: one evaluation more. Where a stop rule, a deadline or a
    FLOP budget decides how many steps a sample gets, the call first runs without a graph, and then the last steps of
    each sample once more with one; so it is for samples that their solver ended before the tail. FLOP budgets hold the tail's work back; a deadline ends the first run, and the tail comes after it.

    Args:
        last: k >= 1 steps.

    Raises:
        ValueError: ``last`` below one.

    Example:
        >>> import ebm
        >>> ebm.Truncated(last=5)
        Truncated(last=5)

    Source: Williams and Peng (1990), truncated backpropagation through time; Shaban et al. (2019) for optimisers.
    """

    last: int
    transforms: ClassVar[frozenset[str]] = frozenset({"Grad"})

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(
                f"`Truncated(last=...)` must be at least 1; got {self.last}. For no gradient use `Detached()`."
            )

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        return self._known_end(run, carry) if run.steps_only else self._late_end(run, carry)

    def _known_end(self, run: Run, carry: Carry) -> Iterator[Stage]:
        """Steps without a graph up to where the tail begins, then the tail; before it, that of samples whose solver ended them."""
        past: deque[Carry] = deque([carry], maxlen=self.last + 1)
        begin = final = carry
        running = None
        for stage in run(carry, graph=False, spare=self.last):
            if stage.running:
                yield stage
            before, final = final, stage.carry()
            past.append(final)
            if running is not None and stage.running < running:
                begin = rows.where(_stalled(final) & ~_stalled(before), past[0], begin)
            running = stage.running
        again = _stalled(final) & ~_stalled(carry)
        if bool(again.any()):
            begin = rows.where(again, begin._replace(status=torch.zeros_like(begin.status)), final)
            *_, stage = run(begin, graph=True, target=final.steps)
            final = _settled(stage.carry(), final, begin)
        yield from run(_reopened(final), graph=True)

    def _late_end(self, run: Run, carry: Carry) -> Iterator[Stage]:
        """All steps without a graph, then the last ones of each sample again."""
        past: deque[Carry] = deque([carry], maxlen=self.last + 1)
        begin = final = carry
        for stage in run(carry, graph=False, twice=self.last):
            if stage.running:
                yield stage
            final = stage.carry()
            moved = final.steps > past[-1].steps
            past.append(final)
            begin = rows.where(moved, past[0], begin)
        tail = begin._replace(status=torch.where(final.steps > begin.steps, int(Status.RUNNING), final.status))
        *_, stage = run(tail, graph=True, target=final.steps)
        yield Ended(_settled(stage.carry(), final, begin))


@dataclass(frozen=True)
class Ended:
    """A stage at which nothing runs any more."""

    ended: Carry
    running: int = 0

    def carry(self) -> Carry:
        return self.ended


def _stalled(carry: Carry) -> Tensor:
    return carry.status == Status.STALLED


def _settled(again: Carry, final: Carry, begin: Carry) -> Carry:
    """A tail taken again, with the status and on the account of the samples as they ended the first time."""
    evals, work = again.evals + final.evals - begin.evals, again.work + final.work - begin.work
    return again._replace(status=final.status, evals=evals, work=work)


def _reopened(carry: Carry) -> Carry:
    """The samples that were held back for the tail, running again."""
    held = carry.status == Status.OUT_OF_STEPS
    return carry._replace(status=torch.where(held, int(Status.RUNNING), carry.status))
