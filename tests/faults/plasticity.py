"""Deliberate faults in plasticity."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a token of a chunk erases itself",
        "hebbian/plasticity/chunked.py",
        "keys @ state.mT)\n        among = strength[:, :, None] * since",
        "keys @ state.mT)\n        among = since",
        "tests/hebbian/test_plasticity.py -k chunks",
    ),
    Fault(
        "a step that is too long for its keys",
        "hebbian/plasticity/inner_loop.py",
        "bound = largest(gram.detach())",
        "bound = 0.4 * largest(gram.detach())",
        "tests/hebbian/test_plasticity.py -k 'lowers or more_inner'",
    ),
]
