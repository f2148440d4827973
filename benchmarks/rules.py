"""Local rules: a whole update over its own bare matrix products, and two rules beside their authors' code.

Run with ``python benchmarks/rules.py``; ``--json FILE`` writes the figures with machine, versions and commit. An update is the
statistics of a batch, the change, and the sum with the weight; its bare products are the matrix products that its formula cannot do without,
on tensors of the same shapes. With ``--softhebb FOLDER`` and ``--krotov FOLDER`` (clones of the public repositories
NeuromorphicComputing/SoftHebb and DimaKrotov/Biological_Learning) their updates are timed as they stand; without them those lines are left
out, and said to be missing. One thread, one process, calls taken in turn.
"""

from __future__ import annotations

import argparse
import ast
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import hebbian
from hebbian import Dense, LocalRule, step
from measuring import interleaved, median_ms, ratio, show, write

TEACHER = (hebbian.Delta, hebbian.NormalisedDelta)
RULES: dict[str, tuple[LocalRule, tuple[str, ...]]] = {  # the rule, and which products it cannot do without
    "Hebb": (hebbian.Hebb(0.1), ("outer",)),
    "Covariance": (hebbian.Covariance(0.1), ("outer",)),
    "Oja": (hebbian.Oja(0.1), ("outer",)),
    "Oja's subspace": (hebbian.OjaSubspace(0.1), ("outer", "among", "explained")),
    "Sanger": (hebbian.Sanger(0.1), ("outer", "among", "explained")),
    "nonlinear PCA": (hebbian.NonlinearPCA(0.1), ("outer", "among", "explained")),
    "ICA": (hebbian.ICA(0.1), ("among", "explained")),
    "BCM": (hebbian.BCM(0.1), ("outer",)),
    "instar": (hebbian.Instar(0.1), ("outer",)),
    "winner takes all": (hebbian.WinnerTakeAll(0.1), ("outer",)),
    "10 winners": (hebbian.WinnerTakeAll(0.1, k=10), ("outer",)),
    "soft competition": (hebbian.SoftCompetition(0.1), ("outer",)),
    "SoftHebb": (hebbian.SoftHebb(0.02), ("outer",)),
    "Krotov-Hopfield": (hebbian.KrotovHopfield(0.1), ("outer",)),
    "delta": (hebbian.Delta(0.1), ("outer",)),
    "normalised delta": (hebbian.NormalisedDelta(0.1), ("outer",)),
    "Hebb with decay": (hebbian.Chain(hebbian.Hebb(0.1), hebbian.WeightDecay(0.1)), ("outer",)),
}


def updates(size: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of each rule's update and of its bare products, and the ratio."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=generator) / size**0.5
    pre = torch.randn(batch, size, generator=generator)
    synapse = Dense(size, size)
    post = synapse.forward(weight, pre)
    among = post.T @ post
    products = {"outer": lambda: post.T @ pre, "among": lambda: post.T @ post, "explained": lambda: among @ weight}
    results = []
    for name, (rule, needed) in RULES.items():
        state = rule.init_state(synapse, weight)
        signal = post if isinstance(rule, TEACHER) else None

        def update(rule: LocalRule = rule, state: Any = state, signal: Tensor | None = signal) -> Any:
            return step(rule, synapse, weight, pre, post, state, signal)

        def bare(needed: tuple[str, ...] = needed) -> Any:
            return [products[each]() for each in needed]

        times = interleaved({"update": update, "bare": bare}, repeats)
        results.append(
            {
                "rule": name,
                "products": len(needed),
                "bare_ms": median_ms(times["bare"]),
                "update_ms": median_ms(times["update"]),
                "ratio": ratio(times, "update", "bare"),
            }
        )
    return results


def soft_hebb(folder: str | None, repeats: int) -> dict[str, Any] | None:
    """A layer's answer and update: ours over the published class, run as it stands, on pictures of 32 x 32."""
    if folder is None:
        return None
    theirs = _published_layer(Path(folder), 3, 96, 5)
    ours = hebbian.HebbianConv2d(3, 96, 5, hebbian.SoftHebb(0.1, 1 / 12, anti=True))
    with torch.no_grad():
        ours.weight.copy_(theirs.weight)
    x = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs.train()
    with torch.no_grad():
        theirs(x)
        synapse, post = ours.synapse, ours.synapse.forward(ours.weight, x)
        change, _ = ours.rule.delta(ours.rule.statistics(synapse, x, post, None), ours.weight, None)
    gap = float((change / 0.1 - theirs.weight.grad).abs().max())

    def published() -> Any:
        with torch.no_grad():
            theirs(x)
            return theirs.weight + 0.1 * theirs.weight.grad

    def own() -> Any:
        with torch.no_grad():
            return step(ours.rule, synapse, ours.weight, x, synapse.forward(ours.weight, x), None)

    times = interleaved({"ours": own, "published": published}, repeats)
    return {
        "rule": "SoftHebb, 3 to 96 channels, kernel 5, batch 10",
        "ours_ms": median_ms(times["ours"]),
        "published_ms": median_ms(times["published"]),
        "ratio": ratio(times, "ours", "published"),
        "largest_difference": gap,
    }


def krotov_hopfield(folder: str | None, repeats: int, dtype: torch.dtype) -> dict[str, Any] | None:
    """Currents and update: ours over the body of the published loop, run as it stands, 2,000 units on batches of 100 digits."""
    if folder is None:
        return None
    units, inputs, batch = 2000, 784, 100
    source = np.random.default_rng(0)
    start, digits = source.normal(size=(units, inputs)), source.random((batch, inputs))
    theirs = _published_loop(Path(folder), start.copy(), digits, units, inputs, batch)
    weight, pre = torch.tensor(start, dtype=dtype), torch.tensor(digits, dtype=dtype)
    synapse, rule = Dense(inputs, units), hebbian.KrotovHopfield(0.02, anti=0.4)

    def own() -> Tensor:
        return step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)[0]

    gap = float(np.abs(theirs() - own().numpy()).max())
    times = interleaved({"ours": own, "published": theirs}, repeats)
    return {
        "rule": f"Krotov-Hopfield, 2,000 units, batch 100, {str(dtype).removeprefix('torch.')}",
        "ours_ms": median_ms(times["ours"]),
        "published_ms": median_ms(times["published"]),
        "ratio": ratio(times, "ours", "published"),
        "largest_difference": gap,
    }


