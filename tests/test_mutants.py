"""The deliberate faults of `tests/mutants.py` can be put where they belong."""

from __future__ import annotations

import pytest

from tests.mutants import FAULTS, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_place_of_every_fault_occurs_once(fault) -> None:
    assert (ROOT / fault.path).read_text().count(fault.old) == 1
    assert all((ROOT / name).exists() for name in fault.tests.partition(" -k ")[0].split())
