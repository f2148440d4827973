"""Triplet spike-timing-dependent plasticity: the frequency of spikes counts beside their order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.rules.pair_stdp import arriving
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import Traced

__all__ = ["TripletSTDP"]


@dataclass(frozen=True)
class TripletSTDP(LocalRule):
    r"""Pairs and triplets of spikes change the weight, by two traces of each cell, a fast and a slow one.

    $$\text{at a post spike:} \quad \Delta w = r_1 \, (A_2^+ + A_3^+ \, o_2), \qquad
      \text{at a pre spike:} \quad \Delta w = - o_1 \, (A_2^- + A_3^- \, r_2)$$

    $r_1, r_2$ are left by earlier pre spikes and fade with $\tau_+, \tau_x$; $o_1, o_2$ by earlier post spikes, with
    $\tau_-, \tau_y$. With both $A_3 = 0$ this is `PairSTDP`. As there: one call is one time step, spikes or rates times
    ``dt``, two spikes in one step do not see one another, all spikes interact (not the nearest alone), each sample has
    traces of its own, the change is the mean over the batch, and nothing bounds the weight.

    The settings given here are the authors' fit to visual cortex (all spikes interacting, full model), times in
    milliseconds: with them, pairing pre before post strengthens the weight at high frequencies and hardly at low ones.

    Args:
        rate: $\eta$; any finite number.
        plus: $A_2^+$; any finite number, as the other three amplitudes.
        minus: $A_2^-$.
        plus_triplet: $A_3^+$.
        minus_triplet: $A_3^-$.
        tau_plus: $\tau_+$, above 0, in the unit of ``dt``, as the other three times.
        tau_minus: $\tau_-$.
        tau_x: $\tau_x$.
        tau_y: $\tau_y$.
        dt: the length of a step, above 0.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range; at the call, traces of another batch.

    Example:
        >>> import torch
        >>> from hebbian import Dense, TripletSTDP, step
        >>> def pairing(every):  # 20 pairs, post 10 ms after pre, a pair every so many milliseconds
        ...     synapse, rule, weight = Dense(1, 1), TripletSTDP(1.0), torch.zeros(1, 1)
        ...     state = rule.init_state(synapse, weight)
        ...     for time in range(20 * every):
        ...         pre = torch.full((1, 1), float(time % every == 0))
        ...         post = torch.full((1, 1), float(time % every == 10))
        ...         weight, state = step(rule, synapse, weight, pre, post, state)
        ...     return weight.item()
        >>> print(f"{pairing(every=20):.3f} at 50 a second, {pairing(every=200):.3f} at 5 a second")
        0.151 at 50 a second, 0.016 at 5 a second

    Source:
        Pfister and Gerstner (2006), Triplets of spikes in a model of spike timing-dependent plasticity, J. Neuroscience
        26.
    """

    rate: float
    plus: float = 5e-10
    minus: float = 7e-3
    plus_triplet: float = 6.2e-3
    minus_triplet: float = 2.3e-4
    tau_plus: float = 16.8
    tau_minus: float = 33.7
    tau_x: float = 101.0
    tau_y: float = 125.0
    dt: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rate", "plus", "minus", "plus_triplet", "minus_triplet"):
            checks.number(self, name, getattr(self, name))
        for name in ("tau_plus", "tau_minus", "tau_x", "tau_y", "dt"):
            checks.positive(self, name, getattr(self, name))

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """Places for the traces of each sample."""
        return Traced(None, None)

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """Traces of zeros for each cell of each sample, where there are none."""
        if state.samples is not None:
            return state
        before = {name: pre.new_zeros(pre.shape) for name in ("r1", "r2")}
        after = {name: post.new_zeros(post.shape) for name in ("o1", "o2")}
        return state._replace(samples={**before, **after})

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sum over all pairs and triplets that this step completes, shaped like the weight."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sum over all pairs and triplets that this step completes, and every trace after its spikes."""
        r1 = arriving(state, "r1", self.tau_plus, self.dt)
        r2 = arriving(state, "r2", self.tau_x, self.dt)
        o1 = arriving(state, "o1", self.tau_minus, self.dt)
        o2 = arriving(state, "o2", self.tau_y, self.dt)
        grown = synapse.outer(post * (self.plus + self.plus_triplet * o2), r1)
        lost = synapse.outer(o1, pre * (self.minus + self.minus_triplet * r2))
        moved = {"r1": r1 + pre, "r2": r2 + pre, "o1": o1 + post, "o2": o2 + post}
        return {"spikes": grown - lost}, state._replace(samples=moved)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The rate times the mean over the batch; the traces go on."""
        return self.rate * statistics.mean("spikes"), state
