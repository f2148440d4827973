"""Penalties on how a model settles, and the sum of losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine import Adjoint, Truncated, infer
from ebm.losses.stretch import Begin, Elsewhere, neighbour, never
from ebm.objective import Objective, Update
from ebm.solvers.base import Solver

__all__ = ["JacobianPenalty", "PathIndependence", "Rule", "Settled", "Together"]

Rule = Callable[[Objective, Any, Any, torch.Generator], Tensor]
"""``rule(model, x, y, generator)``, a scalar: any loss of this package."""


@dataclass(frozen=True)
class Settled:
    """The loss of the settled answer alone, under any adjoint: whole, truncated or implicit gradients.

    Args:
        loss: ``loss(answer, y)``, a scalar.
        steps: of settling, at least 1.
        adjoint: how the settled latent is differentiated: `Truncated(k)` for long settling, `Implicit()` where it comes to rest, `Unroll()`.
        begin: where a batch begins; None, and wherever it says None: the model's own start.
        solver: how the latent moves; None asks the model.

    Raises:
        ValueError: fewer than one step.
        InferenceError: at the call, some samples ended NONFINITE.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule = ebm.losses.Settled(torch.nn.functional.cross_entropy, steps=30, adjoint=ebm.Implicit())
        >>> rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long()).backward()

    Source: Bai, Kolter and Koltun (2019), Deep equilibrium models, for implicit gradients.
    """

    loss: Callable[[Any, Any], Tensor]
    steps: int = 32
    adjoint: Adjoint = field(default_factory=lambda: Truncated(8))
    begin: Begin | None = None
    solver: Solver | None = None

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise ValueError(f"`Settled(steps=...)` is a whole number of at least 1; got {self.steps!r}. Try 32.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar."""
        begin = None if self.begin is None or generator is None else self.begin(model, x, generator)
        found = infer(
            model,
            x,
            steps=self.steps,
            solver=self.solver,
            stop=never(model),
            start=begin,
            keep="last",
            adjoint=self.adjoint,
            generator=generator,
        )
        return self.loss(found.raise_for_status().answer, y)


@dataclass(frozen=True)
class JacobianPenalty:
    r"""How strongly an update's map stretches latents where it has settled:

    .. math:: L = \frac1B \sum_{\text{samples}} \frac1D \|J\|_F^2, \qquad J = \frac{\partial f}{\partial z}(z^*), \qquad
        \|J\|_F^2 = \mathbb E\, \|\epsilon^T J\|^2, \quad \epsilon \sim N(0, I),

    by drawn :math:`\epsilon`, so the estimate is unbiased. A smaller Jacobian settles in fewer steps and for longer runs, at the price of
    what the map can express.

    Args:
        steps: settled for without a gradient before it is measured, at least 0.
        draws: of :math:`\epsilon`, at least 1.

    Raises:
        ValueError: a setting outside its range.
        TypeError: at the call, a model that is no `Update` with one tensor for a latent.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> ebm.losses.JacobianPenalty(steps=5)(cell, torch.randn(3, 1, 6), None, torch.Generator().manual_seed(0)).backward()

    Source: Bai, Koltun and Kolter (2021), Stabilizing equilibrium models by Jacobian regularization, eq. 6.
    """

    steps: int = 16
    draws: int = 1

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("draws", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`JacobianPenalty({name}=...)` is a whole number of at least {least}; got {value!r}. Try {least + 1}."
                )

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of one batch, a scalar; ``y`` is not looked at."""
        if not isinstance(model, Update):
            raise TypeError(f"`JacobianPenalty` measures an `Update`; got {type(model).__name__}. Pass the map itself.")
        z = infer(model, x, steps=self.steps, keep="last", stop=never(model), generator=generator).raise_for_status().z
        if not isinstance(z, Tensor):
            raise TypeError("`JacobianPenalty` measures latents of one tensor; got a tree. Flatten the latent.")
        z = z.detach().requires_grad_()
        moved = model(z, model.condition(x))
        total = moved.new_zeros(())
        for _ in range(self.draws):
            noise = torch.randn(moved.shape, generator=generator, device=moved.device, dtype=moved.dtype)
            (pulled,) = torch.autograd.grad(moved, z, noise, create_graph=True)
            total = total + pulled.square().mean()
        return total / self.draws


@dataclass(frozen=True)
class PathIndependence:
    r"""How far apart latents end that began in different places:

    .. math:: L = 1 - \frac1B \sum_{\text{samples}} \frac{\langle z^*, \tilde z^* \rangle}{\|z^*\|\,\|\tilde z^*\|}

    with :math:`z^*` settled from the model's own start and :math:`\tilde z^*` from another, both for the same steps and the last few of them differentiated.

    Args:
        steps: of settling, at least 1.
        last: of them differentiated, at least 1.
        begin: the other start.

    Raises:
        ValueError: a setting outside its range; at the call, no generator.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> ebm.losses.PathIndependence(steps=8)(cell, torch.randn(3, 1, 6), None, torch.Generator().manual_seed(0)).backward()

    Source: the alignment score of Anil et al. (2022), Path independent equilibrium models can better exploit test-time computation, there a measure.
    """

    steps: int = 32
    last: int = 4
    begin: Begin = field(default_factory=lambda: Elsewhere(neighbour, (32, 32), odds=1.0))

    def __post_init__(self) -> None:
        if not (type(self.steps) is int and type(self.last) is int and 1 <= self.last <= self.steps):
            raise ValueError(
                f"`PathIndependence` wants 1 <= last <= steps, whole numbers; got {self.last!r} and {self.steps!r}. Try 4 and 32."
            )

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of one batch, a scalar; ``y`` is not looked at."""
        if generator is None:
            raise ValueError(
                "`PathIndependence` draws its other start from a generator; got none. Pass `generator=torch.Generator().manual_seed(0)`."
            )
        ends = []
        for start in (None, self.begin(model, x, generator)):
            adjoint = Truncated(self.last)
            found = infer(
                model,
                x,
                steps=self.steps,
                start=start,
                keep="last",
                stop=never(model),
                adjoint=adjoint,
                generator=generator,
            )
            ends.append(rows.flatten(found.raise_for_status().z))
        return 1 - torch.cosine_similarity(*ends, dim=1).mean()


@dataclass(frozen=True)
class Together:
    r"""The weighted sum of losses, :math:`\sum_i w_i L_i`, each with its own draws from the generator, in order.

    Args:
        parts: pairs of a weight and a loss, at least one.

    Raises:
        ValueError: no part.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import PathIndependence, Progressive, Together
        >>> rule = Together((1.0, Progressive(torch.nn.functional.cross_entropy)), (0.1, PathIndependence(steps=8)))
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long(), torch.Generator().manual_seed(0)).backward()
    """

    parts: tuple[tuple[float, Rule], ...]

    def __init__(self, *parts: tuple[float, Rule]) -> None:
        if not parts:
            raise ValueError("`Together` adds at least one loss; got none. Pass (1.0, Progressive(...)), say.")
        object.__setattr__(self, "parts", parts)

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator) -> Tensor:
        """The sum for one batch, a scalar."""
        return torch.stack([weight * rule(model, x, y, generator) for weight, rule in self.parts]).sum()
