"""Sparse codes: signals made up of a few atoms of a dictionary, settled exactly and learned by local rules."""

from __future__ import annotations

from hebbian.sparse.active_set import ActiveSet as ActiveSet
from hebbian.sparse.atoms import Convolved as Convolved
from hebbian.sparse.atoms import synthesise as synthesise
from hebbian.sparse.coding import SparseCoding as SparseCoding
from hebbian.sparse.gap import DualityGap as DualityGap
from hebbian.sparse.gap import duality_gap as duality_gap
from hebbian.sparse.penalties import L0 as L0

__all__ = ["L0", "ActiveSet", "Convolved", "DualityGap", "SparseCoding", "duality_gap", "synthesise"]
