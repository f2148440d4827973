"""Sparse coding of 256 signals with 512 atoms to a relative duality gap of 1e-6: ours and scikit-learn's solvers, in one run.

Run with ``python benchmarks/sparse_coding.py``; ``--json FILE`` writes the figures. Signals are 16 x 16 patches of scikit-image's photographs, their mean
taken off and whitened, with other patches as atoms; and as a second task random unit atoms and signals made of 20 of them with noise. The weight of the penalty is a
share of the weight at which a code becomes zero. One thread, float64, calls taken in turn. Every peer gets the loosest tolerance (in
halves of a decade) with which its worst signal is within the gap; the gap is computed again by one function for all. SPAMS is timed where it can be
imported.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import ebm
from hebbian.sparse import ActiveSet, CoordinateDescent, DualityGap, SparseCoding
from measuring import interleaved, median_ms, ratio, show, write

GAP = 1e-6
OURS = "ActiveSet"


class Task(NamedTuple):
    """A name, the atoms (K, D) and signals (N, D) in float64, and the weight of the penalty."""

    name: str
    atoms: Tensor
    signals: Tensor
    weight: float


def photographs(atoms: int, signals: int, share: float) -> Task:
    """Whitened patches of photographs."""
    from skimage import data

    generator = torch.Generator().manual_seed(0)
    found = []
    for picture in (data.camera(), data.coins(), data.page(), data.moon()):
        image = torch.from_numpy(picture).double()[None, None] / 255
        every = torch.nn.functional.unfold(image, 16, stride=3)[0].T
        found.append(every[torch.randperm(len(every), generator=generator)[: (atoms + signals)]])
    patches = torch.cat(found)
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches[patches.norm(dim=1) > 0.5]
    value, vector = torch.linalg.eigh(patches.T @ patches / len(patches))
    white = patches @ (vector * (value + 0.1 * value.mean()).rsqrt()) @ vector.T
    white = white / white.norm(dim=1, keepdim=True)
    white = white[torch.randperm(len(white), generator=generator)]
    return _weighed(f"photographs, share {share:g}", white[:atoms], white[atoms : atoms + signals], share)


def planted(atoms: int, signals: int, share: float, size: int = 256) -> Task:
    """Random atoms, and signals made of 20 of them with a little noise."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(atoms, size, generator=generator, dtype=torch.float64)
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    code = torch.zeros(signals, atoms, dtype=torch.float64)
    chosen = torch.rand(signals, atoms, generator=generator).argsort(1)[:, :20]
    code.scatter_(1, chosen, torch.randn(signals, 20, generator=generator, dtype=torch.float64))
    noise = 0.02 * torch.randn(signals, size, generator=generator, dtype=torch.float64)
    return _weighed(f"planted, share {share:g}", drawn, code @ drawn + noise, share)


def _weighed(name: str, atoms: Tensor, signals: Tensor, share: float) -> Task:
    return Task(name, atoms, signals, share * float((signals @ atoms.T).abs().amax(1).median()))


def gaps(task: Task, code: Tensor) -> Tensor:
    """The relative duality gap of each code, (N,), by its definition and in float64."""
    code = code.double()
    missed = task.signals - code @ task.atoms
    scale = (task.weight / (missed @ task.atoms.T).abs().amax(1)).clamp_max(1.0)[:, None]
    primal = 0.5 * missed.square().sum(1) + task.weight * code.abs().sum(1)
    dual = 0.5 * task.signals.square().sum(1) - 0.5 * (task.signals - scale * missed).square().sum(1)
    return (primal - dual) / primal


def ours(task: Task, solver: ebm.Solver) -> Callable[[], Tensor]:
    """A whole call, from signals to codes, products of atoms with atoms included."""
    model = SparseCoding(task.atoms, ebm.L1(task.weight))
    return lambda: ebm.infer(model, task.signals, steps=5_000, solver=solver, stop=DualityGap(GAP)).z


