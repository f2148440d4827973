"""A training under way: one update, one look, and all that is needed to go on later."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.tasks import Problems, Task
from ebm.training.batches import Batches, own_noise
from ebm.training.checkpoint import fingerprint
from ebm.training.cost import Cost
from ebm.training.judge import better, copied, held_out, judged, perfect
from ebm.training.recipe import Pool, Recipe, Validation
from ebm.training.run import Chosen, Ended, Row

__all__ = ["Job", "Loss"]

Loss = Callable[[Any, Any, Any, torch.Generator], Tensor]
"""``loss(model, x, y, generator)``, a scalar: any rule of `ebm.losses`, or a function of your own."""


class Job:
    """A training under way.

    Attributes:
        whole: whether weights, mean and optimizer belong to one and the same update; False while one is being made.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        tasks: tuple[Task | Pool | Iterable[Any], ...],
        recipe: Recipe,
        seed: int,
        validate: tuple[Validation, ...],
        clock: Callable[[], float],
    ) -> None:
        self.model, self.loss, self.recipe, self.validate, self.seed = model, loss, recipe, validate, seed
        self.mean = copy.deepcopy(model)
        device = next(model.parameters()).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        pools = torch.Generator(device).manual_seed(seed + 500_009)
        self.sources = [self._source(each, place, pools) for place, each in enumerate(tasks)]
        self.cost = Cost()
        self.problems = held_out(validate, seed, device)
        self.origin = fingerprint(model, loss, tasks, recipe, seed, validate)
        self.update, self.seconds, self.running = 0, 0.0, math.nan
        self.history: list[Row] = []
        self.chosen: dict[str, Chosen] = {}
        self.clock, self.whole = clock, True
        self._taken: Any = None

    def looked(self) -> bool:
        """Whether the weights as they are were judged."""
        return bool(self.history) and self.history[-1].update == self.update

    def due(self) -> bool:
        """Whether it is time to judge them."""
        return (
            self.update > 0
            and (self.update % self.recipe.every == 0 or self.update == self.recipe.updates)
            and not self.looked()
        )

    def ended(self) -> Ended | None:
        """Why no update is to come, or None."""
        recipe = self.recipe
        if self.update >= recipe.updates:
            return Ended.UPDATES
        if recipe.patience is not None and self.validate and len(self.history) >= recipe.patience:
            looks = self.history[-recipe.patience :]
            if all(perfect(each, row.scores[each.name]) for row in looks for each in self.validate):
                return Ended.PERFECT
        if recipe.seconds is not None and self.seconds >= recipe.seconds:
            return Ended.SECONDS
        return Ended.FLOPS if recipe.flops is not None and self.cost.flops >= recipe.flops else None

    def advance(self) -> None:
        """One update."""
        began = self.clock()
        self.whole = False
        loss = self._slopes()
        self.update += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.update)
        self.optimizer.step()
        self._average()
        self.running = loss if math.isnan(self.running) else 0.95 * self.running + 0.05 * loss
        if isinstance(self._taken, Batches):
            self._taken.done()
        self.seconds += self.clock() - began
        self.whole = True

    def _slopes(self) -> float:
        """The loss of the next update, and its clipped gradients; whatever goes wrong, the next try draws the same problems."""
        generator, buffers = self.generator.get_state(), [value.clone() for value in self.model.buffers()]
        try:
            with own_noise(self.seed * 1_000_003 + self.update, self.generator.device):
                x, y = self._drawn()
                self.optimizer.zero_grad(set_to_none=True)
                with self.cost.update(x, y):
                    value = self.loss(self.model, x, y, self.generator)
                    loss = float(_scalar(value).detach())
                    self._check("loss", loss)
                    value.backward()
                    self._check("gradient", float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)))
        except BaseException:
            self.generator.set_state(generator)
            for value, before in zip(self.model.buffers(), buffers, strict=True):
                value.data.copy_(before)
            self.whole = True
            raise
        return loss

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The {what} of update {self.update + 1} is {value}; nothing was changed by it. Lower the learning rate or `clip`, "
                "or bound what the loss compares."
            )

    def look(self) -> None:
        """Judge the mean weights, and keep them where a validation never saw better ones."""
        scores = judged(self.mean, self.validate, self.problems)
        for each in self.validate:
            score, best = scores[each.name], self.chosen.get(each.name)
            if best is None or better(score, best.score, each.lower_is_better):
                self.chosen[each.name] = Chosen(self.update, score, copied(self.mean.state_dict()))
        # last: a look that is interrupted is taken again, and chooses the same
        self.history.append(Row(self.update, self.seconds, self.running, scores, self.cost.flops))

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
            "flops": self.cost.state(),
            "sources": [each.state() if isinstance(each, Batches) else None for each in self.sources],
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
        self.cost.restore(state["flops"])
        for source, stood in zip(self.sources, state["sources"], strict=True):
            if isinstance(source, Batches):
                source.restore(stood)
        self.history = [Row(*row) for row in state["history"]]
        self.chosen = {name: Chosen(*each) for name, each in state["chosen"].items()}

    def _source(self, source: Any, place: int, pools: torch.Generator) -> Task | Problems | Batches:
        if isinstance(source, Pool):
            return source.task.sample(source.count, pools)
        return source if isinstance(source, Task) else Batches(source, self.seed * 31 + place, self.generator.device)

    def _drawn(self) -> Problems:
        generator, device = self.generator, self.generator.device
        which = 0
        if len(self.sources) > 1:
            which = int(torch.randint(len(self.sources), (), generator=generator, device=device))
        source = self._taken = self.sources[which]
        if isinstance(source, Batches):
            return source.sample()
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


def _scalar(value: Tensor) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(f"`train(loss=...)` must return a scalar; got {got}. Take the mean over the batch.")
