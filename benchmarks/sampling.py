"""Sampling: Langevin steps against torchebm, and effective draws a second of MALA and HMC.

Run with ``python benchmarks/sampling.py``; ``--json FILE`` writes the figures with machine, versions and commit. The peer is
torchebm 0.8.9 (``pip install --no-deps torchebm==0.8.9``, or name the folder it was installed to with ``--peer FOLDER``); without it
that column is left out. One thread, one process, calls taken in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.diagnostics import acceptance, describe
from ebm.noise import Draw
from measuring import interleaved, median_ms, ratio, show, write


def network(dim: int, width: int = 128) -> nn.Sequential:
    """The energy that both libraries sample: two hidden layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))


class Scored(ebm.Energy):
    """The network as an energy."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.net(z).squeeze(-1)


class Uneven(ebm.Energy):
    """A Gaussian whose standard deviations reach from 1 to ``widest``."""

    def __init__(self, size: int, widest: float) -> None:
        super().__init__()
        self.precision = nn.Parameter(torch.linspace(1.0, widest, size).pow(-2), requires_grad=False)

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return draw.normal(c) * self.precision.rsqrt()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * (z.square() * self.precision).sum(1)


def peer(net: nn.Module, x: Tensor, steps: int, step_size: float) -> Callable[[], Any] | None:
    """The same call of torchebm; None where it is not installed."""
    try:
        from torchebm.core import BaseModel  # pyright: ignore[reportMissingImports]
        from torchebm.samplers import LangevinDynamics  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__(dtype=torch.float32, device="cpu")
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).squeeze(-1)

    sampler = LangevinDynamics(Model(), step_size=step_size, noise_scale=1.0, device="cpu")
    return lambda: sampler.sample(x=x, n_steps=steps)


def langevin(dims: list[int], batch: int, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds a step, and times over torchebm's."""
    results = []
    for dim in dims:
        net = network(dim)
        model, solver = Scored(net), ebm.Langevin(0.01)
        x = torch.randn(batch, dim, generator=torch.Generator().manual_seed(1))

        def ours(compiled: bool, model: Scored = model, x: Tensor = x, solver: ebm.Solver = solver) -> Any:
            return ebm.infer(model, x, steps=steps, solver=solver, compile=compiled)

        calls: dict[str, Callable[[], Any]] = {"eager": lambda: ours(False), "compiled": lambda: ours(True)}
        other = peer(net, x, steps, 0.01)
        if other is not None:
            calls["torchebm"] = other
        begun = time.perf_counter()
        ebm.infer(model, x, steps=0, solver=solver, compile=True)
        found: dict[str, Any] = {"dim": dim, "compile_s": time.perf_counter() - begun}
        times = interleaved(calls, repeats, warmup=1)
        found |= {f"{name}_ms": median_ms(times[name]) / steps for name in calls}
        found |= {f"{name}_best_ms": 1e3 * min(times[name]) / steps for name in calls}
        if other is not None:
            found |= {f"{name}_ratio": ratio(times, name, "torchebm") for name in ("eager", "compiled")}
        results.append(found)
    return results


def noise(dims: list[int], batch: int, repeats: int) -> list[dict[str, Any]]:
    """Microseconds of one draw of normal numbers by each sample's own key, and of one call of torch's generator."""
    keys, results = torch.arange(batch), []
    for dim in dims:
        like = torch.empty(batch, dim)

        def drawn(keys: Tensor, like: Tensor = like) -> Tensor:
            return Draw(keys, keys).normal(like)

        compiled = torch.compile(drawn, dynamic=False)
        generator = torch.Generator().manual_seed(0)
        calls = {
            "eager": lambda drawn=drawn: drawn(keys),
            "compiled": lambda compiled=compiled: compiled(keys),
            "torch": lambda dim=dim, generator=generator: torch.randn(batch, dim, generator=generator),
        }
        times = interleaved(calls, 20 * repeats)
        results.append({"dim": dim} | {f"{name}_us": 1e3 * median_ms(times[name]) for name in calls})
    return results


def effective(chains: int, steps: int, warmup: int) -> list[dict[str, Any]]:
    """Effective draws a second of samplers that search for their step size; compiled, warm-up and compilation left out."""
    model, x = Uneven(32, 10.0), torch.zeros(chains, 32)
    solvers: dict[str, Any] = {
        "MALA": ebm.MALA(0.5, warmup=warmup),
        "HMC, 5 leapfrog steps": ebm.HMC(0.5, 5, jitter=0.2, warmup=warmup),
        "HMC, 15 leapfrog steps": ebm.HMC(0.5, 15, jitter=0.2, warmup=warmup),
    }
    results = []
    for name, solver in solvers.items():
        warm = ebm.infer(model, x, steps=warmup, solver=solver, compile=True)
        begun = time.perf_counter()
        solution = ebm.infer(model, x, steps=steps, solver=solver, compile=True, resume=warm, record="z")
        seconds, found = time.perf_counter() - begun, describe(solution, discard=1)
        least = float(found.ess.min())
        results.append(
            {
                "sampler": name,
                "accepted": float(acceptance(solution).mean()),
                "step_size": float(solver.step_sizes(solution.carry.memory).mean()),
                "ess": least,
                "ess_per_second": least / seconds,
                "ess_per_1000_evals": 1e3 * least / (chains * steps * solver.most(x)["point"]),
                "rhat": float(found.rhat.max()),
            }
        )
    return results


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--peer", metavar="FOLDER", help="where torchebm was installed, if not beside torch")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peer:
        sys.path.append(given.peer)
    dims, batch, steps, repeats = ([2], 64, 5, 1) if given.smoke else ([2, 64], 1024, 200, given.repeats)
    drawn = noise(dims, batch, repeats)
    show("Normal numbers, microseconds", list(drawn[0]), [list(line.values()) for line in drawn])
    moved = langevin(dims, batch, steps, repeats)
    show(f"Langevin, batch {batch}, {steps} steps, a step", list(moved[0]), [list(line.values()) for line in moved])
    if "torchebm_ms" not in moved[0]:
        print("torchebm is not installed: no comparison")
    worth = effective(*((4, 20, 10) if given.smoke else (64, 1000, 300)))
    show("Gaussian in 32 dimensions, widths 1 to 10", list(worth[0]), [list(line.values()) for line in worth])
    write(given.json, "sampling", {"noise": drawn, "langevin": moved, "effective": worth})


if __name__ == "__main__":
    main()
