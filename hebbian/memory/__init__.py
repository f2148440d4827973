"""Associative memories: what is recalled, how fast, and from how many patterns."""

from hebbian.memory.attention import HopfieldAttention
from hebbian.memory.bidirectional import BidirectionalMemory
from hebbian.memory.chunked import ChunkedMemory, Chunks, Mixture
from hebbian.memory.index import ExactIndex, FaissIndex, Index, ShortlistMemory
from hebbian.memory.lazy import LazyPicard, Sighted
from hebbian.memory.sequence import DelayedSequence, SequenceMemory
from hebbian.memory.similarity import (
    Linear,
    Power,
    Separation,
    Similarity,
    Softmax,
    TopK,
    cosine,
    dot,
    euclidean,
    manhattan,
)
from hebbian.memory.softmax import SoftmaxMemory
from hebbian.memory.universal import UniversalHopfield

__all__ = [
    "BidirectionalMemory",
    "ChunkedMemory",
    "Chunks",
    "DelayedSequence",
    "ExactIndex",
    "FaissIndex",
    "HopfieldAttention",
    "Index",
    "LazyPicard",
    "Linear",
    "Mixture",
    "Power",
    "Separation",
    "SequenceMemory",
    "ShortlistMemory",
    "Sighted",
    "Similarity",
    "Softmax",
    "SoftmaxMemory",
    "TopK",
    "UniversalHopfield",
    "cosine",
    "dot",
    "euclidean",
    "manhattan",
]
