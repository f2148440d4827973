"""hebbian: learning by local rules, where a weight changes by what the two ends of its synapse can see.

A `LocalRule` turns the activity before and after a synapse into a change of its weight; a `Synapse` knows the geometry;
`step` and `pseudo_gradient` are the two doors from a change to new weights. Nothing here differentiates anything.
"""

from __future__ import annotations

from hebbian.convolution import Conv1d as Conv1d
from hebbian.convolution import Conv2d as Conv2d
from hebbian.foldiak import Foldiak as Foldiak
from hebbian.lateral import Lateral as Lateral
from hebbian.layered import LayeredNet as LayeredNet
from hebbian.layers import HebbianConv1d as HebbianConv1d
from hebbian.layers import HebbianConv2d as HebbianConv2d
from hebbian.layers import HebbianLateral as HebbianLateral
from hebbian.layers import HebbianLayer as HebbianLayer
from hebbian.layers import HebbianLinear as HebbianLinear
from hebbian.learn import pseudo_gradient as pseudo_gradient
from hebbian.learn import step as step
from hebbian.rule import LocalRule as LocalRule
from hebbian.rules import BCM as BCM
from hebbian.rules import ICA as ICA
from hebbian.rules import Chain as Chain
from hebbian.rules import Contrastive as Contrastive
from hebbian.rules import CorrelationTarget as CorrelationTarget
from hebbian.rules import Covariance as Covariance
from hebbian.rules import Delta as Delta
from hebbian.rules import Falling as Falling
from hebbian.rules import Gated as Gated
from hebbian.rules import Hebb as Hebb
from hebbian.rules import Instar as Instar
from hebbian.rules import KrotovHopfield as KrotovHopfield
from hebbian.rules import NonlinearPCA as NonlinearPCA
from hebbian.rules import Normalise as Normalise
from hebbian.rules import NormalisedDelta as NormalisedDelta
from hebbian.rules import Oja as Oja
from hebbian.rules import OjaSubspace as OjaSubspace
from hebbian.rules import PairSTDP as PairSTDP
from hebbian.rules import RewardModulated as RewardModulated
from hebbian.rules import Sanger as Sanger
from hebbian.rules import Scheduled as Scheduled
from hebbian.rules import SignConstraint as SignConstraint
from hebbian.rules import SoftCompetition as SoftCompetition
from hebbian.rules import SoftHebb as SoftHebb
from hebbian.rules import ThreeFactor as ThreeFactor
from hebbian.rules import TripletSTDP as TripletSTDP
from hebbian.rules import WeightDecay as WeightDecay
from hebbian.rules import WinnerTakeAll as WinnerTakeAll
from hebbian.rules import sub_gaussian as sub_gaussian
from hebbian.rules import super_gaussian as super_gaussian
from hebbian.statistics import Statistics as Statistics
from hebbian.synapse import Dense as Dense
from hebbian.synapse import Synapse as Synapse
from hebbian.synapse import per_unit as per_unit
from hebbian.traces import Traced as Traced
from hebbian.traces import forget as forget
from hebbian.traces import take as take

__all__ = [
    "BCM",
    "ICA",
    "Chain",
    "Contrastive",
    "Conv1d",
    "Conv2d",
    "CorrelationTarget",
    "Covariance",
    "Delta",
    "Dense",
    "Falling",
    "Foldiak",
    "Gated",
    "Hebb",
    "HebbianConv1d",
    "HebbianConv2d",
    "HebbianLateral",
    "HebbianLayer",
    "HebbianLinear",
    "Instar",
    "KrotovHopfield",
    "Lateral",
    "LayeredNet",
    "LocalRule",
    "NonlinearPCA",
    "Normalise",
    "NormalisedDelta",
    "Oja",
    "OjaSubspace",
    "PairSTDP",
    "RewardModulated",
    "Sanger",
    "Scheduled",
    "SignConstraint",
    "SoftCompetition",
    "SoftHebb",
    "Statistics",
    "Synapse",
    "ThreeFactor",
    "Traced",
    "TripletSTDP",
    "WeightDecay",
    "WinnerTakeAll",
    "forget",
    "per_unit",
    "pseudo_gradient",
    "step",
    "sub_gaussian",
    "super_gaussian",
    "take",
]
