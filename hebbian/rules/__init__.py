"""The rules, one a file."""

from __future__ import annotations

from hebbian.rules.bcm import BCM as BCM
from hebbian.rules.chain import Chain as Chain
from hebbian.rules.contrastive import Contrastive as Contrastive
from hebbian.rules.correlation_target import CorrelationTarget as CorrelationTarget
from hebbian.rules.covariance import Covariance as Covariance
from hebbian.rules.delta import Delta as Delta
from hebbian.rules.gated import Gated as Gated
from hebbian.rules.hebb import Hebb as Hebb
from hebbian.rules.ica import ICA as ICA
from hebbian.rules.ica import sub_gaussian as sub_gaussian
from hebbian.rules.ica import super_gaussian as super_gaussian
from hebbian.rules.instar import Instar as Instar
from hebbian.rules.krotov_hopfield import KrotovHopfield as KrotovHopfield
from hebbian.rules.nonlinear_pca import NonlinearPCA as NonlinearPCA
from hebbian.rules.normalise import Normalise as Normalise
from hebbian.rules.normalised_delta import NormalisedDelta as NormalisedDelta
from hebbian.rules.oja import Oja as Oja
from hebbian.rules.oja_subspace import OjaSubspace as OjaSubspace
from hebbian.rules.pair_stdp import PairSTDP as PairSTDP
from hebbian.rules.reward_modulated import RewardModulated as RewardModulated
from hebbian.rules.sanger import Sanger as Sanger
from hebbian.rules.scheduled import Falling as Falling
from hebbian.rules.scheduled import Scheduled as Scheduled
from hebbian.rules.sign_constraint import SignConstraint as SignConstraint
from hebbian.rules.soft_competition import SoftCompetition as SoftCompetition
from hebbian.rules.soft_hebb import SoftHebb as SoftHebb
from hebbian.rules.three_factor import ThreeFactor as ThreeFactor
from hebbian.rules.triplet_stdp import TripletSTDP as TripletSTDP
from hebbian.rules.weight_decay import WeightDecay as WeightDecay
from hebbian.rules.winner_take_all import WinnerTakeAll as WinnerTakeAll

__all__ = [
    "BCM",
    "ICA",
    "Chain",
    "Contrastive",
    "CorrelationTarget",
    "Covariance",
    "Delta",
    "Falling",
    "Gated",
    "Hebb",
    "Instar",
    "KrotovHopfield",
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
    "ThreeFactor",
    "TripletSTDP",
    "WeightDecay",
    "WinnerTakeAll",
    "sub_gaussian",
    "super_gaussian",
]
