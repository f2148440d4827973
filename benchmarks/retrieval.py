"""Retrieval from a modern Hopfield memory: ours, hflayers, plain attention and the bare matrix products, in one run.

256 queries over 4,096 unit patterns of 256 numbers, float32, three updates; each query is a stored pattern with noise of 0.8
of its length. With beta = 32 one update recalls it; with beta = 4 all weights stay alike, so nothing can be spared. "Bare products" are two products an update and nothing else. Run with
``python benchmarks/retrieval.py``; ``--json FILE`` writes the figures. The peer is hflayers 1.0.2
(``pip install git+https://github.com/ml-jku/hopfield-layers``, or name the folder it was installed to with ``--peer FOLDER``); without it
its lines are left out. A second table recalls from many patterns in a memory-mapped file, chunk by chunk; its peak of memory is that
of the process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import ebm
from hebbian.memory import ChunkedMemory, SoftmaxMemory
from measuring import interleaved, median_ms, ratio, show, write

UPDATES = 3
NEVER = ebm.Patience(ebm.AtRest(0.0), UPDATES + 1)
BARE, FULL = "bare products, 3 updates", "SoftmaxMemory, 3 updates"


class Task(NamedTuple):
    """Patterns, queries, and which pattern each query came from."""

    patterns: Tensor
    query: Tensor
    wanted: Tensor
    beta: float


def task(queries: int, stored: int, width: int, beta: float) -> Task:
    """Unit patterns, and queries near some of them."""
    draws = torch.Generator().manual_seed(0)
    patterns = functional.normalize(torch.randn(stored, width, generator=draws), dim=1)
    wanted = torch.randint(stored, (queries,), generator=draws)
    noise = 0.8 / width**0.5 * torch.randn(queries, width, generator=draws)
    return Task(patterns, functional.normalize(patterns[wanted] + noise, dim=1), wanted, beta)


def bare(t: Task) -> Tensor:
    """Two products an update, over the same numbers."""
    for _ in range(UPDATES):
        answer = (t.query @ t.patterns.T) @ t.patterns
    return answer


def attention(t: Task) -> Tensor:
    """What one writes by hand."""
    z = t.query
    for _ in range(UPDATES):
        z = torch.softmax(t.beta * z @ t.patterns.T, 1) @ t.patterns
    return z


def fused(t: Task) -> Tensor:
    """torch's own attention, keys = values."""
    z, keys = t.query[None, None], t.patterns[None, None]
    for _ in range(UPDATES):
        z = functional.scaled_dot_product_attention(z, keys, keys, scale=t.beta)
    return z[0, 0]


def ours(t: Task) -> dict[str, Callable[[], ebm.Solution]]:
    """Ours, with all updates, with early exit, and certified."""
    plain, certified = SoftmaxMemory(t.patterns, t.beta, certify=False), SoftmaxMemory(t.patterns, t.beta)
    endless = SoftmaxMemory(t.patterns, t.beta, certify=False, stop=None)
    energy = ebm.ModernHopfield(t.patterns, t.beta)

    def recall(model: ebm.Objective, **settings: Any) -> Callable[[], ebm.Solution]:
        return lambda: ebm.infer(model, t.query, steps=UPDATES, keep="last", **settings)

    return {
        FULL: recall(endless),
        "SoftmaxMemory, early exit": recall(plain),
        "SoftmaxMemory, certified": recall(certified),
        "ModernHopfield, 3 updates": recall(energy, stop=NEVER),
        "ModernHopfield, early exit": recall(energy),
    }


def peer(t: Task) -> dict[str, Callable[[], Tensor]]:
    """hflayers in its static setting, three updates and until its own tolerance; nothing where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from hflayers import Hopfield  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    kinds = ("stored_pattern", "state_pattern", "pattern_projection")
    settings: dict[str, Any] = {f"{kind}_as_static": True for kind in kinds}
    for kind in kinds:
        settings |= {f"normalize_{kind}": False, f"normalize_{kind}_affine": False}

    def made(most: int | None) -> Callable[[], Tensor]:
        # its count of updates is one short of what it makes
        layer = Hopfield(
            scaling=t.beta, update_steps_max=most, update_steps_eps=1e-5, disable_out_projection=True, **settings
        ).eval()
        return lambda: layer((t.patterns[None], t.query[None], t.patterns[None])).squeeze(0)

    return {"hflayers, 3 updates": made(UPDATES - 1), "hflayers, to its tolerance": made(None)}


@torch.no_grad()
def measured(t: Task, repeats: int) -> dict[str, dict[str, float]]:
    """Time of every method, over the bare products and over our full recall, and the share of queries recalled."""
    calls: dict[str, Callable[[], Any]] = {
        BARE: lambda: bare(t),
        **ours(t),
        "softmax by hand, 3 updates": lambda: attention(t),
        "scaled_dot_product_attention, 3 updates": lambda: fused(t),
        **peer(t),
    }
    times = interleaved(calls, repeats)
    wanted, found = attention(t), {}
    for name, call in calls.items():
        result = call()
        z = result.z if isinstance(result, ebm.Solution) else result
        evals = float(result.evals.double().mean()) if isinstance(result, ebm.Solution) else float("nan")
        found[name] = {
            "ms": median_ms(times[name]),
            "over bare": ratio(times, name, BARE),
            "over full": ratio(times, name, FULL),
            "evals": evals,
            "difference": float("nan") if name == BARE else float((z - wanted).abs().max()),
            "recalled": float((torch.cdist(z, t.patterns).argmin(1) == t.wanted).double().mean()),
        }
    return found


def many(stored: int, width: int, queries: int) -> dict[str, float]:
    """Exact recall from a memory-mapped file."""
    with tempfile.TemporaryDirectory() as folder:
        path, draws = Path(folder) / "patterns", torch.Generator().manual_seed(0)
        patterns = np.memmap(path, np.float32, "w+", shape=(stored, width))
        block = min(stored, 50_000)
        for first in range(0, stored, block):
            part = torch.randn(min(block, stored - first), width, generator=draws)
            patterns[first : first + block] = functional.normalize(part, dim=1).numpy()
        wanted = torch.randint(stored, (queries,), generator=draws)
        right = torch.tensor(patterns[wanted.numpy()])
        query = right + 0.03 * torch.randn(queries, width, generator=draws)
        memory = ChunkedMemory(patterns, 60.0, largest=1.0001)
        start = time.perf_counter()
        found = ebm.infer(memory, query)
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "passes": float(found.evals.max()),
            "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
            "recalled": float(((found.z - right).abs().amax(1) < 1e-3).double().mean()),
        }


def main(argv: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--peer", default=None, metavar="FOLDER", help="where hflayers was installed to")
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.peer:
        sys.path.append(args.peer)
    size, repeats = ((16, 64, 32), 1) if args.smoke else ((256, 4096, 256), args.repeats)
    columns = ["ms", "over bare", "over full", "evals", "difference", "recalled"]
    tables: dict[str, Any] = {}
    for beta in (32.0, 4.0):
        found = tables[f"beta {beta:g}"] = measured(task(*size, beta), repeats)
        lines = [[name, *(f[c] for c in columns)] for name, f in found.items()]
        show(f"256 queries over 4,096 x 256, beta = {beta:g}", ["", *columns], lines)
    size = (2000, 16, 4) if args.smoke else (1_000_000, 128, 64)
    chunked = many(*size)
    show(f"{size[2]} queries over {size[0]:,} x {size[1]}, from a file", list(chunked), [list(chunked.values())])
    write(args.json, "retrieval", {"recall": tables, "many": chunked})


if __name__ == "__main__":
    main()
