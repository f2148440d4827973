"""Training on problems drawn as it goes, watched by held-out ones, that can be stopped at any time and gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset
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
    tasks: Task | Pool | Iterable[Any],
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
        tasks: where problems come from: a task, a `Pool`, or anything that gives batches (x, y) again and again, such as a
            `torch.utils.data.DataLoader` or a list of pairs, which then says how large a batch is. Of a list of several, each
            update draws one with equal odds. What a loader draws from torch's generators comes from the seed.
        recipe: how long and how fast.
        seed: of problems, losses, dropout and validations; global generators are left as they were, but dropout draws from them, so
            that during an update other threads see them seeded. Weights are as they come: call
            `torch.manual_seed` before making the model.
        validate: held-out problems, looked at every ``recipe.every`` updates and at the end.
        checkpoint: a file, written whole at every look and on an interrupt. If it is there, training goes on from it, and ends with the same bits as one that
            was never stopped; a finished one returns at once. It belongs to one model (by its shapes), loss, recipe and seed; ``patience``, ``seconds``
            and ``flops`` may change. On a loader the batches of the epoch so far are made again.
        progress: a bar on stderr, with the loss and the last scores.
        clock: seconds, for ``recipe.seconds`` and the history: processor time of this process; `time.monotonic` for a model on a GPU.

    Returns:
        the history, the weights that each validation would choose, and the last ones.

    Raises:
        TypeError: tasks that give no batches (x, y).
        ValueError: no task, two validations of one name, a model without parameters, or a checkpoint of another training or a
            damaged one (a `FileError`).
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
        if ended in (Ended.SECONDS, Ended.FLOPS) and not job.looked():
            save()  # before a look that a training with more time would not take here
            job.look()
    except KeyboardInterrupt:
        save()
        raise
    finally:
        bar.close()
    return Run(tuple(job.history), dict(job.chosen), copied(job.mean.state_dict()), ended, job.cost.uncounted)


def _checked(
    model: nn.Module, tasks: Any, validate: Sequence[Validation]
) -> tuple[tuple[Task | Pool | Iterable[Any], ...], tuple[Validation, ...]]:
    """Tasks and validations as tuples."""
    several = _several(tasks)
    looks = tuple(validate)
    if not several or len({each.name for each in looks}) < len(looks):
        raise ValueError(
            "`train` wants at least one task and validations of different names; got "
            f"{len(several)} tasks and {[each.name for each in looks]}. Name each validation."
        )
    for each in several:
        if isinstance(each, Dataset):
            raise TypeError(
                f"`train(tasks=...)` takes batches; got {type(each).__name__}, which gives samples. Pass `DataLoader(dataset, batch_size=32, shuffle=True)`."
            )
        if isinstance(each, (Tensor, str, dict)) or not isinstance(each, Task | Pool | Iterable):
            raise TypeError(
                f"`train(tasks=...)` takes a task of `ebm.tasks`, a `Pool`, or what gives batches (x, y); got {type(each).__name__}. "
                "Pass a `torch.utils.data.DataLoader`, a list of pairs, or `PrefixSums(16)`, say."
            )
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise ValueError(
            f"`train` wants a model with parameters; {type(model).__name__} has none. Register them as `nn.Parameter`."
        )
    return several, looks


def _several(tasks: Any) -> tuple[Any, ...]:
    """The sources; a list of pairs is one."""
    if (
        not isinstance(tasks, Sequence)
        or isinstance(tasks, str)
        or (isinstance(tasks, tuple) and hasattr(tasks, "_fields"))
    ):
        return (tasks,)
    pairs = bool(tasks) and all(isinstance(each, (tuple, list)) for each in tasks)
    return (tasks,) if pairs else tuple(tasks)
