"""Training on problems drawn as it goes, watched by held-out ones, that can be stopped at any time and gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from tqdm import tqdm

from ebm.tasks import Task
from ebm.training.checkpoint import read, write
from ebm.training.job import Job, Loss
from ebm.training.judge import copied
from ebm.training.recipe import Pool, Recipe, Validation
from ebm.training.run import Ended, Run

__all__ = ["Loss", "train"]


def train(
    model: nn.Module,
    loss: Loss,
    tasks: Task | Pool | Sequence[Task | Pool],
    recipe: Recipe,
    *,
    seed: int = 0,
    validate: Sequence[Validation] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    clock: Callable[[], float] = time.process_time,
) -> Run:
    """Train a model; its own weights are those of the last update afterwards, and the run holds the means.

    Args:
        model: an objective, or any module that ``loss`` understands; on the device where problems are to be drawn.
        loss: any rule of `ebm.losses`, or `Supervised` for a module that is not settled.
        tasks: where problems come from; of several, each update draws one with equal odds.
        recipe: how long and how fast.
        seed: of problems, losses, dropout and validations; global generators are left as they were, but dropout draws from them, so
            that during an update other threads see them seeded. Weights are as they come: call
            `torch.manual_seed` before making the model.
        validate: held-out problems, looked at every ``recipe.every`` updates and at the end.
        checkpoint: a file, written whole at every look and on an interrupt. If it is there, training goes on from it, and ends with the same bits as one that
            was never stopped; a finished one returns at once. It belongs to one model (by its shapes), loss, recipe and seed; ``patience`` and
            ``seconds`` may change.
        progress: a bar on stderr, with the loss and the last scores.
        clock: seconds, for ``recipe.seconds`` and the history: processor time of this process; `time.monotonic` for a model on a GPU.

    Returns:
        the history, the weights that each validation would choose, and the last ones.

    Raises:
        ValueError: no task, two validations of one name, a model without parameters, or a checkpoint of another training.
        FloatingPointError: a loss or a gradient that is not finite; the weights and the checkpoint are left as they were before that update.

    Example:
        >>> import torch, ebm
        >>> from ebm.tasks import PrefixSums
        >>> from ebm.training import Recipe, Validation, train
        >>> _ = torch.manual_seed(0)
        >>> cell = ebm.GatedCell(1, width=6, head=torch.nn.Conv1d(6, 2, 1), dims=1)
        >>> rule = ebm.Progressive(PrefixSums(8).loss, burn_in=(0, 8), steps=4)
        >>> look = Validation("length 8", PrefixSums(8), count=50, steps=12)
        >>> run = train(cell, rule, PrefixSums(8), Recipe(updates=20), validate=[look])
        >>> run.history[-1].update, sorted(run.chosen)
        (20, ['length 8'])
    """
    several, looks = _checked(model, tasks, validate)
    job = Job(model, loss, several, recipe, seed, looks, clock)
    if checkpoint is not None:
        job.restore(read(checkpoint, job.origin))
    bar = tqdm(total=recipe.updates, initial=job.update, unit="update", disable=not progress)

    def save() -> None:
        if checkpoint is not None and job.whole:
            write(checkpoint, job.origin, job.state())

    try:
        ended = None
        while ended is None:
            if job.due():
                job.look()
                bar.set_postfix_str(job.summary())
                save()
            elif (ended := job.ended()) is None:
                job.advance()
                bar.update()
        if ended is Ended.SECONDS and not job.looked():
            save()  # before a look that a training with more time would not take here
            job.look()
    except KeyboardInterrupt:
        save()
        raise
    finally:
        bar.close()
    return Run(tuple(job.history), dict(job.chosen), copied(job.mean.state_dict()), ended)


def _checked(
    model: nn.Module, tasks: Any, validate: Sequence[Validation]
) -> tuple[tuple[Task | Pool, ...], tuple[Validation, ...]]:
    """Tasks and validations as tuples."""
    several = tuple(tasks) if isinstance(tasks, Sequence) else (tasks,)
    looks = tuple(validate)
    if not several or len({each.name for each in looks}) < len(looks):
        raise ValueError(
            "`train` wants at least one task and validations of different names; got "
            f"{len(several)} tasks and {[each.name for each in looks]}. Name each validation."
        )
    strange = [each for each in several if not isinstance(each, Task | Pool)]
    if strange:
        raise TypeError(
            f"`train(tasks=...)` takes tasks of `ebm.tasks` or a `Pool`; got {type(strange[0]).__name__}. Pass `PrefixSums(16)`, say."
        )
    if next(model.parameters(), None) is None:
        raise ValueError(
            f"`train` wants a model with parameters; {type(model).__name__} has none. Register them as `nn.Parameter`."
        )
    return several, looks
