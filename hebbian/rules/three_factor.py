"""The three-factor rule: what two cells did together becomes a change when a third signal says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import Traced

__all__ = ["ThreeFactor", "eligibility"]


@dataclass(frozen=True)
class ThreeFactor(LocalRule):
    r"""A Hebbian eligibility that fades, and a third factor that turns it into a change of the weight.

    $$e_t = \lambda \, e_{t-1} + y_t x_t^\top, \qquad \Delta W = \eta \, \langle m_t \, e_t \rangle$$

    The third factor $m$ (a reward, a surprise, a neuromodulator) is the ``signal``. One number a sample needs an
    eligibility a sample, (B, \*weight), kept in the state as its trace: begin anew with `hebbian.forget` when the
    sequences end. With ``shared=True`` the factor is one number for the whole batch, and one eligibility shaped like
    the weight, of the batch mean, is enough. With $\lambda = 0$ nothing is remembered and no tensor of that size is built.

    A factor of zero changes nothing, and the eligibility goes on.

    Args:
        rate: $\eta$, per step; any finite number.
        decay: $\lambda$, what is left of an eligibility after a step, from 0 to below 1; $e^{-dt / \tau}$ for a time
            constant $\tau$.
        shared: one factor for the whole batch.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range; at the call, a factor of another shape, or traces of another batch.

    Example:
        >>> import torch
        >>> from hebbian import Dense, ThreeFactor, step
        >>> synapse, rule, weight = Dense(1, 1), ThreeFactor(1.0, decay=0.5), torch.zeros(1, 1)
        >>> state = rule.init_state(synapse, weight)
        >>> one, zero = torch.ones(1, 1), torch.zeros(1, 1)
        >>> weight, state = step(rule, synapse, weight, one, one, state, signal=torch.tensor([0.0]))  # no reward yet
        >>> weight, state = step(rule, synapse, weight, zero, zero, state, signal=torch.tensor([1.0]))
        >>> weight  # the reward came a step late and found half of the eligibility
        tensor([[0.5000]])

    Source:
        Izhikevich (2007), Solving the distal reward problem through linkage of STDP and dopamine signaling, and Florian
        (2007), for eligibilities of spikes; here in discrete time, of any activity, with the current step included.
    """

    rate: float
    decay: float = 0.0
    shared: bool = False
    signal: ClassVar[str | None] = (
        "the third factor, one number a sample, shape (B,), or one number, shape (), if shared"
    )

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate)
        checks.share(self, "decay", self.decay)

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """The eligibility of the batch mean, shaped like the weight, if shared; or places for that of each sample."""
        if not self.decay:
            return None
        return Traced(torch.zeros_like(checks.widen(weight.detach())) if self.shared else None, None)

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """An eligibility of zeros for each sample, where there is none."""
        return state if self.shared else begun(synapse, post, state)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sum of factor times eligibility, shaped like the weight."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sum of factor times eligibility, and the eligibility of each sample moved on."""
        assert signal is not None
        if not self.shared:
            checks.one_each(self, len(pre), signal)
            outer, state = eligibility(synapse, pre, post, state, self.decay, signal.to(post.dtype))
            return {"outer": outer}, state
        if signal.ndim:
            raise ValueError(
                f"`signal` has shape {checks.shape(signal)}; `ThreeFactor(shared=True)` wants one number, (). "
                "Pass `signal.mean()`, or leave out `shared`."
            )
        outer, count = synapse.outer(post, pre), synapse.count(post)
        return {"outer": outer, "factor": count * signal.to(post.dtype)}, state

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The rate times the mean of factor times eligibility."""
        outer = statistics.mean("outer")
        if not self.shared:
            return self.rate * outer, state
        if self.decay:
            outer = self.decay * state.shared.to(outer.dtype) + outer
            state = Traced(outer, state.samples)
        return self.rate * statistics.mean("factor") * outer, state


def begun(synapse: Synapse, post: Tensor, state: State) -> State:
    """The state with an eligibility of zeros for each sample, where it has places for traces and none yet."""
    if not isinstance(state, Traced) or state.samples is not None:
        return state
    return state._replace(samples={"eligibility": post.new_zeros((len(post), *synapse.weight_shape))})


def eligibility(
    synapse: Synapse, pre: Tensor, post: Tensor, state: State, decay: float, factor: Tensor
) -> tuple[Tensor, State]:
    """The sum over samples of factor times eligibility, and the state with each eligibility moved on.

    Args:
        synapse: the geometry.
        pre: (B, ...).
        post: ``(B, units, *places)``.
        state: a `Traced` that holds ``"eligibility"``; not read if ``decay`` is 0.
        decay: what is left of an eligibility after a step.
        factor: (B,).
    """
    if not decay:
        return synapse.outer(post * factor.view(-1, *[1] * (post.ndim - 1)), pre), state
    old = state.samples["eligibility"]
    new = torch.add(synapse.outer_each(post, pre), old, alpha=decay)
    return torch.tensordot(factor, new, dims=1), state._replace(samples={"eligibility": new})
