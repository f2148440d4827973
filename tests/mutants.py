"""Deliberate faults in the engine and the solvers, each of which the tests must catch.

Run as ``python tests/mutants.py [part of a name ...]``. Every fault is put into a copy of the tree, and a small part of the
suite is run over it, two faults at a time. The exit status is 1 if a fault survives or its place is not found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LOOP = "ebm/engine/loop.py"
CALL = "ebm/engine/call.py"
CARRY = "ebm/engine/carry.py"
BUDGET = "ebm/engine/budget.py"
ADJOINT = "ebm/engine/adjoint.py"
T = "tests/engine/test_"
PROMISES = "tests/contracts/test_promises.py"


class Fault(NamedTuple):
    """A fault: in ``path`` the text ``old``, which must occur once, becomes ``new``; ``tests`` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault(
        "a failed sample is not masked",
        LOOP,
        'moved = active & rows.finite(tuple(changes["point"]))',
        "moved = active",
        f"{T}loop.py",
    ),
    Fault(
        "an ended sample goes on moving",
        LOOP,
        'moved = active & rows.finite(tuple(changes["point"]))',
        'moved = rows.finite(tuple(changes["point"]))',
        f"{T}loop.py",
    ),
    Fault(
        "finite samples are not looked for",
        LOOP,
        "block.active is None and math.isfinite(probe) and",
        "block.active is None and",
        f"{T}loop.py",
    ),
    Fault(
        "converged is called stalled",
        LOOP,
        "_closed(block, moved & done, Status.CONVERGED)",
        "_closed(block, moved & done, Status.STALLED)",
        f"{T}loop.py",
    ),
    Fault(
        "stalled is forgotten",
        LOOP,
        "_closed(block, moved & stalled & _active(block), Status.STALLED)",
        "block",
        f"{T}loop.py",
    ),
    Fault(
        "the rejected side of best-so-far",
        LOOP,
        "better = None if rank is None else rank <= carry.rank",
        "better = None if rank is None else rank >= carry.rank",
        f"{T}loop.py",
    ),
    Fault(
        "best-so-far keeps a stale rank",
        LOOP,
        '"rank": torch.where(better, rank, old.rank)}',
        '"rank": old.rank}',
        f"{T}loop.py {PROMISES} -k best",
    ),
    Fault(
        "best-so-far ignores the first point",
        CARRY,
        "rank=self._problem.rank(carry.point, self._problem.c).detach())",
        "rank=torch.full_like(self._problem.rank(carry.point, self._problem.c), float('inf')))",
        f"{T}loop.py",
    ),
    Fault(
        "best-so-far is lost when going on",
        CARRY,
        "        if carry.best is not None:\n            return carry\n",
        "",
        f"{PROMISES} -k going_on",
    ),
    Fault(
        "padding is not counted",
        LOOP,
        "self.executed += each * block.size",
        "self.executed += each * block.running",
        f"{T}loop.py",
    ),
    Fault(
        "work is charged to the ended, too",
        LOOP,
        "work=carry.work + block.spent * runs,",
        "work=carry.work + block.spent,",
        f"{T}loop.py",
    ),
    Fault(
        "samples return in another order",
        LOOP,
        "rows.put(self._home, block.samples, block.carry)",
        "rows.put(self._home, block.samples.flip(0), block.carry)",
        f"{T}loop.py",
    ),
    Fault(
        "a packed block keeps its old condition",
        LOOP,
        "self.block = Block(samples, carry, rows.take(block.c, index), None, block.running)",
        "self.block = Block(samples, carry, rows.take(self.problem.c, torch.arange(len(index))), None, block.running)",
        f"{T}loop.py",
    ),
    Fault(
        "numbers within the block are taken for those in the batch",
        LOOP,
        "samples = index if block.samples is None else block.samples[index]",
        "samples = index",
        f"{T}loop.py",
    ),
    Fault(
        "the step of the noise does not advance",
        LOOP,
        "(carry.keys, carry.steps + block.taken)",
        "(carry.keys, carry.steps)",
        f"{T}resume.py {T}noise.py -k 'Langevin or langevin or ten_steps'",
    ),
    Fault(
        "steps taken are forgotten",
        LOOP,
        "steps=carry.steps + block.taken * runs,",
        "steps=carry.steps,",
        f"{T}loop.py",
    ),
    Fault(
        "a differentiated failure is kept in the graph",
        LOOP,
        "if self.graph and not math.isfinite(outcome.probe.item()):",
        "if False:",
        f"{T}adjoints.py -k failing",
    ),
    Fault(
        "one step too many",
        BUDGET,
        "settling.end(Status.OUT_OF_STEPS, left <= 0)",
        "settling.end(Status.OUT_OF_STEPS, left < 0)",
        f"{T}budget.py",
    ),
    Fault(
        "one step too few",
        BUDGET,
        "self._horizon = settling.taken + int(open_ones.min())",
        "self._horizon = settling.taken + int(open_ones.max())",
        f"{T}budget.py -k differ",
    ),
    Fault(
        "a limit a sample is read in the wrong order",
        BUDGET,
        "goal[block.samples]",
        "goal[: block.size]",
        f"{T}budget.py",
    ),
    Fault(
        "the last step instead of the longest",
        BUDGET,
        "self._longest = max(self._longest, now - self._begun)",
        "self._longest = now - self._begun",
        f"{T}budget.py -k 'slow_step or pause'",
    ),
    Fault(
        "a deadline without foresight",
        BUDGET,
        "return now - self.start + self._longest >= self.seconds",
        "return now - self.start >= self.seconds",
        f"{T}budget.py",
    ),
    Fault(
        "a pause is taken for a step",
        BUDGET,
        "self._begun = self._now()\n",
        "self._begun = self._begun or self._now()\n",
        f"{T}budget.py -k pause",
    ),
    Fault(
        "FLOPs may be exceeded by a step",
        BUDGET,
        "flops + max(settling.next_flops(), 1) > self.flops",
        "flops > self.flops",
        f"{T}budget.py",
    ),
    Fault(
        "out of FLOPs is called out of time",
        BUDGET,
        "settling.end(Status.OUT_OF_FLOPS)",
        "settling.end(Status.OUT_OF_TIME)",
        f"{T}budget.py",
    ),
    Fault(
        "a pot is never emptied",
        BUDGET,
        "self.steps = None if self.steps is None else self.steps - steps",
        "self.steps = self.steps",
        f"{T}budget.py",
    ),
    Fault(
        "a pot pays only if all goes well",
        CALL,
        "with contextlib.closing(self._stages()) as stages:",
        "with contextlib.nullcontext(self._stages()) as stages:",
        f"{T}budget.py -k pays",
    ),
    Fault(
        "an observer may write into the call",
        CALL,
        "rows.map_rows(torch.clone, getattr(solution, name))",
        "getattr(solution, name)",
        f"{T}watch.py -k writ",
    ),
    Fault(
        "a callback misses the start",
        CALL,
        "if callback and moment != seen and callback(item) is True:",
        "if callback and moment != seen and moment[1] and callback(item) is True:",
        f"{T}watch.py",
    ),
    Fault(
        "a stopped sample is called out of steps",
        CALL,
        "                    self._settlings[-1].end(Status.STOPPED)\n                    item",
        "                    self._settlings[-1].end(Status.OUT_OF_STEPS)\n                    item",
        f"{T}watch.py",
    ),
    Fault(
        "the energy of the running point",
        CALL,
        "energy=kept.energy,",
        "energy=carry.point.energy,",
        f"{T}loop.py {PROMISES} -k 'best or facts'",
    ),
    Fault(
        "the answer of the running point",
        CALL,
        "self.model.readout, kept.z, self._c)",
        "self.model.readout, carry.point.z, self._c)",
        f"{PROMISES} -k facts",
    ),
    Fault(
        "grad mode is left on",
        CALL,
        "stack.enter_context(torch.set_grad_enabled(self.graph))",
        "torch.set_grad_enabled(self.graph)",
        f"{T}modes.py {T}watch.py -k 'trace or modes'",
    ),
    Fault(
        "going on begins with an empty memory",
        CARRY,
        "        if self._graph:\n            carry = self.refresh(carry)\n        return self._checked(carry) if other_stop else carry",
        "        carry = carry._replace(memory=self._problem.solver.init(carry.point))\n        return self._checked(carry) if other_stop else carry",
        f"{T}resume.py -k ten_steps",
    ),
    Fault(
        "going on reopens those who had converged",
        CARRY,
        "if other_stop else list(_REOPENED)",
        "if not other_stop else list(_REOPENED)",
        f"{T}resume.py",
    ),
    Fault(
        "going on forgets who was computed together",
        LOOP,
        "together = running if self.graph else carry.packed | running",
        "together = torch.ones_like(running)",
        f"{T}resume.py {T}loop.py -k 'mixed or leave'",
    ),
    Fault(
        "keys are drawn from the global generator",
        "ebm/noise.py",
        "generator=generator, device=generator.device)",
        "device=generator.device)",
        f"{T}modes.py {T}noise.py -k 'trace or generator'",
    ),
    Fault(
        "one key for the batch",
        "ebm/noise.py",
        "return torch.arange(batch, dtype=torch.int64, device=device)",
        "return torch.zeros(batch, dtype=torch.int64, device=device)",
        f"{T}noise.py {T}modes.py -k 'keys or key'",
    ),
    Fault("two draws of a step are the same", "ebm/noise.py", "        self._site += 1\n", "", f"{T}noise.py"),
    Fault(
        "the upper half of a key is ignored",
        "ebm/noise.py",
        "low, high = self.keys & _MASK, (self.keys >> 32) & _MASK",
        "low, high = self.keys & _MASK, self.keys & _MASK",
        f"{T}noise.py",
    ),
    Fault(
        "a tail without the force's graph",
        CALL,
        "if graph and carry is not call._first:",
        "if False:",
        f"{T}adjoints.py -k 'vanish or unrolled_tail'",
    ),
    Fault(
        "a tail of another length",
        ADJOINT,
        "maxlen=self.last + 1)",
        "maxlen=self.last + 2)",
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
        "a condition's shape has no price",
        "ebm/engine/field.py",
        "return kind, self._identity, self._setting, _shapes(tree)",
        "return kind, self._identity, _shapes(tree)",
        f"{T}flops.py",
    ),
    Fault(
        "multiply-adds counted once",
        "ebm/engine/flops.py",
        "return 2 * a.shape[0] * a.shape[1] * b.shape[1]",
        "return a.shape[0] * a.shape[1] * b.shape[1]",
        f"{T}flops.py",
    ),
    Fault(
        "velocity is written in place",
        "ebm/solvers/descent.py",
        "velocity = rows.add(point.force, memory, self.momentum)",
        "velocity = rows.map_rows(lambda m, f: m.mul_(self.momentum).add_(f), memory, point.force)",
        f"{PROMISES} -k 'momentum and disturb or settings and momentum'",
    ),
    Fault(
        "Adam without its bias correction",
        "ebm/solvers/adam.py",
        "unbiased = rows.scale(mean, 1 / (1 - b1**steps))",
        "unbiased = mean",
        "tests/solvers tests/engine/test_adjoints.py -k adam",
    ),
    Fault(
        "any trial is accepted",
        "ebm/solvers/adaptive.py",
        "accepted = trial.finite & (_energy(trial.point) <=",
        "accepted = trial.finite & (_energy(point) <=",
        "tests/solvers -k adaptive",
    ),
    Fault(
        "an unsafe Anderson",
        "ebm/solvers/anderson.py",
        "accepted = trial.finite & (plain | self._no_worse(trial.point, point))",
        "accepted = trial.finite",
        "tests/solvers -k anderson",
    ),
    Fault(
        "noise of another size",
        "ebm/solvers/langevin.py",
        "(2 * self.step_size * self.temperature) ** 0.5",
        "(self.step_size * self.temperature) ** 0.5",
        f"{T}noise.py",
    ),
    Fault(
        "a projection for the move alone",
        "ebm/solvers/project.py",
        "return self._field(self._onto(z))",
        "return self._field(z)",
        "tests/solvers tests/engine/test_stop.py -k 'project or box'",
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
    Fault(
        "a sphere through the batch",
        "ebm/solvers/project.py",
        "leaf.abs() if leaf.ndim == 1 else ",
        "",
        "tests/solvers -k sphere",
    ),
]


