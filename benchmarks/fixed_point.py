"""Fixed points: time and evaluations to a residual on three spectra, against every method of torchdeq.

The map is tanh(z W + x), batch 256, 512 wide, float32, from zero to an L2 residual of 1e-4 for every sample: a Gaussian W of norm 0.9, a
symmetric one with eigenvalues between -0.97 and 0.97, and 0.95 times an orthogonal one. One setting of ours serves for all three. The
residual of every answer is computed again, in float64; an answer above the goal is marked. torchdeq's Anderson runs as shipped and with
the best of several ridges. Run with ``python benchmarks/fixed_point.py``; ``--json FILE`` writes the figures. The peer is torchdeq
0.1.0 (``pip install --no-deps torchdeq==0.1.0``, or name the folder it was installed to with ``--peer FOLDER``); without it its lines are
left out. One process, calls taken in turn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.noise import Draw
from measuring import interleaved, median_ms, ratio, show, write

GOAL, LIMIT = 1e-4, 600
CHOSEN = "Anderson()"
OURS = {
    CHOSEN: ebm.Anderson(),
    "Anderson, at every step": ebm.Anderson(every=1, spare=0.0),
    "Picard()": ebm.Picard(),
    "Broyden()": ebm.Broyden(),
}
RIDGES = (1e-6, 1e-8, 1e-10, 1e-12)
SHIPPED = "torchdeq Anderson, as shipped"


class Tanh(ebm.Update):
    """z' = tanh(z W + x)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(torch.addmm(c, z, self.weight))


def spectra(size: int) -> dict[str, Tensor]:
    """The three weights."""
    draws = torch.Generator().manual_seed(0)
    gauss = torch.randn(size, size, generator=draws)
    basis = torch.linalg.qr(torch.randn(size, size, generator=draws)).Q
    values = torch.empty(size).uniform_(-0.97, 0.97, generator=draws)
    return {
        "Gaussian, norm 0.9": 0.9 * gauss / torch.linalg.matrix_norm(gauss, 2),
        "symmetric, +-0.97": (basis * values) @ basis.T,
        "0.95 orthogonal": 0.95 * basis,
    }


class Counted:
    """A map that counts how often it is asked."""

    def __init__(self, model: Tanh, x: Tensor) -> None:
        self.model, self.x, self.calls = model, x, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.model(z, self.x)


def peers(map_: Counted, start: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Every method of torchdeq; none where it is not installed."""
    try:
        from torchdeq.solver import get_solver  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}

    def call(name: str, **settings: Any) -> Callable[[], Tensor]:
        solver = get_solver(name)
        return lambda: solver(map_, start, max_iter=LIMIT, tol=GOAL, stop_mode="abs", **settings)[0]

    return {
        SHIPPED: call("anderson"),
        **{f"torchdeq Anderson, ridge {ridge:g}": call("anderson", lam=ridge) for ridge in RIDGES},
        "torchdeq Picard": call("fixed_point_iter"),
        "torchdeq Broyden": call("broyden"),
    }


@torch.no_grad()
def measured(weight: Tensor, batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Time, evaluations and residual of every method on one spectrum."""
    model, size = Tanh(weight), len(weight)
    x = 0.1 * torch.randn(batch, size, generator=torch.Generator().manual_seed(1))
    stop = ebm.AtRest(0.999 * GOAL / size**0.5)  # a root mean square

    def settled(solver: ebm.Solver) -> ebm.Solution:
        return ebm.infer(model, x, steps=LIMIT, solver=solver, stop=stop, keep="last")

    map_ = Counted(model, x)
    theirs = peers(map_, torch.zeros_like(x))
    calls: dict[str, Callable[[], Any]] = {name: (lambda s=solver: settled(s)) for name, solver in OURS.items()}
    times = interleaved({**calls, **theirs}, repeats, warmup=1)
    found: dict[str, dict[str, float]] = {}
    exact = model.double(), x.double()

    def residual(z: Tensor) -> float:
        return float((exact[0](z.double(), exact[1]) - z.double()).norm(dim=1).max())

    for name in times:
        model.float()
        before = map_.calls
        result = {**calls, **theirs}[name]()
        z, evals = (
            (result.z, float(result.evals.double().mean()))
            if isinstance(result, ebm.Solution)
            else (result, float(map_.calls - before))
        )
        model.double()
        over = {f"over {other}": ratio(times, name, other) for other in times}
        found[name] = {"ms": median_ms(times[name]), "evals": evals, "residual": residual(z), **over}
    model.float()
    return found


def report(title: str, found: dict[str, dict[str, float]]) -> None:
    """One table, and where there is a peer, the ratios that were aimed at."""
    show(
        title,
        ["method", "ms", "mean evals", "L2 residual of the worst sample", ""],
        [
            [name, f["ms"], f["evals"], f["residual"], "" if f["residual"] <= 1.01 * GOAL else "ABOVE THE GOAL"]
            for name, f in found.items()
        ],
    )
    able = {n: f for n, f in found.items() if n.startswith("torchdeq") and f["residual"] <= 1.01 * GOAL}
    if able:
        fastest = min(able, key=lambda n: able[n]["ms"])
        tuned = min((n for n in able if "Anderson" in n), key=lambda n: able[n]["ms"])
        ours = found[CHOSEN]
        print(f"{CHOSEN}: {ours[f'over {fastest}']:.2f} of their fastest ({fastest}),")
        print(
            f"{ours[f'over {tuned}']:.2f} of their best Anderson ({tuned}), {1 / ours[f'over {SHIPPED}']:.1f} times as fast as shipped"
        )


def main(argv: list[str] | None = None) -> None:
    """Print one table a spectrum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer", default=None, metavar="FOLDER", help="where torchdeq was installed to")
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.peer:
        sys.path.append(args.peer)
    size, batch, repeats = (32, 8, 1) if args.smoke else (512, 256, args.repeats)
    results: dict[str, Any] = {}
    for name, weight in spectra(size).items():
        results[name] = measured(weight, batch, repeats)
        report(name, results[name])
    write(args.json, "fixed_point", results)


if __name__ == "__main__":
    main()
