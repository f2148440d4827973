"""Training on batches that something else makes, and the FLOPs of updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ebm
from ebm.engine.flops import FlopCounter
from ebm.tasks import PrefixSums
from ebm.training import Ended, Recipe, Supervised, Validation, train

X = torch.arange(20.0).view(10, 2)
RECIPE = Recipe(updates=11, learning_rate=0.05, every=4)
SUPERVISED = Supervised(nn.functional.mse_loss)


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(2, 2)


class Shaken(Dataset):
    """Samples with noise from the global generator, as a random crop would draw it."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + 0.1 * torch.randn(2), X[index]


def loader(own: bool = False, size: int = 3) -> DataLoader[Any]:
    return DataLoader(Shaken(), size, shuffle=True, generator=torch.Generator().manual_seed(9) if own else None)


class Watching:
    """The loss, with what it saw, interrupted at its n-th call."""

    def __init__(self, calls: int = 100) -> None:
        self.calls, self.seen = calls, []

    def __repr__(self) -> str:
        return "the loss"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        if len(self.seen) == self.calls:
            raise KeyboardInterrupt
        self.seen.append(y)
        return SUPERVISED(model, x, y, generator)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("calls", [2, 6, 9])
def test_a_training_on_a_loader_goes_on_as_if_never_stopped(own: bool, calls: int, tmp_path: Path) -> None:
    """Order, crops and the loader's own generator included; four batches an epoch, the last of one sample."""
    straight, stopped, going = Watching(), Watching(calls), Watching()
    run = train(linear(), straight, loader(own), RECIPE, seed=2)
    with pytest.raises(KeyboardInterrupt):
        train(linear(), stopped, loader(own), RECIPE, seed=2, checkpoint=tmp_path / "run.pt")
    again = train(linear(), going, loader(own), RECIPE, seed=2, checkpoint=tmp_path / "run.pt")
    assert all(again.last[name].equal(value) for name, value in run.last.items())
    assert all(a.equal(b) for a, b in zip(straight.seen, stopped.seen + going.seen, strict=True))
    assert [row._replace(seconds=0.0) for row in again.history] == [row._replace(seconds=0.0) for row in run.history]


def test_every_epoch_shows_every_sample_once_in_another_order() -> None:
    watching, state = Watching(), torch.get_rng_state()
    train(linear(), watching, loader(), Recipe(updates=8))
    assert torch.equal(torch.get_rng_state(), state)
    epochs = [torch.cat(watching.seen[:4]), torch.cat(watching.seen[4:])]
    assert [len(y) for y in watching.seen] == [3, 3, 3, 1] * 2
    assert all(epoch.sort(0).values.equal(X) for epoch in epochs) and not epochs[0].equal(epochs[1])
    other = Watching()
    train(linear(), other, loader(), Recipe(updates=8), seed=1)
    assert not torch.cat(other.seen[:4]).equal(epochs[0])


def test_a_list_of_pairs_is_gone_through_in_order() -> None:
    watching, pairs = Watching(), [(X[:2], X[:2]), [X[2:5], X[2:5]]]
    train(linear(), watching, pairs, Recipe(updates=3))
    assert all(a.equal(b) for a, b in zip(watching.seen, [X[:2], X[2:5], X[:2]], strict=True))


