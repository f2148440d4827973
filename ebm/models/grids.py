"""The squares of a picture as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ebm.models.neighbours import Aggregate, gather
from ebm.models.wiring import Wired, Wiring
from ebm.rows import Shared

__all__ = ["Grid"]

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
_BACK = (1, 0, 3, 2)  # the move that undoes each


class _Squares(NamedTuple):
    """The links of a grid.

    Attributes:
        near: int64 (B, nodes, 4), the node up, down, left and right of each, -1 where there is none.
        site: which square of the raster each node is, shared.
        like: bool (B, H, W), the walls; its shape is that of the answer.
    """

    near: Tensor
    site: Shared
    like: Tensor


@dataclass(frozen=True)
class Grid(Wiring):
    """The squares of a picture, each hearing the four beside it; walls hear nobody and are not heard.

    The observation is (B, channels, H, W). A node is shown the channels of its square. The answer is (B, k, H, W) for k scores a node.

    Args:
        channels: of the observation, at least 1.
        walls: the channel that is above zero on walls; None: squares on which every channel is zero.
        rooms: whether the picture is a maze of cells with walls between them, as `ebm.tasks.Mazes` draws it: its border, and the
            squares in even rows and even columns, are always walls. They get no node then, which saves half of the
            work; their scores are zero.
        directions: whether a node can tell up, down, left and right apart. If so it gets four messages, else one, and all
            directions are alike to it.

    Raises:
        ValueError: a setting outside its range; at the call, another number of channels, or a maze that is open where it may not be.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Grid(3, rooms=True), width=4, head=torch.nn.Linear(4, 2))
        >>> mazes = ebm.tasks.Mazes(size=5).sample(2, torch.Generator().manual_seed(0))
        >>> ebm.infer(cell.eval(), mazes.x, steps=3).answer.shape
        torch.Size([2, 2, 7, 7])
    """

    channels: int
    walls: int | None = None
    rooms: bool = False
    directions: bool = False

    def __post_init__(self) -> None:
        if type(self.channels) is not int or self.channels < 1:
            raise ValueError(f"`Grid(channels)` is a whole number of at least 1; got {self.channels!r}. Try 3.")
        if self.walls is not None and self.walls not in range(self.channels):
            raise ValueError(
                f"`Grid(walls=...)` is one of the {self.channels} channels, or None; got {self.walls!r}. Try 0."
            )

    @property
    def features(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The channels."""
        return self.channels

    @property
    def messages(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One, or one a direction."""
        return 4 if self.directions else 1

    def wire(self, x: Tensor) -> Wired:
        """The channels of the nodes, and their neighbours."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != self.channels:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"`Grid({self.channels})` reads pictures (B, {self.channels}, H, W); got {got}. Reshape it."
            )
        opened = x[:, self.walls] <= 0 if self.walls is not None else (x != 0).any(1)
        site = _sites(self, opened)
        features = x.flatten(2)[..., site].transpose(1, 2)
        return Wired(features, _Squares(_near(opened, site), Shared(site), ~opened))

    def gather(self, z: Tensor, links: _Squares, aggregate: Aggregate) -> tuple[Tensor, ...]:
        """What the four neighbours say together, or each of them."""
        if not self.directions:
            return (gather(z, links.near, links.near, aggregate),)
        each = links.near.split(1, 2)
        return tuple(gather(z, each[move], each[back], aggregate) for move, back in enumerate(_BACK))

    def answer(self, scores: Tensor, links: _Squares) -> Tensor:
        """The scores where their squares are."""
        batch, height, width = links.like.shape
        whole = scores.new_zeros(batch, scores.shape[-1], height * width)
        return whole.index_copy(2, links.site.value, scores.transpose(1, 2)).unflatten(2, (height, width))


def _sites(grid: Grid, opened: Tensor) -> Tensor:
    """The squares that get a node."""
    height, width = opened.shape[1:]
    place = torch.arange(height * width, device=opened.device)
    if not grid.rooms:
        return place
    row, column = place // width, place % width
    inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    may = inner & ((row % 2 == 1) | (column % 2 == 1))
    if bool((opened.flatten(1) & ~may).any()):
        raise ValueError(
            "`Grid(rooms=True)` reads mazes whose border and whose squares in even rows and columns are walls; got one that is "
            "open there. Pass `rooms=False`."
        )
    return place[may]


def _near(opened: Tensor, site: Tensor) -> Tensor:
    """The node beside each node in each direction, -1 unless both squares are open."""
    height, width = opened.shape[1:]
    number = torch.full((height * width,), -1, device=opened.device)
    number[site] = torch.arange(len(site), device=opened.device)
    number = torch.where(opened, number.view(height, width), -1)
    padded = functional.pad(number, (1, 1, 1, 1), value=-1)
    beside = [padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width] for down, right in _MOVES]
    near = torch.where(opened[..., None], torch.stack(beside, 3), -1)
    return near.flatten(1, 2)[:, site]
