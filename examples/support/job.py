"""The anytime job: train small iterated models and feed-forward baselines, and compare them at every budget."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import ebm
from ebm.files import replacing
from support.data import Dataset
from support.evaluation import Curve, Entry, baseline, settled
from support.networks import Task, contenders
from support.notebook import given
from support.report import picture, print_exits, print_table, verdict, write_json
from support.training import Recipe, Trained, train_all

__all__ = ["arguments", "run"]


def arguments(description: str, name: str) -> argparse.ArgumentParser:
    """The options that the anytime jobs share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=None, help="folder with your own full MNIST or CIFAR-10 in the standard files"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each model is trained with, at least 1")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="passes over the training images, at least 1")
    parser.add_argument("--workers", type=int, default=2, help="processes that train, one thread each")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help=f"folder for {name}.json, {name}.pt and {name}.png"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few images, one epoch, one seed: shows that it runs, the figures mean nothing",
    )
    return parser


def run(
    name: str, parser: argparse.ArgumentParser, argv: list[str] | None, load: Callable[[argparse.Namespace], Dataset]
) -> None:
    """The whole job, from data to picture."""
    args = parser.parse_args(given(argv))
    for option in ("seeds", "epochs", "workers"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} must be at least 1; got {getattr(args, option)}")
    started = time.perf_counter()
    try:
        data = load(args)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    print(data.summary())
    recipe = Recipe(epochs=1 if args.smoke else args.epochs)
    seeds = [0] if args.smoke else list(range(args.seeds))
    task = Task.of(data)
    trained = train_all(task, data.train, recipe, seeds, args.workers)
    minutes = (time.perf_counter() - started) / 60
    print(f"trained {len(trained)} models in {minutes:.1f} minutes")

    entries, curves, widest = _evaluated(task, data, trained, recipe)
    print_table(entries)
    print_exits(curves)
    _show_calls(widest, data, curves[-1])
    sentence = verdict(entries, curves)
    print()
    write_json(
        args.out / f"{name}.json",
        {"data": data.name, "training_minutes": minutes, "smoke": args.smoke},
        entries,
        curves,
        sentence,
    )
    with replacing(args.out / f"{name}.pt") as file:
        torch.save(_weights(task, trained), file)
    picture(args.out / f"{name}.png", data.name, entries, curves, data.test)
    print(f"\n{sentence}")


def _evaluated(
    task: Task, data: Dataset, trained: list[Trained], recipe: Recipe
) -> tuple[list[Entry], list[Curve], ebm.Objective]:
    entries: list[Entry] = []
    curves: list[Curve] = []
    widest: ebm.Objective | None = None
    for contender in contenders(task):
        models = []
        for result in sorted((t for t in trained if t.name == contender.name), key=lambda t: t.seed):
            model = contender.build()
            model.load_state_dict(result.weights)
            models.append(model.eval())
        if contender.iterated:
            curve, lines = settled(contender.name, models, data.validation, data.test, recipe.trained_steps)
            curves.append(curve)
            entries += lines
            widest = models[0]
        else:
            entries.append(baseline(contender.name, models, data.test))
    assert widest is not None
    return entries, curves, widest


def _weights(task: Task, trained: list[Trained]) -> dict[str, dict[str, torch.Tensor]]:
    """The learned weights of the iterated models, by name and seed."""
    iterated = {contender.name for contender in contenders(task) if contender.iterated}
    return {f"{each.name}, seed {each.seed}": each.weights for each in trained if each.name in iterated}


def _show_calls(model: ebm.Objective, data: Dataset, curve: Curve) -> None:
    """Three anytime calls of one model on the test images."""
    images, labels = data.test.images, data.test.labels

    def accuracy(solution: ebm.Solution) -> float:
        return 100 * (solution.answer.argmax(1) == labels).double().mean().item()

    print(f"\nThree calls of {curve.name} on the {len(labels)} test images:")
    limited = ebm.infer(model, images, adjoint=ebm.Detached(), steps=2)
    print(f"  steps=2                      {limited}: {accuracy(limited):.1f} %")
    one_step = ebm.infer(model, images, adjoint=ebm.Detached(), steps=1).seconds
    in_time = ebm.infer(model, images, adjoint=ebm.Detached(), seconds=3 * one_step)
    print(
        f"  seconds={3 * one_step:.3f}                {in_time}: {accuracy(in_time):.1f} % after {in_time.seconds:.3f} s"
    )
    stop = ebm.Confident(curve.exit.threshold)
    early = ebm.infer(model, images, adjoint=ebm.Detached(), steps=curve.fewest, stop=stop, keep="last", compact=True)
    whole = ebm.infer(model, images, adjoint=ebm.Detached(), steps=curve.fewest, keep="last")
    print(f"  stop={stop}  {early}: {accuracy(early):.1f} % (all {curve.fewest} steps: {accuracy(whole):.1f} %)")
    counts = torch.bincount(early.steps, minlength=curve.fewest + 1).tolist()
    spread = ", ".join(f"{n} after {t}" for t, n in enumerate(counts) if n)
    right = early.answer.argmax(1) == labels
    easy, hard = early.steps[right].double().mean(), early.steps[~right].double().mean()
    print(
        f"  images done: {spread}; mean steps {early.steps.double().mean():.2f} (right ones {easy:.2f}, wrong ones {hard:.2f})"
    )
    print(
        f"  executed FLOPs: {early.flops:,} instead of {whole.flops:,}, {round(100 * (1 - early.flops / whole.flops))} % saved"
    )
