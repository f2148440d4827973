"""Any module as an energy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.models.starts import Start, Zeros
from ebm.noise import Draw
from ebm.objective import Energy

__all__ = ["EnergyNet"]


class EnergyNet(Energy):
    r"""Any module as an energy: :math:`E(z; x) = \text{module}(z, x)`, one number a sample.

    Args:
        module: ``module(z, x)`` returns energies (B,), for a latent (B, \*shape) and the observation.
        shape: the shape of one latent; an int N stands for (N,).
        start: where settling starts: `Zeros()`, `Noise(scale)`, or your own.
        encoder: applied to the observation once a call; ``module(z, encoder(x))`` then sees only its output, so put here
            whatever does not depend on z. None passes the observation on.

    Raises:
        ValueError: an empty axis; at the call, energies of another shape than (B,).
        TypeError: no module, or a shape of something else than whole numbers.

    Example:
        >>> import torch, ebm
        >>> class Distance(torch.nn.Module):
        ...     def forward(self, z, x):
        ...         return (z - x).square().sum(1)
        >>> ebm.infer(ebm.EnergyNet(Distance(), 2), torch.tensor([[1.0, 3.0]]), steps=20).z.round(decimals=3)
        tensor([[1., 3.]])

    Source: LeCun et al. (2006), A tutorial on energy-based learning. It names no solver: `AdaptiveDescent` needs no tuning.
    """

    def __init__(
        self, module: nn.Module, shape: int | tuple[int, ...], start: Start = Zeros(), encoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        for name, value in (("module", module), ("encoder", encoder)):
            if not isinstance(value, nn.Module) and not (name == "encoder" and value is None):
                raise TypeError(
                    f"`EnergyNet({name})` wants a `torch.nn.Module`; got {type(value).__name__}. Wrap a function in a module."
                )
        self.module = module
        self.encoder = encoder
        self.shape = _checked_shape(shape)
        self.start = start

    def condition(self, x: Any) -> Any:
        """The observation, encoded."""
        return x if self.encoder is None else self.encoder(x)

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The start, in the dtype of the parameters, or else of the condition."""
        return self.start(self._home(c).new_zeros(rows.count(c), *self.shape), draw)

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The energy, (B,)."""
        energy = self.module(z, c)
        wanted = (rows.count(z),)
        if isinstance(energy, Tensor) and energy.shape == wanted:
            return energy
        got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        advice = "End it with `.squeeze(1)`" if got == (*wanted, 1) else "Sum over every axis but the first"
        raise ValueError(
            f"`{type(self.module).__name__}` in `EnergyNet` must return one energy a sample, shape {wanted}; got {got}. {advice}."
        )

    def _home(self, c: Any) -> Tensor:
        tensors = (*self.parameters(), *self.buffers(), *rows.leaves(c))
        return next(
            (t for t in tensors if t.is_floating_point()),
            next(rows.leaves(c)).new_zeros((), dtype=torch.get_default_dtype()),
        )


def _checked_shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if any(isinstance(size, bool) or not isinstance(size, int) for size in sizes):
        raise TypeError(
            f"`EnergyNet(shape=...)` is the shape of one latent in whole numbers; got {shape!r}. Pass 64 or (3, 8, 8), say."
        )
    if any(size < 1 for size in sizes):
        raise ValueError(f"`EnergyNet(shape=...)` has no empty axes; got {shape!r}. Leave the sample axis out.")
    return sizes
