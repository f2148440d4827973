"""What the engine costs over a bare loop, for each batch size, and what it saves when samples finish at different times.

Run with ``python benchmarks/engine.py``; ``--json FILE`` writes the figures with machine, versions and commit.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.noise import Draw
from ebm.objective import Point
from measuring import bare_loop, interleaved, median_ms, ratio, show, write


class Chain(ebm.Energy):
    """A three-layer chain of Gaussian predictions with both ends given, and the force in closed form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.randn(width, width, generator=torch.Generator().manual_seed(0)) / width**0.5)

    def init_latent(self, c: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        return c, torch.zeros_like(c)

    def point(self, z: Any, c: Tensor) -> Point:
        low, high = z
        active = torch.tanh(low)
        below, above = low - c, torch.addmm(high, active, self.middle.T, alpha=-1)
        force = torch.addcmul(-below, 1 - active * active, above @ self.middle)
        energy = 0.5 * (below.square().sum(1) + above.square().sum(1))
        return Point(z, energy, (force, -above))


class Waiting(ebm.Update):
    """A relaxation whose rate is read off the observation, so that easy and hard samples can be mixed at will."""

    def __init__(self, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.basis = nn.Parameter(torch.linalg.qr(torch.randn(width, width, generator=generator))[0])

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return torch.ones_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (z @ self.basis) @ self.basis.T * c[:, :1]


def overhead(batches: list[int], width: int, steps: int, repeats: int) -> list[dict[str, Any]]:
    """The engine's time over the bare loop's, for each batch size."""
    model, solver = Chain(width), ebm.Descent(0.1)
    results = []
    for batch in batches:
        x = torch.randn(batch, width, generator=torch.Generator().manual_seed(1))
        calls = {
            "bare": bare_loop(model, x, solver, steps),
            "last": lambda x=x: ebm.infer(model, x, steps=steps, solver=solver, keep="last"),
            "defaults": lambda x=x: ebm.infer(model, x, steps=steps, solver=solver),
            "stop": lambda x=x: ebm.infer(model, x, steps=steps, solver=solver, stop=ebm.AtRest(0.0)),
        }
        times = interleaved(calls, repeats)
        results.append(
            {"batch": batch, "bare_ms": median_ms(times["bare"])}
            | {name: ratio(times, name, "bare") for name in ("last", "defaults", "stop")}
        )
    return results


def saving(batch: int, width: int, repeats: int) -> dict[str, Any]:
    """Time with finished samples leaving, over time with them staying; mean steps are a third of the most."""
    model, stop = Waiting(width), ebm.AtRest(1e-5)
    rates = torch.where(torch.arange(batch) % 4 == 0, 0.87, 0.2)
    x = rates[:, None].expand(batch, width).contiguous()
    choices: tuple[Any, ...] = (False, "auto", True)
    calls = {
        f"compact={compact!r}": lambda compact=compact: ebm.infer(model, x, steps=1000, stop=stop, compact=compact)
        for compact in choices
    }
    times = interleaved(calls, repeats)
    steps = calls["compact=True"]().steps.double()
    return {
        "batch": batch,
        "mean_steps": float(steps.mean()),
        "most_steps": float(steps.max()),
        "auto": ratio(times, "compact='auto'", "compact=False"),
        "always": ratio(times, "compact=True", "compact=False"),
        "flops": calls["compact=True"]().flops / calls["compact=False"]().flops,
    }


def main(argv: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="What the engine costs over a bare loop, and what it saves.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    repeats = 3 if args.smoke else args.repeats
    batches = [1, 128] if args.smoke else [1, 16, 128, 512]

    rows = overhead(batches, 256, 20, repeats)
    show(
        "20 steps, width 256: time over a bare loop of the same solver",
        ["batch", "bare loop, ms", "keep='last'", "defaults", "with a stop rule"],
        [[str(r["batch"]), r["bare_ms"], r["last"], r["defaults"], r["stop"]] for r in rows],
    )
    saved = [saving(batch, 256, repeats) for batch in batches[-2:]]
    show(
        "samples that finish at different times: time over that of keeping them all",
        ["batch", "mean steps", "most steps", "compact='auto'", "compact=True", "FLOPs, compact=True"],
        [[str(r["batch"]), r["mean_steps"], r["most_steps"], r["auto"], r["always"], r["flops"]] for r in saved],
    )
    write(args.json, "engine", {"overhead": rows, "saving": saved})


if __name__ == "__main__":
    main()
