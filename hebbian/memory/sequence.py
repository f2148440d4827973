"""Memories of sequences: a pattern recalls the one after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm.models.binary import check_patterns, check_query, hold
from ebm.noise import Draw
from ebm.objective import Update
from ebm.solvers.base import Solver
from hebbian.memory.similarity import Linear, Separation, dot
from hebbian.memory.universal import signs
from hebbian.replay import Replay

__all__ = ["DelayedSequence", "SequenceMemory"]

_LINEAR = Linear()


class SequenceMemory(Update):
    r"""A sequence of patterns +-1, replayed one a step from wherever it is entered.

    .. math:: s \leftarrow \text{sgn}\Bigl(\sum_\mu \xi^{\mu + 1} F(\xi^\mu \cdot s)\Bigr)

    With `Linear` separation this is the network with asymmetric couplings :math:`W = \sum_\mu \xi^{\mu+1} (\xi^\mu)^T`, which holds few
    patterns; a steep F (`Power(n)`, `Softmax(beta)`) holds many more. There is nothing to come to rest at, unless the sequence
    ends: ask for as many steps as you want to hear, and ``stream`` them to hear each.

    Args:
        patterns: (P, N), +-1, in order. A parameter stays one; any other tensor becomes a buffer.
        separation: F, from overlaps divided by N.
        cycle: whether the last pattern recalls the first; otherwise it recalls itself, and the sequence ends there.

    Raises:
        ValueError: patterns of another shape or with other numbers, or fewer than two; at the call, a query of another shape.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import Power, SequenceMemory
        >>> patterns = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, -1], [1.0, 1, -1, -1]])
        >>> memory = SequenceMemory(patterns, Power(3))
        >>> [int((item.z @ patterns.T).argmax()) for item in ebm.stream(memory, patterns[:1], steps=4, keep="last")]
        [0, 1, 2, 0, 1]

    Source: Hopfield (1982) for asymmetric couplings; Chaudhry, Zavatone-Veth, Krotov and Pehlevan (2023), Long sequence Hopfield memory, for
    the separation. All units move at once.
    """

    patterns: Tensor

    def __init__(self, patterns: Tensor, separation: Separation = _LINEAR, *, cycle: bool = True) -> None:
        super().__init__()
        patterns = _check_sequence("SequenceMemory", patterns)
        hold(self, "patterns", patterns)
        self.separation = separation
        self.cycle = cycle

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query."""
        check_query("SequenceMemory", x, self.patterns.shape[1])
        return {"query": x}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next state."""
        weight = self.separation(dot(z, self.patterns) / self.patterns.shape[1])
        field = weight @ _following(self.patterns, self.cycle)
        return signs(field, z, weight.detach().abs().sum(1, keepdim=True))

    def default_solver(self) -> Solver:
        """`Replay`: the last state, since no state of a sequence is better than another."""
        return Replay()


class DelayedSequence(Update):
    r"""A sequence that dwells on each pattern: fast couplings hold it, slow ones move on.

    .. math:: s \leftarrow \text{sgn}\bigl(W s + \lambda W' \bar s\bigr), \quad
              \bar s \leftarrow \bar s + \frac{s - \bar s}{\tau}, \qquad
              W = \tfrac1N \sum_\mu \xi^\mu (\xi^\mu)^T, \quad W' = \tfrac1N \sum_\mu \xi^{\mu+1} (\xi^\mu)^T

    The trace :math:`\bar s` remembers the last :math:`\tau` states or so. A pattern stays until the trace is mostly its own; then the slow
    field of the next outweighs the fast field of this one. With unrelated patterns of many units that takes about
    :math:`\tau \ln(2 \lambda / (\lambda - 1))` steps, so the tempo is a matter of :math:`\tau` and :math:`\lambda`. Between two patterns the
    state is a mixture for a step or two. A strength of 1.5 to 2.5 works; a larger one lets older patterns interfere, and the order fails.

    The latent is the pair (state, trace); the answer is the state. The products are with the patterns, so no N x N is built.

    Args:
        patterns: (P, N), +-1, in order. A parameter stays one; any other tensor becomes a buffer.
        strength: lambda, above 1: below, no pattern is ever left.
        tau: the memory of the trace in steps, at least 1.
        cycle: whether the last pattern recalls the first; otherwise the sequence ends there.

    Raises:
        ValueError: patterns of another shape or with other numbers, fewer than two, or a setting outside its range; at the
            call, a query of another shape.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import DelayedSequence
        >>> patterns = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, -1], [1.0, 1, -1, -1]])
        >>> memory = DelayedSequence(patterns, strength=2.5, tau=3.0)
        >>> [int((item.answer @ patterns.T).argmax()) for item in ebm.stream(memory, patterns[:1], steps=12, keep="last")]
        [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]

    Source: Sompolinsky and Kanter (1986); Kleinfeld (1986). Here the trace is exponential and time runs in steps of all units.
    """

    patterns: Tensor

    def __init__(self, patterns: Tensor, strength: float = 2.0, tau: float = 8.0, *, cycle: bool = True) -> None:
        super().__init__()
        patterns = _check_sequence("DelayedSequence", patterns)
        if not 1 < strength < float("inf"):
            raise ValueError(
                f"`DelayedSequence(strength=...)` must be above 1 and finite; got {strength}. At 1 or below no pattern is ever left; try 2."
            )
        if not 1 <= tau < float("inf"):
            raise ValueError(f"`DelayedSequence(tau=...)` must be at least 1 and finite; got {tau}. Try 8.")
        hold(self, "patterns", patterns)
        self.strength, self.tau, self.cycle = float(strength), float(tau), cycle

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query."""
        check_query("DelayedSequence", x, self.patterns.shape[1])
        return {"query": x}

    def init_latent(self, c: Any, draw: Draw) -> tuple[Tensor, Tensor]:
        """The query, and a trace of nothing."""
        return c["query"], torch.zeros_like(c["query"])

    def forward(self, z: Any, c: Any) -> tuple[Tensor, Tensor]:
        """The next state and trace."""
        state, trace = z
        units = self.patterns.shape[1]
        fast, slow = dot(state, self.patterns) / units, self.strength * dot(trace, self.patterns) / units
        field = fast @ self.patterns + slow @ _following(self.patterns, self.cycle)
        scale = (fast.detach().abs() + slow.detach().abs()).sum(1, keepdim=True)
        return signs(field, state, scale), trace + (state - trace) / self.tau

    def readout(self, z: Any, c: Any) -> Tensor:
        """The state."""
        return z[0]

    def default_solver(self) -> Solver:
        """`Replay`: the last state, since no state of a sequence is better than another."""
        return Replay()


def _following(patterns: Tensor, cycle: bool) -> Tensor:
    """The pattern after each."""
    return patterns.roll(-1, 0) if cycle else torch.cat([patterns[1:], patterns[-1:]])


def _check_sequence(owner: str, patterns: Any) -> Tensor:
    patterns = check_patterns(f"{owner}(patterns)", patterns, binary=True)
    if len(patterns) < 2:
        raise ValueError(f"`{owner}(patterns)` wants at least two patterns; got one. A single one is `Hopfield.store`.")
    return patterns
