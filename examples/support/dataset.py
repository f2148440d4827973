"""What a job reads: images in three splits under an honest name, and splits that no generator decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Dataset", "Raw", "Split", "dealt", "divide", "hold_out", "stratified"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes.

    Attributes:
        images: (N, C, H, W), float32, from 0 to 1.
        labels: (N,), int64, from 0 to the number of classes less one.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Split:
        """The images at ``rows``, (n,), int64, in that order."""
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification problem: learn on ``train``, choose on ``validation``, report ``test``.

    Attributes:
        name: exactly what it is, as printed above every result.
        train: for learning the weights.
        validation: for choosing step counts and thresholds.
        test: for the table, and nothing else.
        classes: a name for each label.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def summary(self) -> str:
        """One line: name, sizes of the three splits, shape of an image, number of classes."""
        sizes = f"{len(self.train):,} train, {len(self.validation):,} validation, {len(self.test):,} test"
        return f"{self.name}: {sizes}; {' x '.join(map(str, self.shape))}; {len(self.classes)} classes"

    def reduced(self, train: int = 300, validation: int = 100, test: int = 200) -> Dataset:
        """The same problem with at most so many images a split, stratified, and a name that says so."""

        def part(split: Split, count: int) -> Split:
            return split.take(stratified(split.labels, min(count, len(split))))

        parts = part(self.train, train), part(self.validation, validation), part(self.test, test)
        return Dataset(f"{self.name}, smoke size", *parts, self.classes)


class Raw(NamedTuple):
    """What a file holds: images (N, C, H, W), uint8, and labels (N,), of any integer type."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]

    def take(self, rows: Tensor) -> Raw:
        """The images at ``rows``, (n,), int64, in that order."""
        return Raw(self.images[rows.numpy()], self.labels[rows.numpy()])

    def scaled(self, rows: Tensor) -> Split:
        """The images at ``rows``, bytes divided by 255; rows are taken first, so no float copy of all is made."""
        images, labels = self.take(rows)
        return Split(torch.from_numpy(images).float().div_(255), torch.from_numpy(labels.astype(np.int64)))


def divide(name: str, classes: tuple[str, ...], train: Raw, test: Raw, validation: int) -> Dataset:
    """A dataset whose validation part is held out of ``train``, stratified.

    Args:
        name: of the dataset.
        classes: a name for each label.
        train: for learning and validation together.
        test: left whole.
        validation: images held out of ``train``, at least 1 and fewer than all.

    Raises:
        ValueError: ``validation`` is out of range.
    """
    if not 0 < validation < len(train.labels):
        raise ValueError(
            f"`validation` is {validation}; from 1 to {len(train.labels) - 1} of the {len(train.labels)} training "
            "images are wanted. Pass fewer, so that some are left to learn from, and at least one to choose by."
        )
    learn, choose = hold_out(torch.from_numpy(train.labels.astype(np.int64)), validation)
    return Dataset(
        name, train.scaled(learn), train.scaled(choose), test.scaled(torch.arange(len(test.labels))), classes
    )


def hold_out(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows kept and rows held out, (N - count,) and (count,), both ascending; the second is ``stratified``."""
    held = stratified(labels, count)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero()[:, 0], held


def stratified(labels: Tensor, count: int) -> Tensor:
    """Rows evenly spaced through each class, ascending, (count,), int64.

    The rows are sorted by class, in file order within one, and ``count`` evenly spaced positions of that list are
    taken, so a class of n among N gets n * count / N, rounded up or down. No generator: the same rows for ever.

    Args:
        labels: (N,), integers.
        count: from 1 to N.

    Raises:
        ValueError: ``count`` is out of range.
    """
    total = len(labels)
    if not 0 < count <= total:
        raise ValueError(f"`count` is {count}; from 1 to {total}, the number of images, is wanted. Ask for fewer.")
    by_class = labels.argsort(stable=True)
    return by_class[(torch.arange(count) * total + total // 2) // count].sort().values


def dealt(labels: Tensor) -> Tensor:
    """All rows, (N,), in the order one of each class, then the next of each: every first part is stratified too."""
    by_class = labels.argsort(stable=True)
    sizes = labels.bincount()
    turn = torch.empty_like(by_class)
    turn[by_class] = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[by_class]]
    return (turn * len(sizes) + labels).argsort()