def peers(task: Task) -> dict[str, Callable[[float], Callable[[], Tensor]]]:
    """From a tolerance to a call, for each of scikit-learn's solvers and SPAMS where there is one."""
    from sklearn.decomposition import sparse_encode
    from sklearn.linear_model import Lasso

    atoms, signals = task.atoms.numpy(), task.signals.numpy()
    columns, targets = np.asfortranarray(atoms.T), np.asfortranarray(signals.T)
    size = atoms.shape[1]

    def descent(tolerance: float, precompute: bool) -> Callable[[], Tensor]:
        def call() -> Tensor:
            gram: Any = atoms @ atoms.T if precompute else False
            model = Lasso(
                task.weight / size, fit_intercept=False, precompute=gram, tol=tolerance, max_iter=20_000, copy_X=False
            )
            return torch.from_numpy(model.fit(columns, targets).coef_)

        return call

    def lars(tolerance: float) -> Callable[[], Tensor]:
        def call() -> Tensor:
            code = sparse_encode(
                signals, atoms, algorithm="lasso_lars", alpha=task.weight, max_iter=5_000, check_input=False
            )
            return torch.from_numpy(code)

        return call

    found: dict[str, Callable[[float], Callable[[], Tensor]]] = {
        "scikit-learn, coordinate descent, Gram": lambda tolerance: descent(tolerance, True),
        "scikit-learn, coordinate descent": lambda tolerance: descent(tolerance, False),
        "scikit-learn, lasso_lars": lars,
    }
    try:
        import spams  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("SPAMS is not installed; its line is left out")
        return found

    def homotopy(tolerance: float) -> Callable[[], Tensor]:
        return lambda: torch.from_numpy(
            spams.lasso(targets, D=columns, lambda1=task.weight, mode=2, numThreads=1, return_reg_path=False)
            .toarray()
            .T.copy()
        )

    return {**found, "SPAMS, lasso (lars)": homotopy}


def loosest(task: Task, make: Callable[[float], Callable[[], Tensor]]) -> Callable[[], Tensor]:
    """The call with the largest tolerance whose worst gap is small enough; the tightest if none is."""
    for half in range(4, 25):
        call = make(10 ** (-half / 2))
        if float(gaps(task, call()).amax()) <= GAP:
            return call
    return call


def compare(task: Task, repeats: int) -> list[dict[str, Any]]:
    """Times and gaps of all."""
    calls: dict[str, Callable[[], Tensor]] = {
        OURS: ours(task, ActiveSet()),
        "CoordinateDescent": ours(task, CoordinateDescent()),
        "FISTA": ours(task, ebm.FISTA()),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer says that it did not converge at a tolerance that is being tried
        for name, make in peers(task).items():
            calls[name] = loosest(task, make)
        codes = {name: call() for name, call in calls.items()}
        times = interleaved(calls, repeats, warmup=1)
    best = min((name for name in calls if "learn" in name), key=lambda name: median_ms(times[name]))
    return [
        {
            "solver": name,
            "ms": median_ms(times[name]),
            "over_best_of_scikit_learn": ratio(times, name, best),
            "worst_gap": float(gaps(task, codes[name]).amax()),
            "active": float((codes[name] != 0).double().sum(1).mean()),
        }
        for name in calls
    ]


def main(argv: list[str] | None = None) -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="Sparse coding to equal gaps.")
    parser.add_argument("--atoms", type=int, default=512)
    parser.add_argument("--signals", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    results = {}
    for make in (photographs, planted):
        for share in (0.1, 0.3):
            task = make(args.atoms, args.signals, share)
            lines = compare(task, args.repeats)
            results[task.name] = lines
            show(
                f"{task.name}: {args.signals} signals, {args.atoms} atoms, gap {GAP:g}",
                ("solver", "ms", "over the best of scikit-learn", "worst gap", "active atoms"),
                [
                    (
                        e["solver"],
                        f"{e['ms']:.1f}",
                        f"{e['over_best_of_scikit_learn']:.2f}",
                        f"{e['worst_gap']:.1e}",
                        f"{e['active']:.1f}",
                    )
                    for e in lines
                ],
            )
    write(args.json, "sparse_coding", results)


if __name__ == "__main__":
    main()
