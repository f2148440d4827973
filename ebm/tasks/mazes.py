"""Mazes with a single path: mark it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, whole
from ebm.tasks.carving import carve

__all__ = ["WALL", "Mazes", "fill_dead_ends"]

WALL = -100
"""The target of a wall, which no loss and no score looks at."""


@dataclass(frozen=True)
class Mazes(Task):
    r"""A picture of a maze with a start and a goal; the answer marks the path.

    The published *size* s, odd, means :math:`c \times c` cells with :math:`c = (s + 1) / 2`, on a raster of
    :math:`2c + 1` squares a side with the walls between the cells. A maze is a spanning tree carved by a randomised
    depth-first walk from the start, so there is one path.

    ``x`` is (B, 3, 2c + 1, 2c + 1), red, green and blue in {0, 1}: walls black, open squares white, the start green,
    the goal red. ``y`` is (B, 2c + 1, 2c + 1), int64: 1 on the path with both its ends, 0 on other open squares, and
    `WALL` on walls. An answer is (B, 2, 2c + 1, 2c + 1), the scores of the two classes. A maze counts only if every open
    square of it is right.

    Args:
        size: the published size, odd, at least 3.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: a size that is even or below 3.

    Example:
        >>> import torch
        >>> from ebm.tasks import Mazes
        >>> x, y = Mazes(size=5).sample(1, torch.Generator().manual_seed(0))
        >>> for line in y[0].tolist():
        ...     print("".join({-100: "#", 0: " ", 1: "o"}[square] for square in line))
        #######
        #  ooo#
        # ###o#
        # #ooo#
        # #o# #
        # #o# #
        #######

    Source: Schwarzschild et al. (2021), Datasets for studying generalization from easy to hard examples. There every square is drawn two
    pixels wide with a border; here a square is one pixel, and the same size is the same maze.
    """

    metric: ClassVar[str] = "mazes with every open square right"

    size: int = 9

    def __post_init__(self) -> None:
        whole(self, "size", 3)
        if self.size % 2 == 0:
            raise ValueError(
                f"`Mazes(size=...)` is odd, as published; got {self.size}. {self.size - 1} has {self.size // 2} cells a side."
            )

    @property
    def cells(self) -> int:
        """Cells a side, (size + 1) / 2."""
        return (self.size + 1) // 2

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Pictures and paths."""
        opened, path, start, goal = carve(count, self.cells, generator)
        row = torch.arange(count, device=generator.device)
        x = opened[:, None].float().repeat(1, 3, 1, 1)
        flat = x.flatten(2)
        flat[row, 0, start] = flat[row, 2, start] = 0.0
        flat[row, 1, goal] = flat[row, 2, goal] = 0.0
        return Problems(x, path.long().masked_fill(~opened, WALL))

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, the mean over open squares."""
        return functional.cross_entropy(answer, y, ignore_index=WALL)

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One for a maze whose every open square is right, else zero."""
        return ((answer.argmax(1) == y) | (y == WALL)).flatten(1).all(1).to(answer.dtype)

    def baselines(self) -> tuple[Baseline, ...]:
        """Every open square; the two ends alone; and the exact rule, which fills dead ends."""
        return (
            Baseline("every open square", _whatever(lambda x: torch.ones_like(x[:, 0]))),
            Baseline("start and goal alone", _whatever(lambda x: (x.sum(1) == 1).to(x.dtype))),
            Baseline("filling dead ends (exact)", _whatever(lambda x: fill_dead_ends(x).to(x.dtype))),
        )


def fill_dead_ends(x: Tensor) -> Tensor:
    """The path by a local rule: an open square with one open neighbour closes, unless it is the start or the goal.

    Args:
        x: pictures of mazes, (B, 3, H, W), as `Mazes` draws them.

    Returns:
        what stays open at the end, bool (B, H, W): in a maze without loops, the path.

    Example:
        >>> import torch
        >>> from ebm.tasks import Mazes, fill_dead_ends
        >>> x, y = Mazes(size=9).sample(10, torch.Generator().manual_seed(0))
        >>> bool((fill_dead_ends(x) == (y == 1)).all())
        True
    """
    opened = x.sum(1, keepdim=True) > 0
    ends = x.sum(1, keepdim=True) == 1
    cross = x.new_tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None]
    while True:
        neighbours = functional.conv2d(opened.to(x.dtype), cross, padding=1)
        kept = opened & (ends | (neighbours > 1.5))
        if bool((kept == opened).all()):
            return opened[:, 0]
        opened = kept


def _whatever(mark: Callable[[Tensor], Tensor]) -> Callable[[Problems], Callable[[Tensor], Tensor]]:
    """Nothing is fitted: scores from the marked squares, (B, H, W) in {0, 1}."""

    def answer(x: Tensor) -> Tensor:
        marked = mark(x)
        return torch.stack([1 - marked, marked], dim=1)

    return lambda train: answer
