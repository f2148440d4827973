"""A few atoms of each sample, cut out of a lasso: what exact solvers work on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ebm.models.mixing import plain
from ebm.objective import Lasso

__all__ = [
    "Face",
    "combination",
    "cut",
    "inner_step",
    "mostly_zero",
    "newton",
    "picked",
    "pull",
    "settling",
    "sizes",
    "sparse_times",
    "times",
    "toward",
]

_STIFF = 1e30
_UNSEEN = 1e-10  # of an atom's square: if others leave less, the minimum is flat as far as gradients are concerned
_COARSE = 1e-2  # of an atom's square: more is never rounding, however coarse the numbers
_FEW = 10  # times fewer numbers than all
_WIDTHS = (32, 64, 96, 128, 192, 256, 384, 512)


class Face(NamedTuple):
    """The chosen atoms of each sample side by side, padded to the most that any has.

    Attributes:
        index: (B, k), which atoms; the first atom where padded.
        on: bool (B, k), False where padded.
        weight: (B, k).
        gram: (B, k, k); anything finite where padded.
    """

    index: Tensor
    on: Tensor
    weight: Tensor
    gram: Tensor


def pull(weight: Tensor, force: Tensor, active: Tensor, signed: bool) -> Tensor:
    """By how much the force on atoms that are not active exceeds their weight, (B, K); zero or less for those that stay asleep."""
    # a force that ties with the weight up to rounding wakes no atom
    weight = (weight * (1 + 32 * torch.finfo(force.dtype).eps)).to(force.dtype)
    excess = force.abs().sub_(weight) if signed else force - weight
    return excess.masked_fill_(active, 0.0)


def cut(lasso: Lasso, chosen: Tensor) -> Face:
    """The face of the chosen atoms, bool (B, K)."""
    sample, atom = chosen.nonzero(as_tuple=True)
    counts = torch.bincount(sample, minlength=chosen.shape[0])
    width = max(int(counts.max()) if len(counts) else 0, 1)
    places = torch.arange(width, device=chosen.device)
    on = places < counts[:, None]
    index = torch.zeros(chosen.shape[0], width, dtype=torch.int64, device=chosen.device).masked_scatter_(on, atom)
    atoms = lasso.gram.shape[0]
    short = index.to(torch.int32) if atoms**2 < 2**31 else index  # places are half of what is read then
    gram = picked(lasso.gram, (short * atoms)[:, :, None] + short[:, None, :])
    return Face(index, on, lasso.weight[index], gram)


def picked(tensor: Tensor, flat: Tensor) -> Tensor:
    """The numbers at flat places; faster than `torch.take`."""
    return tensor.reshape(-1).index_select(0, flat.reshape(-1)).view(flat.shape)


def times(gram: Tensor, vector: Tensor) -> Tensor:
    """The product of each sample's small symmetric matrix with its vector, (B, k); from the left, which runs through memory in order."""
    return torch.bmm(vector[:, None, :], gram)[:, 0]


def combination(code: Tensor, matrix: Tensor) -> Tensor:
    """The product of codes (B, K) with a matrix (K, D): rows are added where most numbers are zero and values may decide what is computed.

    While it is priced the whole product runs, so FLOPs are reported as if nothing were left out.
    """
    return sparse_times(code, matrix) if plain(code) and mostly_zero(code) else code @ matrix


def mostly_zero(code: Tensor) -> bool:
    """Whether so few numbers are not zero that, on a processor, adding rows is quicker than a product of matrices."""
    if code.device.type != "cpu" or 4 * int(torch.count_nonzero(code[:1])) > code.shape[1]:
        return False  # one sample can tell that it does not pay
    return _FEW * int((code != 0).sum()) <= code.numel()


