"""One inference and one weight update of a predictive-coding net, beside the bare matrix products and beside other libraries.

The work: 784-256-256-10 units, tanh, batch 128, both ends clamped, 20 steps of descent at rate 0.1 from a feed-forward
start; then the gradient of the weights at the settled state. Everything is timed in one run, in turn, with the same number
of threads; compiling is reported apart. Run with ``python benchmarks/predictive_coding.py``.

Each other library runs in a process of its own, with the interpreter named by ``--peer NAME=PYTHON`` (repeatable) or by the
environment variable ``EQUILIBRATE_PEERS="NAME=PYTHON;..."``; one that is not given, or fails, is listed as missing. The
environments are described in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch

import ebm
from measuring import bare_loop, median_ms, ratio, show, write
from peers import process

BATCH, STEPS, SIZES, RATE, LEARNING_RATE = 128, 20, (784, 256, 256, 10), 0.1, 1e-3
SCRIPTS = {
    "jpc, fused by us": "jpc_fused.py",
    "jpc": "jpc_steps.py",
    "pcx": "pcx_peer.py",
    "fabricpc": "fabricpc_peer.py",
    "pydeepity": "pydeepity_peer.py",
    "pcn-torch": "pcn_torch_peer.py",
    "pclib": "pclib_peer.py",
}
PRODUCTS, BARE = "bare products, float32", "bare loop of the same solver"
Timed = Callable[[], Any]


def products(model: ebm.PredictiveCoding) -> Timed:
    """The four float32 products a step that remain once that of the clamped input is taken out."""
    middle, last = (layer.weight.detach() for layer in list(model.layers)[1:])  # pyright: ignore
    active, error = torch.randn(BATCH, SIZES[1]), torch.randn(BATCH, SIZES[-1])
    pairs = [(active, middle.T), (active, last.T), (error, last), (active, middle)]

    @torch.no_grad()
    def run() -> None:
        for _ in range(STEPS):
            for left, right in pairs:
                torch.mm(left, right)

    return run


def update(
    model: ebm.PredictiveCoding, x: Any, settle: Callable[[Any], Any], low: torch.dtype | None, optimiser: Any = None
) -> Timed:
    """Settle and write the gradient of every weight; with an optimiser, its step too."""
    parameters = dict(model.named_parameters())

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype=low, enabled=low is not None):
            c = model.condition(x)
            gradients = model.local_gradients(settle(c).z, c)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        if optimiser is not None:
            optimiser.step()

    return run


def own_calls(
    model: ebm.PredictiveCoding, learner: ebm.PredictiveCoding, x: Any
) -> tuple[dict[str, Timed], dict[str, Timed]]:
    """What is timed of this library: inferences, and weight updates (``learner`` changes its weights)."""
    solver, low = ebm.Descent(RATE), torch.bfloat16

    def settle(owner: ebm.PredictiveCoding, compile: bool | int, precision: torch.dtype | None) -> Callable[[Any], Any]:
        return lambda c: ebm.infer(
            owner, c, steps=STEPS, solver=solver, keep="last", compile=compile, precision=precision
        )

    inferences: dict[str, Timed] = {
        PRODUCTS: products(model),
        BARE: bare_loop(model, x, solver, STEPS),
        'infer, keep="last"': lambda: settle(model, False, None)(x),
        "infer, keep by default": lambda: ebm.infer(model, x, steps=STEPS, solver=solver),
        "infer, compiled": lambda: settle(model, True, None)(x),
        "infer, 20 steps a program": lambda: settle(model, STEPS, None)(x),
        "infer, bfloat16": lambda: settle(model, False, low)(x),
        "infer, compiled, bfloat16": lambda: settle(model, True, low)(x),
        "infer, 20 steps a program, bfloat16": lambda: settle(model, STEPS, low)(x),
    }
    adam = torch.optim.Adam(learner.parameters(), lr=LEARNING_RATE, fused=True)
    updates = {
        "gradient": update(model, x, settle(model, False, None), None),
        "gradient, compiled": update(model, x, settle(model, STEPS, None), None),
        "gradient, compiled, bfloat16": update(model, x, settle(model, STEPS, low), low),
        "gradient and Adam, compiled": update(learner, x, settle(learner, STEPS, None), None, adam),
        "gradient and Adam, compiled, bfloat16": update(learner, x, settle(learner, STEPS, low), low, adam),
    }
    return inferences, updates


def first_calls(calls: dict[str, Timed]) -> dict[str, float]:
    """The seconds of each first call, compiling included."""
    found = {}
    for name, call in calls.items():
        begun = time.perf_counter()
        call()
        found[name] = time.perf_counter() - begun
    return found


def in_turn(calls: dict[str, Timed], peers: dict[str, process.Peer], rounds: int, inner: int) -> dict[str, list[float]]:
    """Seconds of one call of each, ``inner`` in a row after one that does not count, in turn over all."""
    times: dict[str, list[float]] = {name: [] for name in (*calls, *peers)}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(inner):
                begun = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begun)
        for name, peer in peers.items():
            times[name] += peer.seconds(inner + 1)[1:]
    return times


def error_of(model: ebm.PredictiveCoding, x: Any) -> dict[str, float]:
    """How far compiled and bfloat16 latents end from those of float32: the largest difference over the largest latent."""
    calls = own_calls(model, model, x)[0]
    exact = calls['infer, keep="last"']().z
    largest = max(float(layer.abs().max()) for layer in exact)
    return {
        name: max(float((a - b).abs().max()) for a, b in zip(calls[name]().z, exact, strict=True)) / largest
        for name in ("infer, compiled", "infer, 20 steps a program", "infer, bfloat16", "infer, compiled, bfloat16")
    }


def interpreters(given: list[str]) -> dict[str, str]:
    """Interpreters by the peer's name, from the environment variable and then from the options; one serves both rows of jpc."""
    pairs = [*filter(None, os.environ.get("EQUILIBRATE_PEERS", "").split(";")), *given]
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, python = pair.partition("=")
        if not separator or name not in SCRIPTS:
            raise SystemExit(
                f"--peer is NAME=PYTHON with a name among {', '.join(n for n in SCRIPTS if ',' not in n)}; got {pair!r}."
            )
        found[name] = python
    return found | ({"jpc, fused by us": found["jpc"]} if "jpc" in found else {})


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20, help="rounds; each times every entry five times in a row")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", default=None, help="where to write the figures")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, figures mean nothing")
    args = parser.parse_args(argv)
    rounds, inner = (2, 1) if args.smoke else (args.repeats, 5)
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it may use processors; the peers inherit this
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    model, learner = ebm.PredictiveCoding(SIZES), ebm.PredictiveCoding(SIZES)
    x = torch.randn(BATCH, SIZES[0]), torch.nn.functional.one_hot(torch.arange(BATCH) % 10, SIZES[-1]).float()
    inferences, updates = own_calls(model, learner, x)
    first = first_calls(inferences | updates)
    peers = process.start(SCRIPTS, interpreters(args.peer), args.threads)
    able = {name: peer for name, peer in peers.items() if peer.missing is None}
    times = in_turn(inferences | updates, able, rounds, inner)
    for peer in able.values():
        peer.close()

    report(times, list(inferences), list(updates), peers, first | {name: peer.first for name, peer in able.items()})
    write(
        args.json,
        "predictive_coding",
        {
            "milliseconds": {name: median_ms(each) for name, each in times.items()},
            "over_products": {name: ratio(times, name, PRODUCTS) for name in times},
            "over_bare_loop": {name: ratio(times, name, BARE) for name in inferences},
            "first_call_seconds": first | {name: peer.first for name, peer in able.items()},
            "relative_error": error_of(model, x),
            "peers": {name: peer.versions for name, peer in able.items()},
            "missing": {name: peer.missing for name, peer in peers.items() if peer.missing is not None},
            "seconds": times,
        },
    )


def report(
    times: dict[str, list[float]],
    inferences: list[str],
    updates: list[str],
    peers: dict[str, process.Peer],
    first: dict[str, float],
) -> None:
    """Both tables; a peer that is missing has a line that says why."""
    show(
        f"one inference of {STEPS} steps",
        ["", "ms", "over the products", "over the bare loop", "first call, s"],
        [
            [name, median_ms(times[name]), ratio(times, name, PRODUCTS), ratio(times, name, BARE), first[name]]
            for name in inferences
        ],
    )
    able = [name for name, peer in peers.items() if peer.missing is None]
    fastest = min(able, key=lambda name: ratio(times, name, PRODUCTS), default=None)
    lines: list[list[Any]] = [
        [
            name,
            median_ms(times[name]),
            ratio(times, name, PRODUCTS),
            "-" if fastest is None else ratio(times, name, fastest),
            first[name],
        ]
        for name in [*updates, *able]
    ]
    lines += [[name, f"missing: {peer.missing}", "-", "-", "-"] for name, peer in peers.items() if peer.missing]
    show(
        "one inference and one weight update (peers: with Adam)",
        ["", "ms", "over the products", "over the fastest peer", "first call, s"],
        lines,
    )


if __name__ == "__main__":
    main()
