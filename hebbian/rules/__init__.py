"""The rules, one a file."""

from __future__ import annotations

from hebbian.rules.hebb import Hebb as Hebb
from hebbian.rules.oja import Oja as Oja

__all__ = ["Hebb", "Oja"]
