"""Several rules on one weight, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from hebbian import checks
from hebbian.change import Becomes, as_weight
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import traces_of

__all__ = ["Chain"]


@dataclass(frozen=True, init=False)
class Chain(LocalRule):
    r"""Rules in a row: each changes the weight that those before it have left.

    $$W_k = W_{k-1} + \delta_k(S_k, W_{k-1}), \qquad \Delta W = W_n - W_0$$

    All of them observe the same batch, before any change; so statistics still add, and the order counts only where a
    change depends on the weight. Learning comes first and constraints last: ``Chain(Oja(0.1), SignConstraint(1))``.
    All are shown the drive of the first rule that has a drive of its own.
    The state is a tuple, one of each rule.

    Args:
        rules: at least one. Those that take a signal are all given the same, so they must ask for the same.

    Raises:
        TypeError: something that is no rule.
        ValueError: no rule, or two that ask for different signals.

    Example:
        >>> import torch
        >>> from hebbian import Chain, Dense, Hebb, Normalise, step
        >>> synapse, rule, weight = Dense(2, 1), Chain(Hebb(1.0), Normalise()), torch.zeros(1, 2)
        >>> pre = torch.tensor([[3.0, 4.0]])
        >>> step(rule, synapse, weight, pre, torch.ones(1, 1), rule.init_state(synapse, weight))[0]
        tensor([[0.6000, 0.8000]])
    """

    rules: tuple[LocalRule, ...]

    def __init__(self, *rules: LocalRule) -> None:
        if not rules:
            raise ValueError(
                "`Chain` was given no rule; at least one is wanted. Pass for example Hebb(0.1), Normalise()."
            )
        for rule in rules:
            checks.made(
                "Chain",
                "rule",
                rule,
                LocalRule,
                "local rules are wanted, one by one, as in Chain(Hebb(0.1), Normalise())",
            )
        wanted = sorted({rule.signal for rule in rules if rule.signal is not None})
        if len(wanted) > 1:
            raise ValueError(
                f"`Chain` was given rules that ask for different signals ({'; '.join(wanted)}); one is wanted. "
                "Take one step with each rule instead."
            )
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "signal", wanted[0] if wanted else None)
        object.__setattr__(self, "competes", any(rule.competes for rule in rules))

    def weighed(self, weight: Tensor) -> Tensor:
        """That of the first rule that does not take the weight as it is."""
        own = (rule.weighed(weight) for rule in self.rules)
        return next((found for found in own if found is not weight), weight)

    def renewed(self, weight: Tensor, state: State) -> State:
        """Each rule's own."""
        return tuple(rule.renewed(weight, own) for rule, own in zip(self.rules, self._own(state), strict=True))

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """The state of each rule, in a tuple."""
        return tuple(rule.init_state(synapse, weight) for rule in self.rules)

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """Each rule's own."""
        return tuple(
            rule.begin(synapse, pre, post, own) for rule, own in zip(self.rules, self._own(state), strict=True)
        )

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sums of every rule, under ``"0.name"``, ``"1.name"`` and so on."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sums and the state of every rule."""
        sums, states = {}, []
        for k, (rule, own) in enumerate(zip(self.rules, self._own(state), strict=True)):
            found, own = rule.observe(synapse, pre, post, own, signal if rule.signal is not None else None)
            sums |= {f"{k}.{name}": value for name, value in found.items()}
            states.append(own)
        return sums, tuple(states)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Becomes, State]:
        """The sum of the changes, each at the weight that those before have left."""
        new, states = weight, []
        for k, (rule, own) in enumerate(zip(self.rules, self._own(state), strict=True)):
            sums = part_of(statistics.sums, f"{k}.")
            part = replace(statistics, sums=sums, traces=traces_of(own))
            found, own = rule.change(part, new, own)
            new = as_weight(found, new)
            states.append(own)
        return Becomes(new), tuple(states)

    def _own(self, state: State) -> tuple[State, ...]:
        if isinstance(state, tuple) and len(state) == len(self.rules):
            return state
        got = f"{len(state)} states" if isinstance(state, tuple) else f"a {type(state).__name__}"
        raise ValueError(
            f"`Chain` was given {got} as its state; a tuple of {len(self.rules)} is wanted, one of each rule. "
            "Pass `rule.init_state(synapse, weight)`, or what the last step returned."
        )


def part_of(sums: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The sums whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in sums.items() if name.startswith(prefix)}
