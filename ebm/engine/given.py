"""What a user gives: arrays and lists taken as tensors, and errors from inside a model answered in the user's terms."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Objective

__all__ = ["as_steps", "as_tensors", "check_methods", "check_start", "explained"]

_METHODS = {
    "condition": ("x",),
    "init_latent": ("c", "draw"),
    "forward": ("z", "c"),
    "point": ("z", "c"),
    "readout": ("z", "c"),
}
_fit: WeakSet[type] = WeakSet()
_starts: WeakKeyDictionary[nn.Module, set[Any]] = WeakKeyDictionary()


def as_tensors(name: str, tree: Any, home: Tensor | None) -> Any:
    """A row tree in which numpy arrays and nested lists of numbers have become tensors, where the model is.

    Floating-point numbers take the model's dtype; whole numbers stay whole, as in `torch.tensor`.

    Raises:
        TypeError: an array that torch does not know how to hold.
    """
    if isinstance(tree, (Tensor, rows.Shared)) or tree is None:
        return tree
    if isinstance(tree, dict):
        return {key: as_tensors(name, part, home) for key, part in tree.items()}
    if isinstance(tree, np.ndarray) or _numbers(tree):
        try:
            found = torch.from_numpy(np.array(tree, order="C"))  # a list is read in double precision, and rounded once
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`{name}` is taken as a tensor where it is an array or a list of numbers; this one is none: {error}. Pass a tensor of shape (B, ...)."
            ) from error
        if home is None:
            listed = found.is_floating_point() and not isinstance(tree, np.ndarray)
            return found.to(torch.get_default_dtype()) if listed else found
        return found.to(home.device, home.dtype if found.is_floating_point() else found.dtype)
    if isinstance(tree, (list, tuple)):
        parts = [as_tensors(name, part, home) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _numbers(tree: Any) -> bool:
    """Whether it is a list of numbers, or of such lists."""
    if isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        return len(tree) > 0 and all(
            isinstance(part, (bool, int, float, np.number, np.bool_)) or _numbers(part) for part in tree
        )
    return False


def as_steps(steps: Any) -> Any:
    """A limit of steps as an int or a tensor: numpy's whole numbers and arrays, and lists, are such limits too."""
    if isinstance(steps, np.integer):
        return int(steps)
    return as_tensors("steps", steps, None)


def check_methods(model: Objective) -> None:
    """The model was initialised, and its methods take what the engine passes.

    Raises:
        TypeError: ``super().__init__()`` was left out, or a method takes other arguments.
    """
    kind = type(model)
    if "_parameters" not in vars(model):
        raise TypeError(
            f"`{kind.__name__}` was not initialised as a module: its `__init__` never calls `super().__init__()`. Make that its first line."
        )
    if kind in _fit:
        return
    for name, wanted in _METHODS.items():
        signature = inspect.signature(getattr(model, name))
        try:
            signature.bind(*wanted)
        except TypeError:
            arguments = ", ".join(wanted)
            raise TypeError(
                f"`{kind.__name__}.{name}` is called as {name}({arguments}); it is defined with {signature}. "
                f"Write `def {name}(self, {arguments})`, even if it does not use all of them."
            ) from None
    _fit.add(kind)


def check_start(model: Objective, start: Any, c: Any, climbs: bool) -> None:
    """A start has the shapes of the model's own; asked once for each shape, and not at all of a model that has no start of its own.

    A solver that ``climbs`` from rung to rung puts a latent without a rung on the first.

    Raises:
        ValueError: other shapes. Some would broadcast, and settle as something else than what is meant.
    """
    known, key = _starts.setdefault(model, set()), (_shape(start), _shape(c), climbs)
    if key in known:
        return
    keys = torch.zeros(rows.count(start), dtype=torch.int64, device=rows.first_leaf(start).device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            own = model.init_latent(c, Draw(keys, keys - 1))
    except Exception:  # a model may do without: then anything is a start
        own = start
    shapes = {_shape(own), _shape(getattr(own, "z", own))} if climbs else {_shape(own)}
    if _shape(start) not in shapes:
        raise ValueError(
            f"`start=` is {_words(start)}, but `{type(model).__name__}.init_latent` gives {_words(own)} for this `x`. "
            "Pass a latent like that: the batch first, then the shape of a sample's latent."
        )
    known.add(key)


def _shape(tree: Any) -> Any:
    """The structure of a tree, with the shape of a sample at every leaf."""
    if isinstance(tree, Tensor):
        return tuple(tree.shape[1:])
    if isinstance(tree, rows.Shared) or tree is None:
        return None
    if isinstance(tree, dict):
        return tuple(sorted((str(key), _shape(part)) for key, part in tree.items()))
    return tuple(_shape(part) for part in tree)


def _words(tree: Any) -> str:
    if isinstance(tree, Tensor):
        return f"a tensor of shape {tuple(tree.shape)}"
    if isinstance(tree, dict):
        return f"a dict of {', '.join(f'{key}: {_words(part)}' for key, part in tree.items())}"
    if isinstance(tree, (tuple, list)):
        return f"a {type(tree).__name__} of {', '.join(map(_words, tree)) or 'nothing'}"
    return type(tree).__name__


@contextlib.contextmanager
def explained(model: Objective, x: Any) -> Iterator[None]:
    """Around the first look at a model: what is unusual about ``x`` is said beside whatever goes wrong."""
    try:
        yield
    except Exception as error:
        hint = _unusual(model, x)
        if hint is not None and error.args and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{hint}", *error.args[1:])
        raise


def _unusual(model: Objective, x: Any) -> str | None:
    name = type(model).__name__
    if type(x) in (tuple, list) and len(x) == 2 and all(isinstance(part, Tensor) for part in x):
        return (
            f"`x` is a pair, as a data loader gives it. If {name} observes the first of the two alone, write "
            "`for x, y in loader:` and pass `x`."
        )
    whole = [leaf.dtype for leaf in rows.leaves(x) if not leaf.is_floating_point()]
    if whole:
        return f"`x` holds {whole[0]}. If {name} observes real numbers, pass `x.float()`, or divide bytes by 255."
    return None
