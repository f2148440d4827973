"""Deliberate faults in adjoints and linear solvers."""

from __future__ import annotations

from tests.faults.fault import Fault

ADJOINT = "ebm/engine/adjoint.py"
LINEAR = "ebm/engine/linear.py"
MOMENT = "ebm/engine/moment.py"
ROOT = "ebm/engine/root.py"
TAPE = "ebm/engine/tape.py"
T = "tests/engine/test_"

FAULTS = [
    Fault(
        "an implicit gradient of the other sign",
        ROOT,
        "return rows.flatten(list(rows.leaves(product(rows.unflatten(v, like))))).neg()",
        "return rows.flatten(list(rows.leaves(product(rows.unflatten(v, like)))))",
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
    Fault(
        "what is held has no gradient",
        ROOT,
        "return None, *gradients, *ctx.root.weights(gradients)",
        "return None, *map(torch.zeros_like, gradients), *ctx.root.weights(gradients)",
        f"{T}rest.py -k closed_form",
    ),
    Fault(
        "the gradient of what a wall moves is not pulled back",
        ROOT,
        "like = list(rows.leaves(transposed(self.unknown, self.image, keep)(like)))",
        "pass",
        f"{T}rest.py -k closed_form",
    ),
    Fault(
        "a second derivative holds the weights",
        ROOT,
        "[a + b for a, b in zip(back, wanted, strict=True)]",
        "[a + b.detach() for a, b in zip(back, wanted, strict=True)]",
        f"{T}rest.py -k second_derivatives",
    ),
    Fault(
        "a third derivative is taken for what is left of a sum that is zero",
        ROOT,
        "return _largest(gradients) <= 10 * self.solver.tolerance(gradients[0].dtype) * size",
        "return True",
        f"{T}rest.py -k third",
    ),
    Fault(
        "the energy of an implicit call may be differentiated again",
        "ebm/engine/implicit.py",
        '        if torch.is_grad_enabled():\n            raise RuntimeError(\n                "`solution.energy`',
        '        if False:\n            raise RuntimeError(\n                "`solution.energy`',
        f"{T}rest.py -k none_was_kept",
    ),
    Fault(
        "a composite calls rest where the smooth force vanishes",
        "ebm/models/composite.py",
        "return self.term.move(point.z, point.force)",
        "return point.force",
        f"{T}rest.py -k differences",
    ),
    Fault(
        "what is held under a term has to come to rest",
        "ebm/models/clamped.py",
        "return move if move is point.force else rows.map_rows(_free, move, c.mask)",
        "return move",
        f"{T}rest.py -k clamp_goes",
    ),
    Fault(
        "a projected step forgets the term inside",
        "ebm/solvers/project.py",
        "return _move(self.onto, point.z, self.inner.move(objective, point, c))",
        "return _move(self.onto, point.z, point.force)",
        f"{T}rest.py -k Project",
    ),
    Fault(
        "a residual may be written over without its move",
        "ebm/objective.py",
        'return where["move"] <= where["residual"]',
        "return True",
        f"{T}rest.py -k refused",
    ),
    Fault(
        "steps are made again with whatever the weights are",
        TAPE,
        "self._saved = {}\n            self._source.moment.check()",
        "self._saved = {}",
        f"{T}reverse.py -k written",
    ),
    Fault(
        "a second backward pass takes weights that have moved",
        TAPE,
        "if version_of(tensor) != version:",
        "if False:",
        f"{T}reverse.py -k between",
    ),
    Fault(
        "steps made again may lead anywhere",
        TAPE,
        "if worst > most:",
        "if worst > 1e9:",
        f"{T}reverse.py -k elsewhere",
    ),
    Fault(
        "steps are made again with the tensors of now",
        MOMENT,
        "if all(held.get(name) is then.tensor for _, held, name, then in self._homes):",
        "if self._homes:",
        f"{T}reverse.py -k place",
    ),
    Fault(
        "other data under a parameter go unseen",
        MOMENT,
        "version_of(self.tensor) == self.version and _place(self.tensor) == self.place",
        "version_of(self.tensor) == self.version",
        f"{T}reverse.py -k written",
    ),
    Fault(
        "conjugate gradients count a dead end as open",
        LINEAR,
        "square, goal = new, torch.where(active & ~moves, torch.inf, goal)",
        "square, goal = new, goal",
        f"{T}implicit.py -k dead_end",
    ),
    Fault(
        "a Krylov space is given up too soon",
        LINEAR,
        "(rest > 10 * eps * size)",
        "(rest > 1e6 * eps * size)",
        f"{T}implicit.py -k beside_its_image",
    ),
    Fault(
        "a singular system is followed along its null space",
        LINEAR,
        "(diagonal < eps**0.5 * largest)",
        "(diagonal < 0.0 * largest)",
        f"{T}implicit.py -k null_space",
    ),
    Fault(
        "squares of right-hand sides underflow",
        LINEAR,
        "return solve(self, product, b / size) * size",
        "return solve(self, product, b)",
        f"{T}implicit.py -k any_size",
    ),
    Fault(
        "nobody cannot be differentiated",
        "ebm/engine/call.py",
        "if self.graph and not self.batch:",
        "if False:",
        f"{T}rest.py -k nobody",
    ),
    Fault(
        "forward mode goes through a call that detaches",
        ADJOINT,
        'graph: ClassVar[bool] = False\n    trains: ClassVar[bool] = False\n    transforms: ClassVar[frozenset[str]] = frozenset({"Grad"})',
        'graph: ClassVar[bool] = False\n    trains: ClassVar[bool] = False\n    transforms: ClassVar[frozenset[str]] = frozenset({"Grad", "Jvp"})',
        f"{T}rest.py -k transform",
    ),
    Fault(
        "an overflow of one sample goes on to all weights",
        "ebm/engine/guard.py",
        "return cotangent.nan_to_num(0.0, 0.0, 0.0)",
        "return None",
        f"{T}guard.py -k runs_away",
    ),
    Fault(
        "an overflow that loss scaling waits for is cut",
        "ebm/engine/guard.py",
        "before or not _finite(cotangent)",
        "before",
        f"{T}guard.py -k reaches",
    ),
]
