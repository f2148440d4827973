"""Models, one a file, each with its paper, its formula and the solver it settles best with."""

from ebm.models.dense_memory import DenseMemory, Exponential, Polynomial, RectifiedPolynomial
from ebm.models.energy_net import EnergyNet
from ebm.models.gated_cell import GatedCell
from ebm.models.hopfield import GradedHopfield, Hopfield
from ebm.models.modern_hopfield import ModernHopfield
from ebm.models.predictive_coding import Amortised, FeedForward, PredictiveCoding
from ebm.models.starts import Noise, Start, Zeros

__all__ = [
    "Amortised",
    "DenseMemory",
    "EnergyNet",
    "Exponential",
    "FeedForward",
    "GatedCell",
    "GradedHopfield",
    "Hopfield",
    "ModernHopfield",
    "Noise",
    "Polynomial",
    "PredictiveCoding",
    "RectifiedPolynomial",
    "Start",
    "Zeros",
]
