"""One recipe for every contender, and the training of all of them in two processes."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ebm.losses import Progressive
from support.data import Split, shift
from support.networks import Task, contenders

__all__ = ["Recipe", "Trained", "train_all"]


@dataclass(frozen=True)
class Recipe:
    """How every contender is trained; only the peak learning rate is its own.

    Attributes:
        epochs: passes over the training images.
        batch: images an update.
        shift: largest random shift in pixels, the augmentation.
        burn_in: the iterated models first run up to this many steps without a gradient...
        steps: ...and then this many with one; the loss is the mean over the answers after each of these.
        smoothing: of the labels.
        average: decay of the running mean of the weights, which is what gets evaluated.
    """

    epochs: int = 16
    batch: int = 25
    shift: int = 2
    burn_in: int = 8
    steps: int = 4
    smoothing: float = 0.05
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.995

    @property
    def trained_steps(self) -> int:
        """The most steps that training ever saw."""
        return self.burn_in + self.steps


@dataclass(frozen=True)
class Trained:
    """A trained contender: what it is, what it learned, and how long that took."""

    name: str
    seed: int
    weights: dict[str, Tensor]
    seconds: float


def train_all(task: Task, split: Split, recipe: Recipe, seeds: list[int], workers: int) -> list[Trained]:
    """Train every contender with every seed, ``workers`` at a time with one thread each; a bar shows the epochs done."""
    jobs = [(index, seed) for index in range(len(contenders(task))) for seed in seeds]
    jobs.sort(key=lambda job: _SLOW_FIRST.index(contenders(task)[job[0]].name))
    context = multiprocessing.get_context("spawn")
    done = context.Value("i", 0)
    bar = tqdm(total=len(jobs) * recipe.epochs, unit="epoch", desc=f"training {len(jobs)} models")
    with context.Pool(workers, _start_worker, (done, task, split, recipe)) as pool:
        results = [pool.apply_async(_train, job) for job in jobs]
        while not all(result.ready() for result in results):
            bar.n = done.value
            bar.refresh()
            time.sleep(0.2)
        bar.n = done.value
        bar.close()
        return [result.get() for result in results]


_SLOW_FIRST = (
    "gated, width 24", "plain conv, large", "MLP, large", "gated, width 16", "gated, width 10", "plain conv, small", "MLP, small",
)  # fmt: skip
_worker: dict[str, Any] = {}


def _start_worker(done: Any, task: Task, split: Split, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    _worker.update(done=done, task=task, split=split, recipe=recipe)


def _train(index: int, seed: int) -> Trained:
    recipe, split = _worker["recipe"], _worker["split"]
    contender = contenders(_worker["task"])[index]
    torch.manual_seed(seed)
    model = contender.build()
    averaged = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1000 + seed)
    started = time.perf_counter()
    updates = recipe.epochs * (len(split.labels) // recipe.batch)
    optimizer = torch.optim.AdamW(
        _decayed(model, recipe.weight_decay), lr=contender.learning_rate, betas=(0.9, 0.99), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, contender.learning_rate, total_steps=updates, pct_start=0.2, div_factor=10, final_div_factor=100
    )
    objective = _loss(recipe, contender.iterated)
    update = 0
    for _ in range(recipe.epochs):
        order = torch.randperm(len(split.labels), generator=generator)
        for rows in order[: len(order) // recipe.batch * recipe.batch].split(recipe.batch):
            images = shift(split.images[rows], recipe.shift, generator)
            optimizer.zero_grad(set_to_none=True)
            objective(model, images, split.labels[rows], generator).backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            update += 1
            _average(averaged, model, min(recipe.average, (1 + update) / (10 + update)))
        with _worker["done"].get_lock():
            _worker["done"].value += 1
    return Trained(contender.name, seed, averaged.state_dict(), time.perf_counter() - started)


def _loss(recipe: Recipe, iterated: bool) -> Any:
    def cross_entropy(answer: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(answer, labels, label_smoothing=recipe.smoothing)

    if iterated:
        return Progressive(
            cross_entropy, burn_in=(0, recipe.burn_in), steps=recipe.steps, noise_start=0.25, noise_scale=0.5
        )
    return lambda model, images, labels, generator: cross_entropy(model(images), labels)


def _decayed(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay, biases do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)
