"""Models, one a file, each with its paper, its formula and the solver it settles best with."""

from ebm.models.gated_cell import GatedCell
from ebm.models.modern_hopfield import ModernHopfield
from ebm.models.predictive_coding import Amortised, FeedForward, PredictiveCoding
from ebm.models.starts import Noise, Start, Zeros

__all__ = ["Amortised", "FeedForward", "GatedCell", "ModernHopfield", "Noise", "PredictiveCoding", "Start", "Zeros"]
