"""Training on problems drawn as it goes, watched by held-out ones, that can be stopped at any time and gone on with."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ebm import rows
from ebm.tasks import Problems, Task
from ebm.training.checkpoint import fingerprint, read, write
from ebm.training.judge import better, copied, held_out, judged
from ebm.training.recipe import Pool, Recipe, Validation
from ebm.training.run import Chosen, Row, Run

__all__ = ["Loss", "train"]

Loss = Callable[[Any, Any, Any, torch.Generator], Tensor]
"""``loss(model, x, y, generator)``, a scalar: any rule of `ebm.losses`, or a function of your own."""


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
) -> Run:
    """Train a model; its own weights are those of the last update afterwards, and the run holds the means.

    Args:
        model: an objective, or any module that ``loss`` understands; on the device where problems are to be drawn.
        loss: any rule of `ebm.losses`.
        tasks: where problems come from; of several, each update draws one with equal odds.
        recipe: how long and how fast.
        seed: of problems, losses and validations; the global generator is not touched. Weights are as they come: call
            `torch.manual_seed` before making the model.
        validate: held-out problems, looked at every ``recipe.every`` updates and at the end.
        checkpoint: a file, written whole at every look and on an interrupt. If it is there, training goes on from it, and ends with the same bits as one that
            was never stopped; a finished one returns at once.
        progress: a bar on stderr.

    Raises:
        ValueError: no task, two validations of one name, or a checkpoint of another training.
        FloatingPointError: a loss that is not finite; the model and the checkpoint are left as they were before that update.

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
    several = tuple(tasks) if isinstance(tasks, Sequence) else (tasks,)
    looks = tuple(validate)
    if not several or len({each.name for each in looks}) < len(looks):
        raise ValueError(
            "`train` wants at least one task and validations of different names; got "
            f"{len(several)} tasks and {[each.name for each in looks]}. Name each validation."
        )
    job = _Job(model, loss, several, recipe, seed, looks)
    if checkpoint is not None:
        job.restore(read(checkpoint, job.origin))
    bar = tqdm(total=recipe.updates, initial=job.update, unit="update", disable=not progress)
    try:
        while job.update < recipe.updates:
            job.advance()
            bar.update()
            if job.update % recipe.every == 0 or job.update == recipe.updates:
                job.look()
                bar.set_postfix_str(job.summary())
                if checkpoint is not None:
                    write(checkpoint, job.origin, job.state())
    except KeyboardInterrupt:
        if checkpoint is not None:
            write(checkpoint, job.origin, job.state())
        raise
    finally:
        bar.close()
    return Run(tuple(job.history), dict(job.chosen), copied(job.mean.state_dict()))


class _Job:
    """A training under way."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        tasks: tuple[Task | Pool, ...],
        recipe: Recipe,
        seed: int,
        validate: tuple[Validation, ...],
    ) -> None:
        self.model, self.loss, self.recipe, self.validate = model, loss, recipe, validate
        self.mean = copy.deepcopy(model)
        device = next(model.parameters()).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        pools = torch.Generator(device).manual_seed(seed + 500_009)
        self.sources = [each.task.sample(each.count, pools) if isinstance(each, Pool) else each for each in tasks]
        self.problems = held_out(validate, seed, device)
        self.origin = fingerprint(model, tasks, recipe, seed, validate)
        self.update, self.seconds, self.running = 0, 0.0, math.nan
        self.history: list[Row] = []
        self.chosen: dict[str, Chosen] = {}

    def advance(self) -> None:
        """One update."""
        began = time.process_time()
        loss = self._slopes()
        self.update += 1
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.update)
        self.optimizer.step()
        self._average()
        self.running = loss if math.isnan(self.running) else 0.95 * self.running + 0.05 * loss
        self.seconds += time.process_time() - began

    def _slopes(self) -> float:
        """The loss of the next update, and its gradients; whatever goes wrong, the next try draws the same problems."""
        before = self.generator.get_state()
        try:
            x, y = self._drawn()
            self.optimizer.zero_grad(set_to_none=True)
            value = self.loss(self.model, x, y, self.generator)
            loss = float(value.detach())
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss of update {self.update + 1} is {loss}; nothing was changed by it. Lower the learning rate or `clip`, "
                    "or bound what the loss compares."
                )
            value.backward()
        except BaseException:
            self.generator.set_state(before)
            raise
        return loss

    def look(self) -> None:
        """Judge the mean weights, and keep them where a validation never saw better ones."""
        scores = judged(self.mean, self.validate, self.problems)
        self.history.append(Row(self.update, self.seconds, self.running, scores))
        for each in self.validate:
            score, best = scores[each.name], self.chosen.get(each.name)
            if best is None or better(score, best.score, each.lower_is_better):
                self.chosen[each.name] = Chosen(self.update, score, copied(self.mean.state_dict()))

    def summary(self) -> str:
        """Loss and last scores, for the bar."""
        scores = ", ".join(f"{name} {value:.3f}" for name, value in self.history[-1].scores.items())
        return f"loss {self.running:.4f}" + (f", {scores}" if scores else "")

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "update": self.update,
            "seconds": self.seconds,
            "running": self.running,
            "history": [tuple(row) for row in self.history],
            "chosen": {name: tuple(each) for name, each in self.chosen.items()},
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a state, if there is one."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.update, self.seconds, self.running = state["update"], state["seconds"], state["running"]
        self.history = [Row(*row) for row in state["history"]]
        self.chosen = {name: Chosen(*each) for name, each in state["chosen"].items()}

    def _drawn(self) -> Problems:
        generator, device = self.generator, self.generator.device
        which = 0
        if len(self.sources) > 1:
            which = int(torch.randint(len(self.sources), (), generator=generator, device=device))
        source = self.sources[which]
        if isinstance(source, Task):
            return source.sample(self.recipe.batch, generator)
        part = torch.randint(rows.count(source.x), (self.recipe.batch,), generator=generator, device=device)
        return Problems(rows.take(source.x, part), rows.take(source.y, part))

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 - self.recipe.decay(self.update)
        torch._foreach_lerp_(list(self.mean.parameters()), list(self.model.parameters()), share)
        for ours, theirs in zip(self.mean.buffers(), self.model.buffers(), strict=True):
            ours.copy_(theirs)
