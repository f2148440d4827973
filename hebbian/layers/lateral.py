"""A layer whose units act on one another until they agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import ebm
from ebm import Adjoint, Detached, Draw, Picard, Solution, Solver, Stop, Update
from hebbian.lateral import Lateral
from hebbian.layers.activations import LINEAR
from hebbian.layers.base import Activation, HebbianLayer
from hebbian.rule import LocalRule

__all__ = ["HebbianLateral", "Recurrent"]

_IMPLICIT = ebm.Implicit()


class Recurrent(Update):
    r"""Activity that answers to a drive and to itself: $y \leftarrow f(x + M y)$.

    The observation is the pair of the drive ``x`` (B, units) and the weight $M$, which belongs to no sample:
    ``(x, ebm.rows.Shared(weight))``.

    Args:
        synapse: the geometry of $M$.
        activation: $f$.

    Example:
        >>> import torch, ebm
        >>> from hebbian import Lateral
        >>> from hebbian.layers import Recurrent, Relu
        >>> inhibition = ebm.rows.Shared(torch.tensor([[0.0, -0.5], [-0.5, 0.0]]))
        >>> ebm.infer(Recurrent(Lateral(2), Relu()), (torch.tensor([[1.0, 0.7]]), inhibition), steps=40).z
        tensor([[0.8667, 0.2667]])
    """

    def __init__(self, synapse: Lateral, activation: Activation) -> None:
        super().__init__()
        self.synapse, self.activation = synapse, activation

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """What the drive alone would give."""
        return self.activation(c[0])

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The answer to the drive and to the activity so far."""
        drive, weight = c
        return self.activation(drive + self.synapse.forward(weight.value, z))

    def default_solver(self) -> Solver:
        """`Picard`: all units at once."""
        return Picard()


class HebbianLateral(HebbianLayer):
    r"""Units that inhibit or excite one another, settled by `ebm.infer`, with weights among them that learn.

    $$y = f(u + M y), \qquad M_{ii} = 0, \qquad u = x \text{ or } W x$$

    The rule of $M$ sees the settled activity at both ends: ``Hebb(-0.1)`` makes units that are active together inhibit
    each other until they are uncorrelated. With ``feed`` the layer has weights from its input as well, and the rule of
    those sees the input and the settled activity. $M$ begins at zero.

    The answer is differentiable at rest, without differentiating the steps (`ebm.Implicit`); where nothing asks for a
    gradient nothing of the kind is kept. Settling is sure to come to rest where $|f'| \, \|M\| < 1$.

    Args:
        units: of the layer, at least 1.
        rule: how the weights among the units change.
        activation: $f$.
        feed: a layer whose weights give the drive; its activation is not used. None takes the input itself.
        steps: the limit of settling, as in `ebm.infer`.
        stop: when a sample is done; None is where its residual is below 1e-6.
        solver: how activity settles; None is `ebm.Picard`.
        adjoint: how a loss differentiates the settled activity.
        backprop: the weights among the units have a gradient, too.
        transparent: the answer is differentiable in the input.

    Raises:
        TypeError, ValueError: as `HebbianLayer` does, or a ``feed`` of another kind or with other units.

    Attributes:
        solution: of the last call, with the status and the steps of each sample; None before.

    Example:
        >>> import torch
        >>> from hebbian import Hebb
        >>> from hebbian.layers import HebbianLateral
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 0.6], [0.0, 0.8]])
        >>> layer = HebbianLateral(2, Hebb(-0.1))
        >>> for _ in range(200):
        ...     y = layer.learn(x)
        >>> before, after = (x.T @ x / 500)[0, 1], (y.T @ y / 500)[0, 1]
        >>> print(f"correlated by {before:.2f}, then by {abs(after):.2f}")
        correlated by 0.60, then by 0.00

    Source:
        Foldiak (1989), Adaptive network for optimal linear feature extraction, for anti-Hebbian weights among linear units.
    """

    def __init__(
        self,
        units: int,
        rule: LocalRule,
        activation: Activation = LINEAR,
        *,
        feed: HebbianLayer | None = None,
        steps: int = 100,
        stop: Stop | None = None,
        solver: Solver | None = None,
        adjoint: Adjoint = _IMPLICIT,
        backprop: bool = False,
        transparent: bool = True,
    ) -> None:
        unused = torch.Generator()  # of weights that begin at zero: the global one is left alone
        super().__init__(Lateral(units), rule, activation, backprop=backprop, transparent=transparent, generator=unused)
        if feed is not None and not isinstance(feed, HebbianLayer):
            raise TypeError(
                f"`HebbianLateral` was given a {type(feed).__name__} as its feed; a Hebbian layer is wanted, or None. "
                "Put other modules before it, in nn.Sequential."
            )
        if feed is not None and feed.synapse.weight_shape[0] != units:
            raise ValueError(
                f"`HebbianLateral` has {units} units and its feed {feed.synapse.weight_shape[0]}; as many are wanted. "
                f"Pass for example HebbianLinear(in_features, {units}, rule)."
            )
        with torch.no_grad():
            self.weight.zero_()
        self.feed = feed
        self.steps, self.solver, self.adjoint = steps, solver, adjoint
        self.stop = ebm.AtRest(1e-6) if stop is None else stop
        self.solution: Solution | None = None
        self._recurrent = Recurrent(self._lateral(), activation)

    def respond(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What the units receive from below, and the activity they settle to."""
        drive = x if self.feed is None else self.feed.respond(x, self.feed.weight)[0]
        asked = torch.is_grad_enabled() and (drive.requires_grad or weight.requires_grad)
        self.solution = ebm.infer(
            self._recurrent,
            (drive, ebm.rows.Shared(weight)),
            steps=self.steps,
            stop=self.stop,
            solver=self.solver,
            adjoint=self.adjoint if asked else Detached(),
            keep="last",
        )
        return drive, self.solution.z

    def _seen(self, x: Tensor, drive: Tensor, answer: Tensor, signal: Tensor | None) -> Any:
        return self._shown(answer, answer, signal)

    def _step(self, x: Tensor, drive: Tensor, answer: Tensor, signal: Tensor | None) -> None:
        super()._step(x, drive, answer, signal)
        if self.feed is not None:
            self.feed.apply_statistics(replace(self.feed._shown(x, answer, None), spare=True))

    def _lateral(self) -> Lateral:
        assert isinstance(self.synapse, Lateral)
        return self.synapse
