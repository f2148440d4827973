"""Convolutional Hebbian layers."""

from __future__ import annotations

from typing import Literal

import torch

from hebbian.convolution import Conv1d, Conv2d
from hebbian.layers.base import Activation, HebbianLayer
from hebbian.rule import LocalRule

__all__ = ["HebbianConv1d", "HebbianConv2d"]


class HebbianConv1d(HebbianLayer):
    r"""A convolution over sequences, learned by a local rule at every place: $f(W * x)$.

    Args:
        in_channels: at least 1.
        out_channels: units, at least 1.
        kernel_size: the width of the window.
        rule: how the weight changes; units compete at each place.
        activation: what the layer makes of what its units receive; None takes what suits the rule, as in `HebbianLayer`.
        stride: between places.
        padding: zeros at both ends.
        dilation: between what a unit sees.
        sees: what the rule is shown as ``post``, ``"drive"`` or ``"activity"``, as in `HebbianLayer`.
        backprop: the weight has a gradient, too.
        transparent: the answer is differentiable in the input.
        generator: draws the first weights.

    Raises:
        TypeError, ValueError: as `HebbianLayer` and `Conv1d` do.

    Example:
        >>> import torch
        >>> from hebbian import HebbianConv1d, Oja
        >>> layer = HebbianConv1d(2, 3, 5, Oja(0.1), padding=2, generator=torch.Generator().manual_seed(0))
        >>> layer(torch.ones(4, 2, 10)).shape
        torch.Size([4, 3, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        rule: LocalRule,
        activation: Activation | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        sees: Literal["drive", "activity"] = "drive",
        backprop: bool = False,
        transparent: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            Conv1d(in_channels, out_channels, kernel_size, stride, padding, dilation),
            rule,
            activation,
            sees=sees,
            backprop=backprop,
            transparent=transparent,
            generator=generator,
        )


class HebbianConv2d(HebbianLayer):
    r"""A convolution over pictures, learned by a local rule at every place: $f(W * x)$.

    Args:
        in_channels: at least 1.
        out_channels: units, at least 1.
        kernel_size: the sides of the window, a number or (height, width); stride, padding and dilation alike.
        rule: how the weight changes; units compete at each place.
        activation: what the layer makes of what its units receive; None takes what suits the rule, as in `HebbianLayer`.
        stride: between places.
        padding: zeros around the picture.
        dilation: between what a unit sees.
        sees: what the rule is shown as ``post``, ``"drive"`` or ``"activity"``, as in `HebbianLayer`.
        backprop: the weight has a gradient, too.
        transparent: the answer is differentiable in the input.
        generator: draws the first weights.

    Raises:
        TypeError, ValueError: as `HebbianLayer` and `Conv2d` do.

    Example:
        >>> import torch
        >>> from hebbian import HebbianConv2d, SoftHebb
        >>> from hebbian.layers import Triangle
        >>> layer = HebbianConv2d(1, 8, 5, SoftHebb(0.1), Triangle(), generator=torch.Generator().manual_seed(0))
        >>> layer.learn(torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))).shape
        torch.Size([4, 8, 24, 24])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        rule: LocalRule,
        activation: Activation | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        sees: Literal["drive", "activity"] = "drive",
        backprop: bool = False,
        transparent: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation),
            rule,
            activation,
            sees=sees,
            backprop=backprop,
            transparent=transparent,
            generator=generator,
        )
