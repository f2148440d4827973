"""Sparse codes: signals made up of a few atoms of a dictionary, settled exactly and learned by a local rule."""

from __future__ import annotations

from hebbian.sparse.active_set import ActiveSet as ActiveSet
from hebbian.sparse.atoms import Convolved as Convolved
from hebbian.sparse.atoms import synthesise as synthesise
from hebbian.sparse.coding import SparseCoding as SparseCoding
from hebbian.sparse.coordinate_descent import CoordinateDescent as CoordinateDescent
from hebbian.sparse.gap import DualityGap as DualityGap
from hebbian.sparse.gap import duality_gap as duality_gap
from hebbian.sparse.lca import LCA as LCA
from hebbian.sparse.learning import ResidualHebb as ResidualHebb
from hebbian.sparse.lista import LISTA as LISTA
from hebbian.sparse.penalties import L0 as L0
from hebbian.sparse.screening import silent as silent

__all__ = [
    "L0",
    "LCA",
    "LISTA",
    "ActiveSet",
    "Convolved",
    "CoordinateDescent",
    "DualityGap",
    "ResidualHebb",
    "SparseCoding",
    "duality_gap",
    "silent",
    "synthesise",
]
