"""How weights learn from settled latents: every rule is a loss."""

from ebm.losses.begins import Begin, Either, Elsewhere, Noisy, neighbour
from ebm.losses.halting import ACT, PonderNet, QHead
from ebm.losses.progressive import Every, Last, Over, Progressive
from ebm.losses.regularise import (
    JacobianPenalty,
    PathIndependence,
    Rule,
    Settled,
    Together,
    misaligned,
    squared_distance,
)
from ebm.losses.stretch import Stretch
from ebm.losses.two_phase import TwoPhase

__all__ = [
    "ACT",
    "Begin",
    "Either",
    "Elsewhere",
    "Every",
    "JacobianPenalty",
    "Last",
    "Noisy",
    "Over",
    "PathIndependence",
    "PonderNet",
    "Progressive",
    "QHead",
    "Rule",
    "Settled",
    "Stretch",
    "Together",
    "TwoPhase",
    "misaligned",
    "neighbour",
    "squared_distance",
]
