"""The rules, one a file."""

from __future__ import annotations

from hebbian.rules.chain import Chain as Chain
from hebbian.rules.contrastive import Contrastive as Contrastive
from hebbian.rules.delta import Delta as Delta
from hebbian.rules.gated import Gated as Gated
from hebbian.rules.hebb import Hebb as Hebb
from hebbian.rules.normalise import Normalise as Normalise
from hebbian.rules.normalised_delta import NormalisedDelta as NormalisedDelta
from hebbian.rules.oja import Oja as Oja
from hebbian.rules.pair_stdp import PairSTDP as PairSTDP
from hebbian.rules.reward_modulated import RewardModulated as RewardModulated
from hebbian.rules.scheduled import Falling as Falling
from hebbian.rules.scheduled import Scheduled as Scheduled
from hebbian.rules.sign_constraint import SignConstraint as SignConstraint
from hebbian.rules.three_factor import ThreeFactor as ThreeFactor
from hebbian.rules.triplet_stdp import TripletSTDP as TripletSTDP
from hebbian.rules.weight_decay import WeightDecay as WeightDecay

__all__ = [
    "Chain",
    "Contrastive",
    "Delta",
    "Falling",
    "Gated",
    "Hebb",
    "Normalise",
    "NormalisedDelta",
    "Oja",
    "PairSTDP",
    "RewardModulated",
    "Scheduled",
    "SignConstraint",
    "ThreeFactor",
    "TripletSTDP",
    "WeightDecay",
]
