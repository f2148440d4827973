"""A rule whose rate changes as it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Times, as_change
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["Falling", "Scheduled"]

Schedule = Callable[[Tensor], Any]
"""``schedule(step)``: the factor of a step, from its number, a float64 tensor (); a number or a tensor ()."""


@dataclass(frozen=True)
class Falling:
    r"""A schedule that falls in a straight line, $\max(f, 1 - t / T)$.

    Args:
        steps: $T$, when it would reach zero; above 0.
        floor: $f$, the least factor, from 0 to 1.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Example:
        >>> from hebbian import Falling
        >>> [Falling(4)(t) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]

    Source:
        the schedule of Krotov and Hopfield (2019), Unsupervised learning by competing hidden units.
    """

    steps: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        checks.positive(self, "steps", self.steps)
        checks.part(self, "floor", self.floor)

    def __call__(self, step: Any) -> Any:
        """The factor of step number ``step``, a number or a tensor."""
        factor = 1 - step / self.steps
        return factor.clamp_min(self.floor) if isinstance(factor, Tensor) else max(factor, self.floor)


class _Counted(NamedTuple):
    """How many steps there were, and the state of the rule inside."""

    step: Tensor
    rule: State


@dataclass(frozen=True)
class Scheduled(LocalRule):
    r"""A rule whose change is multiplied by a factor that depends on how many steps there were.

    $$\Delta W_t = f(t) \, \delta(S, W), \qquad t = 0, 1, 2, \dots$$

    For a rule with a rate this schedules the rate. A constraint belongs outside, in a `Chain` after this one. Steps are
    counted in the state, so a saved state goes on where it was; a step of no samples does not count.

    Args:
        rule: the rule inside.
        schedule: $f$, called with the number of the step, a float64 tensor, so write it in arithmetic that tensors
            know: ``lambda t: 1 / (1 + t / 100)``. `Falling` is one.

    Raises:
        TypeError: a rule that is none, or a schedule that cannot be called.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Falling, Hebb, Scheduled, step
        >>> synapse, rule, weight = Dense(1, 1), Scheduled(Hebb(1.0), Falling(2)), torch.zeros(1, 1)
        >>> state, one = rule.init_state(synapse, weight), torch.ones(1, 1)
        >>> for _ in range(3):
        ...     weight, state = step(rule, synapse, weight, one, one, state)
        ...     print(weight.item())
        1.0
        1.5
        1.5
    """

    rule: LocalRule
    schedule: Schedule

    def __post_init__(self) -> None:
        checks.made("Scheduled", "rule", self.rule, LocalRule, "a local rule is wanted, as Hebb(0.1) is")
        if not callable(self.schedule):
            raise TypeError(
                f"`Scheduled` was given schedule={self.schedule!r}; a function of the step is wanted. "
                "Pass for example Falling(1000)."
            )
        object.__setattr__(self, "signal", self.rule.signal)
        object.__setattr__(self, "competes", self.rule.competes)

    def weighed(self, weight: Tensor) -> Tensor:
        """That of the rule inside."""
        return self.rule.weighed(weight)

    def renewed(self, weight: Tensor, state: State) -> State:
        """That of the rule inside."""
        return state._replace(rule=self.rule.renewed(weight, state.rule))

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """No step yet, and the state of the rule inside."""
        return _Counted(torch.zeros((), dtype=torch.int64, device=weight.device), self.rule.init_state(synapse, weight))

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """That of the rule inside."""
        return state._replace(rule=self.rule.begin(synapse, pre, post, state.rule))

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sums of the rule inside."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sums of the rule inside, and its state."""
        sums, own = self.rule.observe(synapse, pre, post, state.rule, signal)
        return sums, state._replace(rule=own)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Times, State]:
        """The change of the rule inside times the factor; one step more is counted."""
        found, own = self.rule.change(statistics, weight, state.rule)
        change = as_change(found, weight)
        factor = torch.as_tensor(self.schedule(state.step.double()), device=weight.device).to(change.dtype)
        return Times(change, factor), _Counted(state.step + 1, own)
