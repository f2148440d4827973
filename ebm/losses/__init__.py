"""How weights learn from settled latents: every rule is a loss."""

from ebm.losses.progressive import Every, Last, Over, Progressive
from ebm.losses.two_phase import TwoPhase

__all__ = ["Every", "Last", "Over", "Progressive", "TwoPhase"]
