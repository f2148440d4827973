"""The geometry of a convolution: one weight, used at every place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight

from hebbian import checks
from hebbian.synapse import Synapse

__all__ = ["Conv1d", "Conv2d"]

Sides = int | tuple[int, ...]


@dataclass(frozen=True)
class _Convolution(Synapse):
    """What convolutions of one and of two dimensions share; ``dims`` and the functions are theirs."""

    dims: ClassVar[int]
    convolve: ClassVar[Callable[..., Tensor]]
    correlate: ClassVar[Callable[..., Tensor]]

    in_channels: int
    out_channels: int
    kernel_size: Sides
    stride: Sides = 1
    padding: Sides = 0
    dilation: Sides = 1

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            self._refuse_below(name, (getattr(self, name),), 1)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            value = getattr(self, name)
            sides = (value,) * self.dims if isinstance(value, int) else value
            self._refuse_below(name, sides, least)
            if len(sides) != self.dims:
                raise ValueError(
                    f"`{type(self).__name__}` was given {name}={value!r}; one number, or {self.dims} of them, is wanted. "
                    f"Pass for example {name}={max(least, 1)}."
                )
            object.__setattr__(self, name, tuple(sides))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``(out_channels, in_channels, *kernel_size)``."""
        return (self.out_channels, self.in_channels, *self._sides("kernel_size"))

    def forward(self, weight: Tensor, pre: Tensor) -> Tensor:
        """What the units receive at every place, ``(B, out_channels, *places)``; differentiable as usual.

        Args:
            weight: of `weight_shape`.
            pre: ``(B, in_channels, *grid)``, same dtype (autocast lifts this) and device.

        Raises:
            ValueError: a shape or device that does not fit.
            TypeError: a dtype that does not fit.
        """
        checks.floating({"pre": pre})
        checks.alike({"pre": pre, "weight": weight}, dtypes=not torch.is_autocast_enabled(pre.device.type))
        self.check_weight(weight)
        self.places(pre)
        return type(self).convolve(pre, weight, **self._geometry())

    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        """Post times what its unit saw there, summed over samples and places, of `weight_shape`."""
        self.check(pre, post)
        return type(self).correlate(pre, self.weight_shape, post, **self._geometry())

    def outer_each(self, post: Tensor, pre: Tensor) -> Tensor:
        """`outer` of each sample by itself, (B, *weight_shape)."""
        self.check(pre, post)
        each = post.flatten(2) @ self._patches(pre).transpose(1, 2)
        return each.unflatten(2, self.weight_shape[1:])

    def fields(self, pre: Tensor) -> Tensor:
        """The patch at each place, ``(B * places, in_channels, *kernel_size)``."""
        self.places(pre)
        return self._patches(pre).transpose(1, 2).flatten(0, 1).unflatten(1, self.weight_shape[1:])

    def seen_square(self, pre: Tensor) -> Tensor:
        """The squared length of what a unit sees at each place, ``(B, 1, *places)``; padding is zeros."""
        self.places(pre)
        ones = torch.ones((1, *self.weight_shape[1:]), dtype=pre.dtype, device=pre.device)
        return type(self).convolve(pre.square(), ones, **self._geometry())

    def seen_sum(self, post: Tensor, pre: Tensor) -> Tensor:
        """What the units see, summed over samples and places, ``(1, in_channels, *kernel_size)``."""
        self.check(pre, post)
        shape = (1, *self.weight_shape[1:])
        return type(self).correlate(pre, shape, torch.ones_like(post[:, :1]), **self._geometry())

    def places(self, pre: Tensor) -> tuple[int, ...]:
        """How many places the units have along each axis.

        Raises:
            ValueError: ``pre`` is not ``(B, in_channels, *grid)``, or its grid is smaller than the kernel.
        """
        if pre.ndim != self.dims + 2 or pre.shape[1] != self.in_channels:
            grid = ", ".join(("length",) if self.dims == 1 else ("height", "width"))
            raise ValueError(
                f"`pre` has shape {checks.shape(pre)}; {self} wants (B, {self.in_channels}, {grid}). "
                "Pass one picture a sample, channels first."
            )
        places = tuple(
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                pre.shape[2:],
                *(self._sides(name) for name in ("kernel_size", "stride", "padding", "dilation")),
                strict=True,
            )
        )
        if min(places) < 1:
            raise ValueError(
                f"`pre` has shape {checks.shape(pre)}, smaller than the kernel of {self}; at least one place is wanted. "
                "Pass larger pictures, or pad."
            )
        return places

    def check_shapes(self, pre: Tensor, post: Tensor) -> None:
        """Raise ValueError unless ``post`` is ``(B, out_channels, *places)`` for ``pre``, with one B."""
        wanted = (self.out_channels, *self.places(pre))
        if tuple(post.shape[1:]) != wanted:
            raise ValueError(
                f"`post` has shape {checks.shape(post)}; {self} wants (B, {', '.join(map(str, wanted))}) for this `pre`. "
                "Pass what `forward` gives, or something of its shape."
            )
        if len(pre) != len(post):
            raise ValueError(
                f"`pre` holds {len(pre)} samples and `post` {len(post)}; as many are wanted. "
                "Pass both ends of the same batch."
            )

    @abstractmethod
    def _patches(self, pre: Tensor) -> Tensor:
        """What a unit sees at each place, (B, field, places)."""

    def _sides(self, name: str) -> tuple[int, ...]:
        sides = getattr(self, name)
        assert isinstance(sides, tuple)
        return sides

    def _geometry(self) -> dict[str, Any]:
        return {name: self._sides(name) for name in ("stride", "padding", "dilation")}

    def _refuse_below(self, name: str, sides: Any, least: int) -> None:
        whole = isinstance(sides, tuple) and all(type(side) is int and side >= least for side in sides)
        if not whole:
            raise ValueError(
                f"`{type(self).__name__}` was given {name}={getattr(self, name)!r}; whole numbers of at least {least} are "
                f"wanted. Pass for example {name}={max(least, 1)}."
            )


