"""hebbian: learning by local rules, where a weight changes by what the two ends of its synapse can see.

A `LocalRule` turns the activity before and after a synapse into a change of its weight; a `Synapse` knows the geometry;
`step` and `pseudo_gradient` are the two doors from a change to new weights. Nothing here differentiates anything.
"""

from __future__ import annotations

from hebbian.learn import pseudo_gradient as pseudo_gradient
from hebbian.learn import step as step
from hebbian.rule import LocalRule as LocalRule
from hebbian.rules import Hebb as Hebb
from hebbian.rules import Oja as Oja
from hebbian.statistics import Statistics as Statistics
from hebbian.synapse import Dense as Dense
from hebbian.synapse import Synapse as Synapse
from hebbian.synapse import per_unit as per_unit
from hebbian.traces import Traced as Traced
from hebbian.traces import forget as forget
from hebbian.traces import take as take

__all__ = [
    "Dense",
    "Hebb",
    "LocalRule",
    "Oja",
    "Statistics",
    "Synapse",
    "Traced",
    "forget",
    "per_unit",
    "pseudo_gradient",
    "step",
    "take",
]
