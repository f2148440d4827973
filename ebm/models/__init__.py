"""Models, one a file, each with its paper, its formula and the solver it settles best with."""

from ebm.models.composite import Composite
from ebm.models.dense_memory import DenseMemory, Exponential, Polynomial, RectifiedPolynomial
from ebm.models.energy_net import EnergyNet
from ebm.models.gated_cell import GatedCell
from ebm.models.hopfield import GradedHopfield, Hopfield
from ebm.models.ladder import Ladder, Levelled
from ebm.models.least_squares import LeastSquares
from ebm.models.modern_hopfield import ModernHopfield
from ebm.models.monotone_cell import MonotoneCell
from ebm.models.predictive_coding import PredictiveCoding
from ebm.models.starts import Amortised, FeedForward, Noise, Start, Zeros
from ebm.models.terms import L1, GroupL1, NonNegative, Term, Within
from ebm.models.wrappers import Clamped, Nudged, Sum

__all__ = [
    "L1",
    "Amortised",
    "Clamped",
    "Composite",
    "DenseMemory",
    "EnergyNet",
    "Exponential",
    "FeedForward",
    "GatedCell",
    "GradedHopfield",
    "GroupL1",
    "Hopfield",
    "Ladder",
    "LeastSquares",
    "Levelled",
    "ModernHopfield",
    "MonotoneCell",
    "Noise",
    "NonNegative",
    "Nudged",
    "Polynomial",
    "PredictiveCoding",
    "RectifiedPolynomial",
    "Start",
    "Sum",
    "Term",
    "Within",
    "Zeros",
]
