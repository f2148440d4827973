"""Learned halting on parity: steps taken and answers right, by how much there is to do.

Run with ``python benchmarks/halting.py``; ``--json FILE`` writes the figures with machine, versions and commit. A cell of width 24 is trained on strings of 8 places with
each loss, 400 updates of 128, over 12 steps from the start, and then asked about strings with 1, 4 and 8 places that are not zero, for at most 48 steps. Every seed is printed.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.losses import ACT, PonderNet, QHead, Stretch
from ebm.tasks import Parity
from ebm.training import Recipe, train
from measuring import show, write

WIDTH, PLACES, NONZEROS, MOST = 24, 8, (1, 4, 8), 48


class Pooled(nn.Module):
    """Two scores from the mean and the maximum over places."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * WIDTH, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(torch.cat([z.mean(2), z.amax(2)], 1))


def right(answer: Tensor, y: Tensor) -> Tensor:
    """Whether each answer is."""
    return answer.argmax(1) == y


def each(answer: Tensor, y: Tensor) -> Tensor:
    """The loss of each sample."""
    return functional.cross_entropy(answer, y, reduction="none")


STRETCH = Stretch(steps=12)
CONTENDERS: dict[str, tuple[Any, ebm.Stop]] = {
    "QHead, Halts(0.9)": (QHead(functional.cross_entropy, right, STRETCH), ebm.Halts(0.9)),
    "PonderNet(prior=0.2, beta=0.01), HaltsByChance(0.5)": (
        PonderNet(each, STRETCH, 0.2, 0.01),
        ebm.HaltsByChance(0.5),
    ),
    "PonderNet(beta=0, price=0.01), HaltsByChance(0.5)": (
        PonderNet(each, STRETCH, beta=0.0, price=0.01),
        ebm.HaltsByChance(0.5),
    ),
    "ACT(price=0.001), HaltsBySum(0.99)": (ACT(each, STRETCH, 0.001), ebm.HaltsBySum(0.99)),
    "ACT(price=0.01), HaltsBySum(0.99)": (ACT(each, STRETCH, 0.01), ebm.HaltsBySum(0.99)),
    "ACT(price=0.05), HaltsBySum(0.99)": (ACT(each, STRETCH, 0.05), ebm.HaltsBySum(0.99)),
}


def one(name: str, seed: int, updates: int) -> dict[str, Any]:
    """A loss with one seed: mean steps and share right at each number of places that are not zero."""
    rule, stop = CONTENDERS[name]
    torch.manual_seed(seed)
    cell = ebm.GatedCell(1, WIDTH, head=Pooled(), dims=1)
    model = ebm.Halting(cell, ebm.PooledLogit(WIDTH, axis=1))
    train(model, rule, Parity(PLACES), Recipe(updates, batch=128, learning_rate=5e-3, average=0.0), seed=seed)
    line: dict[str, Any] = {"trained by": name, "seed": seed}
    for nonzeros in NONZEROS:
        x, y = Parity(PLACES, nonzeros, nonzeros).sample(500, torch.Generator().manual_seed(1))
        found = ebm.infer(model, x, steps=MOST, stop=stop, keep="last", compact=True)
        steps, share = float(found.steps.double().mean()), float(right(found.answer.answer, y).double().mean())
        line[f"{nonzeros} not zero"] = f"{steps:.1f}, {share:.2f}"
    return line


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3, help="how many, at least 1")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error(f"--seeds must be at least 1; got {given.seeds}")
    torch.set_num_threads(1)
    seeds, updates = (1, 2) if given.smoke else (given.seeds, 400)
    found = [one(name, seed, updates) for name in CONTENDERS for seed in range(seeds)]
    show("Mean steps and share right", list(found[0]), [list(line.values()) for line in found])
    write(given.json, "halting", {"lines": found})


if __name__ == "__main__":
    main()
