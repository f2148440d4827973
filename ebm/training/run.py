"""What a training leaves behind: how it went, and the weights that each validation would choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Chosen", "Ended", "Row", "Run"]


class Ended(Enum):
    """Why a training ended."""

    UPDATES = "all updates were made"
    PERFECT = "every validation was perfect for `patience` looks in a row"
    SECONDS = "the time was used up; with more `seconds` and the same checkpoint it goes on"


class Row(NamedTuple):
    """One look at a training.

    Attributes:
        update: after how many updates.
        seconds: what the updates took so far, looks not counted: processor time, or whatever the clock measures.
        loss: a running mean of the loss.
        scores: by the name of the validation.
    """

    update: int
    seconds: float
    loss: float
    scores: dict[str, float]


class Chosen(NamedTuple):
    """The weights at the best look of a validation.

    Attributes:
        update: when that was.
        score: the score there.
        weights: a state dict.
    """

    update: int
    score: float
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """A finished training.

    Choosing weights by problems of the training's own difficulty and by somewhat harder ones are two different claims, so each validation's
    choice is kept, and the last weights too.

    Attributes:
        history: the looks, first to last.
        chosen: by the name of the validation.
        last: the mean weights at the end.
        ended: why it was the end.
    """

    history: tuple[Row, ...]
    chosen: Mapping[str, Chosen]
    last: Mapping[str, Tensor] = field(repr=False)
    ended: Ended = Ended.UPDATES

    @property
    def seconds(self) -> float:
        """What the updates took, looks not counted."""
        return self.history[-1].seconds

    def load(self, model: nn.Module, by: str | None = None) -> nn.Module:
        """Put weights into a model.

        Args:
            model: one like the trained one.
            by: the validation that chooses; None: the last weights.

        Returns:
            the model itself.

        Raises:
            ValueError: no validation of that name.
        """
        if by is not None and by not in self.chosen:
            known = ", ".join(map(repr, self.chosen)) or "none"
            raise ValueError(f"`load(by=...)` names a validation of this run; got {by!r}. There is {known}.")
        model.load_state_dict(self.last if by is None else self.chosen[by].weights)
        return model
