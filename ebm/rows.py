"""Row trees: the one data shape of the library.

A **row tree** is a tensor whose first axis is the sample, or a dict / list / tuple / NamedTuple of row trees, or ``None``.
A leaf that belongs to no sample (a weight, a Gram matrix, an edge list) is wrapped as ``Shared(tensor)`` and passes
through every function here untouched. Latents, conditions, solver memory and stop-rule memory are row trees, so
freezing, compaction, resuming, saving and splitting a batch need no code anywhere else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Shared",
    "add",
    "cat",
    "count",
    "dot",
    "finite",
    "first_leaf",
    "flatten",
    "leaves",
    "map_rows",
    "matched",
    "probe",
    "put",
    "rms",
    "same_rows",
    "scale",
    "take",
    "unflatten",
    "versions",
    "where",
]


class Shared(NamedTuple):
    """A leaf that belongs to no sample: every row function passes it through untouched.

    Example:
        >>> import torch
        >>> from ebm.rows import Shared, take
        >>> tree = {"x": torch.arange(3.0), "weight": Shared(torch.eye(2))}
        >>> take(tree, torch.tensor([2]))["x"]
        tensor([2.])
    """

    value: Any


def map_rows(fn: Callable[..., Tensor], tree: Any, *others: Any) -> Any:
    """Apply ``fn`` to the row tensors of one tree, or to the matching ones of several.

    Args:
        fn: takes one tensor from each tree and returns a tensor.
        tree: a row tree; its structure is the structure of the result.
        others: row trees of the same structure.

    Example:
        >>> import torch
        >>> from ebm.rows import map_rows
        >>> map_rows(torch.neg, (torch.ones(2), None))
        (tensor([-1., -1.]), None)
    """
    if isinstance(tree, Tensor):
        return fn(tree, *others)
    if tree is None or isinstance(tree, Shared):
        return tree
    if isinstance(tree, dict):
        return {key: map_rows(fn, value, *(other[key] for other in others)) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [map_rows(fn, *nodes) for nodes in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    raise TypeError(
        f"A row tree holds tensors, None, Shared(...), dicts, tuples and lists; got {type(tree).__name__}. "
        "Turn it into a tensor whose first axis is the sample, or wrap what belongs to no sample in Shared(...)."
    )


def matched(tree: Any, like: Any, owner: Any, what: str) -> Any:
    """``tree`` with its parts in the order of ``like``; ``tree`` itself where they are so already.

    Parts of dicts and NamedTuples are paired by name, of tuples and lists by number. What is walked leaf by leaf beside a
    latent is brought into the latent's order here, once, where a model hands it over.

    Args:
        tree: a row tree, with a leaf for each leaf of ``like``, of the same shape.
        like: the row tree whose order and kinds of nodes the result has.
        owner: whose ``what`` gave the tree, for the error.
        what: the method's name, for the error.

    Raises:
        ValueError: a part that ``like`` does not have, one too few, or a leaf of another shape.

    Example:
        >>> import torch
        >>> from ebm.rows import matched
        >>> latent = {"a": torch.zeros(1), "b": torch.zeros(1)}
        >>> list(matched({"b": torch.ones(1), "a": torch.ones(1)}, latent, None, "forward"))
        ['a', 'b']
    """
    return tree if _alike(tree, like) else _arranged(tree, like, f"`{type(owner).__name__}.{what}`", ())


def _alike(tree: Any, like: Any) -> bool:
    if isinstance(like, Tensor):
        return isinstance(tree, Tensor) and tree.shape == like.shape
    if type(tree) is not type(like):
        return False
    if isinstance(like, dict):
        return list(tree) == list(like) and all(_alike(tree[key], like[key]) for key in tree)
    if isinstance(like, (tuple, list)) and not isinstance(like, Shared):
        return len(tree) == len(like) and all(_alike(*pair) for pair in zip(tree, like, strict=True))
    return True


def _arranged(tree: Any, like: Any, name: str, path: tuple[Any, ...]) -> Any:
    if _alike(tree, like):
        return tree
    fields = hasattr(tree, "_fields") and hasattr(like, "_fields")
    named, wanted = _parts(tree, fields), _parts(like, fields)
    same_kind = isinstance(tree, dict) == isinstance(like, dict)
    if named is None or wanted is None or not same_kind or named.keys() != wanted.keys():
        where = "".join(f"[{key!r}]" for key in path)
        raise ValueError(
            f"{name} must give a row tree like the latent `z`: `z{where}` is a {_described(like)}; got a {_described(tree)}. "
            "Give one leaf for each leaf of the latent, of its shape and under its name."
        )
    found = {key: _arranged(named[key], part, name, (*path, key)) for key, part in wanted.items()}
    if isinstance(like, dict):
        return found
    return type(like)(*found.values()) if hasattr(like, "_fields") else type(like)(found.values())


def _parts(node: Any, fields: bool) -> dict[Any, Any] | None:
    """What a node holds, by key, by field or else by number; None for a leaf."""
    if isinstance(node, dict):
        return node
    if not isinstance(node, (tuple, list)) or isinstance(node, Shared):
        return None
    return dict(zip(node._fields if fields else range(len(node)), node, strict=True))  # pyright: ignore[reportAttributeAccessIssue]


def _described(node: Any) -> str:
    if isinstance(node, Tensor):
        return f"tensor of shape {tuple(node.shape)}"
    parts = _parts(node, hasattr(node, "_fields"))
    return type(node).__name__ + (
        "" if parts is None else f" of {', '.join(repr(part) for part in parts) or 'no part'}"
    )


def versions(tree: Any) -> int:
    """A number that grows whenever a row tensor of the tree is written in place; its storage counts, however it is viewed."""
    if not isinstance(tree, Tensor):
        return sum(versions(leaf) for leaf in leaves(tree))
    try:
        return tree._version
    except RuntimeError:  # an inference tensor, which cannot be written outside of that mode
        return 0


def leaves(tree: Any) -> Iterator[Tensor]:
    """The row tensors of a tree, in order; ``Shared`` leaves and ``None`` are left out."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, (tuple, list)) and not isinstance(tree, Shared):
        for value in tree:
            yield from leaves(value)


