"""Training: the updates against a loop by hand, resuming to the bit, what is chosen, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import Baseline, PrefixSums, Problems, Task
from ebm.training import Pool, Recipe, Validation, score, train
from ebm.training.trainer import _Job


@dataclass(frozen=True)
class Line(Task):
    """y = 3 x, seen with noise."""

    metric: ClassVar[str] = "squared error"
    lower_is_better: ClassVar[bool] = True

    noise: float = 0.1

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        x = torch.randn(count, 2, generator=generator)
        return Problems(x, 3 * x + self.noise * torch.randn(count, 2, generator=generator))

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        return (answer - y).square().mean()

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        return (answer - y).square().mean(1)

    def baselines(self) -> tuple[Baseline, ...]:
        return ()


def plain(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    return Line().loss(model(x), y)


def line_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(2, 2)


RECIPE = Recipe(updates=30, batch=8, learning_rate=0.05, every=10)
LOOK = Validation("same", Line(), count=20, steps=1)


def test_updates_are_those_of_a_loop_by_hand() -> None:
    model, twin = line_model(), line_model()
    run = train(model, plain, Line(), RECIPE, seed=5)
    mean, generator = line_model(), torch.Generator().manual_seed(5)
    optimizer = torch.optim.AdamW(twin.parameters(), 0.05, betas=(0.9, 0.99), weight_decay=0.0)
    for update in range(1, 31):
        x, y = Line().sample(8, generator)
        optimizer.param_groups[0]["lr"] = RECIPE.rate(update)
        optimizer.zero_grad()
        plain(twin, x, y, generator).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        keep = min(0.99, update / (update + 10))
        with torch.no_grad():
            for ours, theirs in zip(mean.parameters(), twin.parameters(), strict=True):
                ours.mul_(keep).add_(theirs, alpha=1 - keep)
    assert all(a.equal(b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    for name, value in mean.state_dict().items():
        assert torch.allclose(run.last[name], value, atol=1e-6)


def cell() -> ebm.GatedCell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ebm.GatedCell(1, width=4, head=nn.Conv1d(4, 2, 1), dims=1)


RULE = ebm.Progressive(PrefixSums(6).loss, burn_in=(0, 4), steps=2, noise_start=0.5)
CELL_LOOK = Validation("length 6", PrefixSums(6), count=10, steps=6)
SHORT = Recipe(updates=9, batch=4, every=3)


class Stopping:
    """The rule, interrupted at its n-th call."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, model: Any, x: Any, y: Any, generator: torch.Generator) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return RULE(model, x, y, generator)


@pytest.mark.parametrize("tasks", [PrefixSums(6), [PrefixSums(5), Pool(PrefixSums(6), 20)]])
@pytest.mark.parametrize("calls", [2, 3, 7])
def test_stopping_and_going_on_is_never_having_stopped(tasks: Any, calls: int, tmp_path: Path) -> None:
    straight = train(cell(), RULE, tasks, SHORT, seed=3, validate=[CELL_LOOK])
    path = tmp_path / "new" / "cell.pt"
    with pytest.raises(KeyboardInterrupt):
        train(cell(), Stopping(calls), tasks, SHORT, seed=3, validate=[CELL_LOOK], checkpoint=path)
    model = cell()
    resumed = train(model, RULE, tasks, SHORT, seed=3, validate=[CELL_LOOK], checkpoint=path)
    assert all(resumed.last[name].equal(value) for name, value in straight.last.items())
    assert [row._replace(seconds=0.0) for row in resumed.history] == [
        row._replace(seconds=0.0) for row in straight.history
    ]
    chosen, expected = resumed.chosen["length 6"], straight.chosen["length 6"]
    assert (chosen.update, chosen.score) == (expected.update, expected.score)
    again = train(
        model, Stopping(0), tasks, SHORT, seed=3, validate=[CELL_LOOK], checkpoint=path
    )  # no call is left to make
    assert all(again.last[name].equal(value) for name, value in straight.last.items())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "its seed is 3, and 4 is asked for"),
        ({"recipe": replace(SHORT, batch=5)}, "its recipe is"),
        ({"tasks": PrefixSums(7)}, "its tasks is"),
        ({"validate": ()}, "its validate is"),
        ({"model": nn.Linear(2, 2)}, "its model is GatedCell"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    settings: dict[str, Any] = {
        "model": cell(),
        "tasks": PrefixSums(6),
        "recipe": SHORT,
        "seed": 3,
        "validate": [CELL_LOOK],
    }
    train(loss=RULE, checkpoint=path, **settings)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=named):
        train(loss=RULE, checkpoint=path, **{**settings, **change})
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"a file that `train` wrote; .*other.pt is another"):
        train(cell(), RULE, PrefixSums(6), SHORT, checkpoint=path)


