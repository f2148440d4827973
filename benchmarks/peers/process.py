"""The near side of a benchmark: a peer in its own process and environment, or the reason why it is missing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["Peer", "start"]


class Peer:
    """A peer that waits to be timed.

    Attributes:
        missing: why it cannot be timed, in words; None if it can.
        first: seconds of its first update, compiling included.
        versions: of its packages.
    """

    def __init__(self, script: Path, python: str | None, threads: int, steps: int) -> None:
        self.missing: str | None = None
        self.first = float("nan")
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        if python is None:
            self.missing = "no interpreter given"
            return
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        settings |= {
            "JAX_PLATFORMS": "cpu",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": "",
            "EQUILIBRATE_PEER_STEPS": str(steps),
        }
        try:
            self._process = subprocess.Popen(
                [python, script.name],
                cwd=script.parent,
                env=os.environ | settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            self.missing = str(error)
            return
        ready = self._read()
        if ready is not None:
            self.first, self.versions = ready["first"], ready["versions"]

    def seconds(self, times: int) -> list[float]:
        """The seconds of so many updates, one after the other."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return self._read() or [float("nan")] * times

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=30)

    def _read(self) -> Any:
        """The next answer; if the peer has died, why."""
        assert self._process is not None and self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        complaint = self._process.stderr.read().strip().splitlines()
        self.missing = complaint[-1] if complaint else f"ended with status {self._process.wait()}"
        return None


def start(scripts: dict[str, str], pythons: dict[str, str], threads: int, steps: int = 20) -> dict[str, Peer]:
    """All peers, started one after the other so that none compiles beside another.

    Args:
        scripts: file names beside this one, by the peer's name.
        pythons: interpreters by the peer's name.
        threads: of each peer.
        steps: of inference in an update.
    """
    here = Path(__file__).parent
    return {name: Peer(here / script, pythons.get(name), threads, steps) for name, script in scripts.items()}
