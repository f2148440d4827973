"""Held-out scores: problems drawn once, settled in batches."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.engine import Detached, infer
from ebm.objective import Objective
from ebm.tasks import Problems
from ebm.training.recipe import Validation

__all__ = ["answers", "better", "copied", "held_out", "judged", "perfect", "score"]


def held_out(validate: tuple[Validation, ...], seed: int, device: torch.device) -> list[Problems]:
    """The problems of each validation, from seeds that training does not use."""
    return [
        each.task.sample(each.count, torch.Generator(device).manual_seed(1_000_003 * (place + 1) + seed))
        for place, each in enumerate(validate)
    ]


def judged(model: nn.Module, validate: tuple[Validation, ...], problems: list[Problems]) -> dict[str, float]:
    """The mean score of each validation."""
    return {each.name: score(model, each, held) for each, held in zip(validate, problems, strict=True)}


def score(model: nn.Module, validation: Validation, problems: Problems) -> float:
    """The mean score of a model on problems.

    Args:
        model: an objective, settled for ``validation.steps``; or a plain module, called as ``model(x)``.
        validation: how to settle and score.
        problems: what to solve.

    Example:
        >>> import torch
        >>> from ebm.tasks import Parity
        >>> from ebm.training import Validation, score
        >>> validation = Validation("length 8", Parity(8), count=4, steps=1)
        >>> problems = Parity(8).sample(4, torch.Generator().manual_seed(0))
        >>> class Even(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.tensor([1.0, 0.0]).expand(len(x), 2)
        >>> 0 <= score(Even(), validation, problems) <= 1
        True
    """
    scored = validation.score or validation.task.score
    found = [scored(answer, y).double().flatten() for answer, y in answers(model, problems, validation)]
    return float(torch.cat(found).mean())


def answers(model: nn.Module, problems: Problems, validation: Validation) -> Iterator[tuple[Any, Any]]:
    """Answer and target of each batch."""
    keys = torch.Generator().manual_seed(0)  # noise of its own for each sample, and the same at every look
    with torch.no_grad(), _evaluating(model):
        for part in torch.arange(rows.count(problems.x)).split(validation.batch):
            x, y = rows.take(problems.x, part), rows.take(problems.y, part)
            settled = isinstance(model, Objective)
            yield (
                (
                    infer(model, x, steps=validation.steps, adjoint=Detached(), keep="last", generator=keys).answer
                    if settled
                    else model(x)
                ),
                y,
            )


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def better(new: float, old: float, lower: bool) -> bool:
    """Whether a score is at least as good: of equal ones the later counts, which has trained longer; nan is the worst."""
    return math.isnan(old) or (new <= old if lower else new >= old)


def perfect(validation: Validation, value: float) -> bool:
    """Whether no score could be better."""
    return value <= 0 if validation.lower_is_better else value >= 1


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy that later updates do not change."""
    return {name: value.detach().clone() for name, value in state.items()}
