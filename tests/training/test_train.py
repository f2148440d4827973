"""Training: the updates against a loop by hand, resuming to the bit, what is chosen, and what is refused."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.tasks import Baseline, PrefixSums, Problems, Task
from ebm.training import Ended, Pool, Recipe, Supervised, Validation, score, train
from ebm.training.job import Job


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

    def __repr__(self) -> str:
        return repr(RULE)  # the same training, but for the interrupt

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
        ({"loss": replace(RULE, steps=3)}, "its loss is Progressive"),
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
        "loss": RULE,
    }
    train(checkpoint=path, **settings)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=named):
        train(checkpoint=path, **{**settings, **change})
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"wanted; .*other.pt is another"):
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


def test_a_gradient_that_is_not_finite_stops_and_changes_nothing() -> None:
    """The square root of zero is zero, and its slope is infinite."""
    model = line_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def flat(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return (0 * model(x)).abs().sqrt().sum()

    with pytest.raises(FloatingPointError, match="The gradient of update 1 is nan; nothing was changed by it"):
        train(model, flat, Line(), RECIPE)
    assert all(before[name].equal(value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("where", ["step", "average", "look", "keep"])
def test_an_interrupt_anywhere_is_never_having_stopped(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of an update that is half made, of a mean that is half taken, of a look."""
    straight, path = train(line_model(), plain, Line(), RECIPE, validate=[LOOK]), tmp_path / "line.pt"
    owner: Any = torch.optim.AdamW if where == "step" else Job
    name = {"step": "step", "average": "_average", "look": "look", "keep": "look"}[where]
    inner, left = getattr(owner, name), [1 if name == "look" else 15]

    def interrupted(self: Any, *args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and where in ("average", "look"):
            raise KeyboardInterrupt
        found = inner(self, *args)
        if left[0] == 0:
            if where == "keep":
                self.history.pop()
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(line_model(), plain, Line(), RECIPE, validate=[LOOK], checkpoint=path)
    resumed = train(line_model(), plain, Line(), RECIPE, validate=[LOOK], checkpoint=path)
    assert all(resumed.last[key].equal(value) for key, value in straight.last.items())
    assert [(row.update, row.scores) for row in resumed.history] == [
        (row.update, row.scores) for row in straight.history
    ]
    assert resumed.chosen["same"].update == straight.chosen["same"].update


class Counting(nn.Module):
    """Counts its passes in a buffer and drops numbers by the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.passes = line_model(), nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return nn.functional.dropout(self.line(x), 0.5, self.training)


def test_dropout_and_buffers_resume_too(tmp_path: Path) -> None:
    straight, path, calls = train(Counting(), plain, Line(), RECIPE, seed=2), tmp_path / "drop.pt", [17]

    def interrupted(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        value, calls[0] = plain(model, x, y, generator), calls[0] - 1
        if not calls[0]:
            raise KeyboardInterrupt
        return value

    interrupted.__qualname__ = plain.__qualname__
    torch.manual_seed(11)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(Counting(), interrupted, Line(), RECIPE, seed=2, checkpoint=path)
    assert torch.load(path, weights_only=True)["state"]["update"] == 16
    resumed = train(Counting(), plain, Line(), RECIPE, seed=2, checkpoint=path)
    assert torch.get_rng_state().equal(before)
    assert resumed.last["passes"] == 30
    assert all(resumed.last[key].equal(value) for key, value in straight.last.items())
    other = train(Counting(), plain, Line(), RECIPE, seed=3)
    assert not other.last["line.weight"].equal(straight.last["line.weight"])


class Ticks:
    """A clock that moves by one a reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_the_time_is_a_guard_that_changes_no_weight(tmp_path: Path) -> None:
    straight, path = train(line_model(), plain, Line(), RECIPE, validate=[LOOK]), tmp_path / "line.pt"
    short = replace(RECIPE, seconds=14.5)  # an update takes a tick
    for _ in range(2):  # the second call has nothing to do
        cut = train(line_model(), plain, Line(), short, validate=[LOOK], checkpoint=path, clock=Ticks())
        assert cut.ended is Ended.SECONDS and cut.seconds == 15
        assert [row.update for row in cut.history] == [10, 15]
    whole = train(line_model(), plain, Line(), RECIPE, validate=[LOOK], checkpoint=path)
    assert whole.ended is Ended.UPDATES
    assert [(row.update, row.scores) for row in whole.history] == [(row.update, row.scores) for row in straight.history]
    assert all(whole.last[name].equal(value) for name, value in straight.last.items())


@pytest.mark.parametrize(("patience", "ends"), [(1, 20), (2, 50), (None, 60)])
def test_training_ends_when_all_validations_were_perfect_for_a_while(patience: int | None, ends: int) -> None:
    def scripted(*values: float) -> Any:
        each = iter(values)
        return lambda answer, y: torch.tensor([next(each)])

    looks = [
        Validation("a", Line(), count=1, steps=1, score=scripted(0.9, 1.0, 1.0, 1.0, 1.0, 1.0)),
        Validation("b", Line(), count=1, steps=1, score=scripted(1.0, 1.0, 0.5, 1.0, 1.0, 1.0)),
    ]
    run = train(line_model(), plain, Line(), replace(RECIPE, updates=60, patience=patience), validate=looks)
    assert run.history[-1].update == ends
    assert run.ended is (Ended.PERFECT if ends < 60 else Ended.UPDATES)


def test_patience_takes_no_loss_for_perfect_and_wants_a_validation() -> None:
    recipe = replace(RECIPE, patience=1)
    assert train(line_model(), plain, Line(), recipe, validate=[LOOK]).ended is Ended.UPDATES
    assert train(line_model(), plain, Line(), recipe).ended is Ended.UPDATES
    held = Validation("zero", Line(noise=0.0), count=4, steps=1)
    exact = nn.Linear(2, 2)
    with torch.no_grad():
        exact.weight.copy_(3 * torch.eye(2))
        exact.bias.zero_()
    still = replace(recipe, learning_rate=1e-30)
    assert train(exact, plain, Line(), still, validate=[held]).ended is Ended.PERFECT  # squared error: zero is perfect


def test_a_module_that_is_not_settled_trains_by_the_same_door() -> None:
    run = train(line_model(), Supervised(Line().loss), Line(), RECIPE)
    expected = train(line_model(), plain, Line(), RECIPE)
    assert all(run.last[name].equal(value) for name, value in expected.last.items())


def test_of_several_tasks_each_is_drawn_about_as_often() -> None:
    seen: list[int] = []

    def noting(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(int(y.max() > 100))
        return plain(model, x, y, generator) * 0

    train(line_model(), noting, [Line(), Line(noise=1e6)], replace(RECIPE, updates=200))
    assert 75 <= sum(seen) <= 125


def test_a_pool_holds_so_many_problems_and_no_more() -> None:
    seen: list[Tensor] = []

    def noting(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(x)
        return plain(model, x, y, generator)

    train(line_model(), noting, Pool(Line(), 7), RECIPE)
    assert len(torch.cat(seen).unique(dim=0)) == 7
    seen.clear()
    train(line_model(), noting, Line(), RECIPE)
    assert len(torch.cat(seen).unique(dim=0)) == 240


def test_a_score_that_is_not_a_number_is_the_worst() -> None:
    scripted = iter([float("nan"), 0.5, float("nan")])
    shown = Validation("odd", Line(), count=1, steps=1, score=lambda answer, y: torch.tensor([next(scripted)]))
    assert train(line_model(), plain, Line(), RECIPE, validate=[shown]).chosen["odd"].update == 20


def test_the_bar_is_on_stderr_and_shows_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    train(line_model(), plain, Line(), RECIPE, validate=[LOOK], progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "30/30" in err
    assert re.search(r"loss \d+\.\d+, same \d+\.\d+", err)
    train(line_model(), plain, Line(), RECIPE)
    assert capsys.readouterr() == ("", "")


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
    job = Job(line_model(), plain, (Line(),), RECIPE, 0, looks, time.process_time)
    seen = [job.problems[0].x, job.problems[1].x, job._drawn().x[:5]]
    assert all(not a.equal(b) for i, a in enumerate(seen) for b in seen[:i])
    other = Job(line_model(), plain, (Line(),), RECIPE, 1, looks, time.process_time)
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
    (lambda: Recipe(updates=5, patience=0), ValueError, "patience=.*at least 1; got 0"),
    (lambda: Recipe(updates=5, seconds=0.0), ValueError, "seconds=.*above 0; got 0.0"),
    (lambda: Supervised(3), TypeError, r"callable as loss\(answer, y\); got int"),  # type: ignore[arg-type]
    (lambda: train(line_model(), plain, [], RECIPE), ValueError, "at least one task"),
    (lambda: train(line_model(), plain, "sums", RECIPE), TypeError, "takes a task .*; got str"),  # type: ignore[arg-type]
    (lambda: train(nn.ReLU(), plain, Line(), RECIPE), ValueError, "ReLU has none"),
    (lambda: train(line_model(), plain, Line(), RECIPE, validate=[LOOK, LOOK]), ValueError, "different names"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
