"""Pair-based spike-timing-dependent plasticity: which of two cells fired first decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import Traced

__all__ = ["PairSTDP", "arriving"]


@dataclass(frozen=True)
class PairSTDP(LocalRule):
    r"""Every pair of spikes changes the weight by an exponential of the time between them.

    $$\Delta w = \begin{cases} A_+ \, e^{-\Delta t / \tau_+} & \text{post after pre} \\
                              -A_- \, e^{-\Delta t / \tau_-} & \text{pre after post} \end{cases}$$

    Summed over all pairs, by one trace of each cell: with $r$ and $o$ what a cell's earlier spikes have left now,
    $r \leftarrow e^{-dt / \tau_+} r$ and $o \leftarrow e^{-dt / \tau_-} o$ before the spikes of this step are added,

    $$\Delta W = \eta \, \langle A_+ \, y \, r^\top - A_- \, o \, x^\top \rangle$$

    One call is one time step of a batch of sequences: ``pre`` and ``post`` are the spikes (0 or 1) of that step, or
    rates times ``dt`` (the expected number of spikes; the change is then that of independent Poisson spikes in
    expectation). Two spikes in one step make no pair. Each sample has its own traces, in the state: begin new sequences
    with `hebbian.forget`. Nothing bounds the weight; chain `SignConstraint` or `WeightDecay` to do so.

    Args:
        rate: $\eta$; any finite number (below zero the window is turned over).
        plus: $A_+$; any finite number.
        minus: $A_-$; any finite number, taken away if positive.
        tau_plus: $\tau_+$, above 0, in the unit of ``dt`` (milliseconds, say).
        tau_minus: $\tau_-$, above 0.
        dt: the length of a step, above 0.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range; at the call, traces of another batch.

    Example:
        >>> import torch
        >>> from hebbian import Dense, PairSTDP, step
        >>> synapse, rule, weight = Dense(1, 1), PairSTDP(1.0, plus=1.0, tau_plus=10.0), torch.zeros(1, 1)
        >>> state = rule.init_state(synapse, weight)
        >>> for time in range(11):  # pre fires at 0, post 10 ms later
        ...     pre, post = torch.full((1, 1), float(time == 0)), torch.full((1, 1), float(time == 10))
        ...     weight, state = step(rule, synapse, weight, pre, post, state)
        >>> weight  # exp(-10 / 10)
        tensor([[0.3679]])

    Source:
        Song, Miller and Abbott (2000), Competitive Hebbian learning through spike-timing-dependent synaptic plasticity,
        additive and over all pairs; there weights are also kept within bounds.
    """

    rate: float
    plus: float = 1.0
    minus: float = 1.05
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    dt: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rate", "plus", "minus"):
            checks.number(self, name, getattr(self, name))
        for name in ("tau_plus", "tau_minus", "dt"):
            checks.positive(self, name, getattr(self, name))

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """Places for the traces of each sample."""
        return Traced(None, None)

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """Traces of zeros for each cell of each sample, where there are none."""
        if state.samples is not None:
            return state
        return state._replace(samples={"pre": pre.new_zeros(pre.shape), "post": post.new_zeros(post.shape)})

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sum over all pairs that this step completes, shaped like the weight."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sum over all pairs that this step completes, and every trace after its spikes."""
        r = arriving(state, "pre", self.tau_plus, self.dt)
        o = arriving(state, "post", self.tau_minus, self.dt)
        pairs = synapse.outer(self.plus * post, r) - synapse.outer(self.minus * o, pre)
        return {"pairs": pairs}, state._replace(samples={"pre": r + pre, "post": o + post})

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The rate times the mean over the batch; the traces go on."""
        return self.rate * statistics.mean("pairs"), state


def arriving(state: Traced, name: str, tau: float, dt: float) -> Tensor:
    """What is left of a trace when the spikes of this step arrive."""
    assert state.samples is not None
    return math.exp(-dt / tau) * state.samples[name]
