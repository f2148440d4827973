"""The candidates of a Sudoku as a graph: every digit of every cell, and the houses it is in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.models.members import others
from ebm.models.neighbours import Aggregate
from ebm.models.wiring import Wired, Wiring

__all__ = ["Houses"]


@dataclass(frozen=True)
class Houses(Wiring):
    """A node for each digit of each cell of a Sudoku; it hears the four houses of which it must be the only true member or not.

    With boxes r high and c wide there are N = r c digits. The houses of a candidate are the other digits of its cell, and the same
    digit in the other cells of its row, of its column and of its box: each house of N candidates holds exactly one that is true. Digits are alike to a cell of
    this wiring, and so are rows, and columns; and as no node knows N, one set of weights serves boards of any box. The observation is (B, N, N, N), the givens one-hot along axis 1 and zeros in empty cells, as
    `ebm.tasks.Sudoku` draws it; a node is shown whether it is given, and whether its cell holds a given. The answer is (B, N, N, N), scores of the
    digits along axis 1.

    Args:
        box: height and width of a box; None: of each board, the pair nearest to a square that has as many cells as digits, no higher than
            wide: (2, 2), (2, 3), (3, 3) for 4, 6, 9 digits.

    Raises:
        ValueError: sides below 1; at the call, an observation of another shape.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Houses(), width=4, head=torch.nn.Linear(4, 1))
        >>> for box in ((2, 2), (2, 3)):
        ...     boards = ebm.tasks.Sudoku(box).sample(2, torch.Generator().manual_seed(0))
        ...     print(ebm.infer(cell.eval(), boards.x, steps=3).answer.shape)
        torch.Size([2, 4, 4, 4])
        torch.Size([2, 6, 6, 6])
    """

    box: tuple[int, int] | None = None

    features = 2
    messages = 4

    def __post_init__(self) -> None:
        sides = self.box
        if sides is None:
            return
        if not (isinstance(sides, tuple) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)):
            raise ValueError(
                f"`Houses(box=...)` is the height and width of a box, at least 1; got {sides!r}. Try (3, 3)."
            )

    def wire(self, x: Tensor) -> Wired:
        """Which candidates are given, and which cells; houses need no lists."""
        shape = tuple(x.shape) if isinstance(x, Tensor) else ()
        digits = math.prod(self.box) if self.box else (shape or (0,))[-1]
        if len(shape) != 4 or shape[1:] != (digits,) * 3:
            wanted, got = digits if self.box else "N", shape if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"`Houses({self.box or ''})` reads boards (B, {wanted}, {wanted}, {wanted}), digits along axis 1; got {got}. "
                "Pass the box of these boards, or one-hot givens."
            )
        return Wired(torch.stack([x, x.sum(1, keepdim=True).expand_as(x)], -1), None)

    def gather(self, z: Tensor, links: Any, aggregate: Aggregate) -> tuple[Tensor, ...]:
        """What the other members of the cell, the row, the column and the box say."""
        high, wide = self.box or _squarest(z.shape[1])
        boxes = z.unflatten(3, (high, wide)).unflatten(2, (wide, high))  # B, digit, box row, r, box column, c, width
        within = others(boxes.transpose(3, 4).flatten(4, 5), 4, aggregate).unflatten(4, (high, wide)).transpose(3, 4)
        return (
            others(z, 1, aggregate),
            others(z, 3, aggregate),
            others(z, 2, aggregate),
            within.flatten(4, 5).flatten(2, 3),
        )

    def answer(self, scores: Tensor, links: Any) -> Tensor:
        """The single score of each candidate."""
        return scores[..., 0]


def _squarest(digits: int) -> tuple[int, int]:
    """Height and width of a box of so many cells, as near to a square as can be."""
    high = next(side for side in range(math.isqrt(digits), 0, -1) if digits % side == 0)
    return high, digits // high