def _published_layer(folder: Path, channels: int, units: int, kernel: int) -> Any:
    """The layer's class out of its file, which as a whole asks for more packages."""
    tree = ast.parse((folder / "demo.py").read_text())
    (node,) = [part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == "SoftHebbConv2d"]
    import math

    names: dict[str, Any] = {
        "nn": nn,
        "torch": torch,
        "F": functional,
        "math": math,
        "_pair": lambda side: (side, side),
    }
    exec(compile(ast.Module([node], []), "demo.py", "exec"), names)
    return names["SoftHebbConv2d"](channels, units, kernel)


def _published_loop(
    folder: Path, start: np.ndarray, digits: np.ndarray, units: int, inputs: int, batch: int
) -> Callable[[], np.ndarray]:
    """The body of the inner loop out of the notebook, as a function of nothing that returns the next weights."""
    book = json.loads((folder / "Unsupervised_learning_algorithm_MNIST.ipynb").read_text())
    (cell,) = [part["source"] for part in book["cells"] if any("synapses +=" in line for line in part["source"])]
    lines = "".join(cell).splitlines()
    first = next(k for k, line in enumerate(lines) if line.strip().startswith("inputs="))
    last = next(k for k, line in enumerate(lines) if line.strip().startswith("synapses +="))
    body = compile(textwrap.dedent("\n".join(lines[first : last + 1])), "notebook", "exec")
    settings = {"M": digits, "i": 0, "Num": batch, "hid": units, "N": inputs, "eps": 0.02}
    settings |= {"p": 2.0, "k": 2, "delta": 0.4, "prec": 1e-30, "np": np}

    def run() -> np.ndarray:
        names = SimpleNamespace(**settings, synapses=start.copy()).__dict__
        exec(body, names)
        return names["synapses"]

    return run


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--softhebb", metavar="FOLDER", help="a clone of NeuromorphicComputing/SoftHebb")
    parser.add_argument("--krotov", metavar="FOLDER", help="a clone of DimaKrotov/Biological_Learning")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--beside-only", action="store_true", help="the authors' code alone, in a fresh process")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    size, batch, repeats = (64, 16, 2) if given.smoke else (1024, 256, given.repeats)
    found = [] if given.beside_only else updates(size, batch, repeats)
    if found:
        show(f"An update at {size} x {size}, batch {batch}", list(found[0]), [list(line.values()) for line in found])
    beside = [
        soft_hebb(given.softhebb, repeats),
        krotov_hopfield(given.krotov, repeats, torch.float32),
        krotov_hopfield(given.krotov, repeats, torch.float64),
    ]
    published = [line for line in beside if line is not None]
    if published:
        show("Beside the authors' code", list(published[0]), [list(line.values()) for line in published])
    for name, folder in (("SoftHebb", given.softhebb), ("Krotov-Hopfield", given.krotov)):
        if folder is None:
            print(f"the authors' code of {name} was not named: no comparison")
    write(given.json, "rules", {"updates": found, "published": published})


if __name__ == "__main__":
    main()
