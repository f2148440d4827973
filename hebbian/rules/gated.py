"""A rule that learns from some of the samples only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Change
from hebbian.rule import LocalRule, State
from hebbian.rules.chain import part_of
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import take, traces_of, with_traces

__all__ = ["Gated"]

Gate = Callable[[Tensor, Tensor], Tensor]
"""``gate(pre, post)``: which samples to learn from, (B,), bool."""


@dataclass(frozen=True)
class Gated(LocalRule):
    r"""A rule behind a gate: samples whose gate is closed are as if they had not been there.

    $$S = \sum_{b \,:\, g_b} s(x_b, y_b)$$

    The gate is decided for each sample by itself, and closed samples neither count nor move their own traces. So
    statistics add as before, and the rule inside sees a smaller batch, whatever it does with it. Where no gate is open
    nothing changes.

    Args:
        rule: the rule inside.
        gate: ``gate(pre, post)``, which returns one bool a sample, (B,), and lets no sample see another. None takes the
            gate from the ``signal``, (B,), open where it is above zero; then the rule inside can take none.

    Raises:
        TypeError: a rule that is none, or a gate that cannot be called.
        ValueError: no gate for a rule that wants a signal; at the call, a gate that is not one bool a sample.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Gated, Hebb, step
        >>> rule = Gated(Hebb(1.0), gate=lambda pre, post: post.amax(1) > 0.5)  # only where some unit is sure
        >>> pre, post = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.9], [0.1]])
        >>> step(rule, Dense(2, 1), torch.zeros(1, 2), pre, post, None)[0]
        tensor([[0.9000, 0.0000]])
    """

    rule: LocalRule
    gate: Gate | None = None

    def __post_init__(self) -> None:
        checks.made("Gated", "rule", self.rule, LocalRule, "a local rule is wanted, as Hebb(0.1) is")
        if self.gate is not None and not callable(self.gate):
            raise TypeError(
                f"`Gated` was given gate={self.gate!r}; a function of pre and post is wanted, or None. "
                "Pass a tensor as the signal of each step instead, with gate=None."
            )
        if self.gate is None and self.rule.signal is not None:
            raise ValueError(
                f"`Gated` was given no gate and `{type(self.rule).__name__}`, which wants the signal for itself. "
                "Pass `gate=` a function of pre and post."
            )
        signal = "the gate of each sample, open above zero, shape (B,)" if self.gate is None else self.rule.signal
        object.__setattr__(self, "signal", signal)
        object.__setattr__(self, "competes", self.rule.competes)

    def weighed(self, weight: Tensor) -> Tensor:
        """That of the rule inside."""
        return self.rule.weighed(weight)

    def renewed(self, weight: Tensor, state: State) -> State:
        """That of the rule inside."""
        return self.rule.renewed(weight, state)

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """That of the rule inside."""
        return self.rule.init_state(synapse, weight)

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """That of the rule inside, for all samples."""
        return self.rule.begin(synapse, pre, post, state)

    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sums of the rule inside over the open samples, and how many there are."""
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """The sums of the rule inside over the open samples, how many there are, and the traces of these moved on."""
        rows = self._open(pre, post, signal).nonzero()[:, 0]
        inner = None
        if self.gate is not None and signal is not None:
            inner = signal[rows] if signal.ndim else signal
        found, part = self.rule.observe(synapse, pre[rows], post[rows], take(state, rows), inner)
        moved = [
            {name: old.index_copy(0, rows, new[name].to(old.dtype)) for name, old in whole.items()}
            for whole, new in zip(traces_of(state), traces_of(part), strict=True)
        ]
        sums = {f"rule.{name}": value for name, value in found.items()}
        sums |= {"open": post.new_tensor(len(rows)), "all": post.new_tensor(len(pre))}
        return sums, with_traces(state, moved)

    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Change, State]:
        """The change of the rule inside for the open samples."""
        opened, every = (int(statistics.sums[name]) for name in ("open", "all"))
        if not opened:
            return torch.zeros_like(weight), state
        count = statistics.count // every * opened
        sums = part_of(statistics.sums, "rule.")
        inner = replace(statistics, count=count, sums=sums, traces=traces_of(state))
        return self.rule.change(inner, weight, state)

    def _open(self, pre: Tensor, post: Tensor, signal: Tensor | None) -> Tensor:
        if self.gate is None:
            assert signal is not None
            checks.one_each(self, len(pre), signal)
            return signal > 0
        gate = self.gate(pre, post)
        if not isinstance(gate, Tensor) or tuple(gate.shape) != (len(pre),) or gate.dtype != torch.bool:
            got = f"{checks.shape(gate)}, {gate.dtype}" if isinstance(gate, Tensor) else type(gate).__name__
            raise ValueError(
                f"The gate of `Gated` returned {got}; one bool a sample is wanted, ({len(pre)},). Compare and reduce over "
                "every axis but the first, as in `post.flatten(1).amax(1) > 0.5`."
            )
        return gate
