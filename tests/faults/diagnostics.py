"""Deliberate faults in diagnostics."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "calibration that forgets what adds up over looks",
        "ebm/diagnostics/leaving.py",
        "return torch.zeros_like(level, dtype=torch.bool), (level, inner)",
        "return torch.zeros_like(level, dtype=torch.bool), (level, memory[1])",
        "tests/losses/test_halting_in_use.py -k 'would_have_halted'",
    ),
    Fault(
        "autocorrelations that may rise again",
        "ebm/diagnostics/chains.py",
        "pairs.cummin(0).values",
        "pairs",
        "tests/diagnostics/test_chains.py",
    ),
    Fault(
        "rounding counts in a rate",
        "ebm/diagnostics/measures.py",
        "end = torch.minimum(_first(sizes <= floor) - 1, last)",
        "end = last",
        "tests/diagnostics/test_diagnose.py -k rounding",
    ),
    Fault(
        "a latent that creeps is called at rest",
        "ebm/diagnostics/diagnosing.py",
        "((remaining <= NEAR) | (periods > 0))",
        "(remaining >= 0)",
        "tests/diagnostics/test_diagnose.py -k creeps",
    ),
    Fault(
        "the twin draws other noise",
        "ebm/diagnostics/watching.py",
        "same = copied(self._given)",
        "same = self._given",
        "tests/diagnostics/test_diagnose.py -k twin",
    ),
    Fault(
        "a calibration forgets patience",
        "ebm/diagnostics/leaving.py",
        "stop.in_a_row, -1.0",
        "1, -1.0",
        "tests/diagnostics/test_calibrate.py -k curve",
    ),
    Fault(
        "with confidence a threshold behind a failure is granted",
        "ebm/diagnostics/thresholds.py",
        "kept = kept.int().cumprod(0).bool()",
        "kept = kept.bool()",
        "tests/diagnostics/test_calibrate.py -k behind",
    ),
    Fault(
        "the allowed drop does not bind",
        "ebm/diagnostics/thresholds.py",
        "curve.bound <= max_drop + 1e-12",
        "curve.bound <= 2 * max_drop + 1e-12",
        "tests/diagnostics/test_calibrate.py -k binds",
    ),
]
