"""A layered net that settles with weak feedback, and learns by the difference of two settled phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import ebm
from ebm import Draw, Picard, Solution, Solver, Stop, Update
from hebbian.rules.contrastive import Contrastive
from hebbian.synapse import Dense

__all__ = ["LayeredNet", "Phases"]

Function = Callable[[Tensor], Tensor]
"""An activation, of each number by itself."""


class Phases(NamedTuple):
    """The same samples settled twice: by themselves, and with the teacher held at the output.

    Attributes:
        free: the activity of every layer, input included: a tuple of (B, size).
        clamped: the same with the teacher in the last place.
        ends: the two solutions, with status and cost of every sample.
    """

    free: tuple[Tensor, ...]
    clamped: tuple[Tensor, ...]
    ends: tuple[Solution, Solution]


class LayeredNet(Update):
    r"""Layers that drive the next and are weakly driven back by it, and learn by contrastive Hebbian learning.

    $$x_k \leftarrow f_k ( W_k x_{k-1} + \gamma \, W_{k+1}^\top x_{k+1} + b_k ), \qquad
      \Delta W_k = \eta \, \gamma^{k-L} \, ( x_k^+ x_{k-1}^{+\top} - x_k^- x_{k-1}^{-\top} )$$

    $x^-$ has settled by itself, $x^+$ with the last layer held at the teacher. As $\gamma \to 0$ the change becomes that
    of backpropagation for the loss whose error at the output is $y - x_L$: half the squared error with a linear output,
    cross entropy with a logistic one. The difference of the phases in layer $k$ is of size $\gamma^{L-k}$, and rounding
    must stay below it: use float64 for small $\gamma$ and several layers. For large $\gamma$ the two differ, and settling may
    not come to rest; each sample's status says whether it did.

    Pass ``x`` to settle freely, ``(x, y)`` to settle with the teacher ``y`` held. Settling goes through `ebm.infer`, with its
    budgets, stop rules and solvers.

    Args:
        sizes: of input, hidden layers and output: at least two, each at least 1.
        gamma: $\gamma$, above 0.
        activation: $f_k$ of the hidden layers.
        output: $f_L$; None is linear.

    Raises:
        ValueError: a setting outside its range; at the call, a teacher of another shape than the output.

    Example:
        >>> import torch, ebm
        >>> from hebbian import LayeredNet
        >>> _ = torch.manual_seed(0)
        >>> net = LayeredNet([2, 8, 1], gamma=0.2, activation=torch.tanh)
        >>> x = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        >>> y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])  # exclusive or
        >>> for _ in range(300):
        ...     _ = net.learn(x, y, rate=0.3, steps=20)
        >>> (ebm.infer(net.eval(), x, steps=20).answer - y).abs().max() < 0.05
        tensor(True)

    Source:
        Xie and Seung (2003), Equivalence of backpropagation and contrastive Hebbian learning in a layered network, Neural
        Computation 15. There a differential equation; here the same fixed points, by any solver.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        gamma: float = 0.1,
        activation: Function = torch.sigmoid,
        output: Function | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(
                f"`LayeredNet` was given sizes={sizes!r}; at least two whole numbers of at least 1 are wanted, from input "
                "to output. Pass for example [784, 100, 10]."
            )
        if not gamma > 0:
            raise ValueError(
                f"`LayeredNet` was given gamma={gamma!r}; a number above 0 is wanted, or no teacher would reach the layers "
                "below. Pass for example gamma=0.1."
            )
        self.gamma = gamma
        self.activation = activation
        self.output = output
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def condition(self, x: Tensor | tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The input, the teacher, and which samples are held to it (none without a teacher)."""
        size = self._layers()[-1].out_features
        if isinstance(x, Tensor):
            return {"x": x, "teacher": x.new_zeros(len(x), size), "held": x.new_zeros(len(x), 1, dtype=torch.bool)}
        given, teacher = x
        if tuple(teacher.shape) != (len(given), size):
            raise ValueError(
                f"The teacher has shape {tuple(teacher.shape)}; one row a sample and one number an output unit are wanted, "
                f"({len(given)}, {size}). Pass one-hot rows for classes, say."
            )
        held = given.new_ones(len(given), 1, dtype=torch.bool)
        return {"x": given, "teacher": teacher.to(given.dtype), "held": held}

    def init_latent(self, c: dict[str, Tensor], draw: Draw) -> tuple[Tensor, ...]:
        """A pass forward without feedback, the teacher in the last place where it is held."""
        found, below = [], c["x"]
        for k, layer in enumerate(self._layers()):
            below = self._answer(k, layer(below))
            found.append(below)
        return (*found[:-1], torch.where(c["held"], c["teacher"], found[-1]))

    def forward(self, z: tuple[Tensor, ...], c: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """What every layer answers to those below and above."""
        layers = self._layers()
        below, new = (c["x"], *z[:-1]), []
        for k, layer in enumerate(layers):
            drive = layer(below[k])
            if k + 1 < len(layers):
                drive = torch.add(drive, z[k + 1] @ layers[k + 1].weight, alpha=self.gamma)
            new.append(self._answer(k, drive))
        return (*new[:-1], torch.where(c["held"], c["teacher"], new[-1]))

    def readout(self, z: tuple[Tensor, ...], c: dict[str, Tensor]) -> Tensor:
        """The last layer."""
        return z[-1]

    def default_solver(self) -> Solver:
        """`Picard`: all layers at once."""
        return Picard()

    def phases(
        self, x: Tensor, y: Tensor, *, steps: int | None = None, stop: Stop | None = None, solver: Solver | None = None
    ) -> Phases:
        """Settle a batch twice, freely and with the teacher held.

        Args:
            x: (B, inputs).
            y: (B, outputs), the teacher.
            steps: the limit of each phase, as in `ebm.infer`; without feedback as many as there are layers would do.
            stop: as in `ebm.infer`.
            solver: as in `ebm.infer`.

        Raises:
            ValueError: as `ebm.infer` does, or a teacher of another shape.
        """
        free = ebm.infer(self, x, steps=steps, stop=stop, solver=solver, adjoint=ebm.Detached(), keep="last")
        clamped = ebm.infer(self, (x, y), steps=steps, stop=stop, solver=solver, adjoint=ebm.Detached(), keep="last")
        return Phases((x, *free.z), (x, *clamped.z), (free, clamped))

    @torch.no_grad()
    def changes(self, phases: Phases, rate: float = 1.0) -> dict[str, Tensor]:
        """The change of every parameter by name, to be added, or handed to an optimiser by `hebbian.pseudo_gradient`.

        Args:
            phases: from `phases`.
            rate: of the last layer; the others are raised by the power of the feedback that has weakened their difference.
        """
        layers, changes = self._layers(), {}
        for k, layer in enumerate(layers):
            rule = Contrastive(rate * self.gamma ** (k + 1 - len(layers)))
            ends = [(phase[k], phase[k + 1]) for phase in (phases.clamped, phases.free)]
            both = rule.phases(Dense(layer.in_features, layer.out_features), clamped=ends[0], free=ends[1])
            changes[f"layers.{k}.weight"] = rule.delta(both, layer.weight, None)[0]
            # a bias is the weight of an input that is always one
            ones = [(pre.new_ones(len(pre), 1), post) for pre, post in ends]
            both = rule.phases(Dense(1, layer.out_features), clamped=ones[0], free=ones[1])
            changes[f"layers.{k}.bias"] = rule.delta(both, layer.bias[:, None], None)[0][:, 0]
        return changes

    @torch.no_grad()
    def learn(
        self,
        x: Tensor,
        y: Tensor,
        rate: float,
        *,
        steps: int | None = None,
        stop: Stop | None = None,
        solver: Solver | None = None,
    ) -> Phases:
        """Settle both phases and add the changes to the weights.

        Args:
            x: (B, inputs).
            y: (B, outputs), the teacher.
            rate: of the last layer.
            steps: as in `phases`, as the two that follow.
            stop: when a sample is done.
            solver: how activity settles.

        Returns:
            the phases, as they were before the change.
        """
        phases = self.phases(x, y, steps=steps, stop=stop, solver=solver)
        parameters = dict(self.named_parameters())
        for name, change in self.changes(phases, rate).items():
            parameters[name].add_(change)
        return phases

    def _answer(self, k: int, drive: Tensor) -> Tensor:
        if k + 1 < len(self.layers):
            return self.activation(drive)
        return drive if self.output is None else self.output(drive)

    def _layers(self) -> list[Any]:
        return list(self.layers)
