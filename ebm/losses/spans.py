"""The steps that a loss takes: how many of them, and all of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm.engine import Detached, Look, Stop
from ebm.objective import Objective

__all__ = ["WITHOUT_GRADIENT", "check_range", "drawn", "never", "scalar", "uncertain"]


def uncertain(span: int | tuple[int, int]) -> bool:
    """Whether there is something to draw."""
    return not isinstance(span, int) and span[0] < span[1]


def drawn(span: int | tuple[int, int], generator: torch.Generator | None) -> int:
    """A number of steps, drawn where there is a choice."""
    if isinstance(span, int):
        return span
    if generator is None or span[0] == span[1]:
        return span[0]
    return int(torch.randint(span[0], span[1] + 1, (), generator=generator, device=generator.device))


def check_range(owner: str, name: str, span: Any, lowest: int) -> None:
    """Raise unless a span is a whole number of steps, or two."""
    ends = (span, span) if isinstance(span, int) else span
    whole = isinstance(ends, tuple) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole:
        raise TypeError(
            f"`{owner}({name}=...)` is a whole number of steps, or (least, most); got {span!r}. Try ({lowest}, 8)."
        )
    if not lowest <= ends[0] <= ends[1]:
        raise ValueError(f"`{owner}({name}=...)` wants {lowest} <= least <= most; got {span!r}. Try ({lowest}, 8).")


def scalar(owner: str, value: Tensor) -> Tensor:
    """The loss of a batch, as it is; a loss of each sample is refused, since its mean and its sum train differently."""
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(
        f"`{owner}(loss)` must return a scalar; got {got}. Take its mean: `lambda answer, y: loss(answer, y).mean()`."
    )


@dataclass(frozen=True)
class _InTraining(Detached):
    """Settling without a gradient as a part of training: modules stay in the mode that training has put them into."""

    trains: ClassVar[bool] = True


WITHOUT_GRADIENT = _InTraining()


@dataclass(frozen=True)
class _Never(Stop):
    """Never done; in the place of the stop rule that a model names for serving."""

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        return torch.zeros_like(look.residual, dtype=torch.bool), None


def never(model: Objective) -> Stop | None:
    """A rule that is never met, for models that name one of their own."""
    return None if model.default_stop() is None else _Never()
