"""Keeps a derivative that overflows in one sample out of the gradients of all the others.

A sample that runs away has derivatives beyond any number. In the backward pass of a loss that does not hold that sample they meet a
cotangent of zero, and zero times infinity is NaN; one NaN in a row is a NaN in every parameter. So what is no number is set to
zero where it comes out of an evaluation: at the latent, the condition, the force and the energy. A number that is not finite before it enters the
call (an overflow in the user's loss, which loss scaling waits for) is passed on as it is.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = ["guarded", "handed_out"]


class _Backward(threading.local):
    """The backward pass that runs in this thread, and whether what entered the call in it was not finite."""

    task = -1
    broken = False


_NOW = _Backward()


def guarded(tree: Any) -> Any:
    """The same numbers; what comes back to them and is no number, is zero."""
    return rows.map_rows(lambda leaf: _hooked(leaf, _cut), tree)


def handed_out(tree: Any) -> Any:
    """The same numbers, as the caller gets them: what comes back here is the caller's."""
    return rows.map_rows(lambda leaf: _hooked(leaf, _arrived), tree)


def _hooked(leaf: Tensor, hook: Any) -> Tensor:
    if not leaf.requires_grad:
        return leaf
    found = leaf.view_as(leaf)
    found.register_hook(hook)
    return found


def _arrived(cotangent: Tensor | None) -> None:
    if cotangent is None:  # nothing arrives here
        return
    task = torch._C._current_graph_task_id()
    before = _NOW.broken and _NOW.task == task
    _NOW.task, _NOW.broken = task, before or not _finite(cotangent)


def _cut(cotangent: Tensor | None) -> Tensor | None:
    if cotangent is None or (_NOW.broken and _NOW.task == torch._C._current_graph_task_id()):
        return None
    return cotangent.nan_to_num(0.0, 0.0, 0.0)


def _finite(cotangent: Tensor) -> bool:
    try:
        return bool(cotangent.isfinite().all())
    except RuntimeError:  # many cotangents at once, of which nobody may ask: those of a loss of many values are finite
        return True
