"""Softmax recall as a bare update: no energy, no product that is not needed."""

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
from ebm.objective import Point, Update
from ebm.solvers.base import Solver
from hebbian.memory.certificate import Spread, next_move, spread, weighed
from hebbian.memory.lazy import LazyPicard, Sighted

__all__ = ["SoftmaxMemory"]

_AT_REST = AtRest(1e-5)


class SoftmaxMemory(Update):
    r"""The modern Hopfield network without its energy: :math:`q \leftarrow X^T \text{softmax}(\beta X q)`, two products an update.

    It recalls what `ebm.ModernHopfield` recalls. There every answer comes with its energy and its residual, which takes an
    evaluation after the last update; here T updates take T evaluations (`LazyPicard`). With ``certify=True`` an evaluation
    also tells how far the *next* latent can be from rest: a query that one pattern wins clearly is done after a single
    evaluation. The certificate rests on the products of all pairs of patterns, computed once when the memory is made, and again
    whenever the patterns have changed: N x N x D, so leave it out for patterns that are being learned.

    On a CPU the second product leaves out the patterns that weigh less than a rounding for every sample; near rest that is most of
    them. FLOPs are reported as if it did not.

    Args:
        patterns: (N, D), one a row, stored as they are. A parameter stays one; any other tensor becomes a buffer.
        beta: inverse temperature > 0; large values recall one pattern, small ones a mixture. None takes what tells the
            patterns apart, :math:`8 \ln N` over their median lead on their closest rival (`suiting_beta`), and 1 / sqrt(D) where they are a parameter.
        certify: whether to bound the next move. Without, `LazyPicard` reports the last move.
        stop: the stop rule of a call that gives none; None makes all the steps granted.

    Raises:
        ValueError: patterns of another shape, or a beta not above zero; at the call, a query of another shape.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import SoftmaxMemory
        >>> memory = SoftmaxMemory(torch.eye(4), beta=20.0, certify=True)
        >>> solution = ebm.infer(memory, torch.tensor([[0.9, 0.1, 0.0, 0.2]]))
        >>> solution.z.round(decimals=2), solution.evals
        (tensor([[1., 0., 0., 0.]]), tensor([1]))

    Source: Ramsauer et al. (2021), eq. 3. The certificate is ours; its proof is at `hebbian.memory.certificate.next_move`.
    """

    default_steps = 100
    patterns: Tensor

    def __init__(
        self, patterns: Tensor, beta: float | None = None, *, certify: bool = True, stop: Stop | None = _AT_REST
    ) -> None:
        super().__init__()
        patterns = check_patterns("SoftmaxMemory(patterns)", patterns, binary=False)
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(
                f"`SoftmaxMemory(beta=...)` must be above zero and finite; got {beta}. Leave it out for one that suits the patterns."
            )
        hold(self, "patterns", patterns)
        self._suits = beta is None
        self.beta = suiting_beta(patterns) if beta is None else float(beta)
        self.certify, self.stop = certify, stop
        self._known: tuple[Any, Spread] | None = None
        if certify:
            self.spread()

    def spread(self) -> Spread:
        """How the patterns lie to one another, computed anew if they have changed."""
        patterns = self.patterns
        version = (id(patterns), None if patterns.is_inference() else patterns._version, patterns.dtype, self.beta)
        if self._known is None or self._known[0] != version:
            self._known = version, spread(patterns.detach(), self.beta)
        return self._known[1]

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query."""
        check_query("SoftmaxMemory", x, self.patterns.shape[1])
        if self.certify:
            self.spread()  # where the patterns have changed, on the account of the call and not of an evaluation
        return {"query": x}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next state."""
        return mixture(self._weight(z), self.patterns)

    def point(self, z: Tensor, c: Any) -> Point:
        """The move, and with a certificate a bound on the one after it."""
        if not self.certify:
            return Point(z, None, self.forward(z, c) - z)
        weight = self._weight(z)
        new = mixture(weight, self.patterns)
        point = Sighted(z, None, new - z)
        # under autocast the weights are coarser than the latent, and would prove too much
        if weight.dtype != z.dtype:
            return point
        known = self.spread()
        return point.seeing(next_move(z, new, weighed(weight, known), self.beta, known.largest, known.diameter))

    def _weight(self, z: Tensor) -> Tensor:
        return softmax((self.beta * z) @ self.patterns.T)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Other patterns may want another temperature."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self._suits:
            self.beta = suiting_beta(self.patterns)

    def default_solver(self) -> Solver:
        """`LazyPicard`."""
        return LazyPicard()

    def default_stop(self) -> Stop | None:
        """The memory's own; at rest to 1e-5 unless another was given."""
        return self.stop
