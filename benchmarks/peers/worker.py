"""The far side of a benchmark: one peer in its own process, which times itself when told to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

BATCH = 128
STEPS = int(os.environ.get("EQUILIBRATE_PEER_STEPS", "20"))
SIZES = (784, 256, 256, 10)
RATE = 0.1  # of a step of inference
LEARNING_RATE = 1e-3  # of Adam


def serve(update: Callable[[], Any], *packages: str) -> None:
    """Answer each number n on stdin with the seconds of n updates, until stdin ends.

    Args:
        update: one whole update of the weights; returns only when it is done.
        packages: distributions whose versions to report.
    """
    answer = sys.stdout
    sys.stdout = sys.stderr  # what a peer prints must not reach the other side
    begun = time.perf_counter()
    update()
    first = time.perf_counter() - begun
    update()
    _say(answer, {"first": first, "versions": {name: metadata.version(name) for name in packages}})
    for line in sys.stdin:
        _say(answer, [_timed(update) for _ in range(int(line))])


def _timed(update: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    update()
    return time.perf_counter() - begun


def _say(answer: Any, what: Any) -> None:
    answer.write(json.dumps(what) + "\n")
    answer.flush()