@pytest.mark.parametrize(
    ("tasks", "kind", "words"),
    [
        (((X, X) for _ in range(2)), ValueError, "gave none. Pass a `DataLoader`"),
        ([], ValueError, "at least one task"),
        (DataLoader(TensorDataset(X)), TypeError, r"pairs \(x, y\); DataLoader gave 1 parts"),
        (DataLoader(X), TypeError, r"pairs \(x, y\); DataLoader gave Tensor"),  # pyright: ignore[reportArgumentType]
        (TensorDataset(X, X), TypeError, r"gives samples. Pass `DataLoader\(dataset"),
        (X, TypeError, r"or what gives batches \(x, y\); got Tensor"),
        ((X, X), TypeError, r"or what gives batches \(x, y\); got Tensor"),
        ({"x": X}, TypeError, r"or what gives batches \(x, y\); got dict"),
    ],
)
def test_what_gives_no_batches_is_refused(tasks: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        train(linear(), SUPERVISED, tasks, Recipe(updates=3))


def test_flops_of_a_linear_map_are_two_products() -> None:
    """8 rows, 2 by 2: one product forward, one for the weight; batches of 3, 3, 3 and 1 row cost 16 a row."""
    run = train(linear(), SUPERVISED, [(X[:8], X[:8])], RECIPE)
    assert [(row.update, row.flops) for row in run.history] == [(4, 512), (8, 1024), (11, 1408)]
    assert train(linear(), SUPERVISED, loader(), RECIPE).flops == 16 * (10 + 10 + 9)


class Map(ebm.Update):
    """z' = tanh(z W + c) of each place of a string of bits."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(0.3 * torch.randn(12, 12, generator=draw))
        self.head = nn.Parameter(torch.randn(12, 2, generator=draw))

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        return torch.zeros_like(c)

    def condition(self, x: Tensor) -> Tensor:
        return x.mT.expand(-1, -1, 12)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(z @ self.weight + c)

    def readout(self, z: Tensor, c: Tensor) -> Tensor:
        return (z @ self.head).mT


def cell() -> Map:
    return Map()


class Counted:
    """A loss, whose every update is counted; the model is priced by the engine before."""

    def __init__(self, loss: Any, model: Any, x: Tensor, y: Tensor) -> None:
        self.flops, self.loss = [], loss
        loss(model, x, y, torch.Generator().manual_seed(0))

    def __call__(self, model: Any, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        with FlopCounter() as counter:
            value = self.loss(model, x, y, generator)
            torch.autograd.grad(value, list(model.parameters()), allow_unused=True, retain_graph=True)
        self.flops.append(counter.flops)
        return value


@pytest.mark.parametrize(
    "loss",
    [
        ebm.Progressive(PrefixSums(6).loss, burn_in=(0, 9), steps=3),
        ebm.Progressive(PrefixSums(6).loss, burn_in=2, steps=(1, 5)),
        ebm.losses.Settled(PrefixSums(6).loss, steps=(3, 9), adjoint=ebm.Truncated(2)),
    ],
    ids=["burn-in drawn", "steps drawn", "tail of a number drawn"],
)
def test_flops_are_those_of_every_update_counted(loss: Any) -> None:
    """One update whose number of steps is new is reckoned in proportion; all others to what the engine's own looks take."""
    recipe = Recipe(updates=12, batch=4, every=1)
    batch = PrefixSums(6).sample(4, torch.Generator().manual_seed(1))
    run = train(cell(), loss, PrefixSums(6), recipe)
    model = cell()
    counted = Counted(loss, model, *batch)
    train(model, counted, PrefixSums(6), recipe)
    told = [
        row.flops - before for row, before in zip(run.history, [0, *(row.flops for row in run.history)], strict=False)
    ]
    differ = sorted(abs(a - b) / b for a, b in zip(told, counted.flops, strict=True))
    assert differ[-2] < 0.05 and differ[-1] < 0.25 and len(set(told)) > 3
    assert abs(run.flops - sum(counted.flops)) < 0.05 * run.flops


def test_a_limit_of_flops_ends_a_training_that_goes_on_with_more(tmp_path: Path) -> None:
    look = Validation("same", PrefixSums(6), count=5, steps=3)
    rule = ebm.Progressive(PrefixSums(6).loss, burn_in=(0, 4), steps=2)
    recipe = Recipe(updates=9, batch=4, every=3)
    straight = train(cell(), rule, PrefixSums(6), recipe, validate=[look])
    limited = Recipe(updates=9, batch=4, every=3, flops=straight.flops // 2)
    path = tmp_path / "run.pt"
    first = train(cell(), rule, PrefixSums(6), limited, validate=[look], checkpoint=path)
    last = first.history[-1]
    assert first.ended is Ended.FLOPS and straight.flops // 2 <= first.flops < straight.flops and last.update < 9
    again = train(cell(), rule, PrefixSums(6), recipe, validate=[look], checkpoint=path)
    assert again.ended is Ended.UPDATES and again.flops == straight.flops
    assert all(again.last[name].equal(value) for name, value in straight.last.items())


def test_a_run_prints_in_one_line() -> None:
    look = Validation("length 6", PrefixSums(6), count=5, steps=3)
    run = train(cell(), ebm.Progressive(PrefixSums(6).loss, steps=2), PrefixSums(6), Recipe(updates=3), validate=[look])
    assert repr(run).startswith("Run(3 updates, ") and "length 6" in repr(run) and len(repr(run)) < 200
    assert repr(run.chosen["length 6"]).startswith("Chosen(update=3, score=")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    train(linear(), SUPERVISED, [(X, X)], RECIPE, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ebm.FileError, match=r"is none, or a part of one"):
        train(linear(), SUPERVISED, [(X, X)], RECIPE, checkpoint=path)
    ebm.files.save(path, {"version": 2, "origin": {}, "state": {"model": 1}})
    with pytest.raises(ebm.FileError, match=r"holds another state than a training's"):
        train(linear(), SUPERVISED, [(X, X)], RECIPE, checkpoint=path)


def per_sample(answer: Tensor, y: Tensor) -> Tensor:
    return (answer - y).square().mean((1, 2))


@pytest.mark.parametrize("rule", [ebm.Progressive(per_sample, steps=1), ebm.losses.Settled(per_sample, steps=1)])
def test_a_loss_of_each_sample_is_refused(rule: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"`{type(rule).__name__}\(loss\)` must return a scalar; got a tensor of shape \(3,\)"
    ):
        rule(cell(), torch.ones(3, 1, 4), torch.zeros(3, 2, 4), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"`train\(loss=...\)` must return a scalar; got a tensor of shape \(10, 2\)"):
        train(linear(), Supervised(lambda answer, y: (answer - y).square()), [(X, X)], RECIPE)