def baseline() -> bool:
    """Whether the tests pass without any fault: otherwise nothing would be shown by a failure."""
    files = sorted({name for fault in FAULTS for name in fault.tests.partition(" -k ")[0].split()})
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0


def try_out(fault: Fault) -> str:
    """Put the fault into a copy, run its tests, and say how it went."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("ebm", "tests", "pyproject.toml"):
            source = ROOT / name
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy / name)
        path = copy / fault.path
        text = path.read_text()
        if text.count(fault.old) != 1:
            return f"NOT FOUND ({text.count(fault.old)} times)"
        path.write_text(text.replace(fault.old, fault.new))
        files, _, chosen = fault.tests.partition(" -k ")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files.split()]
        command += ["-k", chosen.strip("'")] if chosen else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "caught (it never ends)"
        return {0: "SURVIVED", 1: "caught"}.get(done.returncode, f"NOT TRIED (pytest ended with {done.returncode})")


def main(parts: list[str]) -> int:
    """Try every fault whose name holds one of the parts; all without any."""
    chosen = [fault for fault in FAULTS if not parts or any(part in fault.name for part in parts)]
    if not baseline():
        print("The tests fail without any fault: mend that first.")
        return 1
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(try_out, chosen))
    for fault, outcome in zip(chosen, outcomes, strict=True):
        print(f"{outcome:<12} {fault.name}")
    missed = [fault for fault, outcome in zip(chosen, outcomes, strict=True) if not outcome.startswith("caught")]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults caught")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
