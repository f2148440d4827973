"""The contract of a local rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias, final

import torch
from torch import Tensor

from hebbian import checks
from hebbian.change import Change, as_change, as_weight
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse
from hebbian.traces import traces_of, with_traces

__all__ = ["LocalRule", "State"]

State: TypeAlias = Any
"""What a rule remembers between steps (running means, traces): a tree of tensors, or None. Never written in place.

What it remembers of each sample is in a `Traced`, so that it can be split over workers and forgotten."""


class LocalRule(ABC):
    r"""How a weight changes by what the two ends of its synapse can see. The signature is the guarantee.

    A rule is given both ends, its own state and, where it says so, a ``signal`` (a third factor or a teacher): no loss
    and no other layer can reach it. Learning is two calls:

    - `statistics` sums over the batch, and does not see the weight. What workers computed is *added*;
    - `delta` turns the total into the change of the weight and the next state, and never writes.

    A rule that follows each sample through time (an eligibility, the traces of its spikes) keeps that in a `Traced`
    state, begun by `begin` and moved by `observe`.

    Adding statistics is exact for every rule. Averaging changes is exact only for rules whose change is linear in the
    means (Hebb and Oja are), and only if the average weighs each worker by its count.

    Nothing is differentiated: no graph is built whatever the mode, and autocast is off inside. Half-precision input is
    summed in float32; the change has the dtype of the weight.

    To add a rule, write a frozen dataclass of settings with `sums` and `change`, and `init_state` if it remembers; then
    pass it to `hebbian.testing.check_rule`. The doors are final, so every rule has the same checks.

    Attributes:
        signal: what the rule needs as ``signal``, in words that an error can quote, such as ``"the reward of each
            sample, shape (B,)"``; None (as here) for a rule that takes none. A signal is a number, the same for all
            samples, or has the sample as its first axis.
        competes: whether its units compete, so that an answer says how far a unit is above the others and not how much it
            receives; False here. A layer then answers by `Triangle` unless told otherwise.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from hebbian import Dense, LocalRule
        >>> @dataclass(frozen=True)
        ... class Decay(LocalRule):
        ...     rate: float
        ...     def sums(self, synapse, pre, post, state, signal):
        ...         return {"activity": synapse.uses(post).sum()}
        ...     def change(self, statistics, weight, state):
        ...         return -self.rate * statistics.mean("activity") * weight, state
        >>> rule, weight = Decay(0.5), torch.ones(1, 2)
        >>> statistics = rule.statistics(Dense(2, 1), torch.ones(4, 2), torch.ones(4, 1), None)
        >>> rule.delta(statistics, weight, None)
        (tensor([[-0.5000, -0.5000]]), None)
    """

    signal: ClassVar[str | None] = None
    competes: ClassVar[bool] = False

    def weighed(self, weight: Tensor) -> Tensor:
        """What the drive that the rule is shown is computed with; by default the weight itself. Every layer asks for it."""
        return weight

    def init_state(self, synapse: Synapse, weight: Tensor) -> State:
        """What the rule remembers before the first step; by default nothing, None."""
        return None

    def renewed(self, weight: Tensor, state: State) -> State:
        """The state with whatever it says of the weight told anew; by default it says nothing, and stays.

        `step` and every layer hold the weight and ask for it, so that something else may write the weight between two steps.
        """
        return state

    def begin(self, synapse: Synapse, pre: Tensor, post: Tensor, state: State) -> State:
        """The state with traces for the samples of this batch, where it follows samples and has none yet."""
        return state

    def observe(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> tuple[dict[str, Tensor], State]:
        """`sums`, and the state with the traces of its samples moved on; called by `statistics`, after `begin`.

        A rule that follows its samples writes this one, where sums and traces need the same numbers.
        """
        return self.sums(synapse, pre, post, state, signal), state

    @abstractmethod
    def sums(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None
    ) -> dict[str, Tensor]:
        """The sums over the batch that `change` needs, by name; written by each rule, called by `statistics`.

        Each is a plain sum over the uses of the weight, floating point, with no sample axis left and nothing divided by
        the batch size. The state may be read; it moves in `change`, so that every worker moves it alike.
        """

    @abstractmethod
    def change(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Change, State]:
        """The change of the weight and the next state, in memory of their own; written by each rule, called by `delta` and `stepped`.

        Called only where there was at least one sample. A plain tensor is always right; `hebbian.change.Times` and
        `hebbian.change.Becomes` say the same in a form that spares `stepped` passes over the weight.
        """

    @final
    def statistics(
        self, synapse: Synapse, pre: Tensor, post: Tensor, state: State, signal: Tensor | None = None
    ) -> Statistics:
        """What this batch tells the rule: sums that add over batches and workers.

        Args:
            synapse: the geometry that ``pre`` and ``post`` lie in.
            pre: activity before the synapse, (B, ...) as the geometry wants; finite, floating point; B may be 0.
            post: activity after the synapse, ``(B, units, *places)``, same dtype (a half counts as float32) and device.
            state: from `init_state` or from the last `delta`.
            signal: what `LocalRule.signal` asks for; None for a rule that takes none.

        Returns:
            the sums, with no sample axis.

        Raises:
            ValueError: a shape or device that does not fit, NaN or infinity, a signal missing or not taken.
            TypeError: no tensor, not floating point, or two dtypes.
        """
        self._check_signal(signal)
        checks.floating({"pre": pre, "post": post})
        pre, post = checks.widen(pre.detach()), checks.widen(post.detach())
        synapse.check(pre, post)
        given = {"pre": pre, "post": post}
        if signal is not None:
            given["signal"] = signal = checks.widen(signal.detach())
            checks.on_one_device({"pre": pre, "signal": signal})
            self._check_samples("signal", signal, len(pre))
        checks.finite(given)
        with _untraced(post.device):
            state = self.begin(synapse, pre, post, state)
            for rows in traces_of(state):
                for name, trace in rows.items():
                    self._check_samples(f"traces[{name!r}]", trace, len(pre))
            sums, state = self.observe(synapse, pre, post, state, signal)
        return Statistics(synapse.count(post), sums, tuple(synapse.weight_shape), traces_of(state), synapse=synapse)

    @final
    def delta(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The change of the weight and the next state. Nothing is written: add the change, or hand it to an optimiser.

        Args:
            statistics: the total over all batches and workers of this step. If it counts no sample, nothing changes.
            weight: ``(units, *field)``, floating point.
            state: the state that the statistics were taken with.

        Returns:
            the change, with the shape, dtype and device of the weight, to be *added* to it; and the next state.

        Raises:
            ValueError: statistics of another rule, of a weight of another shape or on another device.
            TypeError: no floating-point weight, or of another dtype than the statistics.
        """
        wide = self._wide(statistics, weight)
        if not statistics.count:
            return torch.zeros_like(weight, requires_grad=False), state
        with _untraced(weight.device):
            there = statistics.there(wide)
            found, state = self.change(statistics, there, with_traces(state, statistics.traces))
            return statistics.there(as_change(found, there)).to(weight.dtype), state

    @final
    def stepped(self, statistics: Statistics, weight: Tensor, state: State) -> tuple[Tensor, State]:
        """The weight after the change, in memory of its own, and the next state: `delta` and a sum, to rounding, in fewer passes.

        Args:
            statistics: as for `delta`.
            weight: as for `delta`; not written in.
            state: as for `delta`.

        Raises:
            ValueError, TypeError: as `delta` does.
        """
        wide = self._wide(statistics, weight)
        if not statistics.count:
            return weight.detach().clone(), state
        with _untraced(weight.device):
            there = statistics.there(wide)
            found, state = self.change(statistics, there, with_traces(state, statistics.traces))
            new = as_weight(found, there)
            # where there is no synapse the weight stays what it is, as with a change added
            return (new if there is wide else statistics.there(new) + (wide - there)).to(weight.dtype), state

    def _wide(self, statistics: Statistics, weight: Tensor) -> Tensor:
        checks.floating({"weight": weight})
        wide = checks.widen(weight.detach())
        self._check_weight(statistics, wide)
        return wide

    def _check_signal(self, signal: Tensor | None) -> None:
        name = type(self).__name__
        if self.signal is None and signal is not None:
            raise ValueError(
                f"`{name}` was given a signal; it takes none and sees only the two ends of its synapse. "
                "Leave `signal` out, or choose a rule with a third factor or a teacher."
            )
        if self.signal is not None and signal is None:
            raise ValueError(f"`{name}` was given no signal; {self.signal} is wanted. Pass it as `signal=`.")
        if signal is not None and not isinstance(signal, Tensor):
            raise TypeError(
                f"`signal` is a {type(signal).__name__}; a tensor is wanted: {self.signal}. "
                "Convert it with `torch.as_tensor(...)`."
            )

    def _check_samples(self, name: str, tensor: Tensor, batch: int) -> None:
        if tensor.ndim and len(tensor) != batch:
            advice = (
                "Pass one entry for each sample of the batch."
                if name == "signal"
                else "Keep to one batch of sequences, or begin anew with `hebbian.forget(state)`."
            )
            raise ValueError(
                f"`pre` holds {batch} samples and `{name}` of `{type(self).__name__}` {len(tensor)}; as many are wanted. "
                + advice
            )

    def _check_weight(self, statistics: Statistics, weight: Tensor) -> None:
        if tuple(weight.shape) != statistics.weight_shape:
            raise ValueError(
                f"`weight` has shape {checks.shape(weight)}; the statistics are of a weight of shape "
                f"{statistics.weight_shape}. Pass the weight whose synapse they were taken on."
            )
        for name, value in statistics.sums.items():
            checks.alike({"weight": weight, f"statistics.sums[{name!r}]": value})


@contextmanager
def _untraced(device: torch.device) -> Iterator[None]:
    """No graph, and no autocast: a change must not depend on the mode its caller is in."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield
