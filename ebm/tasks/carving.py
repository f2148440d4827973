"""Mazes carved by a depth-first walk, a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["carve"]


def carve(count: int, cells: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spanning trees of a grid of cells, and the way between two of them.

    Each walk starts at its start cell, goes on to a random unvisited neighbour while there is one, and turns back
    where there is none. The stack of the walk, when it reaches the goal, is the only path.

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
    here, goal = _square(ends[:, 0], cells), _square(ends[:, 1], cells)
    start = here
    opened = torch.zeros(count, side * side, dtype=torch.bool, device=device)
    path = torch.zeros_like(opened)
    back = torch.full((count, side * side), -1, device=device)  # the square from which each cell was entered
    jumps = torch.tensor([-2 * side, 2 * side, -2, 2], device=device)
    inside = _inside(cells, device)
    row = torch.arange(count, device=device)
    opened[row, here] = True
    for _ in range(2 * (cells * cells - 1)):  # every edge of the tree, there and back
        there = here[:, None] + jumps
        free = inside[here] & ~opened.gather(1, there.clamp(0, side * side - 1))
        keys = torch.rand(count, 4, generator=generator, device=device).masked_fill(~free, -1.0)
        best, way = keys.max(1)
        forward = best >= 0
        target = torch.where(forward, there[row, way], back[row, here])
        target = torch.where(target < 0, here, target)  # at the start again, with every cell seen
        back[row, target] = torch.where(forward, here, back[row, target])
        opened[row, target] = True
        opened[row, (here + target) // 2] = True
        here = target
    _walk_back(path, back, goal, start)
    shape = (count, side, side)
    return opened.view(shape), path.view(shape), start, goal


def _walk_back(path: Tensor, back: Tensor, goal: Tensor, start: Tensor) -> None:
    """Mark the squares from the goal back to the start."""
    row = torch.arange(len(goal), device=goal.device)
    here = goal
    path[row, here] = True
    while bool((here != start).any()):
        before = back[row, here]
        there = torch.where(here == start, here, before)
        path[row, there] = True
        path[row, (here + there) // 2] = True
        here = there


def _square(cell: Tensor, cells: int) -> Tensor:
    """The raster square of a cell's number."""
    return (2 * (cell // cells) + 1) * (2 * cells + 1) + 2 * (cell % cells) + 1


def _inside(cells: int, device: torch.device) -> Tensor:
    """For each square, whether a jump of two squares up, down, left and right stays on the raster, (squares, 4)."""
    side = 2 * cells + 1
    square = torch.arange(side * side, device=device)
    y, x = square // side, square % side
    return torch.stack([y >= 3, y <= side - 4, x >= 3, x <= side - 4], dim=1)
