"""What the doors refuse, and in which words: what was passed, what is wanted, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "alike",
    "finite",
    "floating",
    "like_post",
    "made",
    "number",
    "on_one_device",
    "one_each",
    "part",
    "positive",
    "shape",
    "share",
    "taken",
    "whole",
    "widen",
]

_ROWS_SHOWN = 8


def shape(tensor: Tensor) -> str:
    """The shape of a tensor, as printed in messages."""
    return str(tuple(tensor.shape))


def number(owner: object, name: str, value: object, *, low: float = -math.inf) -> None:
    """Refuse a setting that is no finite number of at least ``low``."""
    wanted = "a finite number" if low == -math.inf else f"a finite number of at least {low:g}"
    message = f"`{type(owner).__name__}` was given {name}={value!r}; {wanted} is wanted. Pass for example {name}=0.01."
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(message)
    if not math.isfinite(value) or value < low:
        raise ValueError(message)


def positive(owner: object, name: str, value: object) -> None:
    """Refuse a setting that is no finite number above zero."""
    number(owner, name, value, low=0)
    if not value:
        raise ValueError(
            f"`{type(owner).__name__}` was given {name}={value!r}; a number above 0 is wanted. Pass for example {name}=1.0."
        )


def part(owner: object, name: str, value: object) -> None:
    """Refuse a setting that is no number from 0 to 1."""
    number(owner, name, value, low=0)
    if isinstance(value, (int, float)) and value > 1:
        raise ValueError(
            f"`{type(owner).__name__}` was given {name}={value!r}; a number from 0 to 1 is wanted, a part of the whole. "
            f"Pass for example {name}=0.1."
        )


def whole(owner: object, name: str, value: object, low: int) -> None:
    """Refuse a setting that is no whole number of at least ``low``."""
    if type(value) is not int or value < low:
        raise ValueError(
            f"`{type(owner).__name__}` was given {name}={value!r}; a whole number of at least {low} is wanted. "
            f"Pass for example {name}={low}."
        )


def share(owner: object, name: str, value: object) -> None:
    """Refuse a setting that is no number from 0 to below 1: what a trace keeps in a step."""
    number(owner, name, value, low=0)
    if isinstance(value, (int, float)) and value >= 1:
        raise ValueError(
            f"`{type(owner).__name__}` was given {name}={value!r}; a number from 0 to below 1 is wanted, the share that is "
            f"left after a step. Pass for example {name}=0.9, which forgets over about ten steps."
        )


def like_post(owner: object, post: Tensor, signal: Tensor) -> None:
    """Refuse a signal that is not shaped like ``post``."""
    if signal.shape != post.shape:
        raise ValueError(
            f"`signal` has shape {shape(signal)}; `{type(owner).__name__}` wants one number a unit, as `post` has: "
            f"{shape(post)}. Pass the target of every unit."
        )


def one_each(owner: object, batch: int, signal: Tensor) -> None:
    """Refuse a signal that is not one number a sample."""
    if tuple(signal.shape) != (batch,):
        raise ValueError(
            f"`signal` has shape {shape(signal)}; `{type(owner).__name__}` wants one number a sample, ({batch},). "
            f"Pass `signal.expand({batch})` where all samples share it."
        )


def made(owner: str, name: str, value: object, kind: type, wanted: str) -> None:
    """Refuse what is of another kind, and a class where one of its instances is meant."""
    if isinstance(value, kind):
        return
    if isinstance(value, type):
        call = value.__name__
        raise TypeError(
            f"`{owner}` was given the class {call} as its {name}; {wanted}. Call it with its settings, `{call}(...)`."
        )
    raise TypeError(f"`{owner}` was given a {type(value).__name__} as its {name}; {wanted}.")


def taken(x: Any, like: Tensor) -> Any:
    """An array of numpy as a tensor in the dtype and on the device of another; anything else as it is."""
    if isinstance(x, Tensor) or not hasattr(x, "__array__"):
        return x
    return torch.tensor(x, dtype=like.dtype, device=like.device)


def floating(tensors: Mapping[str, Tensor]) -> None:
    """Refuse what is no tensor of real floating-point numbers."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"`{name}` is a {type(tensor).__name__}; a floating-point tensor is wanted. "
                "Convert it with `torch.as_tensor(...)`."
            )
        if not tensor.is_floating_point():
            raise TypeError(
                f"`{name}` has dtype {tensor.dtype}; a floating-point tensor is wanted. "
                f"Convert it with `{name}.float()`."
            )


def on_one_device(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that lie on several devices."""
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != reference.device:
            raise ValueError(
                f"`{first}` is on {reference.device} and `{name}` on {tensor.device}; one device is wanted. "
                f"Move one of them, as with `{name}.to({first}.device)`."
            )


def alike(tensors: Mapping[str, Tensor], *, dtypes: bool = True) -> None:
    """Refuse tensors that are not all floating point, on one device and (where ``dtypes``) of one dtype."""
    floating(tensors)
    on_one_device(tensors)
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if dtypes and tensor.dtype != reference.dtype:
            raise TypeError(
                f"`{first}` has dtype {reference.dtype} and `{name}` {tensor.dtype}; one dtype is wanted. "
                f"Convert one of them, as with `{name}.to({first}.dtype)`."
            )


def finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity, and name the samples that hold them; waits for the device once, whatever the number."""
    # a sum is not finite wherever a term is not, and an order cheaper to take than to look at every term
    if torch.stack([tensor.sum() for tensor in tensors.values()]).isfinite().all():
        return
    for name, tensor in tensors.items():
        samples = torch.atleast_1d(tensor)
        rows = samples.isfinite().logical_not().nonzero()[:, 0].unique().tolist()
        if rows:
            shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + (", ..." if len(rows) > _ROWS_SHOWN else "")
            raise ValueError(
                f"{len(rows)} of {len(samples)} samples of `{name}` hold NaN or infinity (rows {shown}); finite "
                "numbers are wanted. Drop those samples; if the weights have diverged, begin again with a lower rate."
            )


def widen(tensor: Tensor) -> Tensor:
    """A half-precision tensor in float32, any other as it is: a bfloat16 sum stops growing after 256 equal terms."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
