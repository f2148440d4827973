"""Reward-modulated learning: what was tried beyond the expected is kept if the reward was, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.rules.three_factor import begun, eligibility
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import Traced

__all__ = ["RewardModulated"]


@dataclass(frozen=True)
class RewardModulated(LocalRule):
    r"""A rule of the REINFORCE kind: the reward beyond its running mean, times the eligibility of what was tried.

    $$e_t = \lambda \, e_{t-1} + (y_t - \bar y_t) \, x_t^\top, \qquad
      \Delta W = \eta \, \langle (r_t - \bar r) \, e_t \rangle, \qquad
      \bar r \leftarrow \bar r + \beta \, (\langle r \rangle - \bar r)$$

    $\bar y$ is what the unit was expected to answer, and whoever drew the answer knows it: pass as ``post`` the
    *exploration* $y - \mathrm{E}[y \mid x]$, which is $y - \sigma(W x)$ for a Bernoulli unit and the noise itself for a
    Gaussian one (then with $\eta / \sigma^2$). The expected change is then the gradient of the expected reward,
    whatever the baseline. For units whose expectation nobody knows, ``centred=True`` takes ``post`` as the activity and
    subtracts the running mean of each unit; that is a heuristic, unbiased only if the expectation does not depend
    on the input.

    The reward of each sample is the ``signal``. With $\lambda > 0$ each sample has an eligibility of its own,
    (B, \*weight), kept in the state; `hebbian.forget` ends the sequences and keeps the running means.

    Args:
        rate: $\eta$, per step; any finite number.
        decay: $\lambda$, what is left of an eligibility after a step, from 0 to below 1.
        tracking: $\beta$, how much of the way the running means go in a step, from 0 (the baseline stays 0) to 1.
        centred: subtract the running mean of each unit from ``post``.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range; at the call, not one reward a sample, or traces of another batch.

    Example:
        >>> import torch
        >>> from hebbian import Dense, RewardModulated, step
        >>> generator = torch.Generator().manual_seed(0)
        >>> synapse, rule, weight = Dense(1, 1), RewardModulated(0.5), torch.zeros(1, 1)
        >>> state, pre = rule.init_state(synapse, weight), torch.ones(64, 1)
        >>> for _ in range(200):  # rewarded for saying yes
        ...     chance = synapse.forward(weight, pre).sigmoid()
        ...     answer = torch.bernoulli(chance, generator=generator)
        ...     weight, state = step(rule, synapse, weight, pre, answer - chance, state, signal=answer[:, 0])
        >>> bool(weight.sigmoid() > 0.9)
        True

    Source:
        Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning; the
        running baseline is his reinforcement comparison.
    """

    rate: float
    decay: float = 0.0
    tracking: float = 0.1
    centred: bool = False
    signal: ClassVar[str | None] = "the reward of each sample, shape (B,)"

    def __post_init__(self) -> None:
        checks.number(self, "rate", self.rate)
        checks.share(self, "decay", self.decay)
        checks.part(self, "tracking", self.tracking)

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """A baseline of zero, a mean of zero for each unit, and places for eligibilities."""
        wide = checks.widen(weight.detach())
        means = {"reward": wide.new_zeros(())}
        if self.centred:
            means["post"] = wide.new_zeros(len(wide))
        return Traced(means, None) if self.decay else means

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """An eligibility of zeros for each sample, where there is none."""
        return begun(synapse, post, state)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sums of `observe`."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """Surplus reward times eligibility, the rewards and, where centred, the activities; eligibilities moved on."""
        assert signal is not None
        checks.one_each(self, len(pre), signal)
        means, reward = _means(state), signal.to(post.dtype)
        tried = post
        if self.centred:
            tried = post - means["post"].to(post.dtype).view(-1, *[1] * (post.ndim - 2))
        outer, state = eligibility(synapse, pre, tried, state, self.decay, reward - means["reward"].to(post.dtype))
        places = synapse.count(post) // max(len(post), 1)
        sums = {"outer": outer, "reward": places * reward.sum()}
        if self.centred:
            sums["post"] = synapse.over_uses(post)
        return sums, state

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The rate times the mean of surplus times eligibility; the running means move after it."""
        means = {
            name: torch.lerp(value, statistics.mean(name).to(value.dtype), self.tracking)
            for name, value in _means(state).items()
        }
        state = state._replace(shared=means) if isinstance(state, Traced) else means
        return self.rate * statistics.mean("outer"), state


def _means(state: State) -> dict[str, Tensor]:
    return state.shared if isinstance(state, Traced) else state
