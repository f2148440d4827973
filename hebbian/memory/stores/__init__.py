"""Stores: how patterns become the couplings of a Hopfield network."""

from hebbian.memory.stores.base import Store
from hebbian.memory.stores.gardner import Gardner
from hebbian.memory.stores.hebb import HebbStore
from hebbian.memory.stores.palimpsest import Palimpsest
from hebbian.memory.stores.pseudo_inverse import PseudoInverse
from hebbian.memory.stores.storkey import Storkey
from hebbian.memory.stores.unlearning import Unlearning

__all__ = ["Gardner", "HebbStore", "Palimpsest", "PseudoInverse", "Store", "Storkey", "Unlearning"]
