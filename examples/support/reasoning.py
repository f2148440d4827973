"""One protocol for every task of reasoning: train on small problems, choose by somewhat larger ones, test far beyond, at many step counts."""

from __future__ import annotations

import contextlib
import inspect
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from tqdm import tqdm

import ebm
from ebm import files
from ebm.tasks import Problems, Task, trivial
from ebm.training import Loss, Pool, Recipe, Validation, train
from support.networks import parameters

__all__ = ["Contender", "Experiment", "Outcome", "Trial", "answered", "baselines", "halted", "learned", "settled"]


@dataclass(frozen=True)
class Trial:
    """Problems to test on, drawn once from a seed that nothing else uses.

    Attributes:
        name: as printed.
        task: what to draw.
        count: how many problems.
        steps: at which step counts an iterated model is scored, rising.
        score: ``score(answer, y)``; None: the task's own.
        batch: problems settled at a time.
        timed: how many of the problems are used for timing; None: all.
    """

    name: str
    task: Task
    count: int
    steps: tuple[int, ...]
    score: Callable[[Any, Any], Tensor] | None = None
    batch: int = 50
    timed: int | None = None

    def problems(self) -> Problems:
        """The problems, the same for every model."""
        return self.task.sample(self.count, torch.Generator().manual_seed(20_260_101))

    def mean(self, answer: Any, y: Any) -> Tensor:
        """The score of each problem, or of its parts, flat."""
        return (self.score or self.task.score)(answer, y).double().flatten()