def test_a_loss_that_is_not_finite_stops_and_changes_nothing(tmp_path: Path) -> None:
    path, model = tmp_path / "line.pt", line_model()
    calls = [0]

    def failing(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        calls[0] += 1
        return plain(model, x, y, generator) * (float("nan") if calls[0] == 13 else 1.0)

    with pytest.raises(FloatingPointError, match="The loss of update 13 is nan"):
        train(model, failing, Line(), RECIPE, validate=[LOOK], checkpoint=path)
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert torch.load(path, weights_only=True)["state"]["update"] == 10


def test_the_best_look_is_chosen_and_of_equal_ones_the_later() -> None:
    scripted = iter([3.0, 1.0, 2.0, 1.0, 5.0])
    shown = Validation("scripted", Line(), count=1, steps=1, score=lambda answer, y: torch.tensor([next(scripted)]))
    run = train(line_model(), plain, Line(), replace(RECIPE, updates=50), validate=[shown])
    assert (run.chosen["scripted"].update, run.chosen["scripted"].score) == (
        50,
        5.0,
    )  # a score of one's own: higher is better
    run = train(line_model(), plain, Line(), replace(RECIPE, updates=300, every=60), validate=[LOOK])
    scores = [row.scores["same"] for row in run.history]
    assert run.chosen["same"].score == min(scores)  # squared error: lower is better
    held = line_model()
    assert score(run.load(held, by="same"), LOOK, Line().sample(500, torch.Generator().manual_seed(9))) < 0.05
    assert all(run.load(held).state_dict()[name].equal(value) for name, value in run.last.items())
    with pytest.raises(ValueError, match=r"got 'other'. There is 'same'"):
        run.load(held, by="other")


def test_ties_go_to_the_later_look() -> None:
    even = Validation("even", Line(), count=1, steps=1, score=lambda answer, y: torch.ones(1))
    assert train(line_model(), plain, Line(), RECIPE, validate=[even]).chosen["even"].update == 30


def test_validations_share_no_problem_with_training_or_each_other() -> None:
    looks = (Validation("a", Line(), 5, 1), Validation("b", Line(), 5, 1))
    job = _Job(line_model(), plain, (Line(),), RECIPE, 0, looks)
    seen = [job.problems[0].x, job.problems[1].x, job._drawn().x[:5]]
    assert all(not a.equal(b) for i, a in enumerate(seen) for b in seen[:i])
    other = _Job(line_model(), plain, (Line(),), RECIPE, 1, looks)
    assert not other.problems[0].x.equal(seen[0])


def test_the_global_generator_and_the_modes_of_a_model_are_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))
    torch.set_rng_state(before)
    model[1].eval()
    train(model, plain, Line(), RECIPE, validate=[LOOK])
    assert torch.get_rng_state().equal(before)
    assert model.training and not model[1].training


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: Recipe(updates=0), ValueError, r"`Recipe\(updates=...\)` is a whole number of at least 1; got 0"),
    (lambda: Recipe(updates=5, clip=0.0), ValueError, "clip=.*above 0; got 0.0"),
    (lambda: Recipe(updates=5, warmup=1.0), ValueError, r"warmup=.*in \[0, 1\); got 1.0"),
    (lambda: Recipe(updates=5, weight_decay=-1.0), ValueError, "weight_decay=.*at least 0"),
    (lambda: Pool(Line(), 0), ValueError, "count=.*at least 1; got 0"),
    (lambda: Validation("", Line(), 1, 1), ValueError, "may not be empty"),
    (lambda: Validation("a", Line(), 1, 0), ValueError, "steps=.*at least 1; got 0"),
    (lambda: train(line_model(), plain, [], RECIPE), ValueError, "at least one task"),
    (lambda: train(line_model(), plain, Line(), RECIPE, validate=[LOOK, LOOK]), ValueError, "different names"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
