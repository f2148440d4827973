"""What a gradient costs: time, memory kept, and error of every adjoint against the number of steps, and beside torchdeq's.

The map is tanh(z W + x), 256 wide, batch 128, float32, settled by plain iteration for 10, 100 and 1,000 steps; the loss is a sum of
squares. The error is that of the gradient of W against the closed form at rest in float64. Implicit gradients of both libraries solve to the
same relative residual. Run with ``python benchmarks/adjoints.py``; ``--json FILE`` writes the figures. The peer is torchdeq 0.1.0
(``pip install --no-deps torchdeq==0.1.0``, or name the folder it was installed to with ``--peer FOLDER``); without it that line is left
out. One process, calls taken in turn.
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
from ebm.testing import kept_bytes
from measuring import interleaved, median_ms, show, write

RTOL = 1e-5  # of the linear solves, ours and theirs


class Tanh(ebm.Update):
    """z' = tanh(z W + x)."""

    def __init__(self, size: int, gain: float = 0.9) -> None:
        super().__init__()
        weight = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(gain * weight / torch.linalg.matrix_norm(weight, 2))

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(z @ self.weight + c)


def exact(model: Tanh, x: Tensor) -> Tensor:
    """The gradient of the loss at rest by the implicit function theorem, with dense matrices in float64."""
    weight, x = model.weight.detach().double(), x.double()
    z = torch.zeros_like(x)
    for _ in range(2000):
        z = torch.tanh(z @ weight + x)
    slope = 1 - z.square()  # dz' = slope * (dz W)
    eye = torch.eye(len(weight), dtype=z.dtype)
    jacobian = slope[:, None, :] * weight  # [b, in, out]
    v = torch.linalg.solve(eye - jacobian, 2 * z[:, :, None]).squeeze(2)
    return z.T @ (slope * v)


def ours(steps: int) -> dict[str, tuple[ebm.Solver, ebm.Adjoint]]:
    """Each adjoint with the solver it runs with; the reversible one evaluates twice a step, so it takes half of the steps."""
    plain = ebm.Picard()
    return {
        "Unroll()": (plain, ebm.Unroll()),
        "Unroll(checkpoint=10)": (plain, ebm.Unroll(10)),
        "Truncated(5)": (plain, ebm.Truncated(5)),
        "Implicit(GMRES)": (plain, ebm.Implicit(ebm.GMRES(rtol=RTOL))),
        "Implicit(AndersonLinear)": (plain, ebm.Implicit(ebm.AndersonLinear(rtol=RTOL))),
        "Implicit(Neumann)": (plain, ebm.Implicit(ebm.Neumann(rtol=RTOL))),
        "Reverse(8)": (ebm.Reversible(), ebm.Reverse(8)),
    }


def peer(model: Tanh, x: Tensor, steps: int) -> Callable[[], Tensor] | None:
    """The answer of torchdeq with its implicit gradient; None where it is not installed."""
    try:
        from torchdeq import get_deq  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    deq = get_deq(
        core="indexing",
        f_solver="fixed_point_iter",
        f_max_iter=steps,
        f_tol=0.0,
        ift=True,
        b_solver="anderson",
        b_max_iter=100,
        b_tol=RTOL,
        b_stop_mode="rel",
    )
    deq.train()
    return lambda: deq(lambda z: torch.tanh(z @ model.weight + x), torch.zeros_like(x))[0][-1]


def answers(model: Tanh, x: Tensor, steps: int) -> dict[str, Callable[[], Tensor]]:
    """What is timed: the settled latent, with a graph."""

    def settled(solver: ebm.Solver, adjoint: ebm.Adjoint) -> Tensor:
        count = steps // 2 if isinstance(solver, ebm.Reversible) else steps
        return ebm.infer(model, x, steps=count, solver=solver, adjoint=adjoint, keep="last").z

    calls: dict[str, Callable[[], Tensor]] = {
        name: (lambda solver=solver, adjoint=adjoint: settled(solver, adjoint))
        for name, (solver, adjoint) in ours(steps).items()
    }
    theirs = peer(model, x, steps)
    return calls if theirs is None else {**calls, "torchdeq, implicit, Anderson": theirs}


def measured(size: int, batch: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Time, memory and error of every adjoint for so many steps."""
    model = Tanh(size)
    x = 0.5 * torch.randn(batch, size, generator=torch.Generator().manual_seed(1))
    wanted = exact(model, x)

    def gradient(answer: Callable[[], Tensor]) -> Tensor:
        model.weight.grad = None
        answer().square().sum().backward()
        assert model.weight.grad is not None
        return model.weight.grad

    calls = answers(model, x, steps)
    times = interleaved({name: (lambda call=call: gradient(call)) for name, call in calls.items()}, repeats, warmup=1)
    return {
        name: {
            "ms": median_ms(times[name]),
            "megabytes": kept_bytes(call) / 1e6,
            "error": float((gradient(call) - wanted).norm() / wanted.norm()),
        }
        for name, call in calls.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Print one table a number of steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer", default=None, metavar="FOLDER", help="where torchdeq was installed to")
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.peer:
        sys.path.append(args.peer)
    size, batch, repeats = (16, 4, 1) if args.smoke else (256, 128, args.repeats)

    results: dict[str, Any] = {}
    for steps in (10, 20) if args.smoke else (10, 100, 1000):
        found = measured(size, batch, steps, repeats)
        fastest = found["Implicit(GMRES)"]["ms"]
        show(
            f"{steps} steps, forwards and backwards",
            ["adjoint", "ms", "over Implicit(GMRES)", "MB kept", "error of the gradient"],
            [[name, f["ms"], f["ms"] / fastest, f["megabytes"], f["error"]] for name, f in found.items()],
        )
        results[str(steps)] = found
    write(args.json, "adjoints", results)


if __name__ == "__main__":
    main()
