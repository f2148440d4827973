"""One protocol for every task of reasoning: train on small problems, choose by somewhat larger ones, test far beyond, at many step counts."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from tqdm import tqdm

import ebm
from ebm import files
from ebm.tasks import Problems, Task, trivial
from ebm.training import Loss, Pool, Recipe, Validation, train
from support.answering import answered
from support.networks import parameters

__all__ = ["Contender", "Experiment", "Outcome", "Trial", "Variant", "baselines", "learned", "tuned"]


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
class Variant:
    """A size and a recipe that a contender is tried with before its seeds are trained.

    Attributes:
        name: as printed.
        build: makes the untrained model.
        recipe: how long and how fast.
    """

    name: str
    build: Callable[[], nn.Module]
    recipe: Recipe


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
        takes: whether it can take a task at all: of training, looks and trials the others are left out; None: every one.
        variants: each is trained with a seed of its own, and the one with the best score on the look that chooses weights gives ``build`` and ``recipe``.
    """

    name: str
    build: Callable[[], nn.Module]
    rule: Loss | None
    recipe: Recipe | None
    trials: int | None = None
    seeds: int | None = None
    takes: Callable[[Any], bool] | None = None
    variants: tuple[Variant, ...] = ()

    def able(self, task: Task | Pool) -> bool:
        """Whether it can take a task."""
        return self.takes is None or self.takes(task.task if isinstance(task, Pool) else task)


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

        def tiny(recipe: Recipe) -> Recipe:
            return replace(recipe, updates=2, every=2, batch=4)

        contenders = tuple(
            replace(
                each,
                recipe=each.recipe and tiny(each.recipe),
                variants=tuple(replace(variant, recipe=tiny(variant.recipe)) for variant in each.variants[:2]),
            )
            for each in self.contenders
        )
        tasks = tuple(Pool(each.task, 8) if isinstance(each, Pool) else each for each in self.tasks)
        looks = tuple(replace(look, count=2, steps=2) for look in self.looks)
        trials = tuple(replace(trial, count=2, timed=None, steps=(1, 2, 4)) for trial in self.trials[:2])
        return replace(self, contenders=contenders, tasks=tasks, looks=looks, trials=trials, fitted=20)


@dataclass(frozen=True)
class Outcome:
    """A contender trained with one seed, and tested.

    Attributes:
        seconds: processor time of the training.
        look: the score on the look that chose the weights.
        update: that the chosen weights come from.
        scores: by trial and step count (as text); of a model that runs once, the only count is "1".
        intervals: by trial, 95 % for the score at the most steps.
        flops: by trial, executed a problem.
        apart: of the first contender, by the way of choosing weights ("last", and each look), then by trial, the last but one: the score at the most steps, on up to 20 problems.
        weights: the chosen ones.
    """

    contender: str
    seed: int
    parameters: int
    seconds: float
    update: int
    look: float
    scores: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float] | None]
    flops: dict[str, float]
    apart: dict[str, dict[str, float]]
    weights: dict[str, Tensor] = field(repr=False)


def learned(experiment: Experiment, seeds: list[int], workers: int, folder: Path | None = None) -> list[Outcome]:
    """Every contender with every seed, ``workers`` at a time, one thread each.

    With a ``folder`` each outcome is kept there as soon as it is known, and one that is there, of the same settings and the same example, is not made again. The library is known by its version alone: after a change to its
    code, empty the folder.
    """
    jobs = [
        _Job(experiment, index, seed, folder)
        for index, contender in enumerate(experiment.contenders)
        for seed in seeds[: contender.seeds]
    ]
    return _all(jobs, _kept, workers, experiment.name)


TUNED_WITH = 1_000
"""The seed of the trainings that choose a variant: none that is reported."""


