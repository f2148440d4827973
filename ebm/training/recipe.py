"""How long and how fast to train, what to draw from, and what to judge by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ebm.tasks import Task

__all__ = ["Pool", "Recipe", "Validation"]


@dataclass(frozen=True)
class Recipe:
    r"""AdamW with a warm-up and a cosine, clipped gradients, and a running mean of the weights, which is what is judged.

    The learning rate rises linearly for the first share ``warmup`` of the updates and falls along half a cosine to a thirtieth. The mean
    follows the weights with decay :math:`\min(\text{average}, u / (u + 10))` at update u, so that it forgets the start.

    Args:
        updates: how many, at least 1.
        batch: problems an update, at least 1.
        learning_rate: the peak, above 0.
        warmup: share of the updates, in [0, 1).
        weight_decay: at least 0.
        clip: largest norm of a gradient, above 0.
        average: decay of the running mean, in [0, 1); 0 judges the weights themselves.
        every: updates between two looks at the validations, at least 1; each is a point at which training can be resumed.
        patience: training ends early once every validation was perfect (a mean score of 1, or of 0 where lower is better) at so many
            looks in a row, at least 1; None: never.
        seconds: a guard, above 0: training ends after the update that exceeds so much time, looks not counted; None: no limit. The learning rate
            goes by updates alone, so that the weights after each update do not depend on the machine.
        flops: likewise a limit on the FLOPs of the updates, at least 1; None: no limit. See `Row.flops`.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> from ebm.training import Recipe
        >>> recipe = Recipe(updates=100, learning_rate=0.01)
        >>> [round(recipe.rate(update), 4) for update in (1, 10, 55, 100)]
        [0.001, 0.01, 0.0052, 0.0003]

    Source: Loshchilov and Hutter (2019), decoupled weight decay; Polyak and Juditsky (1992), averaging.
    """

    updates: int
    batch: int = 32
    learning_rate: float = 1e-2
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.99
    every: int = 100
    patience: int | None = None
    seconds: float | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value: Any = getattr(self, item.name)
            if (value, item.default) == (None, None):
                continue
            if item.name in ("updates", "batch", "every", "patience", "flops"):
                right = type(value) is int and value >= 1
                wanted = "a whole number of at least 1"
            elif item.name in ("learning_rate", "clip", "seconds"):
                right, wanted = value > 0, "above 0"
            elif item.name == "weight_decay":
                right, wanted = value >= 0, "at least 0"
            else:
                right, wanted = 0 <= value < 1, "in [0, 1)"
            if not right:
                raise ValueError(f"`Recipe({item.name}=...)` is {wanted}; got {value!r}. Choose within.")

    def rate(self, update: int) -> float:
        """The learning rate of an update, counted from 1."""
        rising = self.warmup * self.updates
        if update <= rising:
            return self.learning_rate * update / rising
        fallen = (update - rising) / max(self.updates - rising, 1)
        return self.learning_rate * (1 / 30 + (1 - 1 / 30) * 0.5 * (1 + math.cos(math.pi * fallen)))

    def decay(self, update: int) -> float:
        """How much of the running mean an update keeps."""
        return min(self.average, update / (update + 10))


@dataclass(frozen=True)
class Pool:
    """A fixed number of a task's problems, drawn once, for tasks whose problems are slow to draw; a task itself draws fresh ones.

    Args:
        task: what to draw.
        count: how many, at least 1.

    Raises:
        ValueError: a count below 1.

    Example:
        >>> from ebm.tasks import Sudoku
        >>> from ebm.training import Pool
        >>> Pool(Sudoku(box=(2, 2)), 500).count
        500
    """

    task: Task
    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise ValueError(f"`Pool(count=...)` is a whole number of at least 1; got {self.count!r}. Try 1000.")


@dataclass(frozen=True)
class Validation:
    """Held-out problems by which a training is watched, and weights may be chosen.

    Args:
        name: for the history and for `Run.load`.
        task: what to draw from a seed of its own, so that no two validations and no training share problems by design.
        count: how many problems, at least 1.
        steps: steps a model is settled for; a plain module runs once.
        score: ``score(answer, y)``, a number for each of any of its problems' parts; None: the task's own.
        batch: problems settled at a time, at least 1.

    Raises:
        ValueError: a number below 1, or an empty name.

    Example:
        >>> from ebm.tasks import Parity
        >>> from ebm.training import Validation
        >>> Validation("length 8", Parity(8), count=100, steps=16).name
        'length 8'
    """

    name: str
    task: Task
    count: int
    steps: int
    score: Callable[[Any, Any], Tensor] | None = None
    batch: int = 100

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("`Validation(name)` may not be empty. Say what is judged: 'length 64'.")
        for name in ("count", "steps", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"`Validation({name}=...)` is a whole number of at least 1; got {value!r}. Try 100.")

    @property
    def lower_is_better(self) -> bool:
        """As the task says, for the task's own score."""
        return self.score is None and self.task.lower_is_better
