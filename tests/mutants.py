"""Deliberate faults, each of which the tests must catch: run by `make mutants`.

Every fault is put into a copy of the tree, and the tests of the engine and the contracts run there until one fails. A fault
that no test notices has SURVIVED; then the exit status is 1, as it is if the text to be replaced is no longer there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine", "tests/contracts")


@dataclass(frozen=True)
class Fault:
    """One deliberate fault.

    Attributes:
        name: what is broken, in words.
        file: where.
        old, new: the text that is replaced, which must stand there once, and what it becomes.
    """

    name: str
    file: str
    old: str
    new: str


LOOP, BUDGET, CARRY, CALL = "ebm/engine/loop.py", "ebm/engine/budget.py", "ebm/engine/carry.py", "ebm/engine/call.py"

FAULTS = (
    Fault(
        "ended samples go on moving",
        LOOP,
        "carry = rows.where(moved, block.carry._replace(**changes), block.carry)",
        "carry = block.carry._replace(**changes)",
    ),
    Fault(
        "a failed step is kept",
        LOOP,
        'moved = active & rows.finite(tuple(changes["point"]))',
        "moved = active",
    ),
    Fault("a stalled sample counts as converged", LOOP, "Status.STALLED)\n    return block", "Status.CONVERGED)\n    return block"),
    Fault(
        "best-so-far keeps the worse point",
        LOOP,
        "better = None if rank is None else rank <= carry.rank",
        "better = None if rank is None else rank >= carry.rank",
    ),
    Fault(
        "the best latent keeps the energy of another point",
        LOOP,
        'changes |= {"best": rows.where(better, step.point, old.best), "rank": torch.where(better, rank, old.rank)}',
        'changes |= {"best": rows.where(better, step.point, old.best)._replace(energy=old.best.energy), "rank": torch.where(better, rank, old.rank)}',
    ),
    Fault(
        "the noise does not advance with the steps",
        LOOP,
        "(carry.keys, carry.steps + block.taken)",
        "(carry.keys, carry.steps * 0)",
    ),
    Fault("padding is not counted", LOOP, "self.executed += each * block.size", "self.executed += each * block.running"),
    Fault("a step is counted twice", LOOP, "taken=block.taken + 1)", "taken=block.taken + 2)"),
    Fault(
        "packed rows go home to the wrong samples",
        LOOP,
        "samples = index if block.samples is None else block.samples[index]",
        "samples = index",
    ),
    Fault(
        "the condition is not packed with the latents",
        LOOP,
        "self.block = Block(samples, carry, rows.take(block.c, index), None, block.running)",
        "self.block = Block(samples, carry, rows.take(block.c, torch.arange(len(index))), None, block.running)",
    ),
    Fault("compact='auto' never packs", LOOP, 'compact == "auto" and 2 * block.running <= block.size', 'compact == "auto" and False'),
    Fault(
        "a resumed call forgets who was computed together",
        LOOP,
        "together = running if self.graph else carry.packed | running",
        "together = running if self.graph else torch.ones_like(running)",
    ),
    Fault("evaluations are not counted", LOOP, "asked=block.asked + outcome.evals", "asked=block.asked"),
    Fault("one step too many", BUDGET, "settling.end(Status.OUT_OF_STEPS, left <= 0)", "settling.end(Status.OUT_OF_STEPS, left < 0)"),
    Fault("FLOPs may be exceeded by a step", BUDGET, "flops + max(settling.next_flops(), 1) > self.flops", "flops > self.flops"),
    Fault("a slow step is forgotten", BUDGET, "self._longest = max(self._longest, now - self._begun)", "self._longest = 0.0"),
    Fault("the pot is not emptied by steps", BUDGET, "self.steps = None if self.steps is None else self.steps - steps", "pass"),
    Fault(
        "per-sample limits are read in the wrong order after packing",
        BUDGET,
        "target = goal if block.samples is None else goal[block.samples]",
        "target = goal if block.samples is None else goal[: len(block.samples)]",
    ),
    Fault("the generator is forgotten", CARRY, "draw_keys(self._batch, device, self._generator)", "draw_keys(self._batch, device, None)"),
    Fault("the first point is not counted", CARRY, "evals=zeros + 1,", "evals=zeros,"),
    Fault("the stop rule is not asked before the first step", CARRY, "status = torch.where(done & (carry.status", "status = torch.where(done & False & (carry.status"),
    Fault("a resumed call does not reopen stopped samples", CARRY, "Status.OUT_OF_FLOPS, Status.STOPPED)", "Status.OUT_OF_FLOPS)"),
    Fault("a stale force begins a truncated tail", CALL, "carry = starter.refresh(carry)", "pass"),
    Fault("another stop rule keeps the old memory", CALL, "o.resume.origin.stop != self.origin.stop", "False"),
    Fault(
        "momentum writes its memory in place",
        "ebm/solvers/descent.py",
        "velocity = rows.add(point.force, memory, self.momentum)",
        "velocity = memory.mul_(self.momentum).add_(point.force) if isinstance(memory, torch.Tensor) else rows.add(point.force, memory, self.momentum)",
    ),
    Fault("one step counter for all samples", "ebm/solvers/adam.py", 'steps = memory["steps"] + 1', 'steps = memory["steps"].max() + 1 + 0 * memory["steps"]'),
    Fault("the adaptive descent may raise the energy", "ebm/solvers/adaptive.py", "accepted = trial.finite & (", "accepted = trial.finite | ("),
    Fault("two draws of one step are the same", "ebm/noise.py", "self._site += 1", "self._site += 0"),
    Fault("both halves of a key are not used", "ebm/noise.py", "position ^ low[:, None]", "position ^ low[:1, None]"),
    Fault("products of a batch count as one", "ebm/engine/flops.py", "return 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]", "return 2 * a.shape[1] * a.shape[2] * b.shape[2]"),
)  # fmt: skip


def caught(fault: Fault) -> tuple[str, float]:
    """Put a fault into a copy of the tree and run the tests there: what came of it, and the seconds it took."""
    start = time.perf_counter()
    source = (ROOT / fault.file).read_text()
    if source.count(fault.old) != 1:
        return f"the text to replace stands {source.count(fault.old)} times in {fault.file}", 0.0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("ebm", "hebbian", "tests", "examples", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / fault.file).write_text(source.replace(fault.old, fault.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
        environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    outcome = {0: "SURVIVED", 1: "caught"}.get(done.returncode, f"pytest ended with {done.returncode}: {done.stdout[-300:]}")
    return outcome, time.perf_counter() - start


def main() -> int:
    """Try all faults, two at a time."""
    parser = argparse.ArgumentParser(description="Deliberate faults, each of which the tests must catch.")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if args.only in fault.name]
    with ThreadPoolExecutor(args.workers) as pool:
        outcomes = list(pool.map(caught, faults))
    for fault, (outcome, seconds) in zip(faults, outcomes, strict=True):
        print(f"{outcome:9} {seconds:5.0f} s  {fault.name} ({fault.file})")
    missed = sum(outcome != "caught" for outcome, _ in outcomes)
    print(f"{len(faults) - missed} of {len(faults)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
