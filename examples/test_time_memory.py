"""
A memory that is fitted at test time: how many inner steps?
===========================================================

Key-value pairs come from a hidden matrix, with keys whose directions differ in strength (as those of real data do) and with noise on the values. A
`LinearMemory` fits a matrix to them by as many inner steps as it is given; new keys then ask for their values. The picture shows the error on clean values against
the number of steps, every seed, for three kinds of keys and three levels of noise. Beside it: ridge regression in closed form (where the memory ends), linear attention (its
first step without a ridge, at the best rate for each panel), one pass of the delta rule, and a small network as the memory.
"""

# sphinx_gallery_thumbnail_path = "images/test_time_memory.png"

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import ebm
from ebm.environment import environment
from ebm.files import write_figure, write_text
from hebbian.plasticity import DeepMemory, FastWeights, LinearMemory, Pairs, ridge_memory, run, tokens, unit
from support.notebook import given

KEYS, VALUES, PAIRS, ASKED = 32, 16, 64, 256
FALLS = {"equal directions": 0.0, "correlated keys": 0.5, "strongly correlated keys": 1.0}
NOISES = (0.0, 0.3, 1.0)
STEPS = (1, 2, 4, 8, 16, 32, 64, 256, 1024)


def drawn(fall: float, noise: float, batch: int, seed: int) -> tuple[Pairs, Tensor, Tensor]:
    """Pairs, and new keys with their clean values; the k-th direction of a key has the standard deviation ``k ** -fall``."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, KEYS + 1) ** -fall
    spread = spread / spread.square().sum().sqrt()  # keys have length one or so
    hidden = torch.randn(batch, VALUES, KEYS, generator=generator)
    keys = torch.randn(batch, PAIRS, KEYS, generator=generator) * spread
    queries = torch.randn(batch, ASKED, KEYS, generator=generator) * spread
    values = keys @ hidden.mT + noise * torch.randn(batch, PAIRS, VALUES, generator=generator)
    return Pairs(keys, values), queries, queries @ hidden.mT


def missed(told: Tensor, wanted: Tensor) -> float:
    """Squared error over the square of what is wanted."""
    return float((told - wanted).square().sum() / wanted.square().sum())


def one(fall: float, noise: float, batch: int, steps: tuple[int, ...], seed: int) -> dict[str, list[float]]:
    """Errors of one seed: lists along the steps, or of one number."""
    pairs, queries, wanted = drawn(fall, noise, batch, seed)
    ridge = max(noise**2, 1e-4) / PAIRS
    found: dict[str, list[float]] = {}
    deep = DeepMemory(KEYS, VALUES, hidden=64, ridge=ridge)
    deep.inner.data = torch.randn(64, KEYS, generator=torch.Generator().manual_seed(seed)) / KEYS**0.5
    for name, memory in (
        ("linear memory", LinearMemory(ridge)),
        ("without a ridge", LinearMemory()),
        ("network", deep),
    ):
        solution, taken, errors = None, 0, []
        for more in steps:
            solution = ebm.infer(
                memory, pairs, adjoint=ebm.Detached(), steps=more - taken, keep="last", resume=solution
            )
            taken = more
            errors.append(missed(memory.read(solution.z, queries), wanted))
        found[name] = errors
    found["ridge regression"] = [missed(queries @ ridge_memory(pairs, ridge).mT, wanted)]
    attention = (queries @ pairs.keys.mT) @ pairs.values
    best = float((attention * wanted).sum() / attention.square().sum())
    found["linear attention, best rate"] = [missed(best * attention, wanted)]
    _, written = run(
        FastWeights("delta"), tokens(unit(pairs.keys), pairs.values / pairs.keys.norm(dim=2, keepdim=True))
    )
    found["delta rule, one pass"] = [missed(queries @ written.mT, wanted)]
    return found


def sentence(title: str, errors: dict[str, list[list[float]]], steps: tuple[int, ...]) -> str:
    """Of one panel: what steps bring."""

    def at(step: int) -> float:
        return statistics.mean(run[steps.index(step)] for run in errors["linear memory"])

    worst = max(run[steps.index(64)] - run[steps.index(8)] for run in errors["linear memory"])
    return (
        f"{title}: error {at(1):.3f} after 1 step, {at(8):.3f} after 8, {at(64):.3f} after 64 (worst seed from 8 to 64: {worst:+.4f}); "
        f"ridge regression {statistics.mean(run[0] for run in errors['ridge regression']):.3f}, "
        f"delta rule {statistics.mean(run[0] for run in errors['delta rule, one pass']):.3f}, "
        f"linear attention {statistics.mean(run[0] for run in errors['linear attention, best rate']):.3f}"
    )


def picture(path: Path, panels: dict[str, dict[str, list[list[float]]]], steps: tuple[int, ...]) -> None:
    """A panel for each kind of keys and level of noise."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(FALLS), len(NOISES), figsize=(13, 10), layout="constrained", sharex=True)
    curves = {"linear memory": "tab:blue", "without a ridge": "tab:orange", "network": "tab:green"}
    levels = {"ridge regression": "k:", "linear attention, best rate": "r--", "delta rule, one pass": "m-."}
    for axis, (title, errors) in zip(axes.flat, panels.items(), strict=True):
        for name, colour in curves.items():
            for run_of_seed in errors[name]:
                axis.loglog(steps, run_of_seed, color=colour, alpha=0.3)
            mean = [statistics.mean(column) for column in zip(*errors[name], strict=True)]
            axis.loglog(steps, mean, "o-", color=colour, label=name, markersize=4)
        for name, style in levels.items():
            height = statistics.mean(run_of_seed[0] for run_of_seed in errors[name])
            axis.plot(steps, [height] * len(steps), style, label=name)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("inner steps")
    for axis in axes[:, 0]:
        axis.set_ylabel("relative squared error, new keys")
    write_figure(path, figure, 100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> None:
    """Fit, ask, draw."""
    parser = argparse.ArgumentParser(
        description="How many inner steps does a test-time memory need?",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, at least 1")
    parser.add_argument("--batch", type=int, default=32, help="memories fitted side by side, at least 1")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for test_time_memory.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    for name in ("seeds", "batch"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1; got {getattr(args, name)}")
    seeds, batch, steps = (1, 2, STEPS[:7]) if args.smoke else (args.seeds, args.batch, STEPS)

    began = time.perf_counter()
    panels = {}
    for kind, fall in tqdm(FALLS.items(), "keys"):
        for noise in NOISES:
            runs = [one(fall, noise, batch, steps, seed) for seed in range(seeds)]
            panels[f"{kind}, noise {noise:g}"] = {name: [found[name] for found in runs] for name in runs[0]}
    said = [sentence(title, errors, steps) for title, errors in panels.items()]
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "smoke": args.smoke,
        **environment(),
    }
    whole = {"facts": facts, "said": said, "steps": steps, "errors": panels}
    write_text(args.out / "test_time_memory.json", json.dumps(whole, indent=1))
    picture(args.out / "test_time_memory.png", panels, steps)
    print("\n".join(said))
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
