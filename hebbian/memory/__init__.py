"""Associative memories: what is recalled, how fast, and from how many patterns."""

from hebbian.memory.lazy import LazyPicard, Sighted
from hebbian.memory.softmax import SoftmaxMemory

__all__ = ["LazyPicard", "Sighted", "SoftmaxMemory"]
