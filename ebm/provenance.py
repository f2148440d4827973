"""What a solution was computed from, so that a call that goes on can tell whether any of it has changed since."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = ["Provenance", "Source"]


class Source:
    """The weights and the observation of one call, as they are when it begins.

    PyTorch counts how often a tensor is written (its version; what is written through ``.data`` escapes it). So a tensor that is
    the same object with the same version holds the same numbers. Where the object is another one, numbers are compared; where
    the earlier ones are gone, as in another process, their digest is.

    Args:
        owned: parameters and buffers by name.
        x: the observation, held as long as the solution is.
        dtype: of the model.
        precision: of the products.
    """

    def __init__(self, owned: Mapping[str, Tensor], x: Any, dtype: torch.dtype, precision: str) -> None:
        self.dtype = str(dtype)
        self.precision = precision
        self.x = rows.map_rows(torch.detach, x)
        self._x_versions = _versions(_tensors(x))
        self._weights: dict[str, Any] | None = {
            name: (weakref.ref(tensor), *_versions([tensor])) for name, tensor in owned.items()
        }
        self._digest: str | None = None

    @property
    def digest(self) -> str | None:
        """Of the weights; None if they had changed or were gone before it was asked for."""
        if self._digest is None and self._weights is not None:
            held = {name: ref() for name, (ref, _) in self._weights.items()}
            kept = all(_kept(held[name], version) for name, (_, version) in self._weights.items())
            self._digest = _digest(held) if kept else None
        return self._digest

    def plain(self) -> dict[str, Any]:
        """What can be written to a file: there the weights are known by their digest."""
        return {"dtype": self.dtype, "precision": self.precision, "digest": self.digest, "x": self.x}

    @staticmethod
    def read(plain: dict[str, Any]) -> Source:
        """What `plain` gave."""
        source = object.__new__(Source)
        source.dtype, source.precision, source._digest = plain["dtype"], plain["precision"], plain["digest"]
        source.x, source._x_versions, source._weights = plain["x"], _versions(_tensors(plain["x"])), None
        return source

    def __reduce__(self) -> Any:
        return Source.read, (self.plain(),)

    def same(self, other: Source) -> bool:
        """Whether all numbers of another call are surely those of this one."""
        return self._same_x(other) and self.same_model(other)

    def same_model(self, other: Source) -> bool:
        """Whether weights and precision are surely the same."""
        return (self.dtype, self.precision) == (other.dtype, other.precision) and self._same_weights(other)

    def _same_x(self, other: Source) -> bool:
        ours, theirs = list(_tensors(self.x)), list(_tensors(other.x))
        return _versions(ours) == self._x_versions and len(ours) == len(theirs) and all(map(_equal, ours, theirs))

    def _same_weights(self, other: Source) -> bool:
        if self._weights is None or other._weights is None:
            return self.digest is not None and self.digest == other.digest
        if self._weights.keys() != other._weights.keys():
            return False
        for name, (ref, version) in self._weights.items():
            ours, theirs = ref(), other._weights[name][0]()
            if ours is None or theirs is None or not _kept(ours, version) or not _equal(ours, theirs):
                return False
        return True

    def over(self, x: Any) -> Source | None:
        """The same source with another observation, made of this one; None if this one was written to."""
        if _versions(_tensors(self.x)) != self._x_versions:
            return None
        part = object.__new__(Source)
        part.__dict__.update(self.__dict__, x=x, _x_versions=_versions(_tensors(x)))
        return part


class Provenance:
    """The source of a solution, and the versions of the state that it left.

    Args:
        source: of the call.
        state: a row tree.
    """

    def __init__(self, source: Source, state: Any) -> None:
        self.source = source
        self._versions = _versions(rows.leaves(state))

    def untouched(self, state: Any) -> bool:
        """Whether nothing was written into the state since."""
        return self._versions == _versions(rows.leaves(state))

    def holds(self, source: Source, state: Any) -> bool:
        """Whether a call that begins from ``source`` would surely find the numbers in ``state``."""
        return self.untouched(state) and self.source.same(source)

    def take(self, index: Tensor, state: Any, part: Any) -> Provenance | None:
        """Of a part of the state; None if it is not known any more."""
        return self._made([self], state, part, lambda trees: rows.take(trees[0], index))

    @staticmethod
    def cat(parts: list[Provenance | None], states: list[Any], whole: Any) -> Provenance | None:
        """Of several states joined; None if it is not known, or not the same for all."""
        known = [part for part in parts if part is not None]
        pairs = zip(known, states, strict=False)
        if len(known) < len(parts) or not all(part.untouched(state) for part, state in pairs):
            return None
        if not all(known[0].source.same_model(part.source) for part in known[1:]):
            return None
        return Provenance._made(known, states[0], whole, rows.cat)

    @staticmethod
    def _made(known: list[Provenance], state: Any, part: Any, join: Callable[[list[Any]], Any]) -> Provenance | None:
        if not known[0].untouched(state) or any(each.source.over(None) is None for each in known):
            return None
        source = known[0].source.over(join([each.source.x for each in known]))
        return None if source is None else Provenance(source, part)


def _tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors of a tree, those that belong to no sample included."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from _tensors(value)


def _versions(tensors: Any) -> tuple[Any, ...]:
    return tuple(float("nan") if leaf.is_inference() else leaf._version for leaf in tensors)  # NaN: never the same


def _kept(tensor: Tensor | None, version: Any) -> bool:
    return tensor is not None and _versions([tensor])[0] == version


def _equal(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if one.layout != torch.strided or other.layout != torch.strided:
        return False
    same_memory = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return same_memory or torch.equal(one, other)


def _digest(tensors: Mapping[str, Tensor | None]) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        assert tensor is not None
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.layout == torch.strided and tensor.numel():
            found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
