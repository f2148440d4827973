"""Associative memories: what is recalled, how fast, and from how many patterns."""

from hebbian.memory.chunked import ChunkedMemory, Chunks, Mixture
from hebbian.memory.index import ExactIndex, FaissIndex, Index, ShortlistMemory
from hebbian.memory.lazy import LazyPicard, Sighted
from hebbian.memory.softmax import SoftmaxMemory

__all__ = [
    "ChunkedMemory",
    "Chunks",
    "ExactIndex",
    "FaissIndex",
    "Index",
    "LazyPicard",
    "Mixture",
    "ShortlistMemory",
    "Sighted",
    "SoftmaxMemory",
]
