"""The anytime call: `infer` and `stream`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.adjoint import Adjoint, Detached
from ebm.engine.budget import Budget
from ebm.engine.call import Call
from ebm.engine.door import known_keywords
from ebm.engine.eager import eager
from ebm.engine.ledger import book
from ebm.engine.options import Options
from ebm.engine.stop import Stop
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver
from ebm.warned import DetachedWarning, warn_once, warn_same_noise, warn_slow_precision

__all__ = ["infer", "stream"]

_DETACHED = Detached()


@known_keywords
def infer(
    model: Objective,
    x: Any,
    *,
    steps: int | Tensor | None = None,
    seconds: float | None = None,
    flops: int | None = None,
    budget: Budget | None = None,
    stop: Stop | None = None,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    start: Any = None,
    resume: Solution | None = None,
    keep: Literal["best", "last"] | None = None,
    compact: bool | Literal["auto"] = "auto",
    compile: bool | int = False,
    precision: torch.dtype | None = None,
    record: Iterable[str] | None = None,
    callback: Callable[[Solution], bool | None] | None = None,
    progress: bool = False,
    generator: torch.Generator | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Solution:
    """Settle the latents of a batch within a budget; the best answer so far, whatever happens.

    At least one resource limit (``steps``, ``seconds``, ``flops``, ``budget``) is required, unless the model names a
    default. Running out of it is a status of the sample, not an error.

    Args:
        model: an `ebm.Energy` or an `ebm.Update`.
        x: the observation, a row tree of B samples; numpy arrays and nested lists of numbers are taken as tensors, floats in the
            model's dtype.
        steps: latent steps of this call, >= 0; exact. An int, or int64 (B,) (or a list) for a limit a sample.
        seconds: >= 0, from the call: no step is started that, were it as long as the longest so far, would leave no time for the
            read-out. What comes before the first step takes what it takes.
        flops: >= 0, one multiply-add is 2, of the whole batch: no step is started that would exceed it.
        budget: a pot of resources that several calls share.
        stop: when a sample is done; None asks the model for its default, which is usually never.
        solver: how a latent moves; None asks the model, and falls back on `AdaptiveDescent` (`Picard` for an update).
        adjoint: how a loss differentiates the settled latent. None is `Detached()`, no gradient; it warns once where the model could be
            trained (gradients are enabled, it is in training mode, and has parameters that want them). `Detached()` itself is quiet.
        start: a latent to begin at instead of ``model.init_latent``; excludes ``resume``.
        resume: a solution to go on from, solver memory, stop memory and noise keys included. Samples that ran out of
            a resource or were stopped run again; another ``stop`` starts anew and reopens converged ones. Where weights, observation,
            precision or ``resume.z`` have changed since, samples with another energy or force begin anew where they stand.
        keep: ``"best"`` (lowest energy seen, or residual for an update) or ``"last"``; None asks the solver
            (samplers: last). Differentiated calls keep the last.
        compact: step only the samples still running: always, never, or ``"auto"``, once at most half of them are.
            A compiled step is not re-compiled for smaller batches, so there auto means never.
        compile: `torch.compile` one step; for serving, not with a differentiating adjoint. A number puts so many steps
            into one program, which saves the time between them wherever nothing looks in between (``keep="last"``, no stop
            rule and no limit but ``steps``, no observer); it takes as many times longer to compile. With a deadline only programs that
            exist are used; a call with ``steps=0`` makes one.
        precision: run products in this dtype, for example ``torch.bfloat16``; latents, energies and comparisons stay.
        record: names of what to trace at every step, of the running point: ``"energy"``, ``"residual"``, ``"z"``,
            ``"answer"``, ``"status"``; the trace has one entry more than there were steps.
        callback: called with the solution so far before the first step and after each; returning True stops, also as one boolean of
            NumPy or PyTorch.
        progress: a progress bar on stderr (of the first process only).
        generator: the only source of randomness: it draws one key a sample. Without one the keys are the row numbers, whatever
            `torch.manual_seed` says, so that the same call gives the same answer; it warns once where noise is drawn so. Make one
            generator and pass it to every call to draw other noise each time.
        clock: seconds, never going back; an argument so that deadlines can be tested.

    Returns:
        The solution: latents, answers, and for each sample how it ended and what it cost.

    Raises:
        TypeError: an unknown keyword, an argument of the wrong type, or a callback that returns numbers.
        ValueError: no resource limit, a negative one, a non-finite or ill-placed observation, ``start`` with
            ``resume``, a resumed state of another batch, dtype, model or solver, or a solver that needs what the model lacks.
        RuntimeError: inside `torch.jit.trace` or `torch.export`; inside `torch.compile` the call is run as it is.
        Exception: whatever the model or the callback raises, KeyboardInterrupt included; the best answer so far
            rides on it as ``error.solution``.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.eye(4), beta=8.0)
        >>> solution = ebm.infer(memory, torch.eye(4)[:2] + 0.2, steps=10)
        >>> solution.answer.argmax(1)
        tensor([0, 1])

    Source: the anytime contract of Dean and Boddy (1988) and Zilberstein (1996).
    """
    options = Options(
        steps=steps,
        seconds=seconds,
        flops=flops,
        budget=budget,
        stop=stop,
        solver=solver,
        adjoint=_DETACHED if adjoint is None else adjoint,
        start=start,
        resume=resume,
        keep=keep,
        compact=compact,
        compile=compile,
        precision=precision,
        record=record,
        callback=callback,
        progress=progress,
        generator=generator,
        clock=clock,
    )
    return _run(model, x, options, adjoint)


@eager
def _run(model: Objective, x: Any, options: Options, adjoint: Adjoint | None) -> Solution:
    call = Call(model, x, options)
    _warn_of(call, adjoint)
    try:
        solution = call.run()
        book(solution.flops, call.graph)
        return solution
    except (Exception, KeyboardInterrupt) as error:
        call.attach(error)
        raise


class _Items(Iterator[Solution]):
    """The solutions of a call, one after the other; `close` ends it."""

    def __init__(self, items: Generator[Solution]) -> None:
        self._items = items

    @eager
    def __next__(self) -> Solution:
        return next(self._items)

    @eager
    def close(self) -> None:
        self._items.close()


@eager
def _items(model: Objective, x: Any, options: Options, adjoint: Adjoint | None) -> _Items:
    call = Call(model, x, options)
    _warn_of(call, adjoint)
    return _Items(_booked(call))


def _booked(call: Call) -> Generator[Solution]:
    """The stream, and what it took in the open ledger in the end."""
    flops = 0
    with contextlib.closing(call.solutions()) as items:
        try:
            for item in items:
                flops = item.flops
                yield item
        finally:
            book(flops, call.graph)


@known_keywords
def stream(
    model: Objective,
    x: Any,
    *,
    steps: int | Tensor | None = None,
    seconds: float | None = None,
    flops: int | None = None,
    budget: Budget | None = None,
    stop: Stop | None = None,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    start: Any = None,
    resume: Solution | None = None,
    keep: Literal["best", "last"] | None = None,
    compact: bool | Literal["auto"] = "auto",
    compile: bool | int = False,
    precision: torch.dtype | None = None,
    record: Iterable[str] | None = None,
    callback: Callable[[Solution], bool | None] | None = None,
    progress: bool = False,
    generator: torch.Generator | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Solution]:
    """The solutions of `infer`, one before the first step and one after each; every item is usable and resumable.

    Arguments are those of `infer`. Item t equals ``infer(steps=t)`` but for status and seconds, and the last item equals
    `infer` with the same arguments. An item stays true while the stream goes on. Its ``flops`` are those of the call
    that would have ended there: read-outs of earlier items are not charged to later ones.

    Returns:
        An iterator of solutions; closing it early leaves the work undone.

    Raises:
        TypeError, ValueError: as `infer`, at the call and not at the first item.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.eye(4), beta=0.5)
        >>> [int(item.steps[0]) for item in ebm.stream(memory, torch.eye(4), steps=3)]
        [0, 1, 2, 3]

    Source: the interruptible algorithms of Zilberstein (1996).
    """
    options = Options(
        steps=steps,
        seconds=seconds,
        flops=flops,
        budget=budget,
        stop=stop,
        solver=solver,
        adjoint=_DETACHED if adjoint is None else adjoint,
        start=start,
        resume=resume,
        keep=keep,
        compact=compact,
        compile=compile,
        precision=precision,
        record=record,
        callback=callback,
        progress=progress,
        generator=generator,
        clock=clock,
    )
    return _items(model, x, options, adjoint)


def _warn_of(call: Call, adjoint: Adjoint | None) -> None:
    """Tell of what is probably not meant: a gradient that nobody will get, steps that change nothing, noise that comes again."""
    model, options = call.model, call.options
    if adjoint is None and torch.is_grad_enabled() and _trains(model):
        warn_once(
            model,
            DetachedWarning,
            f"{type(model).__name__} has parameters to train, and is settled without a gradient: no `adjoint=` was given, so a loss of the answer "
            "cannot reach them. Pass `adjoint=ebm.Implicit()` or `ebm.Unroll()` to train it; if no gradient is meant, pass "
            "`adjoint=ebm.Detached()`, call `model.eval()`, or settle under `torch.no_grad()`.",
        )
    warn_slow_precision(model, options.precision, rows.first_leaf(call.x).device)
    if options.resume is not None:
        return
    still = isinstance(options.steps, int) and options.steps == 0
    idle = None if still or options.start is not None else model.idle(call.x)
    if idle is not None:
        warn_once(model, UserWarning, idle)
    if call.solver.noisy and not call.solver.incidental and options.generator is None and not still:
        warn_same_noise(model, f"{type(call.solver).__name__} draws noise")


def _trains(model: Objective) -> bool:
    """Whether a parameter wants a gradient, in a module that is in training mode; a wrapper is in the mode of what it wraps."""
    return any(
        module.training and any(part is not None and part.requires_grad for part in module._parameters.values())
        for module in model.modules()
    )
