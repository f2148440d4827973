"""The list of deliberate faults, by the part of the library that they are put into."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.faults.fault import Fault

__all__ = ["FAULTS", "Fault"]

_PARTS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "fault"))
FAULTS: list[Fault] = [fault for part in _PARTS for fault in import_module(f"tests.faults.{part}").FAULTS]