@dataclass(frozen=True)
class Conv1d(_Convolution):
    r"""A convolution over sequences: every unit looks at a window, at every place with the same weight.

    Args:
        in_channels: at least 1.
        out_channels: units, at least 1.
        kernel_size: the width of the window, at least 1.
        stride: between places, at least 1.
        padding: zeros at both ends, at least 0.
        dilation: between what a unit sees, at least 1.

    Raises:
        ValueError: a setting that is no whole number within its range.

    Example:
        >>> import torch
        >>> from hebbian import Conv1d
        >>> synapse = Conv1d(in_channels=1, out_channels=2, kernel_size=3)
        >>> pre = torch.arange(5.0).view(1, 1, 5)
        >>> post = synapse.forward(torch.ones(2, 1, 3), pre)
        >>> post
        tensor([[[3., 6., 9.],
                 [3., 6., 9.]]])
        >>> synapse.outer(post, pre)[0]
        tensor([[24., 42., 60.]])
    """

    dims: ClassVar[int] = 1
    convolve: ClassVar[Callable[..., Tensor]] = staticmethod(functional.conv1d)
    correlate: ClassVar[Callable[..., Tensor]] = staticmethod(conv1d_weight)

    def _patches(self, pre: Tensor) -> Tensor:
        geometry = {
            name: (1, *self._sides(name)) if name != "padding" else (0, *self._sides(name))
            for name in ("kernel_size", "stride", "padding", "dilation")
        }
        return functional.unfold(pre[:, :, None], **geometry)


@dataclass(frozen=True)
class Conv2d(_Convolution):
    r"""A convolution over pictures: every unit looks at a window, at every place with the same weight.

    A side is one number, or a pair (height, width).

    Args:
        in_channels: at least 1.
        out_channels: units, at least 1.
        kernel_size: the sides of the window, at least 1.
        stride: between places, at least 1.
        padding: zeros around the picture, at least 0.
        dilation: between what a unit sees, at least 1.

    Raises:
        ValueError: a setting that is no whole number within its range.

    Example:
        >>> import torch
        >>> from hebbian import Conv2d, Oja, step
        >>> synapse, rule = Conv2d(3, 8, kernel_size=5, padding=2), Oja(0.01)
        >>> pre = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> weight = torch.full(synapse.weight_shape, 0.1)
        >>> step(rule, synapse, weight, pre, synapse.forward(weight, pre), None)[0].shape
        torch.Size([8, 3, 5, 5])
    """

    dims: ClassVar[int] = 2
    convolve: ClassVar[Callable[..., Tensor]] = staticmethod(functional.conv2d)
    correlate: ClassVar[Callable[..., Tensor]] = staticmethod(conv2d_weight)

    def _patches(self, pre: Tensor) -> Tensor:
        return functional.unfold(pre, self._sides("kernel_size"), **self._geometry())
