"""The models of the anytime jobs: iterated ones of several widths, and feed-forward baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

import ebm
from support.data import Dataset

__all__ = ["Contender", "Task", "contenders", "parameters"]


class Task(NamedTuple):
    """What a network must know of the data.

    Attributes:
        shape: (channels, height, width) of an image.
        classes: how many.
        mean, std: of the training images, a channel each.
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(data: Dataset) -> Task:
        """The task that a dataset poses."""
        images = data.train.images
        mean, std = images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).tolist()
        return Task(data.shape, len(data.classes), tuple(mean), tuple(std))


class Standardise(nn.Module):
    """Each channel minus its mean, over its standard deviation."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(task.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(task.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


@dataclass(frozen=True)
class Contender:
    """One entry of the comparison.

    Attributes:
        name: as printed.
        build: makes the untrained model.
        learning_rate: the peak of the schedule, chosen on validation data for each kind of model.
        iterated: whether it is settled, or runs once.
    """

    name: str
    build: Callable[[], nn.Module]
    learning_rate: float
    iterated: bool


def gated(task: Task, width: int, stem: int) -> ebm.GatedCell:
    """A weight-tied gated convolution on a grid four times coarser than the image, read out from 3 x 3 pooled cells."""
    inject = nn.Sequential(
        Standardise(task),
        nn.Conv2d(task.shape[0], stem, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(stem, 2 * width, 3, stride=2, padding=1),
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * width, task.classes))
    return ebm.GatedCell(inject, width, head)


def mlp(task: Task, first: int, second: int) -> nn.Module:
    """Two hidden layers."""
    channels, height, width = task.shape
    layers = (
        nn.Linear(channels * height * width, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, task.classes),
    )
    return nn.Sequential(Standardise(task), nn.Flatten(), *layers)


def plain_conv(task: Task, widths: tuple[int, ...]) -> nn.Module:
    """Convolutions, the first two with stride 2, on the same grid and with the same pooled read-out as the gated cell."""
    layers: list[nn.Module] = []
    before = task.shape[0]
    for depth, width in enumerate(widths):
        size = 5 if depth == 0 else 3
        layers += [nn.Conv2d(before, width, size, stride=2 if depth < 2 else 1, padding=size // 2), nn.ReLU()]
        before = width
    return nn.Sequential(
        Standardise(task), *layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * before, task.classes)
    )


def contenders(task: Task) -> list[Contender]:
    """The iterated models, and the baselines at about their largest size and at much larger ones."""
    channels, height, width = task.shape
    narrow = max(15_500 // (channels * height * width), 4)
    return [
        Contender("gated, width 10", lambda: gated(task, 10, 6), 1e-2, True),
        Contender("gated, width 16", lambda: gated(task, 16, 6), 1e-2, True),
        Contender("gated, width 24", lambda: gated(task, 24, 7), 1e-2, True),
        Contender("MLP, small", lambda: mlp(task, narrow, narrow), 3e-3, False),
        Contender("MLP, large", lambda: mlp(task, 1200, 1900), 1e-3, False),
        Contender("plain conv, small", lambda: plain_conv(task, (16, 28, 28)), 1e-2, False),
        Contender("plain conv, large", lambda: plain_conv(task, (32, 64, 96, 96)), 3e-3, False),
    ]


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())
