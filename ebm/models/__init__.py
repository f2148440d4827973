"""Models, one a file, each with its paper, its formula and the solver it settles best with."""

from ebm.models.attention_cell import AttentionCell
from ebm.models.clamped import Clamped
from ebm.models.composite import Composite
from ebm.models.dense_memory import DenseMemory, Exponential, Polynomial, RectifiedPolynomial
from ebm.models.energy_net import EnergyNet
from ebm.models.energy_twin import EnergyTwin
from ebm.models.fixed_point import FixedPoint
from ebm.models.gated import Gated
from ebm.models.gated_cell import GatedCell
from ebm.models.grids import Grid
from ebm.models.halting import Halted, Halting, PooledLogit
from ebm.models.hopfield import CapacityWarning, GradedHopfield, Hopfield
from ebm.models.houses import Houses
from ebm.models.ladder import Ladder, Levelled
from ebm.models.least_squares import LeastSquares
from ebm.models.matrix_cell import MatrixCell
from ebm.models.message_cell import MessageCell
from ebm.models.modern_hopfield import ModernHopfield
from ebm.models.monotone_cell import MonotoneCell
from ebm.models.neighbours import Aggregate
from ebm.models.nuclear_norm import NuclearNorm
from ebm.models.predictive_coding import PredictiveCoding
from ebm.models.starts import Amortised, FeedForward, Noise, Start, Zeros
from ebm.models.terms import L1, GroupL1, NonNegative, Term, Within
from ebm.models.wiring import Nodes, Pairs, Wired, Wiring
from ebm.models.wrappers import Nudged, Sum

__all__ = [
    "L1",
    "Aggregate",
    "Amortised",
    "AttentionCell",
    "CapacityWarning",
    "Clamped",
    "Composite",
    "DenseMemory",
    "EnergyNet",
    "EnergyTwin",
    "Exponential",
    "FeedForward",
    "FixedPoint",
    "Gated",
    "GatedCell",
    "GradedHopfield",
    "Grid",
    "GroupL1",
    "Halted",
    "Halting",
    "Hopfield",
    "Houses",
    "Ladder",
    "LeastSquares",
    "Levelled",
    "MatrixCell",
    "MessageCell",
    "ModernHopfield",
    "MonotoneCell",
    "Nodes",
    "Noise",
    "NonNegative",
    "NuclearNorm",
    "Nudged",
    "Pairs",
    "Polynomial",
    "PooledLogit",
    "PredictiveCoding",
    "RectifiedPolynomial",
    "Start",
    "Sum",
    "Term",
    "Wired",
    "Wiring",
    "Within",
    "Zeros",
]
