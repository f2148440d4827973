"""A fully connected equilibrium map that has exactly one rest, however large its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ebm.noise import Draw
from ebm.objective import Update
from ebm.rows import Shared
from ebm.solvers.base import Solver
from ebm.solvers.peaceman_rachford import PeacemanRachford

__all__ = ["MonotoneCell"]


class MonotoneCell(Update):
    r"""The map :math:`f(z; x) = \max(0, W z + U x + b)` with weights whose rest exists and is unique.

    .. math:: W = (1 - m) I - A^T A + S - S^T

    for any A and S, so I - W is strongly monotone with constant m: its symmetric part has no eigenvalue below m. The plain
    iteration of f may still diverge; `PeacemanRachford`, the default solver, does not.

    Args:
        inputs: numbers of an observation, >= 1; observations are (B, inputs).
        width: numbers of a latent, >= 1; latents are (B, width), and start at zero.
        margin: m in (0, 1]; the larger, the better conditioned and the less expressive.
        head: maps the latent to the answer; None reads out the latent itself.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MonotoneCell(3, 8, head=torch.nn.Linear(8, 2))
        >>> ebm.infer(cell.eval(), torch.randn(5, 3), steps=30).answer.shape
        torch.Size([5, 2])

    Source: Winston and Kolter (2020), Monotone operator equilibrium networks, section 3.
    """

    provides = frozenset({"prox", "resolvent"})

    def __init__(self, inputs: int, width: int, margin: float = 0.1, head: nn.Module | None = None) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("width", width)):
            if value < 1:
                raise ValueError(f"`MonotoneCell({name}=...)` must be at least 1; got {value}. Pass a positive number.")
        if not 0 < margin <= 1:
            raise ValueError(f"`MonotoneCell(margin=...)` must lie in (0, 1]; got {margin}. Try 0.1.")
        self.inject = nn.Linear(inputs, width)
        self.fall = nn.Parameter(torch.randn(width, width) / (2 * width) ** 0.5)  # A
        self.turn = nn.Parameter(torch.randn(width, width) / (2 * width) ** 0.5)  # S
        self.margin = margin
        self.head = nn.Identity() if head is None else head

    @property
    def weight(self) -> Tensor:
        """W, (width, width)."""
        eye = torch.eye(self.fall.shape[0], dtype=self.fall.dtype, device=self.fall.device)
        return (1 - self.margin) * eye - self.fall.T @ self.fall + self.turn - self.turn.T

    def condition(self, x: Tensor) -> dict[str, Any]:
        """What enters from the observation, and the weights with the inverses that a call makes of them."""
        return {"input": self.inject(x), "weight": Shared(_Weight(self.weight))}

    def init_latent(self, c: dict[str, Any], draw: Draw) -> Tensor:
        """Zero."""
        return torch.zeros_like(c["input"])

    def forward(self, z: Tensor, c: dict[str, Any]) -> Tensor:
        """The next latent."""
        return torch.relu(z @ c["weight"].value.matrix.T + c["input"])

    def prox(self, z: Tensor, size: float | Tensor, c: dict[str, Any]) -> Tensor:
        """max(0, z), the proximal map of the wall at zero, whatever the step size."""
        return torch.relu(z)

    def resolvent(self, z: Tensor, size: float, c: dict[str, Any]) -> Tensor:
        r""":math:`(I + a(I - W))^{-1}(z + a(U x + b))`; the inverse is made once a call and size."""
        return (z + size * c["input"]) @ c["weight"].value.inverse(size).T

    def readout(self, z: Tensor, c: dict[str, Any]) -> Tensor:
        """The head's view of the latent."""
        return self.head(z)

    def default_solver(self) -> Solver:
        """Peaceman-Rachford splitting."""
        return PeacemanRachford()


class _Weight:
    """A matrix, and the inverses made of it."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self._inverses: dict[tuple[float, bool], Tensor] = {}

    @property
    def shape(self) -> torch.Size:
        """That of the matrix: what a step costs depends on it."""
        return self.matrix.shape

    def inverse(self, size: float) -> Tensor:
        """(I + size (I - W))^-1; one made without a graph must not serve where one is kept."""
        key = size, torch.is_grad_enabled()
        if key not in self._inverses:
            eye = torch.eye(len(self.matrix), dtype=self.matrix.dtype, device=self.matrix.device)
            # made once a call, so not a part of the step that a tape makes again: its tensors are kept in the usual way
            with saved_tensors_hooks(lambda kept: kept, lambda kept: kept):
                self._inverses[key] = torch.linalg.inv(eye + size * (eye - self.matrix))
        return self._inverses[key]
