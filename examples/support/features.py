"""What local rules learn from patches of images, and how well a linear read-out does with a few labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hebbian import Falling, HebbianLinear, KrotovHopfield, LocalRule, Scheduled, SoftHebb
from hebbian.layers import Relu, Triangle, learn
from hebbian.train import ridge
from support.dataset import Dataset, Split, dealt

__all__ = ["ACTIVATIONS", "PENALTIES", "RULES", "View", "accuracy", "frozen", "learned", "patches"]

RULES: dict[str, LocalRule] = {
    "SoftHebb": SoftHebb(0.02),
    "SoftHebb, losers unlearn": SoftHebb(0.02, anti=True),
    "Krotov-Hopfield": KrotovHopfield(0.02, k=7, anti=0.1),
}
"""All rules take steps of the same length: the largest entry of a change is the rate."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": Relu(),
    "triangle": Triangle(),
    "triangle squared": Triangle(2.0),
}
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5
BATCH = 100
LONG = 2.0  # rows that begin longer than what they go to all get to win: who wins is shortened


@dataclass(frozen=True)
class View:
    """How a layer sees an image.

    Attributes:
        kernel: side of a patch; as large as the image for a dense layer.
        stride: between patches.
        pooled: the answers are averaged over so many by so many parts of the image.
        signed: the mean of each patch is taken off, and weights begin with both signs; else both stay positive.
        count: patches shown to a rule.
        epochs: how often.
    """

    kernel: int
    stride: int
    pooled: int
    signed: bool
    count: int
    epochs: int


def patches(images: Tensor, view: View) -> Tensor:
    """(N, C, H, W) to (N, places, C * kernel * kernel), each patch of length one."""
    found = functional.unfold(images, view.kernel, stride=view.stride).transpose(1, 2)
    if view.signed:
        found = found - found.mean(-1, keepdim=True)
    return found / found.norm(dim=-1, keepdim=True).clamp_min(0.03 * math.sqrt(found.shape[-1]))


def learned(rule: LocalRule, seen: Tensor, units: int, view: View, generator: torch.Generator) -> Tensor:
    """The rows that a rule learns from patches (N, D) without labels, at length one."""
    steps = view.epochs * (len(seen) // BATCH)
    layer = HebbianLinear(seen.shape[1], units, Scheduled(rule, Falling(steps)), generator=generator)
    draw = torch.randn if view.signed else torch.rand
    with torch.no_grad():
        layer.weight.copy_(LONG * functional.normalize(draw(layer.weight.shape, generator=generator), dim=1))
    for _ in range(view.epochs):
        for rows in torch.randperm(len(seen), generator=generator)[: steps // view.epochs * BATCH].split(BATCH):
            learn(layer, seen[rows])
    return functional.normalize(layer.weight.detach(), dim=1)


def frozen(seen: Tensor, units: int, generator: torch.Generator) -> dict[str, Tensor]:
    """What needs no learning, in the same shape: Gaussian rows, and patches drawn by lot, at length one."""
    lot = torch.randperm(len(seen), generator=generator)[:units]
    gaussian = torch.randn(units, seen.shape[1], generator=generator)
    return {
        "random, frozen": functional.normalize(gaussian, dim=1),
        "patches drawn by lot": functional.normalize(seen[lot], dim=1),
    }


def accuracy(weights: Tensor | None, data: Dataset, labelled: Split, view: View) -> tuple[float, str]:
    """Of a ridge read-out on the test split, in per cent, and which activation and penalty were chosen.

    The choice is by cross-validation on the labelled images alone, the same for every row of the table. ``None`` for
    weights reads the pixels themselves.
    """
    choices = ACTIVATIONS if weights is not None else {"none": lambda drive: drive}
    best = (-1.0, "", 0.0)
    for name in choices:
        inputs = _features(labelled.images, weights, choices[name], view)
        for penalty in PENALTIES:
            best = max(best, (_held_out(inputs, labelled.labels, penalty), name, penalty))
    _, name, penalty = best
    inputs, tests = (_features(part.images, weights, choices[name], view) for part in (labelled, data.test))
    right = ridge(inputs, labelled.labels, penalty, len(data.classes))(tests).argmax(1) == data.test.labels
    return 100 * right.double().mean().item(), f"{name}, {penalty:g}"


def _features(images: Tensor, weights: Tensor | None, activation: Callable[[Tensor], Tensor], view: View) -> Tensor:
    """(N, units * pooled * pooled); the patches are made again in parts, since all at once are many."""
    if weights is None:
        return images.flatten(1)
    parts: Sequence[Tensor] = images.split(250)
    return torch.cat([_pooled(patches(part, view) @ weights.T, activation, view) for part in parts])


def _pooled(drive: Tensor, activation: Callable[[Tensor], Tensor], view: View) -> Tensor:
    """(N, places, units): units of a place compete, then each is averaged over parts of the image."""
    side = math.isqrt(drive.shape[1])
    answers = activation(drive.transpose(1, 2).unflatten(2, (side, side)))
    return functional.adaptive_avg_pool2d(answers, view.pooled).flatten(1)


def _held_out(inputs: Tensor, labels: Tensor, penalty: float) -> float:
    """The mean accuracy over folds, each left out in turn; folds hold equal shares of every class."""
    classes = int(labels.max()) + 1
    fold = torch.empty(len(labels), dtype=torch.int64)
    fold[dealt(labels)] = torch.arange(len(labels)) // classes % FOLDS
    right = 0
    for k in range(FOLDS):
        readout = ridge(inputs[fold != k], labels[fold != k], penalty, classes)
        right += int((readout(inputs[fold == k]).argmax(1) == labels[fold == k]).sum())
    return right / len(labels)
