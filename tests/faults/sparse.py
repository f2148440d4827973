"""Deliberate faults in sparse coding."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a gap that takes the residual for a dual point",
        "hebbian/sparse/gap.py",
        "polar(term, force).clamp_min(1.0)",
        "polar(term, force).clamp(1.0, 1.0)",
        "tests/hebbian/test_sparse_coding.py -k gap",
    ),
    Fault(
        "settled codes without a gradient",
        "hebbian/sparse/active_set.py",
        "way - way.detach()",
        "0.5 * (way - way.detach())",
        "tests/hebbian/test_sparse_coding.py -k gradient",
    ),
    Fault(
        "a guess that does not know its force",
        "hebbian/sparse/sketch.py",
        "field.bend(ahead - start)",
        "field.bend(ahead)",
        "tests/hebbian/test_sparse_coding.py -k 'anywhere or guessed'",
    ),
    Fault(
        "rows of a sparse product that are not weighed",
        "hebbian/sparse/faces.py",
        "per_sample_weights=flat[place]",
        "per_sample_weights=torch.ones_like(flat[place])",
        "tests/hebbian/test_sparse_coding.py -k sparse_product",
    ),
    Fault(
        "a crowd of atoms that nobody sees coming",
        "hebbian/sparse/search.py",
        "if turn == 1 else active",
        "if turn == 100 else active",
        "tests/hebbian/test_sparse_coding.py -k at_once",
    ),
]
