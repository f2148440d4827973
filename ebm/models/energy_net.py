"""Any module as an energy."""

from __future__ import annotations

from collections.abc import Callable
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
        module: ``module(z, x)`` returns energies (B,), for a latent (B, \*shape) and the observation. A module's parameters belong to
            the model; those that a plain function uses are not saved or moved with it.
        shape: the shape of one latent; an int N stands for (N,).
        start: where settling starts: `Zeros()`, `Noise(scale)`, or your own.
        encoder: applied to the observation once a call; ``module(z, encoder(x))`` then sees only its output, so put here
            whatever does not depend on z. None passes the observation on.

    Raises:
        ValueError: an empty axis; at the call, energies of another shape than (B,).
        TypeError: what cannot be called, or a shape of something else than whole numbers.

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
        self,
        module: Callable[[Any, Any], Tensor],
        shape: int | tuple[int, ...],
        start: Start = Zeros(),
        encoder: nn.Module | Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        check_functions("EnergyNet", "lambda z, x: (z - x).square().sum(1)", module, encoder)
        self.module = module
        self.encoder = encoder
        self.shape = checked_shape("EnergyNet", shape)
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


def check_functions(owner: str, example: str, module: Any, encoder: Any) -> None:
    """Raise unless a model's function and its encoder can be called, or the encoder is left out."""
    for name, value in (("module", module), ("encoder", encoder)):
        if isinstance(value, type) or not (callable(value) or (name == "encoder" and value is None)):
            raise TypeError(
                f"`{owner}({name})` is a module or a function of a latent and an observation; got {value!r}. Pass `{example}`, say."
            )


def checked_shape(owner: str, shape: Any) -> tuple[int, ...]:
    """The shape of one latent; an int N stands for (N,)."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if any(isinstance(size, bool) or not isinstance(size, int) for size in sizes):
        raise TypeError(
            f"`{owner}(shape=...)` is the shape of one latent in whole numbers; got {shape!r}. Pass 64 or (3, 8, 8), say."
        )
    if any(size < 1 for size in sizes):
        raise ValueError(f"`{owner}(shape=...)` has no empty axes; got {shape!r}. Leave the sample axis out.")
    return sizes
