"""Any function as an update: a deep equilibrium layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.models.energy_net import check_functions, checked_shape
from ebm.models.starts import Start, Zeros
from ebm.noise import Draw
from ebm.objective import Update

__all__ = ["FixedPoint"]


class FixedPoint(Update):
    r"""Any function as an update, whose rest is :math:`z = f(z, x)`: a deep equilibrium layer.

    Settle it with ``adjoint=ebm.Implicit()`` and a loss trains f and x in the memory of one evaluation, however many steps were taken.
    `Picard` repeats f; `Anderson` needs fewer steps, and `PeacemanRachford` rests where a map does not contract (`MonotoneCell`).

    Args:
        module: ``module(z, x)`` returns a latent like z, for a latent (B, \*shape) and the observation. A module's parameters belong to
            the model; those that a plain function uses are trained too, but are not saved or moved with it.
        shape: the shape of one latent; an int N stands for (N,). None: that of the observation, which is then one tensor.
        start: where settling starts: `Zeros()`, `Noise(scale)`, or your own.
        encoder: applied to the observation once a call; ``module(z, encoder(x))`` then sees only its output, so put here
            whatever does not depend on z. None passes the observation on.

    Raises:
        ValueError: an empty axis.
        TypeError: what cannot be called, a shape of something else than whole numbers; at the call, no shape and an observation
            that is no tensor.

    Example:
        >>> import torch, ebm
        >>> class Cell(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner, self.outer = torch.nn.Linear(8, 8), torch.nn.Linear(3, 8)
        ...     def forward(self, z, x):
        ...         return torch.tanh(self.inner(z) + self.outer(x))
        >>> layer = ebm.FixedPoint(Cell(), 8)
        >>> z = ebm.infer(layer, torch.ones(5, 3), steps=40, solver=ebm.Anderson(), adjoint=ebm.Implicit()).z
        >>> z.square().sum().backward()
        >>> z.shape, layer.module.inner.weight.grad is not None
        (torch.Size([5, 8]), True)

    Source: Bai, Kolter and Koltun (2019), Deep equilibrium models, eq. 1-2; the zero start is theirs.
    """

    def __init__(
        self,
        module: Callable[[Any, Any], Tensor],
        shape: int | tuple[int, ...] | None = None,
        start: Start = Zeros(),
        encoder: nn.Module | Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        check_functions("FixedPoint", "lambda z, x: torch.tanh(z @ weight + x)", module, encoder)
        self.module = module
        self.encoder = encoder
        self.shape = None if shape is None else checked_shape("FixedPoint", shape)
        self.start = start

    def condition(self, x: Any) -> Any:
        """The observation, encoded."""
        return x if self.encoder is None else self.encoder(x)

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """The start, in the dtype of the condition, or else of the parameters."""
        if self.shape is None and not isinstance(c, Tensor):
            raise TypeError(
                f"`FixedPoint(shape=None)` starts with a latent like the observation, a tensor; got {type(c).__name__}. Pass `shape=64`, say."
            )
        tensors = (*rows.leaves(c), *self.parameters(), torch.empty(()))
        home = next(tensor for tensor in tensors if tensor.is_floating_point())
        sizes = c.shape[1:] if self.shape is None else self.shape
        return self.start(home.new_zeros(rows.count(c), *sizes, device=rows.first_leaf(c).device), draw)

    def forward(self, z: Any, c: Any) -> Any:
        """The next latent."""
        return self.module(z, c)
