"""Recall from a shortlist: an index finds the few patterns that matter, the softmax runs over those."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import check_query
from ebm.models.temperature import suiting_beta
from ebm.noise import Draw
from ebm.objective import Update
from ebm.solvers.base import Solver
from hebbian.memory.chunked import Chunks
from hebbian.memory.lazy import LazyPicard

__all__ = ["ExactIndex", "FaissIndex", "Index", "ShortlistMemory"]


class Index(Protocol):
    """Finds the patterns of largest inner product."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Inner products (B, k), largest first, and ids (B, k), int64; an id of -1 where fewer were found."""
        ...


class ExactIndex:
    """An index that looks at every pattern, chunk by chunk; to check another against, and for memories that fit.

    Args:
        patterns: (N, D), a tensor.
        chunk: patterns at a time.

    Example:
        >>> import torch
        >>> from hebbian.memory import ExactIndex
        >>> ExactIndex(torch.eye(3)).search(torch.tensor([[0.1, 0.7, 0.3]]), 2)[1]
        tensor([[1, 2]])
    """

    def __init__(self, patterns: Tensor, chunk: int = 8192) -> None:
        self.patterns = patterns
        self.chunk = chunk

    @torch.no_grad()
    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k largest inner products and whose they are."""
        best = torch.full((len(queries), k), -torch.inf, dtype=queries.dtype, device=queries.device)
        ids = torch.full_like(best, -1, dtype=torch.int64)
        for first in range(0, len(self.patterns), self.chunk):
            scores = queries @ self.patterns[first : first + self.chunk].T
            here = torch.arange(first, first + scores.shape[1], device=ids.device).expand_as(scores)
            best, order = torch.cat([best, scores], 1).topk(k, 1)
            ids = torch.cat([ids, here], 1).gather(1, order)
        return best, ids


class FaissIndex:
    """An index of faiss, exact or approximate.

    Args:
        index: a faiss index over inner products (``faiss.METRIC_INNER_PRODUCT``) that holds the patterns, in their order.

    Example:
        ``index = FaissIndex.build(patterns, "IVF1024,Flat", nprobe=16)``, and then ``ShortlistMemory(patterns, index)``.

    Source: Johnson, Douze and Jegou (2021); https://faiss.ai.
    """

    def __init__(self, index: Any) -> None:
        self.index = index

    @classmethod
    def build(
        cls, patterns: Chunks, factory: str = "HNSW32", *, nprobe: int | None = None, chunk: int = 65536
    ) -> FaissIndex:
        """An index built by faiss's ``index_factory``, trained on the first chunk where it must be, and filled chunk by chunk.

        Args:
            patterns: (N, D).
            factory: faiss's words, such as ``"Flat"`` (exact), ``"HNSW32"`` or ``"IVF1024,Flat"``.
            nprobe: how many lists an inverted file visits; None leaves faiss's own.
            chunk: patterns at a time.

        Raises:
            ImportError: faiss is not installed.
        """
        try:
            import faiss  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                "`FaissIndex.build` needs faiss, which is not installed. Run `pip install 'equilibrate[index]'`, or pass "
                "`ExactIndex(patterns)`, or an index of your own with a method `search(queries, k)`."
            ) from error
        index = faiss.index_factory(patterns.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        for first in range(0, patterns.shape[0], chunk):
            part = torch.as_tensor(patterns[first : first + chunk]).float().contiguous().numpy()
            if not index.is_trained:
                index.train(part)
            index.add(part)
        if nprobe is not None:
            index.nprobe = nprobe
        return cls(index)

    @torch.no_grad()
    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """What faiss finds, as tensors."""
        scores, ids = self.index.search(queries.detach().float().cpu().contiguous().numpy(), k)
        return torch.as_tensor(scores).to(queries), torch.as_tensor(ids).to(queries.device)


class ShortlistMemory(Update):
    r"""Softmax recall over the k patterns that an index finds for each query.

    .. math:: q \leftarrow \sum_{i \in S(q)} p_i x_i, \qquad p = \text{softmax}_{i \in S(q)}(\beta x_i^T q)

    The overlaps are computed from the patterns themselves, so an index that compresses them, or misses some, costs only what it
    misses. What is lost even by an exact index are the patterns beyond the k-th; `neglected` bounds their weight.

    Args:
        patterns: (N, D), anything that gives rows for an array of ids: a tensor or a memory map.
        index: finds ids; `FaissIndex`, `ExactIndex` or your own `Index`.
        k: patterns a query, at least 1.
        beta: inverse temperature > 0; None takes what tells the patterns apart, as in `ebm.ModernHopfield`.
        search: ``"each"`` asks the index in every update; ``"once"`` only for the query, after which all updates run over the
            same k patterns.

    Raises:
        ValueError: a setting outside its range; at the call, a query of another shape, or an index that finds nothing for a query.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import ExactIndex, ShortlistMemory
        >>> patterns = torch.eye(100, 8)
        >>> memory = ShortlistMemory(patterns, ExactIndex(patterns), k=3, beta=40.0)
        >>> ebm.infer(memory, torch.eye(8)[:1] + 0.1).z.round(decimals=3)
        tensor([[1., 0., 0., 0., 0., 0., 0., 0.]])

    Source: Ramsauer et al. (2021), eq. 3, cut to the nearest patterns.
    """

    default_steps = 20

    def __init__(
        self,
        patterns: Any,
        index: Index,
        k: int = 64,
        beta: float | None = None,
        *,
        search: Literal["each", "once"] = "each",
    ) -> None:
        super().__init__()
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(
                f"`ShortlistMemory(beta=...)` must be above zero and finite; got {beta}. Leave it out for one that suits the patterns."
            )
        if k < 1:
            raise ValueError(f"`ShortlistMemory(k=...)` must be at least 1; got {k}. Try 64.")
        if search not in ("each", "once"):
            raise ValueError(f'`ShortlistMemory(search=...)` is "each" or "once"; got {search!r}. Try "each".')
        self.patterns = patterns
        self.index = index
        self.size, self.width = patterns.shape
        self.k = min(k, self.size)
        self.beta = suiting_beta(patterns) if beta is None else float(beta)
        self.search: Literal["each", "once"] = search

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query, and where the index is asked once, the patterns it finds."""
        check_query("ShortlistMemory", x, self.width)
        return {"query": x, "found": self._found(x) if self.search == "once" else None}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next state."""
        near, missing = self._found(z) if c["found"] is None else c["found"]
        weight = (self.beta * _overlaps(z, near)).masked_fill(missing, -torch.inf).softmax(1)
        return torch.bmm(weight[:, None], near)[:, 0]

    @torch.no_grad()
    def neglected(self, z: Tensor) -> Tensor:
        r"""At most this share of the softmax's weight, (B,), is on the patterns left out, if the index is exact.

        None of them has a larger overlap than the k-th: with S the sum over the shortlist,
        :math:`(N - k) e^{\beta x_k^T z}` over that plus S.
        """
        near, missing = self._found(z)
        overlap = (self.beta * _overlaps(z, near)).masked_fill(missing, -torch.inf)
        rest = math.log(self.size - self.k) if self.size > self.k else -math.inf
        last = overlap.masked_fill(missing, torch.inf).amin(1) + rest
        return (last - torch.logaddexp(last, overlap.logsumexp(1))).exp()

    def _found(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The patterns of the shortlist (B, k, D), and where there are none, (B, k)."""
        _, ids = self.index.search(z.detach(), self.k)
        missing = ids < 0
        if bool(missing.all(1).any()):
            raise ValueError(
                f"The index finds no pattern for sample {int(missing.all(1).nonzero()[0])}. Let it look further (`nprobe`), or check "
                "that it holds the patterns and that the query is finite."
            )
        if isinstance(self.patterns, Tensor):
            return self.patterns[ids.clamp_min(0)].to(z), missing
        return torch.tensor(self.patterns[ids.clamp_min(0).cpu().numpy()]).to(z), missing

    def default_solver(self) -> Solver:
        """`LazyPicard`."""
        return LazyPicard()

    def default_stop(self) -> Stop:
        """When the last move was below 1e-5."""
        return AtRest(1e-5)


def _overlaps(z: Tensor, near: Tensor) -> Tensor:
    return torch.bmm(near, z[:, :, None])[:, :, 0]
