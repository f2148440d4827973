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
    Fault(
        "safe screening with a radius too small",
        "hebbian/sparse/screening.py",
        "radius = (2 * (width",
        "radius = ((width",
        "tests/hebbian/test_sparse_minimum.py -k screening",
    ),
    Fault(
        "kinks looked for no further than a whole step",
        "hebbian/sparse/faces.py",
        "size.clamp_min(1.0)[:, None]",
        "torch.ones_like(size)[:, None]",
        "tests/hebbian/test_sparse_minimum.py -k 'wall or never_rises'",
    ),
    Fault(
        "atoms woken before their face is at rest",
        "hebbian/sparse/search.py",
        "(rested | hurried)[samples]",
        "torch.ones_like(rested)[samples]",
        "tests/hebbian/test_sparse_minimum.py -k 'nothing_does_not or at_rest_alone'",
    ),
    Fault(
        "a step that may rise",
        "hebbian/sparse/descent.py",
        "good = trial.finite & _no_higher(trial.point, old)",
        "good = trial.finite",
        "tests/hebbian/test_sparse_minimum.py -k turned_down",
    ),
    Fault(
        "singular systems raised no more than others",
        "hebbian/sparse/faces.py",
        "share = torch.where(weak[:, None], max(rounding, 0.1 * eps**0.5), little)",
        "share = torch.where(weak[:, None], little, little)",
        "tests/hebbian/test_sparse_minimum.py -k 'never_rises or singular or single_precision or settings'",
    ),
    Fault(
        "a gradient along what the signal does not see",
        "hebbian/sparse/faces.py",
        "if not bool(weak.any()):\n        return _solved",
        "if True:\n        return _solved",
        "tests/hebbian/test_sparse_minimum.py -k singular",
    ),
    Fault(
        "samples at rest that never end",
        "hebbian/sparse/active_set.py",
        "stalled=idle >= _IDLE",
        "stalled=idle < 0",
        "tests/hebbian/test_sparse_minimum.py -k single_precision",
    ),
    Fault(
        "an atom taken to zero",
        "hebbian/sparse/learning.py",
        "per_unit(moved & (length > 0), weight)",
        "per_unit(moved, weight)",
        "tests/hebbian/test_sparse_coding.py -k take_to_zero",
    ),
]
