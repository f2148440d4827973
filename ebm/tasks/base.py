"""What every task shares: problems drawn in batches, a loss, a score, and the answers that take no learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from ebm import rows

__all__ = ["Baseline", "Problems", "Task", "trivial"]


class Problems(NamedTuple):
    """A batch of problems: what is shown, and what is wanted; both row trees of the same samples.

    Attributes:
        x: the observation, as a model takes it.
        y: the target, as `Task.loss` and `Task.score` take it.
    """

    x: Any
    y: Any


@dataclass(frozen=True)
class Baseline:
    """An answer that takes no network: what every table of results needs beside it.

    Attributes:
        name: a few words, for a table.
        fit: given problems to learn from, the function from an observation to an answer.
    """

    name: str
    fit: Callable[[Problems], Callable[[Any], Any]]


class Task(ABC):
    """A problem generator with its loss, its metric and its trivial baselines; a frozen dataclass of settings.

    The settings say how hard the problems are, so that a task for training and one for testing differ by a number.
    Nothing is stored or downloaded: problems are drawn when asked for, in batches, on the device of the generator.

    To add a task, write a frozen dataclass with `draw`, `loss`, `score` and `baselines`.

    Attributes:
        metric: what `score` measures, in words, for a table.
        lower_is_better: whether a smaller score is the better one.

    Example:
        >>> import torch
        >>> from ebm.tasks import PrefixSums
        >>> task = PrefixSums(length=8)
        >>> problems = task.sample(4, torch.Generator().manual_seed(0))
        >>> tuple(problems.x.shape), tuple(problems.y.shape)
        ((4, 1, 8), (4, 8))
    """

    metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False

    @final
    def sample(self, count: int, generator: torch.Generator) -> Problems:
        """Draw problems.

        Args:
            count: how many, at least 1.
            generator: the only source of randomness; the problems are on its device.

        Raises:
            TypeError: no whole number, or no generator.
            ValueError: a count below 1.
        """
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"`sample(count, generator)` takes a torch.Generator; got {type(generator).__name__}. "
                "Pass torch.Generator().manual_seed(0)."
            )
        _whole(f"{type(self).__name__}.sample", "count", count, 1)
        return self.draw(count, generator)

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """``count`` problems; written by each task, called by `sample`."""

    @abstractmethod
    def loss(self, answer: Any, y: Any) -> Tensor:
        """The loss to train with, a scalar: the mean over the batch."""

    @abstractmethod
    def score(self, answer: Any, y: Any) -> Tensor:
        """The `metric` of each sample, (B,); its mean over many problems is the figure to report."""

    @abstractmethod
    def baselines(self) -> tuple[Baseline, ...]:
        """Answers that take no network."""


def trivial(
    task: Task, train: Problems, test: Problems, score: Callable[[Any, Any], Tensor] | None = None
) -> dict[str, float]:
    """The mean score of every trivial baseline of a task.

    Args:
        task: whose loss and score count.
        train: problems for the baselines that fit something (a mean, a linear map).
        test: problems to score on.
        score: ``score(answer, y)``; None: the task's own.

    Returns:
        the mean score by name.

    Example:
        >>> import torch
        >>> from ebm.tasks import Parity, trivial
        >>> task, generator = Parity(8), torch.Generator().manual_seed(0)
        >>> scores = trivial(task, task.sample(500, generator), task.sample(500, generator))
        >>> {name: round(score, 1) for name, score in scores.items()}
        {'the commoner answer': 0.5, 'linear predictor': 0.5}
    """
    return {
        baseline.name: float((score or task.score)(baseline.fit(train)(test.x), test.y).double().mean())
        for baseline in task.baselines()
    }


def whole(task: Task, name: str, least: int, most: int | None = None) -> None:
    """Raise unless the setting is a whole number within its range."""
    _whole(type(task).__name__, name, getattr(task, name), least, most)


def number(task: Task, name: str, low: float, high: float = float("inf")) -> None:
    """Raise unless the setting is a number within its range."""
    value = getattr(task, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{type(task).__name__}({name}=...)` is a number; got {value!r}. Try {low}.")
    if not low <= value <= high:
        raise ValueError(f"`{type(task).__name__}({name}=...)` lies from {low} to {high}; got {value}. Choose within.")


def span(task: Task, name: str, least: int, most: int) -> None:
    """Raise unless the setting is a pair of whole numbers, lowest first, within its range."""
    value = getattr(task, name)
    if not (isinstance(value, tuple) and len(value) == 2 and all(type(end) is int for end in value)):
        raise TypeError(
            f"`{type(task).__name__}({name}=...)` is a pair of whole numbers (least, most); got {value!r}. "
            f"Try ({least}, {most})."
        )
    if not least <= value[0] <= value[1] <= most:
        raise ValueError(
            f"`{type(task).__name__}({name}=...)` wants {least} <= least <= most <= {most}; got {value}. Choose within."
        )


def constant(name: str, answer: Callable[[Problems], Tensor]) -> Baseline:
    """A baseline that gives every sample the same answer, one made from the training problems."""

    def fit(train: Problems) -> Callable[[Any], Tensor]:
        same = answer(train)
        return lambda x: same.expand(rows.count(x), *same.shape)

    return Baseline(name, fit)


def linear(target: Callable[[Any], Tensor], shape: Callable[[Tensor, Any], Any]) -> Baseline:
    """The best linear predictor (with an offset) of ``target(y)`` from the observation, by least squares.

    Args:
        target: (B, ...) numbers to predict, from y.
        shape: the answer, from the (B, -1) predictions and x.
    """

    def fit(train: Problems) -> Callable[[Any], Any]:
        seen, wanted = _with_one(train.x), target(train.y).flatten(1).double()
        gram = seen.T @ seen
        gram.diagonal().add_(1e-6 * gram.diagonal().mean())
        weight = torch.linalg.solve(gram, seen.T @ wanted)
        return lambda x: shape((_with_one(x) @ weight).to(x.dtype), x)

    return Baseline("linear predictor", fit)


def _with_one(x: Tensor) -> Tensor:
    flat = x.flatten(1).double()
    return torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)


def _whole(owner: str, name: str, value: Any, least: int, most: int | None = None) -> None:
    if type(value) is not int:
        raise TypeError(f"`{owner}({name}=...)` is a whole number; got {value!r}. Try {least}.")
    if value < least or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most}"
        raise ValueError(f"`{owner}({name}=...)` must be at least {least}{upper}; got {value}. Choose within.")
