"""Deliberate faults in adjoints and linear solvers."""

from __future__ import annotations

from tests.faults.fault import Fault

ADJOINT = "ebm/engine/adjoint.py"
T = "tests/engine/test_"

FAULTS = [
    Fault(
        "an implicit gradient of the other sign",
        "ebm/engine/implicit.py",
        "return rows.flatten(list(rows.leaves(product(self._tree(v))))).neg()",
        "return rows.flatten(list(rows.leaves(product(self._tree(v)))))",
        "tests/engine/test_implicit.py -k closed_form",
    ),
    Fault(
        "samples that failed are differentiated",
        "ebm/engine/implicit.py",
        "samples = (carry.status != Status.NONFINITE).nonzero().flatten()",
        "samples = (carry.status >= 0).nonzero().flatten()",
        "tests/engine/test_implicit.py -k failed",
    ),
    Fault(
        "conjugate gradients go on at negative curvature",
        "ebm/engine/linear.py",
        "moves = active & (curvature > 0) & torch.isfinite(curvature)",
        "moves = active & torch.isfinite(curvature)",
        "tests/engine/test_implicit.py -k negative_curvature",
    ),
    Fault(
        "a Krylov space that is not orthogonal",
        "ebm/engine/linear.py",
        "for _ in range(2):  # once loses orthogonality",
        "for _ in range(0):",
        "tests/engine/test_implicit.py -k linear_solvers",
    ),
    Fault(
        "a segment runs on from the wrong frame",
        "ebm/engine/tape.py",
        "if n % self._every == 0:",
        "if n % self._every == 1:",
        "tests/engine/test_reverse.py -k last_bit",
    ),
    Fault(
        "rows that left early are forgotten backwards",
        "ebm/engine/tape.py",
        "return rows.take(rows.cat([frame, gone]), order)",
        "return rows.take(rows.cat([rows.map_rows(torch.zeros_like, frame), gone]), order)",
        "tests/engine/test_reverse.py -k different_steps",
    ),
    Fault(
        "a tail of another length",
        ADJOINT,
        "maxlen=self.last + 1)\n        begin = final = carry\n        for stage",
        "maxlen=self.last + 2)\n        begin = final = carry\n        for stage",
        f"{T}adjoints.py -k truncated",
    ),
    Fault(
        "a tail's work is not counted",
        ADJOINT,
        "status=final.status, evals=evals, work=work)",
        "status=final.status)",
        f"{T}adjoints.py -k counted",
    ),
    Fault(
        "an early end is not differentiated",
        "ebm/engine/adjoint.py",
        "again = _stalled(final) & ~_stalled(carry)",
        "again = torch.zeros_like(carry.packed)",
        "tests/solvers/test_flow.py -k tail",
    ),
]