def first_leaf(tree: Any) -> Tensor:
    """The first row tensor of a tree."""
    return tree if isinstance(tree, Tensor) else next(leaves(tree))


def count(tree: Any) -> int:
    """The number of samples B of a row tree.

    Raises:
        ValueError: the tree has no row tensor, or its leaves disagree about B.
    """
    sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves(tree)}
    if len(sizes) == 1 and -1 not in sizes:
        return sizes.pop()
    if not sizes:
        raise ValueError(
            "A row tree needs at least one tensor with a sample axis; got none. Pass a tensor of shape (B, ...)."
        )
    shown = sorted("a scalar" if size < 0 else str(size) for size in sizes)
    raise ValueError(
        f"All leaves of a row tree share their first axis, the sample; got sizes {', '.join(shown)}. "
        "Give each leaf one row a sample, or wrap what belongs to no sample in Shared(...)."
    )


def _column(vector: Tensor, like: Tensor) -> Tensor:
    """A (B,) vector shaped to broadcast over a (B, ...) leaf."""
    return vector if like.ndim <= 1 else vector.view(-1, *([1] * (like.ndim - 1)))


def where(mask: Tensor, yes: Any, no: Any) -> Any:
    """Rows of ``yes`` where ``mask`` (B,) is true, rows of ``no`` elsewhere."""
    return map_rows(lambda a, b: a if a is b else torch.where(_column(mask, a), a, b), yes, no)


def take(tree: Any, rows: Tensor) -> Any:
    """The given rows (an index tensor) of every leaf."""
    return map_rows(lambda leaf: leaf.index_select(0, rows), tree)


def put(tree: Any, rows: Tensor, part: Any) -> Any:
    """A copy of ``tree`` with the given rows replaced by those of ``part``; nothing is written in place."""
    return map_rows(lambda leaf, new: leaf.index_copy(0, rows, new), tree, part)


def cat(trees: list[Any]) -> Any:
    """The samples of several trees of one structure, one after the other."""
    return map_rows(lambda *parts: torch.cat(parts), trees[0], *trees[1:])


def add(tree: Any, other: Any, alpha: float | Tensor = 1.0) -> Any:
    """``tree + alpha * other``; ``alpha`` is a number, or one number a sample (B,)."""
    if isinstance(alpha, Tensor) and alpha.ndim == 1:
        return map_rows(lambda a, b: torch.addcmul(a, _column(alpha, b), b), tree, other)
    if isinstance(alpha, Tensor):
        return map_rows(lambda a, b: a + alpha * b, tree, other)
    return map_rows(lambda a, b: torch.add(a, b, alpha=alpha), tree, other)


