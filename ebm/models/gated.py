"""What every gated cell shares: a gate decides how far the latent moves towards a target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm.objective import Point, Update
from ebm.solvers import Picard
from ebm.solvers.base import Solver

__all__ = ["Gated"]


class Gated(Update):
    r"""An update :math:`f(z; x) = z + \sigma(a) \odot (\tanh(b) - z)`; derive from it, never use it alone.

    A subclass says where a and b come from: `drive(z, c)` returns both. Latents that begin within [-1, 1] stay there, so
    a cell can run for any number of steps.

    Args:
        head: maps the latent to the answer; None reads out the latent itself.

    Raises:
        TypeError: a head that is no module.

    Example:
        >>> import torch, ebm
        >>> class Copy(ebm.Gated):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def drive(self, z, c):
        ...         return torch.zeros_like(c), c
        >>> ebm.infer(Copy(), torch.ones(1, 2), steps=1).z
        tensor([[0.3808, 0.3808]])

    Source: the gate of Cho et al. (2014), gated recurrent units, without their reset gate.
    """

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        if head is not None and not isinstance(head, nn.Module):
            raise TypeError(
                f"`{type(self).__name__}(head=...)` is a module or None; got {type(head).__name__}. Pass nn.Linear(width, classes), say."
            )
        self.head = head

    def drive(self, z: Tensor, c: Any) -> tuple[Tensor, Tensor]:
        """a and b, both like z."""
        raise NotImplementedError(
            f"`{type(self).__name__}` has no `drive(z, c)`. Define it: the gate's and the target's drive, both like `z`."
        )

    def gate_and_target(self, z: Tensor, c: Any) -> tuple[Tensor, Tensor]:
        """How far each number moves, in (0, 1), and where to, in (-1, 1)."""
        a, b = self.drive(z, c)
        return a.sigmoid(), b.tanh()

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next latent."""
        gate, target = self.gate_and_target(z, c)
        return torch.lerp(z, target, gate)

    def point(self, z: Any, c: Any) -> Point:
        """The latent and its move, without the detour over the next latent."""
        gate, target = self.gate_and_target(z, c)
        return Point(z, None, gate * (target - z))

    def readout(self, z: Tensor, c: Any) -> Any:
        """The head's answer."""
        return z if self.head is None else self.head(z)

    def default_solver(self) -> Solver:
        """`Picard`: the cell's own step."""
        return Picard()
