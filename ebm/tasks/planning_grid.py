"""A small world of squares: which way to the goal from everywhere?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, constant, number, whole

__all__ = ["PlanningGrid"]

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


@dataclass(frozen=True)
class PlanningGrid(Task):
    r"""Obstacles on a grid and a goal; the answer is a policy: a move for every square that can reach the goal.

    Each square is an obstacle with probability ``share``, the goal is any free one. ``x`` is (B, 2, size, size), zeros
    and ones: obstacles, goal. ``y`` is (B, 4, size, size): 1 for every move (up, down, left, right) that leads one step nearer
    to the goal, else 0; obstacles, the goal and squares cut off from it have no right move and are not scored. An answer is
    (B, 4, size, size), scores of the moves. A grid counts only if every scored square is right.

    Args:
        size: squares a side, at least 2.
        share: probability of an obstacle, from 0 to 0.9.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range.

    Example:
        >>> import torch
        >>> from ebm.tasks import PlanningGrid
        >>> x, y = PlanningGrid(size=6).sample(3, torch.Generator().manual_seed(0))
        >>> tuple(x.shape), tuple(y.shape)
        ((3, 2, 6, 6), (3, 4, 6, 6))

    Source: the grid worlds of Tamar et al. (2016), Value iteration networks; there with eight moves and other obstacles.
    """

    metric: ClassVar[str] = "grids with every reachable square right"

    size: int = 16
    share: float = 0.3

    def __post_init__(self) -> None:
        whole(self, "size", 2)
        number(self, "share", 0, 0.9)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Grids and policies."""
        shape = (count, self.size * self.size)
        obstacle = torch.rand(shape, generator=generator, device=generator.device) < self.share
        keys = torch.rand(shape, generator=generator, device=generator.device)
        goal = keys.masked_fill(obstacle, -1.0).argmax(1)
        obstacle[torch.arange(count, device=goal.device), goal] = False  # were all squares taken
        marked = functional.one_hot(goal, shape[1])
        x = torch.stack([obstacle.long(), marked], dim=1).float().unflatten(2, (self.size, self.size))
        return Problems(x, _policy(x))

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        r"""Minus the log of the softmax mass on right moves, the mean over scored squares."""
        scored = y.sum(1) > 0
        safe = torch.where(scored[:, None], y, 1.0)
        each = answer.logsumexp(1) - answer.masked_fill(safe == 0, float("-inf")).logsumexp(1)
        return (each * scored).sum() / scored.sum().clamp(min=1)

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One for a grid whose every scored square is right, else zero."""
        right = y.gather(1, answer.argmax(1, keepdim=True))[:, 0] > 0
        return (right | (y.sum(1) == 0)).flatten(1).all(1).to(answer.dtype)

    def baselines(self) -> tuple[Baseline, ...]:
        """The commonest moves; straight towards the goal, whatever stands between."""
        return (
            constant("the commonest move", lambda train: train.y.mean(0)),
            Baseline("straight to the goal", _straight),
        )


def _shifted(values: Tensor, move: tuple[int, int], outside: float) -> Tensor:
    """At each square, what stands at the square that the move leads to."""
    padded = functional.pad(values, (1, 1, 1, 1), value=outside)
    down, right = 1 + move[0], 1 + move[1]
    return padded[..., down : down + values.shape[-2], right : right + values.shape[-1]]


def _policy(x: Tensor) -> Tensor:
    """Every move that leads nearer, by breadth-first search from the goal."""
    free, far = x[:, 0] == 0, torch.where(x[:, 1] > 0, 0.0, float("inf"))
    while True:
        nearest = torch.stack([_shifted(far, move, float("inf")) for move in _MOVES]).amin(0)
        nearer = torch.where(free, torch.minimum(far, nearest + 1), float("inf"))
        if bool((nearer == far).all()):
            break
        far = nearer
    there = torch.stack([_shifted(far, move, float("inf")) for move in _MOVES], dim=1)
    return ((there == far[:, None] - 1) & far.isfinite()[:, None]).float()


def _straight(train: Problems) -> Callable[[Tensor], Tensor]:
    def answer(x: Tensor) -> Tensor:
        size = x.shape[-1]
        goal = x[:, 1].flatten(1).argmax(1)
        place = torch.arange(size, device=x.device, dtype=x.dtype)
        down = (goal // size)[:, None, None] - place[None, :, None]
        right = (goal % size)[:, None, None] - place[None, None, :]
        down, right = torch.broadcast_tensors(down, right)
        return torch.stack([-down, down, -right, right], dim=1)

    return answer
