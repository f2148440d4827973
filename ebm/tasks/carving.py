"""Mazes carved by a depth-first walk, a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["carve"]

BLOCK = 64
"""Steps whose random numbers are drawn together: few draws, and memory for no more than these."""


def carve(count: int, cells: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spanning trees of a grid of cells, and the way between two of them.

    Each walk starts at its start cell, goes on to a random unvisited neighbour while there is one, and turns back
    where there is none. The way it goes back from the goal is the only path.

    Args:
        count: mazes.
        cells: cells a side, at least 2.
        generator: the only source of randomness.

    Returns:
        which squares of the raster are open, bool (count, 2 cells + 1, 2 cells + 1); which of them lie on the path,
        both ends included, alike; the squares of start and goal, (count,), numbered row by row.
    """
    device, side = generator.device, 2 * cells + 1
    ends = torch.rand(count, cells * cells, generator=generator, device=device).topk(2, dim=1).indices
    first = torch.arange(count, device=device) * (cells + 2) ** 2
    start, goal = (first + _bordered(end, cells) for end in ends.unbind(1))
    back = _tree(start, count, cells, generator)
    on = _walk_back(back, start, goal)

    cell = torch.arange(cells * cells, device=device)
    on = on.view(count, -1)[:, _bordered(cell, cells)]
    before = _plain(back.view(count, -1)[:, _bordered(cell, cells)] - first[:, None], cells)
    square, between = _square(cell, cells), (_square(cell, cells) + _square(before, cells)) // 2
    opened, path = torch.zeros(2, count, side * side, dtype=torch.bool, device=device)
    opened[:, square], path[:, square] = True, on
    opened.scatter_(1, between, True)  # the start lies between itself and itself
    path.scatter_(1, between, on)
    shape = (count, side, side)
    return opened.view(shape), path.view(shape), _square(ends[:, 0], cells), _square(ends[:, 1], cells)


def _tree(start: Tensor, count: int, cells: int, generator: torch.Generator) -> Tensor:
    """The cell from which each cell was entered, the start from itself; numbered through all bordered grids, flat.

    A border of cells that count as visited keeps every walk inside, so a step is a dozen small operations.
    """
    device, wide = generator.device, cells + 2
    visited = torch.ones(count, wide, wide, dtype=torch.bool, device=device)
    visited[:, 1:-1, 1:-1] = False
    visited = visited.view(-1)
    back = torch.arange(count * wide * wide, device=device)
    jumps = torch.tensor([-wide, wide, -1, 1], device=device)
    here = start
    visited[here] = True
    steps = 2 * (cells * cells - 1)  # every edge of the tree, there and back
    for begun in range(0, steps, BLOCK):
        for keys in torch.rand(min(BLOCK, steps - begun), count, 4, generator=generator, device=device):
            there = here[:, None] + jumps
            best, way = keys.masked_fill_(visited.take(there), -1.0).max(1)
            forward = best >= 0
            target = torch.where(forward, there.gather(1, way[:, None])[:, 0], back.take(here))
            back.put_(target, torch.where(forward, here, back.take(target)))
            visited.index_fill_(0, target, True)
            here = target
    return back


def _walk_back(back: Tensor, start: Tensor, goal: Tensor) -> Tensor:
    """Which cells lie on the way from the goal back to the start, bool, flat."""
    on = torch.zeros(len(back), dtype=torch.bool, device=back.device)
    on[start] = True
    while bool((goal != start).any()):
        on.index_fill_(0, goal, True)
        goal = back.take(goal)
    return on


def _bordered(cell: Tensor, cells: int) -> Tensor:
    """The number of a cell in a grid with a border of one cell."""
    return (cell // cells + 1) * (cells + 2) + cell % cells + 1


def _plain(cell: Tensor, cells: int) -> Tensor:
    """The number of a cell in the grid without the border."""
    return (cell // (cells + 2) - 1) * cells + cell % (cells + 2) - 1


def _square(cell: Tensor, cells: int) -> Tensor:
    """The raster square of a cell's number."""
    return (2 * (cell // cells) + 1) * (2 * cells + 1) + 2 * (cell % cells) + 1
