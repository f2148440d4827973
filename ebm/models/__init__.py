"""Models, one a file, each with its paper, its formula and the solver it settles best with."""

from ebm.models.modern_hopfield import ModernHopfield

__all__ = ["ModernHopfield"]
