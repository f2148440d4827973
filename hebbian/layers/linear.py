"""A dense Hebbian layer."""

from __future__ import annotations

from typing import Literal

import torch

from hebbian.layers.base import Activation, HebbianLayer
from hebbian.rule import LocalRule
from hebbian.synapse import Dense

__all__ = ["HebbianLinear"]


class HebbianLinear(HebbianLayer):
    r"""Every input to every unit, learned by a local rule: $f(W x)$.

    Args:
        in_features: at least 1.
        out_features: at least 1.
        rule: how the weight changes.
        activation: what the layer makes of what its units receive; None takes what suits the rule, as in `HebbianLayer`.
        sees: what the rule is shown as ``post``, ``"drive"`` or ``"activity"``, as in `HebbianLayer`.
        backprop: the weight has a gradient, too.
        transparent: the answer is differentiable in the input.
        generator: draws the first weights.

    Raises:
        TypeError, ValueError: as `HebbianLayer` and `Dense` do.

    Example:
        >>> import torch
        >>> from hebbian import Oja
        >>> from hebbian.layers import HebbianLinear, Relu
        >>> layer = HebbianLinear(4, 2, Oja(0.1), Relu(), generator=torch.Generator().manual_seed(0))
        >>> net = torch.nn.Sequential(layer, torch.nn.Linear(2, 3))  # the read-out is trained by backpropagation
        >>> net(torch.ones(5, 4)).shape
        torch.Size([5, 3])
        >>> layer.weight.requires_grad
        False
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rule: LocalRule,
        activation: Activation | None = None,
        *,
        sees: Literal["drive", "activity"] = "drive",
        backprop: bool = False,
        transparent: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            Dense(in_features, out_features),
            rule,
            activation,
            sees=sees,
            backprop=backprop,
            transparent=transparent,
            generator=generator,
        )