def sparse_times(code: Tensor, matrix: Tensor) -> Tensor:
    r"""The product $a M$ where most of the codes is zero: the rows that each names are added, and nothing else is looked at.

    Args:
        code: (B, K).
        matrix: (K, D), same dtype and device.

    Example:
        >>> import torch
        >>> from hebbian.sparse.faces import sparse_times
        >>> sparse_times(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, 4.0]]))
        tensor([[6., 8.],
                [0., 0.]])
    """
    flat, atoms = code.reshape(-1), code.shape[1]
    place = flat.nonzero()[:, 0]
    first = torch.searchsorted(place, torch.arange(0, flat.numel(), atoms, device=code.device))
    return functional.embedding_bag(place % atoms, matrix, first, mode="sum", per_sample_weights=flat[place])


def sizes(chosen: Tensor, together: int | None = None) -> Iterator[Tensor | None]:
    """Samples grouped by how many atoms they chose, so that one with many does not make all others wide; None: all together.

    Groups of more than 32 atoms hold at most as many numbers as are to be ``together``, in all their matrices.
    """
    counts = chosen.sum(1)
    if not counts.numel() or int(counts.max()) <= _WIDTHS[0]:
        yield None
        return
    least = -1
    for most in (*_WIDTHS, chosen.shape[1]):
        rows = ((counts > least) & (counts <= most)).nonzero().flatten()
        if len(rows):
            yield from rows.split(max(1, together // most**2) if together else len(rows))
        least = max(least, most)


def newton(lasso: Lasso, face: Face, z: Tensor, force: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From numbers ``z`` and ``force`` on a face, (B, k), to the minimum of those that are ``free``, or to a kink on the way.

    Returns:
        the new numbers, whether the energy fell, and whether the minimum was reached, (B,) each but the first.
    """
    sign = _signs(lasso, z, force)
    direction = toward(lasso, face, z, force, free)
    # an atom that was woken for a move the other way stays asleep, and so does padding
    against = (z == 0) & (direction * sign <= 0)
    direction = direction.masked_fill(against | ~free, 0.0)
    new, falls, straight = inner_step(face, z, force, direction, lasso.signed)
    return new, falls, straight & ~(against & free).any(1)


def toward(lasso: Lasso, face: Face, z: Tensor, force: Tensor, free: Tensor) -> Tensor:
    """The way to the minimum of the free numbers, with the signs they have or are pulled to, (B, k).

    Systems are solved in double precision whatever the latent's: nearly as many atoms as the signal has numbers make them too ill
    conditioned for single precision, in which the way down would end before the minimum.
    """
    steep = _steep(lasso, face, z, force, free)
    return _solved(steep, _factor(face.gram, free)[0]).to(z.dtype)


def settling(lasso: Lasso, face: Face, z: Tensor, force: Tensor, free: Tensor) -> Tensor:
    """As `toward`, to be differentiated: a system that is singular has no way along what the signal does not see.

    There the minimum is not a single point, and the raised system's way, and its gradient, would be as long as it is raised little.
    """
    steep = _steep(lasso, face, z, force, free)
    factor, weak = _factor(face.gram, free, _UNSEEN)
    if not bool(weak.any()):
        return _solved(steep, factor).to(z.dtype)
    eye = torch.eye(face.gram.shape[1], dtype=face.gram.dtype, device=face.gram.device)
    sound = _solved(steep, _factor(torch.where(weak[:, None, None], eye, face.gram), free)[0])
    raised = factor.detach()
    seen = times(face.gram.detach().to(raised.dtype), _solved(steep, raised))
    return torch.where(weak[:, None], _solved(seen, raised), sound).to(z.dtype)


def _steep(lasso: Lasso, face: Face, z: Tensor, force: Tensor, free: Tensor) -> Tensor:
    return torch.where(free, force - face.weight * _signs(lasso, z, force), 0.0)


def _solved(steep: Tensor, factor: Tensor) -> Tensor:
    return torch.cholesky_solve(steep[:, :, None].to(factor.dtype), factor)[:, :, 0]


def _signs(lasso: Lasso, z: Tensor, force: Tensor) -> Tensor:
    return torch.where(z != 0, z, force).sign() if lasso.signed else torch.ones_like(force)


def _factor(gram: Tensor, free: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of the systems, made so stiff where nothing is free that nothing moves there, and which are singular.

    Atoms may be more than the signal has numbers, or alike; a system that is singular to rounding, or in which the others leave less
    than a ``least`` share of an atom's square, is raised along its diagonal until its solution is not made of rounding. That
    solution leads down along what the signal does not see, far enough for numbers to reach zero, which thins the face out until it
    is not singular any more.
    """
    eps, size = torch.finfo(gram.dtype).eps, gram.shape[1]
    gram = gram.to(torch.float64)
    height, rounding = gram.diagonal(dim1=1, dim2=2), min(64 * size * eps, _COARSE)
    little = 16 * size * torch.finfo(gram.dtype).eps
    factor, failed = _raised(gram, height, free, torch.full_like(height[:, :1], little))
    left = factor.diagonal(dim1=1, dim2=2).square()
    # a small pivot before it may make that of a singular system larger than rounding
    least = max(rounding, 3e-4 * eps**0.5, least)
    weak = (failed != 0) | ((left < least * height) & free).any(1)
    if bool(weak.any()):
        share = torch.where(weak[:, None], max(rounding, 0.1 * eps**0.5), little).to(gram.dtype)
        factor, failed = _raised(gram, height, free, share)
        eye = torch.eye(size, dtype=gram.dtype, device=gram.device)
        factor = torch.where((failed == 0)[:, None, None], factor, eye)  # what is not finite
    return factor, weak


def _raised(gram: Tensor, height: Tensor, free: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    diagonal = torch.where(free, height * (1 + share), _STIFF * (1 + height))
    return torch.linalg.cholesky_ex(torch.diagonal_scatter(gram, diagonal, dim1=1, dim2=2))


def inner_step(face: Face, z: Tensor, force: Tensor, direction: Tensor, signed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Where the energy is lowest along a direction within a face, (B, k), whether that lowers it, and whether no kink is met.

    Along a line the energy is convex: a parabola with a kink wherever a number passes zero. The kinks are sorted, and the
    first at which it no longer falls, or the bottom of the parabola before that, is the place. A number that stops at its kink
    becomes zero exactly; one that may not be negative goes no further.
    """
    along = torch.where(z != 0, z.sign() * direction, direction.abs())
    slope = (face.weight * along - force * direction).sum(1)
    bend = torch.linalg.vecdot(direction, times(face.gram, direction)).clamp_min(0.0)
    crosses = z * direction < 0
    size = -slope / torch.where(bend > 0, bend, torch.ones_like(bend))
    reach = size.clamp_min(1.0)[:, None]  # beyond one where the system was raised
    straight = ~(crosses & (z.abs() <= reach * direction.abs())).any(1) & ((bend > 0) | (slope >= 0))
    kink = torch.full_like(z, torch.inf)
    if not bool(straight.all()):
        kink = torch.where(crosses, -z / torch.where(crosses, direction, 1.0), kink)
        turn = 2 * face.weight * direction.abs() if signed else torch.full_like(z, torch.inf)
        lowest = _lowest(kink, torch.where(crosses, turn, 0.0), slope, bend)
        size = torch.where(straight, size, lowest)
    falls = (slope < 0) & (size > 0) & (size < torch.inf)
    size = torch.where(falls, size, 0.0)[:, None]
    return torch.where(kink == size, 0.0, z + size * direction), falls, straight


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
    rises = (after + bend[:, None] * kink.clamp_max(torch.finfo(kink.dtype).max ** 0.5)) >= 0
    at = rises.to(torch.uint8).argmax(1)[:, None]
    return torch.minimum(bottom.gather(1, at), kink.gather(1, at))[:, 0]
