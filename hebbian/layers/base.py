"""A weight with its rule, as a module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hebbian import checks
from hebbian.layers.activations import LINEAR, Triangle
from hebbian.learn import pseudo_gradient
from hebbian.rule import LocalRule, State
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse, per_unit
from hebbian.traces import Rows, forget, map_tensors, traces_of, with_traces

__all__ = ["HebbianLayer", "learn"]

Activation = Callable[[Tensor], Tensor]


class HebbianLayer(nn.Module):
    r"""A layer whose weight changes by a local rule, and only when asked: $f(\mathrm{forward}(W, x))$.

    It plugs into any module. Calling it never learns, unless ``learning`` is set; `learn` does. The answer is
    differentiable in ``x``, so layers below may be trained by backpropagation; the weight is not, unless
    ``backprop=True``. The rule's state (running means, counts of steps) is kept in buffers, and is saved, loaded and
    moved with the module; traces of single samples are not saved: they belong to one batch, and `forget` drops them.

    Use `HebbianLinear`, `HebbianConv1d`, `HebbianConv2d` or `HebbianLateral`; this one takes any `Synapse`.

    Args:
        synapse: the geometry.
        rule: how the weight changes.
        activation: what the layer makes of what its units receive; any function of ``(B, units, *places)``. None takes what
            suits the rule: `Triangle` where its units compete (`LocalRule.competes`), else the drive itself.
        sees: what the rule is shown as ``post``: ``"drive"``, what the units receive (for rules that compete by
            themselves, and linear ones), or ``"activity"``, what the activation makes of it. Where the rule has a drive of its
            own (`LocalRule.weighed`), it is shown that one.
        backprop: the weight is a parameter with a gradient, too.
        transparent: the answer is differentiable in ``x``; False cuts the graph there.
        generator: draws the first weights, rows of length one on average; None takes the global one.

    Raises:
        TypeError: a synapse or rule that is none, or an activation that cannot be called.
        ValueError: another word for ``sees``.

    Attributes:
        weight: ``(units, *field)``, a parameter.
        learning: whether every call learns, too (`hebbian.train.learning` sets it for a block); False at first.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Oja
        >>> from hebbian.layers import HebbianLayer
        >>> layer = HebbianLayer(Dense(4, 2), Oja(0.1), generator=torch.Generator().manual_seed(0))
        >>> layer.learn(torch.ones(8, 4)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        synapse: Synapse,
        rule: LocalRule,
        activation: Activation | None = None,
        *,
        sees: Literal["drive", "activity"] = "drive",
        backprop: bool = False,
        transparent: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(type(self).__name__, synapse, rule, activation, sees)
        self.synapse, self.rule = synapse, rule
        self.activation: Activation = suiting(rule) if activation is None else activation
        self.sees, self.transparent, self.learning = sees, transparent, False
        device = None if generator is None else generator.device
        weight = torch.randn(synapse.weight_shape, generator=generator, device=device)
        self.weight = nn.Parameter(weight / math.sqrt(weight[0].numel()), requires_grad=backprop)
        self._traces: tuple[Rows, ...] = ()
        self._shape: Any = None
        self._names: list[str] = []
        self._keep(rule.init_state(synapse, self.weight.detach()))

    @property
    def state(self) -> State:
        """What the rule remembers, traces included; set it to go on from another."""
        shared = map_tensors(lambda leaf: getattr(self, self._names[int(leaf)]), self._shape)
        return with_traces(shared, self._traces)

    @state.setter
    def state(self, state: State) -> None:
        self._keep(state)

    def forget(self) -> None:
        """Drop what the rule remembers of single samples: before another batch of sequences."""
        self._traces = ()

    def forward(self, x: Tensor) -> Tensor:
        """The answer, ``(B, units, *places)``; where ``learning`` is set the rule takes a step after it."""
        x = x if self.transparent else x.detach()
        # what a graph has saved must not be written when the rule takes its step
        weight = self.weight.clone() if self.learning and torch.is_grad_enabled() else self.weight
        drive, answer = self.respond(x, weight)
        if self.learning:
            with torch.no_grad():
                self._step(x, drive, answer, None)
        return answer

    def respond(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What the units receive, and what they answer."""
        drive = self.synapse.forward(weight, x)
        return drive, self.activation(drive)

    @torch.no_grad()
    def statistics(self, x: Tensor, signal: Tensor | None = None) -> Statistics:
        """What a batch tells the rule; those of several batches or workers add. Nothing changes.

        Args:
            x: the input, (B, ...); an array of numpy is taken, too, in the weight's dtype.
            signal: for rules that ask for one.

        Raises:
            ValueError, TypeError: as `LocalRule.statistics` does.
        """
        x, signal = self._taken(x), self._taken(signal)
        return self._seen(x, *self.respond(x, self.weight), signal)

    @torch.no_grad()
    def apply_statistics(self, statistics: Statistics) -> None:
        """Add the rule's change to the weight, and move its state.

        Args:
            statistics: the total over all batches and workers of this step.

        Raises:
            ValueError, TypeError: as `LocalRule.delta` does.
        """
        change, state = self.rule.delta(statistics, self.weight, self.state)
        self.weight.add_(change)
        self._keep(state)

    @torch.no_grad()
    def suggest(self, statistics: Statistics) -> None:
        """Write minus the rule's change as the weight's gradient, for an optimiser to take, and move the state.

        With ``backprop=True`` it is added to the gradient that is there, so one step follows both; otherwise it replaces it.

        Args:
            statistics: the total over all batches and workers of this step.

        Raises:
            ValueError, TypeError: as `LocalRule.delta` does.
        """
        change, state = self.rule.delta(statistics, self.weight, self.state)
        before = self.weight.grad
        pseudo_gradient(self.weight, change if before is None or not self.weight.requires_grad else change - before)
        self._keep(state)

    @torch.no_grad()
    def learn(self, x: Tensor, signal: Tensor | None = None) -> Tensor:
        """One step of the rule on a batch.

        Args:
            x: the input, (B, ...); an array of numpy is taken, too, in the weight's dtype.
            signal: for rules that ask for one.

        Returns:
            the answer of the weights before the step.

        Raises:
            ValueError, TypeError: as `LocalRule.statistics` does.
        """
        x, signal = self._taken(x), self._taken(signal)
        drive, answer = self.respond(x, self.weight)
        self._step(x, drive, answer, signal)
        return answer

    @torch.no_grad()
    def start_from(self, x: Tensor, length: float = 2.0, generator: torch.Generator | None = None) -> None:
        """Begin among the data: the weights of each unit become something that the units see, drawn by lot.

        Units that compete then all have inputs to win, where random ones may never win any. Rows longer than those that the
        rule leaves (length one, mostly) all have their turn, for a row that wins is shortened.

        Args:
            x: inputs, (B, ...), about as many as there are units, or more; an array of numpy is taken, too.
            length: of the weights of each unit.
            generator: of the lots; None takes the global one.

        Raises:
            ValueError: inputs of another shape, or that are all zero, or a length that is not above zero.
            NotImplementedError: a geometry that cannot say what a unit sees.

        Example:
            >>> import torch
            >>> from hebbian import HebbianLinear, SoftHebb
            >>> layer = HebbianLinear(3, 2, SoftHebb(0.1))
            >>> layer.start_from(torch.tensor([[0.0, 3.0, 4.0]]))
            >>> layer.weight.data
            tensor([[0.0000, 1.2000, 1.6000],
                    [0.0000, 1.2000, 1.6000]])
        """
        checks.positive(self, "length", length)
        units, x = len(self.weight), self._taken(x)
        device = x.device if generator is None else generator.device
        lot = torch.randperm(len(x), generator=generator, device=device)[:units]
        seen = self.synapse.fields(x[lot.to(x.device)])
        size = torch.linalg.vector_norm(seen.flatten(1), dim=1)
        seen, size = seen[size > 0], size[size > 0]
        if not len(seen):
            raise ValueError(
                "`start_from` was given inputs that are all zero; others are wanted, which weights can be made of. Pass some of the data."
            )
        # every one once before any twice
        turns = [torch.randperm(len(seen), generator=generator, device=device) for _ in range(-(-units // len(seen)))]
        chosen = torch.cat(turns)[:units].to(x.device)
        self.weight.copy_(length * seen[chosen] / per_unit(size[chosen], seen))

    def extra_repr(self) -> str:
        """Geometry, rule and activation."""
        return f"{self.synapse}, {self.rule}, {self.activation}"

    def _step(self, x: Tensor, drive: Tensor, answer: Tensor, signal: Tensor | None) -> None:
        self.apply_statistics(replace(self._seen(x, drive, answer, signal), spare=True))

    def _seen(self, x: Tensor, drive: Tensor, answer: Tensor, signal: Tensor | None) -> Statistics:
        weighed = self.rule.weighed(self.weight)
        if weighed is not self.weight:
            drive = self.synapse.forward(weighed, x)
            answer = self.activation(drive) if self.sees == "activity" else answer
        return self._shown(x, drive if self.sees == "drive" else answer, signal)

    def _shown(self, pre: Tensor, post: Tensor, signal: Tensor | None) -> Statistics:
        """The rule's statistics of both ends, with a state that knows the weight as it is now."""
        state = self.rule.renewed(self.weight.detach(), self.state)
        return self.rule.statistics(self.synapse, pre, post, state, signal)

    def _taken(self, x: Any) -> Any:
        return checks.taken(x, self.weight)

    def _keep(self, state: State) -> None:
        """Traces aside, and every other tensor of the state in a buffer, by its place in the tree."""
        self._traces = traces_of(state)
        found: list[Tensor] = []

        def numbered(leaf: Tensor) -> Tensor:
            found.append(leaf)
            return torch.tensor(len(found) - 1)

        shape = map_tensors(numbered, forget(state))
        for k, leaf in enumerate(found):
            if k < len(self._names):
                setattr(self, self._names[k], leaf)
            else:
                self._names.append(f"state_{k}")
                self.register_buffer(self._names[k], leaf)
        self._shape = shape


def learn(layer: HebbianLayer, x: Tensor, signal: Tensor | None = None) -> Tensor:
    """One step of a layer's rule on a batch: ``layer.learn(x, signal)``.

    Args:
        layer: any Hebbian layer.
        x: the input, (B, ...).
        signal: for rules that ask for one.

    Returns:
        the answer of the weights before the step.

    Raises:
        TypeError: no Hebbian layer.

    Example:
        >>> import torch
        >>> from hebbian import Oja
        >>> from hebbian.layers import HebbianLinear, learn
        >>> layer = HebbianLinear(3, 1, Oja(0.1), generator=torch.Generator().manual_seed(0))
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([2.0, 1.0, 0.5])
        >>> for _ in range(200):
        ...     _ = learn(layer, x)
        >>> print(f"{layer.weight.norm():.3f}")
        1.000
    """
    if not isinstance(layer, HebbianLayer):
        raise TypeError(
            f"`learn` was given a {type(layer).__name__}; a Hebbian layer is wanted, which knows its rule. Use "
            "`hebbian.train.joint(model, loader)` for a module that holds such layers."
        )
    return layer.learn(x, signal)


def suiting(rule: LocalRule) -> Activation:
    """The activation of a layer that was told none: what its rule's units are good for."""
    return Triangle() if rule.competes else LINEAR


def _check(name: str, synapse: object, rule: object, activation: object, sees: object) -> None:
    checks.made(name, "synapse", synapse, Synapse, "a geometry is wanted, as Dense(3, 2) is")
    checks.made(name, "rule", rule, LocalRule, "a local rule is wanted, as Oja(0.1) is")
    if activation is not None and (not callable(activation) or isinstance(activation, type)):
        raise TypeError(
            f"`{name}` was given activation={activation!r}; a function of the drive is wanted. Pass for example Relu()."
        )
    if sees not in ("drive", "activity"):
        raise ValueError(f'`{name}` was given sees={sees!r}; "drive" or "activity" is wanted. Choose one.')
