"""A few atoms of each sample, cut out of a lasso: what exact solvers work on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebm.objective import Lasso

__all__ = ["Face", "cut", "inner_step", "pull", "put_back", "sizes"]

_WIDTHS = (32, 128, 512)


class Face(NamedTuple):
    """The chosen atoms of each sample side by side, padded to the most that any has.

    Attributes:
        index: (B, k), which atoms; any where padded.
        on: bool (B, k), False where padded.
        z: (B, k), their numbers, zero where padded.
        force: (B, k), zero where padded.
        weight: (B, k).
        gram: (B, k, k), the identity where padded.
    """

    index: Tensor
    on: Tensor
    z: Tensor
    force: Tensor
    weight: Tensor
    gram: Tensor


def pull(lasso: Lasso, z: Tensor, force: Tensor) -> Tensor:
    """By how much the force on atoms at zero exceeds their weight, (B, K); zero or less for those that stay asleep."""
    excess = (force.abs() if lasso.signed else force) - lasso.weight
    # a force that ties with the weight up to rounding wakes no atom
    floor = 32 * torch.finfo(z.dtype).eps * lasso.weight
    return torch.where((z == 0) & (excess > floor), excess, torch.zeros_like(excess))


def cut(lasso: Lasso, z: Tensor, force: Tensor, chosen: Tensor) -> Face:
    """The face of the chosen atoms, bool (B, K)."""
    sample, atom = chosen.nonzero(as_tuple=True)
    place = chosen.cumsum(1)[sample, atom] - 1
    width = max(int(place.max()) + 1 if len(place) else 0, 1)
    blank = torch.zeros(z.shape[0], width, dtype=torch.int64, device=z.device)
    index = blank.index_put((sample, place), atom)
    on = blank.index_put((sample, place), torch.ones_like(atom)).bool()
    zero = z.new_zeros(())
    atoms = lasso.gram.shape[0]
    block = lasso.gram.reshape(-1).take(index[:, :, None] * atoms + index[:, None, :])
    block = torch.where(on[:, :, None] & on[:, None, :], block, torch.eye(width, dtype=z.dtype, device=z.device))
    gathered = (torch.where(on, leaf.gather(1, index), zero) for leaf in (z, force))
    return Face(index, on, *gathered, lasso.weight[index], block)


def put_back(face: Face, z: Tensor, new: Tensor) -> Tensor:
    """The latent with the numbers of the face replaced; nothing is written in place."""
    # padding adds nothing to atom 0, so that the order of equal indices cannot matter
    return z.scatter_add(1, face.index, torch.where(face.on, new - face.z, torch.zeros_like(new)))


def sizes(chosen: Tensor) -> Iterator[Tensor | None]:
    """Samples grouped by how many atoms they chose, so that one with many does not make all others wide; None: all together."""
    counts = chosen.sum(1)
    if not counts.numel() or int(counts.max()) <= _WIDTHS[0]:
        yield None
        return
    least = -1
    for most in (*_WIDTHS, chosen.shape[1]):
        rows = ((counts > least) & (counts <= most)).nonzero().flatten()
        if len(rows):
            yield rows
        least = max(least, most)


def inner_step(face: Face, direction: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """Where the energy is lowest along a direction within a face, (B, k), and whether that lowers it, (B,).

    Along a line the energy is convex: a parabola with a kink wherever a number passes zero. The kinks are sorted, and the
    first at which it no longer falls, or the bottom of the parabola before that, is the place. A number that stops at its kink
    becomes zero exactly; one that may not be negative goes no further.
    """
    z, inf = face.z, torch.full_like(face.z, torch.inf)
    safe = torch.where(direction != 0, direction, torch.ones_like(direction))
    kink = torch.where(z * direction < 0, -z / safe, inf)
    turn = 2 * face.weight * direction.abs() if signed else inf
    along = torch.where(z != 0, z.sign() * direction, direction.abs())
    slope = (face.weight * along - face.force * direction).sum(1)
    bend = torch.linalg.vecdot(direction, (face.gram @ direction[:, :, None])[:, :, 0])
    size = _lowest(kink, torch.where(kink < torch.inf, turn, torch.zeros_like(turn)), slope, bend)
    falls = (slope < 0) & (size > 0) & (size < torch.inf)
    size = torch.where(falls, size, torch.zeros_like(size))[:, None]
    new = torch.where(kink == size, torch.zeros_like(z), z + size * direction)
    return new, falls


def _lowest(kink: Tensor, turn: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
    """Where a convex function with this slope at zero, this second derivative and these kinks is lowest, (B,)."""
    end = torch.full_like(kink[:, :1], torch.inf)
    kink, order = torch.cat([kink, end], 1).sort(1)
    turn = torch.cat([turn, torch.zeros_like(end)], 1).gather(1, order)
    after = slope[:, None] + turn.cumsum(1)
    before = torch.cat([slope[:, None], after[:, :-1]], 1)
    curved = torch.where(bend > 0, bend, torch.ones_like(bend))[:, None]
    bottom = torch.where(bend[:, None] > 0, -before / curved, end)
    # the first kink behind which the function rises
    first = (
        ((after + bend[:, None] * kink.clamp_max(torch.finfo(kink.dtype).max ** 0.5)) >= 0).to(torch.uint8).argmax(1)
    )
    at = first[:, None]
    return torch.minimum(bottom.gather(1, at), kink.gather(1, at))[:, 0]
