"""Plasticity at test time: weights that change while a model is being used, each sample with its own."""

from hebbian.plasticity.abcd import ABCD
from hebbian.plasticity.chunked import chunked
from hebbian.plasticity.fast_weights import FastWeights, Tokens, tokens
from hebbian.plasticity.features import dpfp, elu_plus_one, sum_normalised, unit
from hebbian.plasticity.inner_loop import DeepMemory, LinearMemory, Pairs, ridge_memory
from hebbian.plasticity.through_time import Plastic, run
from hebbian.plasticity.traces import DifferentiablePlasticity, Neuromodulated

__all__ = [
    "ABCD",
    "DeepMemory",
    "DifferentiablePlasticity",
    "FastWeights",
    "LinearMemory",
    "Neuromodulated",
    "Pairs",
    "Plastic",
    "Tokens",
    "chunked",
    "dpfp",
    "elu_plus_one",
    "ridge_memory",
    "run",
    "sum_normalised",
    "tokens",
    "unit",
]
