"""A training on disk: written whole or not at all, and read only by the training that wrote it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ebm import files
from ebm.files import FileError
from ebm.tasks import Task
from ebm.training.recipe import Pool, Recipe, Validation

__all__ = ["fingerprint", "read", "write"]

_VERSION = 2
_STATE = frozenset(
    ("model", "mean", "optimizer", "generator", "update", "seconds", "running", "history", "chosen", "flops", "sources")
)


def fingerprint(
    model: nn.Module, loss: Any, tasks: Sequence[Any], recipe: Recipe, seed: int, validate: Sequence[Validation]
) -> dict[str, str]:
    """What must agree before a training may go on, in words. What only says when to end may differ."""
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items())
    return {
        "model": f"{type(model).__name__}({shapes})",
        "device": next(model.parameters()).device.type,
        "loss": _words(loss),
        "tasks": ", ".join(
            _words(each) if isinstance(each, Task | Pool) else f"batches of {type(each).__name__}" for each in tasks
        ),
        "recipe": repr(replace(recipe, patience=None, seconds=None, flops=None)),
        "seed": repr(seed),
        "validate": _words(tuple(validate)),
    }


def _words(value: Any) -> str:
    """As it prints, but for addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def write(path: str | os.PathLike[str], origin: dict[str, str], state: dict[str, Any]) -> None:
    """Write the file, all at once, so that an interrupt leaves the old one."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    files.save(path, {"version": _VERSION, "origin": origin, "state": state})


def read(path: str | os.PathLike[str], origin: dict[str, str]) -> dict[str, Any] | None:
    """The state in a file, or None where there is no file. No code in it is run.

    Raises:
        FileError: a ValueError: a damaged file, one of something else, or of another training; what differs is named.
    """
    if not os.path.exists(path):
        return None
    saved = files.load(path, "`train(checkpoint=...)`", _VERSION, ("origin", "state"), "cpu")
    if not isinstance(saved["origin"], dict) or not isinstance(saved["state"], dict) or set(saved["state"]) != _STATE:
        raise FileError(
            f"A file written by `train(checkpoint=...)` is wanted; {os.fspath(path)} holds another state than a training's. Pass a new path."
        )
    other = [name for name in origin if saved["origin"].get(name) != origin[name]]
    if other:
        raise FileError(
            f"{os.fspath(path)} is the checkpoint of another training; its {other[0]} is {saved['origin'].get(other[0])}, and "
            f"{origin[other[0]]} is asked for. Pass the same settings, or a new path."
        )
    return saved["state"]
