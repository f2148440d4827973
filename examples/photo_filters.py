"""
Filters from photographs by four local rules
============================================

The same patches of scikit-image's photographs, whitened, are shown to a sparse code whose dictionary learns by Hebb's rule on what is left over, to independent
component analysis, to Oja's subspace rule and to Sanger's rule. One sheet shows what the units become: the sparse and the independent ones small oriented edges, the
principal ones waves over the whole patch (Sanger's in order, Oja's in any mixture).

Beside each sheet is a number: how localised the filters are, as the share of a filter's energy within its best quarter of the patch. Unlocalised noise
has a quarter and a little more.
"""

# sphinx_gallery_thumbnail_path = "images/photo_filters.png"

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import ebm
from ebm.environment import environment
from ebm.files import write_figure, write_text
from hebbian import ICA, Dense, Falling, OjaSubspace, Sanger, Scheduled, step
from hebbian.sparse import DualityGap, ResidualHebb, SparseCoding
from support.notebook import given
from support.patches import PHOTOGRAPHS, photograph

SIDE = 12


def patches(count: int, seed: int = 0) -> Tensor:
    """Grey patches from all photographs, their means taken off, (count, SIDE * SIDE), float32."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(photograph(name)[..., :3]).float().mean(2).log1p()
        rows, columns = (torch.randint(size - SIDE, (2 * count,), generator=generator) for size in image.shape)
        within = torch.arange(SIDE)
        cut = image[rows[:, None, None] + within[:, None], columns[:, None, None] + within].flatten(1)
        cut = cut - cut.mean(1, keepdim=True)
        found.append(cut[cut.std(1) > 0.1][: count // len(PHOTOGRAPHS)])
    return torch.cat(found)[torch.randperm(sum(map(len, found)), generator=generator)]


def whitening(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Maps to the ``kept`` strongest directions at unit variance, (kept, D), and back to pixels, (D, kept)."""
    value, vector = torch.linalg.eigh(x.T.double() @ x.double() / len(x))
    value, vector = value[-kept:].float(), vector[:, -kept:].float()
    return (vector * value.rsqrt()).T, vector * value.sqrt()


def learned(rule, x: Tensor, units: int, steps: int, weight: Tensor) -> Tensor:
    """The rows after so many steps on batches of 100."""
    synapse, state = Dense(x.shape[1], units), None
    state = rule.init_state(synapse, weight)
    for k in tqdm(range(steps), type(rule).__name__, leave=False):
        batch = x[torch.arange(100 * k, 100 * k + 100) % len(x)]
        weight, state = step(rule, synapse, weight, batch, synapse.forward(weight, batch), state)
    return weight


def sparse_atoms(x: Tensor, atoms: int, steps: int, seed: int = 0) -> Tensor:
    """A dictionary learned with a penalty of 0.15 of a patch's length, all codes settled to a gap of 1e-3."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(atoms, x.shape[1], generator=generator)
    signals = x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)
    model = SparseCoding(start / start.norm(dim=1, keepdim=True), ebm.L1(0.15))
    for k in tqdm(range(steps), "sparse coding", leave=False):
        batch = signals[torch.arange(100 * k, 100 * k + 100) % len(signals)]
        with torch.no_grad():
            code = ebm.infer(model, batch, steps=100, stop=DualityGap(1e-3)).z
            missed, active = model.ends(code, batch)
            rule = ResidualHebb(0.5 * max(0.02, 1 - k / steps), per_atom=False)
            atoms_, _ = step(rule, model.synapse, model.dictionary, 30 * missed, active, None)
            model.dictionary.copy_(atoms_)
    return model.dictionary.detach()


def localised(filters: Tensor) -> float:
    """The share of a filter's energy within the best window of a quarter of the patch, mean over filters."""
    energy = filters.view(-1, 1, SIDE, SIDE).square()
    window = torch.nn.functional.avg_pool2d(energy, SIDE // 2, stride=1) * (SIDE // 2) ** 2
    return float((window.amax((1, 2, 3)) / energy.sum((1, 2, 3))).mean())


def picture(path: Path, sheets: dict[str, Tensor]) -> None:
    """A sheet of 8 x 8 filters for each rule."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(sheets), figsize=(4 * len(sheets), 4.8), layout="constrained")
    for axis, (name, filters) in zip(axes, sheets.items(), strict=True):
        tiles = filters[:64].view(-1, SIDE, SIDE)
        tiles = tiles / tiles.abs().amax((1, 2), keepdim=True)
        edged = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=1.0)
        edged = torch.cat([edged, edged.new_ones((-len(edged)) % 8, *edged.shape[1:])])
        grid = edged.unflatten(0, (-1, 8)).permute(0, 2, 1, 3).flatten(0, 1).flatten(1, 2)
        axis.imshow(grid, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axis.set_title(f"{name}\n{localised(filters):.2f} of the energy in a quarter", fontsize=11)
        axis.set_axis_off()
    write_figure(path, figure, 100, bbox_inches="tight")
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> None:
    """Learn four sheets."""
    parser = argparse.ArgumentParser(
        description="Filters from photographs by four local rules.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=3_000, help="batches of 100 patches, at least 1")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for photo_filters.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the pictures mean nothing"
    )
    args = parser.parse_args(given(argv))
    if args.steps < 1:
        parser.error(f"--steps must be at least 1; got {args.steps}")
    steps, count = (10, 800) if args.smoke else (args.steps, 40_000)

    began = time.perf_counter()
    x = patches(count)
    down, up = whitening(x, 100)
    white = x @ down.T
    generator = torch.Generator().manual_seed(0)
    small = 0.1 * torch.randn(64, x.shape[1], generator=generator)
    scaled = x / x.square().sum(1).mean().sqrt()
    sheets = {
        "sparse coding": sparse_atoms(white, 128, steps) @ down,
        "independent components": learned(Scheduled(ICA(0.05), Falling(steps)), white, 100, steps, torch.eye(100))
        @ down,
        "Oja's subspace": learned(Scheduled(OjaSubspace(0.5), Falling(steps)), scaled, 64, steps, small),
        "Sanger": learned(Scheduled(Sanger(0.5), Falling(steps)), scaled, 64, steps, small),
    }
    sheets = {
        name: filters @ up @ up.T if name in ("sparse coding", "independent components") else filters
        for name, filters in sheets.items()
    }
    found = {name: localised(filters) for name, filters in sheets.items()}
    noise = localised(torch.randn(64, SIDE * SIDE, generator=generator))
    for name, share in {**found, "noise": noise}.items():
        print(f"{name:24} {share:.2f} of a filter's energy in the best quarter of the patch")
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "smoke": args.smoke,
        **environment(),
    }
    write_text(
        args.out / "photo_filters.json", json.dumps({"facts": facts, "localised": found, "noise": noise}, indent=1)
    )
    picture(args.out / "photo_filters.png", sheets)
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
