"""Exact recall from more patterns than fit: a softmax summed chunk by chunk, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import check_query
from ebm.models.temperature import suiting_beta
from ebm.noise import Draw
from ebm.objective import Point, Update
from ebm.solvers.base import Solver
from hebbian.memory.certificate import Weights, next_move
from hebbian.memory.lazy import LazyPicard, Sighted

__all__ = ["ChunkedMemory", "Chunks", "Mixture"]


class Chunks(Protocol):
    """Patterns that can be cut: a tensor, a `numpy.memmap`, a dataset of HDF5 or Zarr, or your own.

    ``patterns[first:last]`` gives rows as a tensor, or as something that `numpy.asarray` takes.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Some of the rows."""
        ...


class Mixture(NamedTuple):
    """What one pass over the patterns tells of latents.

    Attributes:
        mean: (B, D), the softmax mixture, which is the next latent.
        log_sum: (B,), the log of the sum of exponentials.
        top: (B,), the largest weight.
    """

    mean: Tensor
    log_sum: Tensor
    top: Tensor


class ChunkedMemory(Update):
    r"""Softmax recall, exact, from patterns that are read chunk by chunk and need never be in memory at once.

    An evaluation is one pass. Of the chunks seen so far it keeps the largest overlap m, the sum s of :math:`e^{\beta x_i^T q - m}`
    and the mixture a of the patterns under them, and scales all three down when the maximum grows:

    .. math:: m' = \max(m, \max_{i \in C} \beta x_i^T q), \quad s' = s e^{m - m'} + \sum_{i \in C} e^{\beta x_i^T q - m'}, \quad
              a' = a e^{m - m'} + \sum_{i \in C} e^{\beta x_i^T q - m'} x_i, \quad q \leftarrow a / s

    Beyond what holds the patterns it takes ``chunk`` (B + D) numbers, however many there are. Differentiated, it keeps every chunk's
    weights; a memory that learns should fit.

    Args:
        patterns: (N, D): a tensor, a memory map, or any `Chunks`. It is not part of the state dict.
        beta: inverse temperature > 0; None takes what tells the patterns apart, as in `ebm.ModernHopfield`.
        chunk: patterns at a time, at least 1.
        largest: no less than the largest norm of a pattern, for the bound on the next move; None takes one pass to find it.

    Raises:
        ValueError: patterns without shape (N, D), a beta not above zero, a chunk below 1; at the call, a query of another shape.

    Example:
        >>> import numpy, torch, ebm
        >>> from hebbian.memory import ChunkedMemory
        >>> patterns = numpy.eye(1000, 8, dtype=numpy.float32)  # or numpy.memmap("patterns.bin", ...)
        >>> memory = ChunkedMemory(patterns, beta=40.0, chunk=256)
        >>> ebm.infer(memory, torch.tensor([[0.1, 0.0, 1.2, 0.0, 0.0, 0.1, 0.0, 0.0]])).z.round(decimals=3).abs()
        tensor([[0., 0., 1., 0., 0., 0., 0., 0.]])

    Source: the recall is Ramsauer et al. (2021), eq. 3; the sum is the online softmax of Milakov and Gimelshein (2018).
    """

    default_steps = 20

    def __init__(
        self, patterns: Chunks, beta: float | None = None, *, chunk: int = 8192, largest: float | None = None
    ) -> None:
        super().__init__()
        shape: tuple[int, ...] = tuple(getattr(patterns, "shape", ()))
        if len(shape) != 2 or not all(shape):
            raise ValueError(
                f"`ChunkedMemory(patterns)` wants something of shape (N, D) that can be cut as `patterns[first:last]`; got {shape or type(patterns).__name__}. "
                "Pass a tensor or a `numpy.memmap`, or give your own a `shape` and `__getitem__`."
            )
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(
                f"`ChunkedMemory(beta=...)` must be above zero and finite; got {beta}. Leave it out for one that suits the patterns."
            )
        if chunk < 1:
            raise ValueError(f"`ChunkedMemory(chunk=...)` must be at least 1; got {chunk}. Try 8192.")
        self.patterns = patterns
        self.size, self.width = shape[0], shape[1]
        self.beta = suiting_beta(patterns) if beta is None else float(beta)
        self.chunk = chunk
        self.largest = self._longest() if largest is None else float(largest)

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query."""
        check_query("ChunkedMemory", x, self.width)
        return {"query": x}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next state."""
        return self.mixture(z).mean

    def point(self, z: Tensor, c: Any) -> Point:
        """The move, and a bound on the one after it, which needs no pass either."""
        mixture = self.mixture(z)
        if mixture.mean.dtype != z.dtype:  # under autocast the weights are too coarse to prove anything
            return Point(z, None, mixture.mean - z)
        longest, one = z.new_tensor(self.largest), torch.ones_like(mixture.top)
        at = Weights(mixture.top, one, 2 * self.largest * one)
        bound = next_move(z, mixture.mean, at, self.beta, longest, 2 * longest)
        return Sighted(z, None, mixture.mean - z).seeing(bound.detach())

    def mixture(self, z: Tensor) -> Mixture:
        """One pass over the patterns, for latents (B, D)."""
        query = self.beta * z
        top = torch.full_like(z[:, 0], -torch.inf)
        total, mean = torch.zeros_like(top), torch.zeros_like(z)
        for part in self._chunks():
            part = part.to(z)
            overlap = query @ part.T
            higher = torch.maximum(top, overlap.amax(1))
            weight, keep = _exponential(overlap, higher), (top - higher).exp()
            total = total * keep + weight.sum(1)
            mean = torch.addmm(mean * keep[:, None], weight, part)
            top = higher
        return Mixture(mean / total[:, None], top + total.log(), 1 / total)

    def energy(self, z: Tensor) -> Tensor:
        """The energy of `ebm.ModernHopfield`, (B,), from one pass."""
        mixture = (self.mixture(z).log_sum - math.log(self.size)) / self.beta
        return 0.5 * (z.square().sum(1) + self.largest**2) - mixture

    def _chunks(self) -> Iterator[Tensor]:
        """The patterns as tensors, one chunk at a time."""
        for first in range(0, self.size, self.chunk):
            part = self.patterns[first : first + self.chunk]
            # a copy: a memory map may be read-only, which a tensor cannot be
            yield part if isinstance(part, Tensor) else torch.tensor(part)

    def _longest(self) -> float:
        with torch.no_grad():
            return max(float(torch.linalg.vector_norm(part.double(), dim=1).amax()) for part in self._chunks())

    def default_solver(self) -> Solver:
        """`LazyPicard`: a pass that only confirms is spared."""
        return LazyPicard()

    def default_stop(self) -> Stop:
        """At rest to 1e-5."""
        return AtRest(1e-5)


def _exponential(overlap: Tensor, top: Tensor) -> Tensor:
    """The exponentials of overlaps (B, chunk) less a number of each row, in their place where nothing will be differentiated."""
    if torch.is_grad_enabled():
        return (overlap - top[:, None]).exp()
    return overlap.sub_(top[:, None]).exp_()
