"""Trees as plain lists and words, so that a file of them can be read back without running code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ebm.files import FileError

__all__ = ["decode", "encode"]


def encode(value: Any, name: str) -> Any:
    """A tree as plain lists.

    Args:
        value: tensors, numbers, words, None, and dicts, tuples, named tuples and lists of them.
        name: what it is, for messages.

    Raises:
        TypeError: anything else, or a named tuple that could not be found by its name.
    """
    if isinstance(value, Mapping):
        return ["dict", {key: encode(part, name) for key, part in value.items()}]
    if isinstance(value, tuple):
        kind = _kind(type(value), name) if hasattr(value, "_fields") else "tuple"
        return [kind, [encode(part, name) for part in value]]
    if isinstance(value, list):
        return ["list", [encode(part, name) for part in value]]
    if value is None or isinstance(value, Tensor):
        return ["leaf", None if value is None else value.detach()]
    for plain in (bool, int, float, complex, str):
        if isinstance(value, plain):  # of a kind of its own, as numpy's numbers are, it could not be read back
            return ["leaf", plain(value)]  # pyright: ignore[reportArgumentType]
    raise TypeError(
        f"`Solution.save` writes tensors, numbers, words and dicts, tuples and lists of them; `{name}` holds {type(value).__name__}. "
        "Return a NamedTuple of tensors instead, or save what you need of it yourself."
    )


def _kind(kind: Any, name: str) -> str:
    """A named tuple by its module and its place there; refused if it could not be found again."""
    words = f"{kind.__module__}:{kind.__qualname__}"
    if (
        getattr(_found(words), "_fields", None) != kind._fields
    ):  # not the type itself: a module may have been loaded again
        raise TypeError(
            f"`Solution.save` writes named tuples that can be found by name; `{name}` holds {kind.__qualname__} of {kind.__module__}, "
            "which cannot. Define it in a module or in a class, not in a function."
        )
    return words


def decode(coded: Any) -> Any:
    """The tree that `encode` made plain.

    Raises:
        FileError: a named tuple whose module is not imported.
        ValueError: what no `encode` made.
    """
    kind, body = coded
    if kind == "leaf":
        return body
    if kind == "dict":
        return {key: decode(part) for key, part in body.items()}
    parts = [decode(part) for part in body]
    if kind in ("tuple", "list"):
        return tuple(parts) if kind == "tuple" else parts
    found = _found(kind)
    if found is None:
        module, _, name = kind.partition(":")
        raise FileError(
            f"The file holds a {name}, a named tuple of {module}, which is not imported. Import {module} first."
        )
    if len(parts) != len(found._fields):
        raise ValueError(f"a {found.__name__} has {len(parts)} fields, not {len(found._fields)}")
    return tuple.__new__(found, parts)  # past a `__new__` of its own: nothing that a file names is run


def _found(kind: str) -> Any:
    """The named tuple of that module and place, or None. Looked up where names are kept, so that no property or lazy import runs."""
    module, _, name = kind.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = None if found is None else vars(found).get(part)
        if not isinstance(found, type):
            return None
    return found if issubclass(found, tuple) and hasattr(found, "_fields") else None
