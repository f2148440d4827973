"""What a stored result says of how it was made."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ebm.version import __version__

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """The command, commit, date, machine and versions, for a file of results.

    Returns:
        a dict of JSON types: ``command`` as typed, ``commit`` of the checkout that the library is imported from (with ``+changes`` where
        tracked files differ from it, ``unknown`` where there is none), ``date`` (ISO 8601, UTC), ``processor``, ``system``, ``threads``, and the versions
        ``python``, ``torch`` and ``equilibrate``.

    Example:
        >>> from ebm.environment import environment
        >>> sorted(environment())
        ['command', 'commit', 'date', 'equilibrate', 'processor', 'python', 'system', 'threads', 'torch']
    """
    return {
        "command": shlex.join(["python", *_relative(sys.argv)]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "equilibrate": __version__,
    }


def _relative(words: list[str]) -> list[str]:
    """The command without the folders of this machine: a script by its place in the checkout, other paths by their last part."""
    script = Path(words[0])
    home = Path(__file__).parents[1]
    here = script.resolve()
    first = str(here.relative_to(home)) if here.is_relative_to(home) else script.name
    return [first, *(Path(word).name if "/" in word else word for word in words[1:])]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str:
    head = _git("rev-parse", "--short", "HEAD")
    if head is None:
        return "unknown"
    return f"{head}+changes" if _git("status", "--porcelain", "--untracked-files=no") else head


def _git(*words: str) -> str | None:
    """What git says of the checkout that holds this file; None where there is none."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
