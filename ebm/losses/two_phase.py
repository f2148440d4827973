"""Equilibrium propagation as a loss: the gradient of a cost at rest, from two settled states and no backward pass through either."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.engine import Stop, infer
from ebm.losses.spans import WITHOUT_GRADIENT
from ebm.models.wrappers import Nudged
from ebm.objective import Energy, Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["TwoPhase"]

DEFAULT_STEPS = 50
"""Of a phase, where neither the loss nor the model says how many."""


@dataclass(frozen=True)
class TwoPhase:
    r"""Equilibrium propagation: the gradient of a cost at rest as a difference between two nudged phases.

    The free phase settles E. From there two phases settle the energy tilted towards and away from the target,
    :math:`E_{\pm} = E \pm \beta C`, see `Nudged`. With all three at rest,

    .. math:: \frac{d}{d\theta} C(z^0) = \frac{1}{2\beta}\left(\frac{\partial E_+}{\partial\theta}(z^{+})
              - \frac{\partial E_-}{\partial\theta}(z^{-})\right) + O(\beta^2)

    The loss has the value of the cost at the free state, averaged over the samples, and this estimate for a gradient. No step
    is differentiated, so memory is one evaluation, however long the phases; and for an energy that is a sum over pairs of
    units, each weight's estimate needs the two units at its ends alone. A cost that depends on parameters itself, through a
    read-out, is part of :math:`E_\pm`, so they are learned as well.

    Args:
        cost: ``cost(answer, y)``, one number a sample, (B,).
        beta: the nudge, finite and not zero. Smaller is less biased, until rounding and what is left of the residuals,
            divided by it, take over: in float32 0.01 to 0.5. Negative values make sense for one side alone.
        steps: of the free phase, >= 1; None takes the model's default, and 50 where it names none.
        nudged_steps: of each nudged phase, >= 1; None takes ``steps``.
        centred: two nudged phases, and an error of order beta squared; False: the free and one nudged phase,
            :math:`(\partial E_+(z^+) - \partial E(z^0)) / \beta`, with an error of order beta, for the price of a phase less.
        solver: how the latent moves in all phases; None asks the model.
        stop: when a sample is done in its phase; None asks the model.

    Raises:
        TypeError: ``cost`` cannot be called.
        ValueError: a setting outside its range; at the call, what `Nudged` refuses.

    Example:
        >>> import torch, ebm
        >>> def cost(answer, y):
        ...     return 0.5 * (answer - y).square().sum(1)
        >>> memory = ebm.ModernHopfield(torch.eye(2), beta=1.0)
        >>> query = torch.zeros(1, 2)
        >>> target = torch.tensor([[1.0, 0.0]])
        >>> loss = ebm.TwoPhase(cost, steps=20)(memory, query, target)
        >>> loss.detach()
        tensor(0.2500)

    Source: Scellier and Bengio (2017), theorem 1, one-sided; Laborieux et al. (2021), the centred estimate. They write the
    update of the weights; here it is a gradient, for any optimiser. The mean over samples is ours.
    """

    cost: Callable[[Any, Any], Tensor]
    beta: float = 0.1
    steps: int | None = None
    nudged_steps: int | None = None
    centred: bool = True
    solver: Solver | None = None
    stop: Stop | None = None

    def __post_init__(self) -> None:
        if not callable(self.cost):
            raise TypeError(
                f"`TwoPhase(cost)` must be callable as cost(answer, y); got {type(self.cost).__name__}. "
                "Pass a function that returns one number a sample."
            )
        if not math.isfinite(self.beta) or self.beta == 0:
            raise ValueError(f"`TwoPhase(beta=...)` is finite and not zero; got {self.beta}. Try 0.1.")
        for name in ("steps", "nudged_steps"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"`TwoPhase({name}=...)` must be at least 1; got {count}. Try 50.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar; ``backward()`` on it writes the estimate.

        Args:
            model: an energy over continuous latents.
            x: the observation, a row tree of B samples.
            y: the target, a row tree of B samples, as ``cost`` wants it.
            generator: draws the samples' noise keys, where model or solver makes noise: once, so that all phases share it.

        Raises:
            InferenceError: some samples ended NONFINITE; training on the others in silence would hide it.
        """
        pulls = (self.beta, -self.beta) if self.centred else (self.beta, 0.0)
        towards, away = (Nudged(model, pull, self.cost) for pull in pulls)
        keys = [None if generator is None else generator.clone_state() for _ in pulls]
        steps = self.steps or model.default_steps or DEFAULT_STEPS
        free = self._settled(model, x, steps, generator=generator)
        nudged = self.nudged_steps or steps
        ahead = self._settled(towards, (x, y), nudged, free.z, keys[0])
        behind = self._settled(away, (x, y), nudged, free.z, keys[1]) if self.centred else free
        with torch.no_grad():
            value = self.cost(free.answer, y).mean()
        estimate = (_energy(towards, x, y, ahead) - _energy(away, x, y, behind)).mean() / (pulls[0] - pulls[1])
        return value + (estimate - estimate.detach())

    def _settled(
        self,
        model: Objective,
        x: Any,
        steps: int,
        start: Any = None,
        generator: torch.Generator | None = None,
    ) -> Solution:
        """A phase. The last point is kept: phases are compared where they ended, not each where its own energy was lowest."""
        found = infer(
            model,
            x,
            steps=steps,
            solver=self.solver,
            stop=self.stop,
            adjoint=WITHOUT_GRADIENT,
            start=start,
            keep="last",
            generator=generator,
        )
        return found.raise_for_status()


def _energy(model: Energy, x: Any, y: Any, settled: Solution) -> Tensor:
    """The energies at settled latents as functions of the parameters, (B,)."""
    energy = model.point(settled.z, model.condition((x, y))).energy
    assert energy is not None
    return energy
