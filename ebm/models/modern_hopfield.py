"""The modern Hopfield network: softmax retrieval, which is attention iterated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import check_patterns, check_query, hold
from ebm.models.mixing import mixture, softmax
from ebm.models.temperature import suiting_beta
from ebm.noise import Draw
from ebm.objective import Energy, Point
from ebm.rows import Shared
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

    On a CPU the second product leaves out the patterns that weigh less than a rounding for every sample; near rest that is most of
    them. FLOPs are reported as if it did not.

    Args:
        patterns: (N, D), one a row, stored as they are. A parameter stays one; any other tensor becomes a buffer.
        beta: inverse temperature > 0; large values recall one pattern, small ones a mixture. None takes what tells the
            patterns apart, :math:`8 \ln N` over their median lead on their closest rival (`suiting_beta`), and 1 / sqrt(D) where they are a parameter.

    Raises:
        ValueError: patterns of another shape, or a beta not above zero; at the call, a query of another shape.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.eye(4), beta=10.0)
        >>> ebm.infer(memory, torch.tensor([[0.9, 0.1, 0.0, 0.2]])).z.round(decimals=2)
        tensor([[1., 0., 0., 0.]])

    Source: Ramsauer et al. (2021), eq. 2 and 3. Patterns are rows here, columns there.
    """

    default_steps = 100
    patterns: Tensor

    def __init__(self, patterns: Tensor, beta: float | None = None) -> None:
        super().__init__()
        patterns = check_patterns("ModernHopfield(patterns)", patterns, binary=False)
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(
                f"`ModernHopfield(beta=...)` must be above zero and finite; got {beta}. Leave it out for one that suits the patterns."
            )
        hold(self, "patterns", patterns)
        self._suits = beta is None
        self.beta = suiting_beta(patterns) if beta is None else float(beta)

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query, and M^2, which no state changes."""
        check_query("ModernHopfield", x, self.patterns.shape[1])
        return {"query": x, "largest": Shared(self.patterns.square().sum(1).amax())}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The energy, (B,), not below zero."""
        return self._energy(z, self._overlap(z).logsumexp(1), c)

    def point(self, z: Tensor, c: Any) -> Point:
        """Energy and force from two products and one pass of exponentials."""
        overlap = self._overlap(z)
        largest = overlap.amax(1)
        weight = softmax(overlap)
        # the largest weight is exp(largest overlap - logsumexp) and at least 1 / N, so its logarithm is safe
        log_sum = largest - weight.amax(1).log()
        return Point(z, self._energy(z, log_sum, c), mixture(weight, self.patterns) - z)

    def _overlap(self, z: Tensor) -> Tensor:
        return (self.beta * z) @ self.patterns.T

    def _energy(self, z: Tensor, log_sum: Tensor, c: Any) -> Tensor:
        mixture = (log_sum - math.log(self.patterns.shape[0])) / self.beta
        return 0.5 * (z.square().sum(1) + c["largest"].value) - mixture

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Other patterns may want another temperature."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self._suits:
            self.beta = suiting_beta(self.patterns)

    def default_solver(self) -> Solver:
        """`Picard`, the concave-convex procedure."""
        return Picard()

    def default_stop(self) -> Stop:
        """At rest to 1e-5; most queries are after one or two steps."""
        return AtRest(1e-5)
