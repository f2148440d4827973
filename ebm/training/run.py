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
    FLOPS = "the FLOPs were used up; with more `flops` and the same checkpoint it goes on"


class Row(NamedTuple):
    """One look at a training.

    Attributes:
        update: after how many updates.
        seconds: what the updates took so far, looks not counted: processor time, or whatever the clock measures.
        loss: a running mean of the loss.
        scores: by the name of the validation.
        flops: of the updates so far, forward and backward, one multiply-add being 2; looks not counted.
    """

    update: int
    seconds: float
    loss: float
    scores: dict[str, float]
    flops: int


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

    def __repr__(self) -> str:
        return f"Chosen(update={self.update}, score={self.score:.4g})"


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
        uncounted: operations without a FLOP formula in its updates, by name.
    """

    history: tuple[Row, ...]
    chosen: Mapping[str, Chosen]
    last: Mapping[str, Tensor] = field(repr=False)
    ended: Ended = Ended.UPDATES
    uncounted: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        last = self.history[-1]
        scores = "".join(f", {name} {value:.4g}" for name, value in last.scores.items())
        return f"Run({last.update} updates, {last.seconds:.3g} s, {last.flops:.3g} FLOPs: loss {last.loss:.4g}{scores}; {self.ended.value})"

    @property
    def flops(self) -> int:
        """What the updates took, looks not counted; see `Row.flops`."""
        return self.history[-1].flops

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
