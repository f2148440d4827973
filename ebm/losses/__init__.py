"""How weights learn from settled latents: every rule is a loss."""

from ebm.losses.halting import ACT, PonderNet, QHead
from ebm.losses.progressive import Every, Last, Over, Progressive
from ebm.losses.regularise import JacobianPenalty, PathIndependence, Rule, Settled, Together
from ebm.losses.stretch import Begin, Elsewhere, Stretch, neighbour
from ebm.losses.two_phase import TwoPhase

__all__ = [
    "ACT",
    "Begin",
    "Elsewhere",
    "Every",
    "JacobianPenalty",
    "Last",
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
    "neighbour",
]
