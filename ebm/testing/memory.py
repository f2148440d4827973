"""What a call leaves behind for its backward pass, counted exactly."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["kept_bytes"]


class _Held:
    """A tensor that autograd saved, which can be told from one that it let go."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_bytes(call: Callable[[], Any]) -> int:
    """Bytes of the tensors that are there after a call, while its result is, and were not before.

    Counted are the tensors that autograd saved and those that Python holds; not the temporaries of the call, and not what
    its own saved-tensor hooks have let go. Exact, where the peak of the process would show the allocator's habits as well. A
    storage counts once, however many tensors view it.

    Args:
        call: makes what is to be differentiated, and returns it.

    Returns:
        the number of bytes.

    Example:
        >>> import torch
        >>> from ebm.testing import kept_bytes
        >>> x = torch.ones(100, requires_grad=True)
        >>> kept_bytes(lambda: x.exp())  # the exponential is its own slope
        400

    Source: the hooks of `torch.autograd.graph.saved_tensors_hooks`.
    """
    gc.collect()
    before = _storages(_known())
    saved: weakref.WeakSet[_Held] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Held:
        held = _Held(tensor)
        saved.add(held)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        result = call()
    gc.collect()
    after = _storages([*_known(), *(held.tensor for held in saved)])
    del result
    return sum(size for place, size in after.items() if place not in before)


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    found = {}
    for tensor in tensors:
        with contextlib.suppress(NotImplementedError):  # wrappers of transformed functions hold no storage of their own
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found


def _known() -> list[Tensor]:
    """Every tensor that Python can reach."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects complain when their type is asked for
        return [thing for thing in gc.get_objects() if type(thing) in (Tensor, torch.nn.Parameter)]
