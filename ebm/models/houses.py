"""The candidates of a Sudoku as a graph: every digit of every cell, and the houses it is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.models.neighbours import Aggregate
from ebm.models.wiring import Wired, Wiring

__all__ = ["Houses"]


@dataclass(frozen=True)
class Houses(Wiring):
    """A node for each digit of each cell of a Sudoku; it hears the four houses of which it must be the only true member or not.

    With boxes r high and c wide there are N = r c digits. The houses of a candidate are the other digits of its cell, and the same
    digit in the other cells of its row, of its column and of its box: each house of N candidates holds exactly one that is true. Rows, columns, boxes and
    cells are alike to a cell of this wiring, and so are digits; and as no node knows N, one set of weights serves boards of any
    box. The observation is (B, N, N, N), the givens one-hot along axis 1 and zeros in empty cells, as
    `ebm.tasks.Sudoku` draws it; a node is shown whether it is given, and whether its cell holds a given. The answer is (B, N, N, N), scores of the
    digits along axis 1.

    Args:
        box: height and width of a box.

    Raises:
        ValueError: sides below 1; at the call, an observation of another shape.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Houses((2, 2)), width=4, head=torch.nn.Linear(4, 1), hidden=8)
        >>> boards = ebm.tasks.Sudoku(box=(2, 2)).sample(2, torch.Generator().manual_seed(0))
        >>> ebm.infer(cell, boards.x, steps=3).answer.shape
        torch.Size([2, 4, 4, 4])
    """

    box: tuple[int, int] = (3, 3)

    features = 2
    messages = 4

    def __post_init__(self) -> None:
        sides = self.box
        if not (isinstance(sides, tuple) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)):
            raise ValueError(
                f"`Houses(box=...)` is the height and width of a box, at least 1; got {sides!r}. Try (3, 3)."
            )

    def wire(self, x: Tensor) -> Wired:
        """Which candidates are given, and which cells; houses need no lists."""
        digits = self.box[0] * self.box[1]
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1:] != (digits,) * 3:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"`Houses({self.box})` reads boards (B, {digits}, {digits}, {digits}), digits along axis 1; got {got}. "
                "Pass the box of these boards, or one-hot givens."
            )
        return Wired(torch.stack([x, x.sum(1, keepdim=True).expand_as(x)], -1), None)

    def gather(self, z: Tensor, links: Any, aggregate: Aggregate) -> tuple[Tensor, ...]:
        """What the other members of the cell, the row, the column and the box say."""
        high, wide = self.box
        boxes = z.unflatten(3, (high, wide)).unflatten(2, (wide, high))  # B, digit, box row, r, box column, c, width
        within = _others(boxes, (3, 5), aggregate).flatten(4, 5).flatten(2, 3)
        return _others(z, (1,), aggregate), _others(z, (3,), aggregate), _others(z, (2,), aggregate), within

    def answer(self, scores: Tensor, links: Any) -> Tensor:
        """The single score of each candidate."""
        return scores[..., 0]


def _others(z: Tensor, axes: tuple[int, ...], aggregate: Aggregate) -> Tensor:
    """What the other members of a house say, to each member; a house lies along ``axes``."""
    if aggregate is not Aggregate.MAX:
        total = z.sum(axes, keepdim=True) - z
        return total if aggregate is Aggregate.SUM else total / max(_size(z, axes) - 1, 1)
    if _size(z, axes) == 1:
        return torch.zeros_like(z)
    if len(axes) == 1:
        first, second = z.topk(2, axes[0]).values.split(1, axes[0])
        return torch.where(z == first, second, first)
    moved = z.movedim(axes, (-2, -1))
    return _others(moved.flatten(-2), (moved.ndim - 2,), aggregate).view_as(moved).movedim((-2, -1), axes)


def _size(z: Tensor, axes: tuple[int, ...]) -> int:
    """Members of a house."""
    return int(torch.Size(z.shape[axis] for axis in axes).numel())
