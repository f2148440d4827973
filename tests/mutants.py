"""Deliberate faults, listed in `tests/faults`, each of which the tests must catch.

Run as ``python tests/mutants.py [--passed] [part of a name ...]``; ``--passed`` says that the tests have just passed without faults. Every fault is put into a copy of the tree, and a small part of the
suite is run over it, in a process that is forked with torch already imported, two faults at a time. The exit status is 1 if a fault survives or its place is not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults import FAULTS, Fault  # noqa: E402

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["numpy", "pytest", "torch", "torch.func", "torchdiffeq"]
)  # and nothing that may hold a fault


def baseline(chosen: list[Fault]) -> bool:
    """Whether the tests of the faults pass without any of them: otherwise nothing would be shown by a failure."""
    files = sorted({name for fault in chosen for name in fault.tests.partition(" -k ")[0].split()})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "worksteal",
        *files,
    ]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def run_tests(folder: str, files: list[str], chosen: str) -> None:
    """Run a part of the suite over the tree in a folder; the process ends with pytest's exit status."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = folder
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files, *(["-k", chosen] if chosen else [])]))


def try_out(fault: Fault) -> tuple[str, float]:
    """Put the fault into a copy, run its tests, and say how it went, and how many seconds it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("ebm", "hebbian", "tests", "pyproject.toml"):  # what was compiled comes along
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy2(source, copy / name)
        path = copy / fault.path
        text = path.read_text()
        if text.count(fault.old) != 1:
            return f"NOT FOUND ({text.count(fault.old)} times)", time.monotonic() - began
        path.write_text(text.replace(fault.old, fault.new))
        files, _, chosen = fault.tests.partition(" -k ")
        process = SERVER.Process(target=run_tests, args=(folder, files.split(), chosen.strip("'")))
        process.start()
        process.join(300)
        code = process.exitcode
        process.kill()
        process.join()
    outcome = {0: "SURVIVED", 1: "caught", None: "caught (it never ends)"}
    return outcome.get(code, f"NOT TRIED (pytest ended with {code})"), time.monotonic() - began


def main() -> int:
    """Try every fault whose name holds one of the parts; all without any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts of names; all faults without any")
    parser.add_argument("--passed", action="store_true", help="the tests have just passed: do not run them first")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = [fault for fault in FAULTS if not given.parts or any(part in fault.name for part in given.parts)]
    if not chosen:
        print(f"No fault's name holds {' or '.join(map(repr, given.parts))}. Name a part of one in `FAULTS`.")
        return 1
    if not given.passed and not baseline(chosen):
        print("The tests fail without any fault: mend that first.")
        return 1
    missed = 0
    with ThreadPoolExecutor(2) as pool:
        for fault, (outcome, seconds) in zip(chosen, pool.map(try_out, chosen), strict=True):
            missed += not outcome.startswith("caught")
            print(f"{outcome:<12} {seconds:4.0f} s  {fault.name}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
