"""How long every solver takes to come to rest: time, evaluations and FLOPs to a relative residual of 1e-3 and of 1e-6.

Four problems: a predictive-coding net with both ends clamped, a graded Hopfield memory, sparse coding with a smooth penalty,
and a small perceptron as energy. A solver with a step size is given the best of a stated few, chosen by evaluations; the others
run as they come. The looser goal is timed in float32, the tighter one in float64. A solver that does not bring every sample to
the goal within the limit is listed with the share that it did. Run with ``python benchmarks/time_to_rest.py``.

With ``--peer NAME=PYTHON`` (as in predictive_coding.py) the libraries of predictive coding run their own method, descent at 0.1
with a weight update, for as many steps as that takes to the looser goal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from predictive_coding import BATCH, RATE, SCRIPTS, SIZES, interpreters
from torch import Tensor, nn

import ebm
from ebm.noise import Draw
from measuring import interleaved, median_ms, show, write
from peers import process

GOALS = {1e-3: torch.float32, 1e-6: torch.float64}


class Problem(NamedTuple):
    """A model made in a dtype, and what it observes."""

    make: Callable[[], ebm.Objective]
    x: Callable[[], Any]
    start: Callable[[], Any] | None = None


class SparseCode(ebm.Energy):
    r"""E = |x - D z|^2 / 2 + 0.1 sum sqrt(z^2 + 0.01), a smooth relative of the lasso."""

    def __init__(self, atoms: int, size: int) -> None:
        super().__init__()
        basis = torch.randn(size, atoms, generator=torch.Generator().manual_seed(0))
        self.dictionary = nn.Parameter(basis / basis.norm(dim=0))

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return c.new_zeros(c.shape[0], self.dictionary.shape[1])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        missed = c - z @ self.dictionary.T
        return 0.5 * missed.square().sum(1) + 0.1 * (z.square() + 0.01).sqrt().sum(1)


class Perceptron(ebm.Energy):
    """A random net of two layers over the latent and the observation, in a bowl."""

    def __init__(self, size: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(2 * size, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
            )

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 20 * self.net(torch.cat([z, c], 1))[:, 0] + 0.5 * z.square().sum(1)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def coding_net() -> ebm.Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ebm.PredictiveCoding(SIZES)


def memory() -> ebm.Objective:
    return ebm.GradedHopfield.store(torch.randn(20, 256, generator=torch.Generator().manual_seed(0)).sign())


def clamped() -> Any:
    return drawn(BATCH, SIZES[0]), nn.functional.one_hot(torch.arange(BATCH) % SIZES[-1], SIZES[-1]).float()


PROBLEMS = {
    "predictive coding": Problem(coding_net, clamped),
    "graded Hopfield": Problem(memory, lambda: drawn(BATCH, 256)),
    "sparse coding": Problem(lambda: SparseCode(256, 128), lambda: drawn(64, 128)),
    "perceptron": Problem(lambda: Perceptron(32), lambda: drawn(128, 32)),
}


def solvers() -> dict[str, list[ebm.Solver]]:
    """Each solver in the settings to choose from; most need no choice."""
    rates = (0.03, 0.1, 0.3, 1.0)
    return {
        "Descent": [ebm.Descent(rate) for rate in rates],
        "Descent, momentum": [ebm.Descent(rate, momentum=m) for rate in rates for m in (0.5, 0.9)],
        "Picard, damped": [ebm.Picard(damping) for damping in (0.0, 0.5, 0.7)],
        "Adam": [ebm.Adam(rate) for rate in (0.01, 0.05, 0.2)],
        "Anderson": [ebm.Anderson(mixing=mixing) for mixing in (0.1, 0.3, 1.0)],
        "AdaptiveDescent": [ebm.AdaptiveDescent()],
        "Backtracking": [ebm.Backtracking()],
        "BarzilaiBorwein": [ebm.BarzilaiBorwein()],
        "Nesterov": [ebm.Nesterov()],
        "LBFGS": [ebm.LBFGS(3, first=0.5), ebm.LBFGS()],
        "NewtonCG": [ebm.NewtonCG()],
        "GaussNewton": [ebm.GaussNewton()],
        "Flow": [ebm.Flow(dt) for dt in (0.3, 1.0, 2.0)],
        "AdaptiveFlow": [ebm.AdaptiveFlow(rtol=1e-2, atol=1e-9)],
    }


class Run(NamedTuple):
    """A solver on a problem to a goal."""

    solver: ebm.Solver
    call: Callable[[], ebm.Solution]
    found: ebm.Solution

    @property
    def share(self) -> float:
        """How many of the samples reached the goal."""
        return float(self.found.converged.double().mean())


def prepared(problem: Problem, solver: ebm.Solver, goal: float, limit: int) -> Run:
    """The call that settles a problem to a goal, run once."""
    dtype = GOALS[goal]
    model = problem.make().to(dtype)
    x = ebm.rows.map_rows(lambda leaf: leaf.to(dtype), problem.x())

    def call() -> ebm.Solution:
        return ebm.infer(model, x, steps=limit, solver=solver, stop=ebm.Reduced(goal), keep="last")

    return Run(solver, call, call())


def best_setting(problem: Problem, choices: list[ebm.Solver], goal: float, limit: int) -> Run | None:
    """The setting that brings most samples to the goal, in the fewest FLOPs; None where none fits the problem."""
    able = [solver for solver in choices if solver.needs <= problem.make().provides]
    runs = [prepared(problem, solver, goal, limit) for solver in able]
    return max(runs, key=lambda run: (run.share, -run.found.flops), default=None)


def measured(name: str, goal: float, limit: int, repeats: int, only: str | None) -> dict[str, dict[str, Any]]:
    """Every solver on one problem to one goal."""
    chosen = {s: best_setting(PROBLEMS[name], choices, goal, limit) for s, choices in solvers().items()}
    runs = {s: run for s, run in chosen.items() if run is not None and (only is None or only in s)}
    times = interleaved({s: run.call for s, run in runs.items()}, repeats, warmup=1)
    return {
        s: {
            "setting": repr(run.solver),
            "share": run.share,
            "ms": median_ms(times[s]),
            "steps": float(run.found.steps.double().mean()),
            "most_steps": int(run.found.steps.max()),
            "evals": float(run.found.evals.double().mean()),
            "mflops": float(run.found.flops_per_sample.double().mean()) / 1e6,
        }
        for s, run in runs.items()
    }


def report(name: str, goal: float, found: dict[str, dict[str, Any]]) -> None:
    """One table, fastest first; those that did not arrive last."""
    order = sorted(found, key=lambda s: (-found[s]["share"], found[s]["ms"]))
    show(
        f"{name}, to {goal:g} of the first residual ({str(GOALS[goal]).split('.')[-1]})",
        ["solver", "at the goal", "ms", "mean evals", "mean steps", "most steps", "MFLOP a sample", "setting"],
        [
            [
                s,
                f"{f['share']:.0%}",
                *(f[key] for key in ("ms", "evals", "steps", "most_steps", "mflops")),
                f["setting"],
            ]
            for s, f in ((s, found[s]) for s in order)
        ],
    )


def against_peers(pythons: dict[str, str], threads: int, repeats: int, ours: ebm.Solver) -> dict[str, Any]:
    """Predictive coding to the looser goal: ours against the peers' own descent of as many steps as that needs."""
    slow = prepared(PROBLEMS["predictive coding"], ebm.Descent(RATE), 1e-3, 2000)
    steps = int(slow.found.steps.max())
    best = prepared(PROBLEMS["predictive coding"], ours, 1e-3, 2000)
    peers = process.start(SCRIPTS, pythons, threads, steps)
    able = {name: peer for name, peer in peers.items() if peer.missing is None}
    times: dict[str, list[float]] = {name: [] for name in ("ours", *able)}
    for _ in range(repeats):
        times["ours"] += interleaved({"ours": best.call}, 3, warmup=1)["ours"]
        for name, peer in able.items():
            times[name] += peer.seconds(3)[1:]
    for peer in able.values():
        peer.close()
    show(
        f"predictive coding to 1e-3: ours, {ours!r}, against {steps} steps of descent at {RATE} (and a weight update)",
        ["", "ms", "ours over it"],
        [[name, median_ms(each), median_ms(times["ours"]) / median_ms(each)] for name, each in times.items()],
    )
    return {"steps": steps, "milliseconds": {name: median_ms(each) for name, each in times.items()}}


def main(argv: list[str] | None = None) -> None:
    """Print a table for each problem and goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=int, default=2000, help="the most steps")
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="one of the problems (repeatable)")
    parser.add_argument("--solver", default=None, help="part of a solver's name")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    limit, repeats = (20, 1) if args.smoke else (args.limit, args.repeats)

    results: dict[str, Any] = {}
    for name in args.problem or PROBLEMS:
        for goal in GOALS:
            found = measured(name, goal, limit, repeats, args.solver)
            report(name, goal, found)
            results[f"{name} to {goal:g}"] = found
    pythons = interpreters(args.peer)
    if pythons:
        coding = results["predictive coding to 0.001"]
        fastest = min((s for s in coding if coding[s]["share"] == 1), key=lambda s: coding[s]["ms"])
        ours = best_setting(PROBLEMS["predictive coding"], solvers()[fastest], 1e-3, limit)
        assert ours is not None
        results["peers"] = against_peers(pythons, args.threads, repeats, ours.solver)
    write(args.json, "time_to_rest", results)


if __name__ == "__main__":
    main()
