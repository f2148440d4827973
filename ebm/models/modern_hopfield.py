"""The modern Hopfield network: softmax retrieval, which is attention iterated."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.noise import Draw
from ebm.objective import Energy, Point
from ebm.solvers import Picard
from ebm.solvers.base import Solver

__all__ = ["ModernHopfield"]


class ModernHopfield(Energy):
    r"""A memory of continuous patterns, recalled by softmax attention to them.

    With the stored patterns as the rows of X (N, D), M the largest norm among them, and the state q (B, D):

    .. math:: E(q) = -\tfrac1\beta \log\textstyle\sum_i e^{\beta x_i^T q} + \tfrac12 q^T q + \tfrac1\beta\log N + \tfrac12 M^2,
              \qquad q \leftarrow X^T \text{softmax}(\beta X q)

    The force of this energy is exactly the update minus the state, so plain `Picard` is the concave-convex procedure:
    it never raises E, and one step of it is attention with keys = values = X.

    Args:
        patterns: (N, D), stored as they are.
        beta: inverse temperature > 0; large values recall one pattern, small ones a mixture. None takes 1 / sqrt(D).

    Raises:
        ValueError: patterns of another shape, or a beta not above zero.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.eye(4), beta=10.0)
        >>> ebm.infer(memory, torch.tensor([[0.9, 0.1, 0.0, 0.2]])).z.round(decimals=2)
        tensor([[1., 0., 0., 0.]])

    Source: Ramsauer et al. (2021), eq. 2 and 3. Patterns are rows here, columns there.
    """

    default_steps = 100

    def __init__(self, patterns: Tensor, beta: float | None = None) -> None:
        super().__init__()
        if patterns.ndim != 2 or not patterns.is_floating_point():
            raise ValueError(
                f"`ModernHopfield(patterns)` wants a floating tensor (N, D); got {patterns.dtype} {tuple(patterns.shape)}. "
                "Put one pattern in each row."
            )
        if beta is not None and not beta > 0:
            raise ValueError(
                f"`ModernHopfield(beta=...)` must be above zero; got {beta}. Leave it out for 1 / sqrt(D)."
            )
        self.register_buffer("patterns", patterns)
        self.patterns: Tensor
        self.beta = patterns.shape[1] ** -0.5 if beta is None else beta

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """The query itself."""
        return c

    def forward(self, z: Any, c: Any) -> Tensor:
        """The energy, (B,), not below zero."""
        return self._energy(z, self.beta * z @ self.patterns.T)

    def point(self, z: Any, c: Any) -> Point:
        """Energy and force from two products."""
        overlap = self.beta * z @ self.patterns.T
        return Point(z, self._energy(z, overlap), overlap.softmax(1) @ self.patterns - z)

    def _energy(self, z: Tensor, overlap: Tensor) -> Tensor:
        largest = self.patterns.square().sum(1).amax()
        mixture = (overlap.logsumexp(1) - math.log(self.patterns.shape[0])) / self.beta
        return 0.5 * (z.square().sum(1) + largest) - mixture

    def default_solver(self) -> Solver:
        """`Picard`, the concave-convex procedure."""
        return Picard()

    def default_stop(self) -> Stop:
        """At rest to 1e-5; most queries are after one or two steps."""
        return AtRest(1e-5)
