"""Activations with their derivatives in closed form, and any other by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Activation", "activation_of"]

_aten = torch.ops.aten


class Activation(NamedTuple):
    """A function of each number, and its pull-back.

    Attributes:
        value: ``value(z)``.
        pull: ``pull(g, z, a)``, the product of g and the slope at z, where a = value(z).
    """

    value: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor, Tensor, Tensor], Tensor]


def _identity(z: Tensor) -> Tensor:
    return z


_KNOWN: dict[Any, Activation] = {
    nn.Tanh: Activation(torch.tanh, lambda g, z, a: _aten.tanh_backward(g, a)),
    nn.Sigmoid: Activation(torch.sigmoid, lambda g, z, a: _aten.sigmoid_backward(g, a)),
    nn.ReLU: Activation(torch.relu, lambda g, z, a: _aten.threshold_backward(g, a, 0)),
    nn.Identity: Activation(_identity, lambda g, z, a: g),
}
_KNOWN |= {torch.tanh: _KNOWN[nn.Tanh], torch.sigmoid: _KNOWN[nn.Sigmoid], torch.relu: _KNOWN[nn.ReLU]}


def activation_of(function: Callable[[Tensor], Tensor]) -> Activation:
    """The activation for a module or function; one that is not known in closed form is differentiated.

    Example:
        >>> import torch
        >>> from ebm.models.activations import activation_of
        >>> z = torch.tensor([0.5])
        >>> gelu = activation_of(torch.nn.functional.gelu)
        >>> gelu.pull(torch.ones(1), z, gelu.value(z)).round(decimals=3)
        tensor([0.8670])
    """
    known = _KNOWN.get(type(function)) or _KNOWN.get(function)
    return known if known is not None else Activation(function, lambda g, z, a: torch.func.vjp(function, z)[1](g)[0])