def tuned(
    experiment: Experiment, workers: int, folder: Path | None = None
) -> tuple[Experiment, dict[str, list[dict[str, Any]]]]:
    """The experiment with the best variant of every contender that has some, and what each of them scored."""
    variants = [
        (index, variant) for index, contender in enumerate(experiment.contenders) for variant in contender.variants
    ]
    jobs = []
    for index, variant in variants:
        contender = replace(
            experiment.contenders[index], build=variant.build, recipe=variant.recipe, variants=(variant,)
        )
        alone = replace(experiment, contenders=(contender,), trials=())
        jobs.append(_Job(alone, 0, TUNED_WITH, folder))
    found = _all(jobs, _kept, workers, f"{experiment.name}, tuning")
    contenders, record = list(experiment.contenders), {}
    for (index, variant), outcome in zip(variants, found, strict=True):
        name = contenders[index].name
        record.setdefault(name, []).append(
            {
                "variant": variant.name,
                "score": outcome.look,
                "parameters": outcome.parameters,
                "seconds": outcome.seconds,
            }
        )
    lower = next(look for look in experiment.looks if look.name == experiment.choice).lower_is_better
    for index, contender in enumerate(contenders):
        if contender.variants:
            tried = record[contender.name]
            best = (min if lower else max)(range(len(tried)), key=lambda place: tried[place]["score"])
            tried[best]["chosen"] = True
            chosen = contender.variants[best]
            contenders[index] = replace(contender, build=chosen.build, recipe=chosen.recipe, variants=(chosen,))
    return replace(experiment, contenders=tuple(contenders)), record


class _Job(NamedTuple):
    """An experiment, the place of a contender, a seed, and where outcomes are kept."""

    experiment: Experiment
    index: int
    seed: int
    folder: Path | None


def _all(jobs: list[_Job], make: Callable[[_Job], Outcome], workers: int, what: str) -> list[Outcome]:
    # without an interval what was kept is shown at once
    shown = {"desc": what, "total": len(jobs), "unit": "model", "mininterval": 0}
    if workers == 1 or not jobs:
        return list(tqdm(map(make, jobs), **shown))
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        found = list(tqdm(pool.imap(make, jobs), **shown))
        pool.close()  # an orderly end, after which nothing is left to clean up
        pool.join()
        return found


def _kept(job: _Job) -> Outcome:
    """The outcome of a job, from its file if that is of the same settings."""
    experiment, index, seed, folder = job
    if folder is None:
        return _made(experiment, index, seed)
    contender = experiment.contenders[index]
    variant = f"-{contender.variants[0].name}" if seed == TUNED_WITH else ""
    file = folder / f"{experiment.name}-{contender.name}{variant}-{seed}.pt".replace(" ", "-")
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
    seconds, update, look, apart = 0.0, 0, math.nan, {}
    if contender.rule is not None and contender.recipe is not None:
        looks = tuple(look for look in experiment.looks if contender.able(look.task))
        tasks = tuple(filter(contender.able, experiment.tasks))
        run = train(model, contender.rule, tasks, contender.recipe, seed=seed, validate=looks)
        first = index == 0 and experiment.trials
        for name, by in [("last", None), *((look.name, look.name) for look in looks)] if first else []:
            run.load(model, by)
            apart[name] = {trial.name: _last_score(model, trial) for trial in experiment.trials[-2:-1]}
        run.load(model, experiment.choice)
        seconds = run.seconds
        update, look = run.chosen[experiment.choice][:2]
    trials = [trial for trial in experiment.trials[: contender.trials] if contender.able(trial.task)]
    found = {trial.name: answered(model.eval(), trial) for trial in trials}
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    return Outcome(
        contender=contender.name,
        seed=seed,
        parameters=parameters(model),
        seconds=seconds,
        update=update,
        look=look,
        scores={name: each.scores for name, each in found.items()},
        intervals={name: each.interval for name, each in found.items()},
        flops={name: each.flops for name, each in found.items()},
        apart=apart,
        weights=weights,
    )


def _last_score(model: nn.Module, trial: Trial) -> float:
    few = replace(trial, count=min(trial.count, 20), steps=trial.steps[-1:])
    return next(iter(answered(model, few).scores.values()))


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
            found[trial.name] = trivial(trial.task, train_on, few, trial.score)
        except RuntimeError:  # a baseline fitted to one size has nothing to say of another
            found[trial.name] = trivial(
                trial.task, trial.task.sample(experiment.fitted, torch.Generator().manual_seed(5)), few, trial.score
            )
    return found