def scale(tree: Any, alpha: float | Tensor) -> Any:
    """``alpha * tree``; ``alpha`` is a number, or one number a sample (B,)."""
    if isinstance(alpha, Tensor) and alpha.ndim == 1:
        return map_rows(lambda leaf: leaf * _column(alpha, leaf), tree)
    return map_rows(lambda leaf: leaf * alpha, tree)


def dot(tree: Any, other: Any) -> Tensor:
    """The inner product of each sample, summed over all leaves: shape (B,)."""
    parts = [
        (a * b).flatten(1).sum(1) if a.ndim > 1 else a * b for a, b in zip(leaves(tree), leaves(other), strict=True)
    ]
    return sum(parts[1:], parts[0])


def rms(tree: Any) -> Tensor:
    """Root mean square over all the numbers of each sample: shape (B,). It does not grow with the size of the latent."""
    parts = list(leaves(tree))
    if len(parts) == 1:
        leaf = parts[0].unsqueeze(1) if parts[0].ndim == 1 else parts[0].flatten(1)
        return torch.linalg.vector_norm(leaf, dim=1) / max(leaf.shape[1], 1) ** 0.5
    # norms of norms: their slope at zero is zero, where that of a root is infinite
    norms = [leaf.abs() if leaf.ndim == 1 else torch.linalg.vector_norm(leaf.flatten(1), dim=1) for leaf in parts]
    size = sum(leaf[0].numel() for leaf in parts) if parts[0].shape[0] else 1
    return torch.linalg.vector_norm(torch.stack(norms, 1), dim=1) / max(size, 1) ** 0.5


def finite(tree: Any) -> Tensor:
    """Which samples hold only finite numbers: bool (B,)."""
    if torch.compiler.is_compiling():
        return _finite_exactly(tree)
    sums = [leaf if leaf.ndim == 1 else leaf.flatten(1).sum(1) for leaf in leaves(tree)]
    mask = torch.isfinite(sum(sums[1:], sums[0]))
    # a sum of finite numbers may overflow, so only a sum that is finite settles the matter; it does so ten times faster
    return mask if bool(mask.all()) else _finite_exactly(tree)


def _finite_exactly(tree: Any) -> Tensor:
    masks = [
        torch.isfinite(leaf) if leaf.ndim == 1 else torch.isfinite(leaf.flatten(1)).all(1) for leaf in leaves(tree)
    ]
    return functools.reduce(torch.logical_and, masks)


def same_rows(tree: Any, other: Any) -> Tensor:
    """Which samples hold the same numbers in two trees, bool (B,); what is not a number equals itself."""
    masks = []
    for a, b in zip(leaves(tree), leaves(other), strict=True):
        same = (a == b) | ((a != a) & (b != b))
        masks.append(same if same.ndim == 1 else same.flatten(1).all(1))
    return functools.reduce(torch.logical_and, masks)


def probe(tree: Any, other: Any) -> Tensor:
    """The inner product of two trees over all samples: finite only if all numbers of both are, and found in one pass.

    The converse may fail (a product can overflow), so a result that is not finite asks for a look with `finite`.
    """
    if isinstance(tree, Tensor):
        return torch.dot(tree.reshape(-1), other.reshape(-1))
    first, *rest = (torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in zip(leaves(tree), leaves(other), strict=True))
    return sum(rest, first)


def flatten(tree: Any) -> Tensor:
    """All numbers of each sample side by side: shape (B, D)."""
    parts = [leaf.unsqueeze(1) if leaf.ndim == 1 else leaf.flatten(1) for leaf in leaves(tree)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def unflatten(flat: Tensor, like: Any) -> Any:
    """The inverse of `flatten`: the columns of ``flat`` (B, D) cut back into the leaves of ``like``."""
    start = 0

    def cut(leaf: Tensor) -> Tensor:
        nonlocal start
        size = leaf[0].numel() if leaf.shape[0] else leaf.flatten(1).shape[1] if leaf.ndim > 1 else 1
        piece = flat[:, start : start + size].reshape(flat.shape[0], *leaf.shape[1:])
        start += size
        return piece

    return map_rows(cut, like)
