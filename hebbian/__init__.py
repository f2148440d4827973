"""hebbian: learning by local rules, where a weight changes by what the two ends of its synapse can see.

A `LocalRule` turns the activity before and after a synapse into a change of its weight; a `Synapse` knows the geometry;
`step` and `pseudo_gradient` are the two doors from a change to new weights. Nothing here differentiates anything.
"""

from __future__ import annotations

from hebbian.lateral import Lateral as Lateral
from hebbian.layered import LayeredNet as LayeredNet
from hebbian.layers import HebbianLateral as HebbianLateral
from hebbian.layers import HebbianLayer as HebbianLayer
from hebbian.layers import HebbianLinear as HebbianLinear
from hebbian.learn import pseudo_gradient as pseudo_gradient
from hebbian.learn import step as step
from hebbian.rule import LocalRule as LocalRule
from hebbian.rules import Chain as Chain
from hebbian.rules import Contrastive as Contrastive
from hebbian.rules import Delta as Delta
from hebbian.rules import Falling as Falling
from hebbian.rules import Gated as Gated
from hebbian.rules import Hebb as Hebb
from hebbian.rules import Normalise as Normalise
from hebbian.rules import NormalisedDelta as NormalisedDelta
from hebbian.rules import Oja as Oja
from hebbian.rules import PairSTDP as PairSTDP
from hebbian.rules import RewardModulated as RewardModulated
from hebbian.rules import Scheduled as Scheduled
from hebbian.rules import SignConstraint as SignConstraint
from hebbian.rules import ThreeFactor as ThreeFactor
from hebbian.rules import TripletSTDP as TripletSTDP
from hebbian.rules import WeightDecay as WeightDecay
from hebbian.statistics import Statistics as Statistics
from hebbian.synapse import Dense as Dense
from hebbian.synapse import Synapse as Synapse
from hebbian.synapse import per_unit as per_unit
from hebbian.traces import Traced as Traced
from hebbian.traces import forget as forget
from hebbian.traces import take as take

__all__ = [
    "Chain",
    "Contrastive",
    "Delta",
    "Dense",
    "Falling",
    "Gated",
    "Hebb",
    "HebbianLateral",
    "HebbianLayer",
    "HebbianLinear",
    "Lateral",
    "LayeredNet",
    "LocalRule",
    "Normalise",
    "NormalisedDelta",
    "Oja",
    "PairSTDP",
    "RewardModulated",
    "Scheduled",
    "SignConstraint",
    "Statistics",
    "Synapse",
    "ThreeFactor",
    "Traced",
    "TripletSTDP",
    "WeightDecay",
    "forget",
    "per_unit",
    "pseudo_gradient",
    "step",
    "take",
]
