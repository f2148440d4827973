"""How good each sample's answer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Quality", "accuracy", "copied", "scored"]

Quality = Callable[[Any, Any], Tensor]
"""``quality(answer, y)``: one number a sample, (B,), the larger the better."""


def accuracy(answer: Any, y: Any) -> Tensor:
    """Whether the largest logit, over axis 1, is that of the label; the share of positions right where there are several.

    Args:
        answer: (B, classes, ...).
        y: int64 (B, ...).

    Returns:
        float64 (B,).

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> import torch
        >>> from ebm.diagnostics import accuracy
        >>> accuracy(torch.eye(3), torch.tensor([0, 1, 1]))
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    fits = isinstance(answer, Tensor) and answer.ndim >= 2 and isinstance(y, Tensor)
    if not fits or y.shape != answer.shape[:1] + answer.shape[2:]:
        raise ValueError(
            f"Accuracy wants logits (B, classes, ...) and labels (B, ...); got {_shape(answer)} and {_shape(y)}. "
            "Pass `quality=`, a function of the answer and y."
        )
    right = (answer.argmax(1) == y).double()
    return right if right.ndim == 1 else right.flatten(1).mean(1)


def scored(quality: Quality, answer: Any, y: Any, batch: int) -> Tensor:
    """The quality of a batch, float64 (B,), checked."""
    with torch.no_grad():
        found = quality(answer, y)
    if not isinstance(found, Tensor) or found.shape != (batch,):
        raise ValueError(
            f"`quality` must return one number a sample, shape ({batch},); got {_shape(found)}. Mean over the other axes."
        )
    found = found.detach().double()
    bad = (~found.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"`quality` must be finite; got {found[bad[0]].item()} for sample {bad[0]} and {len(bad) - 1} more. Bound it, or leave those out."
        )
    return found


def copied(generator: torch.Generator | None) -> torch.Generator | None:
    """A generator that will draw the same numbers, so that a second call meets the same noise."""
    if generator is None:
        return None
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