@dataclass(frozen=True)
class Contender:
    """A model to train, and how.

    Attributes:
        name: as printed.
        build: makes the untrained model.
        rule: the loss; None: nothing is learned.
        recipe: how long and how fast; None where nothing is learned.
        trials: how many of the trials it takes, the first ones; None: all.
        seeds: how many of the seeds it is trained with, the first ones; None: all.
    """

    name: str
    build: Callable[[], nn.Module]
    rule: Loss | None
    recipe: Recipe | None
    trials: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A task with its contenders, the first of which is the one that the experiment is about.

    Attributes:
        name: of its files.
        title: as printed.
        tasks: what training draws from.
        contenders: the first settles; others may.
        looks: validations during training.
        choice: the look that chooses the weights; the table also says what the others would have chosen.
        trials: the tests.
        fitted: how many problems the answers that take no network are fitted to, those that fit anything.
    """

    name: str
    title: str
    tasks: tuple[Task | Pool, ...]
    contenders: tuple[Contender, ...]
    looks: tuple[Validation, ...]
    choice: str
    trials: tuple[Trial, ...]
    fitted: int = field(default=200, repr=False)  # no setting of an outcome

    def small(self) -> Experiment:
        """A few updates, a few problems: shows that it runs."""
        tiny = tuple(
            replace(each, recipe=each.recipe and replace(each.recipe, updates=2, every=2)) for each in self.contenders
        )
        tasks = tuple(Pool(each.task, 8) if isinstance(each, Pool) else each for each in self.tasks)
        looks = tuple(replace(look, count=2, steps=2) for look in self.looks)
        trials = tuple(replace(trial, count=2, timed=None, steps=(1, 2, 4)) for trial in self.trials[:2])
        return replace(self, contenders=tiny, tasks=tasks, looks=looks, trials=trials, fitted=20)


@dataclass(frozen=True)
class Outcome:
    """A contender trained with one seed, and tested.

    Attributes:
        seconds: processor time of the training.
        update: that the chosen weights come from.
        scores: by trial and step count (as text); of a model that runs once, the only count is "1".
        apart: of the first contender, by the way of choosing weights ("last", and each look), then by trial, the last but one: the score at the most steps, on up to 20 problems.
        weights: the chosen ones.
    """

    contender: str
    seed: int
    parameters: int
    seconds: float
    update: int
    scores: dict[str, dict[str, float]]
    apart: dict[str, dict[str, float]]
    weights: dict[str, Tensor] = field(repr=False)


def learned(experiment: Experiment, seeds: list[int], workers: int, folder: Path | None = None) -> list[Outcome]:
    """Every contender with every seed, ``workers`` at a time, one thread each.

    With a ``folder`` each outcome is kept there as soon as it is known, and one that is there, of the same settings and the same example, is not made again. The library is known by its version alone: after a change to its
    code, empty the folder.
    """
    jobs = [
        (experiment, index, seed, folder)
        for index, contender in enumerate(experiment.contenders)
        for seed in seeds[: contender.seeds]
    ]
    # without an interval what was kept is shown at once
    shown = {"desc": experiment.name, "total": len(jobs), "unit": "model", "mininterval": 0}
    if workers == 1:
        return list(tqdm(map(_kept, jobs), **shown))
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        found = list(tqdm(pool.imap(_kept, jobs), **shown))
        pool.close()  # an orderly end, after which nothing is left to clean up
        pool.join()
        return found


Job = tuple[Experiment, int, int, Path | None]
"""An experiment, the place of a contender, a seed, and where outcomes are kept."""


def _kept(job: Job) -> Outcome:
    """The outcome of a job, from its file if that is of the same settings."""
    experiment, index, seed, folder = job
    if folder is None:
        return _made(experiment, index, seed)
    contender = experiment.contenders[index]
    file = folder / f"{experiment.name}-{contender.name.replace(' ', '-')}-{seed}.pt"
    said = re.sub(r" at 0x\w+", "", repr(replace(experiment, contenders=(contender,))))  # addresses say nothing
    settings = f"{ebm.__version__} {torch.__version__}\n{said}\n{_source(contender.build)}"
    if file.exists():
        with contextlib.suppress(files.FileError):  # a part of an earlier version is made anew
            found = files.load(file, "an example", 1, ("settings", "outcome"))
            if found["settings"] == settings:
                return Outcome(**found["outcome"])
    outcome = _made(experiment, index, seed)
    folder.mkdir(parents=True, exist_ok=True)
    files.save(file, {"version": 1, "settings": settings, "outcome": vars(outcome)})
    return outcome


def _source(build: Callable[[], nn.Module]) -> str:
    """The text of the module that a model comes from: what its functions do is not in their names."""
    module = inspect.getmodule(build.func if isinstance(build, partial) else build)
    assert module is not None
    return inspect.getsource(module)


def _made(experiment: Experiment, index: int, seed: int) -> Outcome:
    """Train a contender with a seed, and test it."""
    contender = experiment.contenders[index]
    torch.manual_seed(seed)
    model = contender.build()
    seconds, update, apart = 0.0, 0, {}
    if contender.rule is not None and contender.recipe is not None:
        run = train(model, contender.rule, experiment.tasks, contender.recipe, seed=seed, validate=experiment.looks)
        for name, by in [("last", None), *((look.name, look.name) for look in experiment.looks)] if index == 0 else []:
            run.load(model, by)
            apart[name] = {trial.name: _last_score(model, trial) for trial in experiment.trials[-2:-1]}
        run.load(model, experiment.choice)
        seconds, update = run.seconds, run.chosen[experiment.choice].update
    scores = {trial.name: answered(model, trial) for trial in experiment.trials[: contender.trials]}
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    return Outcome(contender.name, seed, parameters(model), seconds, update, scores, apart, weights)


@torch.no_grad()
def answered(model: nn.Module, trial: Trial) -> dict[str, float]:
    """The mean score at every step count of a trial; settled once, and looked at along the way."""
    x, y = trial.problems()
    scores: dict[str, list[Tensor]] = {}
    for part in torch.arange(trial.count).split(trial.batch):
        shown, wanted = ebm.rows.take(x, part), ebm.rows.take(y, part)
        answers = settled(model, shown, trial.steps) if isinstance(model, ebm.Objective) else [(1, model(shown))]
        for count, answer in answers:
            scores.setdefault(str(count), []).append(trial.mean(answer, wanted))
    return {count: float(torch.cat(parts).mean()) for count, parts in scores.items()}


def settled(
    model: ebm.Objective, x: Any, counts: tuple[int, ...], solver: ebm.Solver | None = None
) -> Iterator[tuple[int, Any]]:
    """Each step count, rising, with the answer after it: one settling, looked at along the way. What is drawn is drawn from a seed of 0."""
    generator = torch.Generator().manual_seed(0)
    solution, taken = None, 0
    for count in counts:
        solution = ebm.infer(
            model,
            x,
            adjoint=ebm.Detached(),
            steps=count - taken,
            resume=solution,
            solver=solver,
            generator=generator,
            keep="last",
        )
        yield count, solution.answer
        taken = count


def _last_score(model: nn.Module, trial: Trial) -> float:
    few = replace(trial, count=min(trial.count, 20), steps=trial.steps[-1:])
    return next(iter(answered(model, few).values()))


def baselines(experiment: Experiment) -> dict[str, dict[str, float]]:
    """The answers that take no learning, by trial; those that fit something are fitted to problems of the first task."""
    first = experiment.tasks[0]
    task = first.task if isinstance(first, Pool) else first
    train_on = task.sample(experiment.fitted, torch.Generator().manual_seed(5))
    found = {}
    for trial in experiment.trials:
        x, y = trial.problems()
        few = Problems(
            ebm.rows.take(x, torch.arange(min(trial.count, 200))), ebm.rows.take(y, torch.arange(min(trial.count, 200)))
        )
        try:
            found[trial.name] = trivial(trial.task, train_on, few)
        except RuntimeError:  # a baseline fitted to one size has nothing to say of another
            found[trial.name] = trivial(
                trial.task, trial.task.sample(experiment.fitted, torch.Generator().manual_seed(5)), few
            )
    return found


def halted(model: ebm.Objective, trial: Trial, stop: ebm.Stop, repeats: int = 3) -> dict[str, float]:
    """A fixed number of steps beside leaving when at rest, on the same problems: scores, mean steps, and seconds, taken in turn."""
    x, y = replace(trial, count=trial.timed or trial.count).problems()
    times: dict[str, list[float]] = {"fixed": [], "halted": []}
    facts: dict[str, float] = {"most": float(trial.steps[-1])}
    for _ in range(repeats):
        for name, rule in (("fixed", None), ("halted", stop)):
            began = time.perf_counter()
            found = ebm.infer(
                model,
                x,
                adjoint=ebm.Detached(),
                steps=trial.steps[-1],
                stop=rule,
                keep="last",
                compact=rule is not None,
            )
            times[name].append(time.perf_counter() - began)
            facts[f"{name} score"] = float(trial.mean(found.answer, y).mean())
            facts[f"{name} steps"] = float(found.steps.double().mean())
            facts[f"{name} flops"] = float(found.flops)
    return facts | {f"{name} seconds": sorted(spent)[len(spent) // 2] for name, spent in times.items()}
