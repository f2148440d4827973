"""Foldiak's network: sparse codes by local rules alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm import Draw, Picard, Solution, Solver, Update
from hebbian import checks
from hebbian.lateral import Lateral
from hebbian.learn import step
from hebbian.rules.chain import Chain
from hebbian.rules.correlation_target import CorrelationTarget
from hebbian.rules.instar import Instar
from hebbian.rules.sign_constraint import SignConstraint
from hebbian.synapse import Dense

__all__ = ["Competing", "Foldiak"]


class Competing(Update):
    r"""Units with a steep answer that inhibit one another: $y \leftarrow y + \kappa \, (f(u + M y) - y)$.

    $f(v) = 1 / (1 + e^{-\lambda v})$. The observation is the pair of the drive ``u`` (B, units), thresholds taken off, and
    the inhibition $M$, which belongs to no sample: ``(u, ebm.rows.Shared(M))``. Rest is that of $dy/dt = f(u + M y) - y$.

    Args:
        units: how many.
        steepness: $\lambda$, above 0.
        pace: $\kappa$, from above 0 to 1: a smaller one cannot swing, a larger one is quicker.

    Example:
        >>> import torch, ebm
        >>> from hebbian.foldiak import Competing
        >>> inhibition = ebm.rows.Shared(torch.tensor([[0.0, -2.0], [-2.0, 0.0]]))
        >>> y = ebm.infer(Competing(2), (torch.tensor([[1.0, 0.8]]), inhibition), steps=100).z
        >>> (y > 0.5).tolist()
        [[True, False]]
    """

    def __init__(self, units: int, steepness: float = 10.0, pace: float = 0.2) -> None:
        super().__init__()
        self.synapse, self.steepness, self.pace = Lateral(units), steepness, pace

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """Silence."""
        return torch.zeros_like(c[0])

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """A part of the way to the answer."""
        drive, inhibition = c
        answer = torch.sigmoid(self.steepness * (drive + self.synapse.forward(inhibition.value, z)))
        return torch.lerp(z, answer, self.pace)

    def readout(self, z: Tensor, c: Any) -> Tensor:
        """Who is active: zeros and ones."""
        return (z > 0.5).to(z.dtype)

    def default_solver(self) -> Solver:
        """`Picard`: all units at once."""
        return Picard()


class Foldiak(nn.Module):
    r"""A layer that learns a sparse code: units find what occurs together, and share it out by inhibition.

    Units settle to $y = f(Q x + M y - t)$ (through `ebm.infer`) and are taken as active above one half. Then three
    local rules learn from who was active:

    $$\Delta q_i = b \, \langle y_i (x - q_i) \rangle, \quad
      \Delta m_{ij} = -a \, ( \langle y_i y_j \rangle - p^2 ), \; m_{ij} \le 0, \quad
      \Delta t_i = c \, ( \langle y_i \rangle - p )$$

    which are `Instar`, `CorrelationTarget` with `SignConstraint`, and a threshold that holds each unit's activity at
    $p$. Each unit comes to stand for one part of the inputs, of which several may be there at once (the bars problem).

    Args:
        in_features: at least 1.
        units: at least 1.
        probability: $p$, how often a unit should be active, from 0 to 1; that of the parts.
        feed_rate: $b$, at least 0; of a mean over the batch, so larger than the published 0.02 for one sample may serve.
        lateral_rate: $a$, at least 0; published 0.1.
        threshold_rate: $c$, at least 0; published 0.02.
        steepness: $\lambda$ of the units' answer, above 0.
        pace: the share of the way to its answer that a unit goes in one settling step.
        steps: the limit of settling, as in `ebm.infer`.
        generator: draws the first weights; None takes the global one.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting out of its range.

    Attributes:
        feed: $Q$, (units, in_features), a buffer; rows begin with length one.
        inhibition: $M$, (units, units), none above zero.
        threshold: $t$, (units,), begins at one.
        solution: of the last call.

    Example:
        >>> import torch
        >>> from hebbian import Foldiak
        >>> layer = Foldiak(9, 4, probability=0.25, generator=torch.Generator().manual_seed(0))
        >>> y = layer.learn(torch.ones(5, 9))
        >>> sorted(set(y.flatten().tolist())) in ([0.0], [1.0], [0.0, 1.0])
        True

    Source:
        Foldiak (1990), Forming sparse representations by local anti-Hebbian learning, Biological Cybernetics 64. There one
        sample at a time.
    """

    feed: Tensor
    inhibition: Tensor
    threshold: Tensor

    def __init__(
        self,
        in_features: int,
        units: int,
        probability: float = 0.125,
        feed_rate: float = 0.02,
        lateral_rate: float = 0.1,
        threshold_rate: float = 0.02,
        steepness: float = 10.0,
        pace: float = 0.2,
        steps: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.number(self, "threshold_rate", threshold_rate, low=0)
        checks.positive(self, "steepness", steepness)
        checks.positive(self, "pace", pace)
        checks.part(self, "pace", pace)
        self.synapse, self.lateral = Dense(in_features, units), Lateral(units)
        self.feed_rule = Instar(feed_rate)
        self.lateral_rule = Chain(CorrelationTarget(lateral_rate, probability), SignConstraint(-1))
        self.probability, self.threshold_rate, self.steps = probability, threshold_rate, steps
        self._competing = Competing(units, steepness, pace)
        feed = torch.rand(units, in_features, generator=generator)
        self.register_buffer("feed", feed / feed.norm(dim=1, keepdim=True))
        self.register_buffer("inhibition", torch.zeros(units, units))
        self.register_buffer("threshold", torch.ones(units))
        self.solution: Solution | None = None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Who is active for each sample, zeros and ones, (B, units).

        Args:
            x: (B, in_features).
        """
        drive = self.synapse.forward(self.feed, x) - self.threshold
        shared = ebm.rows.Shared(self.inhibition)
        stop = ebm.AtRest(1e-3)
        self.solution = ebm.infer(
            self._competing, (drive, shared), steps=self.steps, stop=stop, adjoint=ebm.Detached(), keep="last"
        )
        return self.solution.answer

    @torch.no_grad()
    def learn(self, x: Tensor) -> Tensor:
        """Answer, and learn from the answer; returns it."""
        y = self(x)
        self.feed = step(self.feed_rule, self.synapse, self.feed, x, y, None)[0]
        state = self.lateral_rule.init_state(self.lateral, self.inhibition)
        self.inhibition = step(self.lateral_rule, self.lateral, self.inhibition, y, y, state)[0]
        self.threshold = self.threshold + self.threshold_rate * (y.mean(dim=0) - self.probability)
        return y
