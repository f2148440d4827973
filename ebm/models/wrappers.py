"""Objectives made from other objectives: a sum, a nudge towards a target.

What differs from sample to sample (targets, masks, held values) is part of the observation and so of the condition,
never of the wrapper: rows can then leave, join and be resumed as everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.engine.stop import Stop
from ebm.noise import Draw
from ebm.objective import Energy, Objective, Point, slope
from ebm.solvers.base import Solver

__all__ = ["Nudged", "Sum"]


class Sum(Energy):
    r"""The weighted sum of several energies over one latent: :math:`E(z; x) = \sum_i w_i E_i(z; x)`.

    Every part sees the same observation. Closed-form forces add up, so a sum costs what its parts cost; a part whose
    force is not minus its gradient is differentiated instead. The first part says where settling starts and reads out
    the answer.

    Args:
        models: one or more energies over latents of one shape.
        weights: one number a part; a tensor (n,) may be learned; None is one each.

    Raises:
        TypeError: a part that is no energy.
        ValueError: no part, a part over discrete latents, or weights of another number.

    Example:
        >>> import torch, ebm
        >>> memory, other = ebm.ModernHopfield(torch.eye(2), beta=4.0), ebm.ModernHopfield(-torch.eye(2), beta=4.0)
        >>> both = ebm.Sum(memory, other, weights=[1.0, 0.1])
        >>> ebm.infer(both, torch.tensor([[0.9, 0.1]]), steps=30).answer.argmax(1)
        tensor([0])

    Source: products of experts, Hinton (2002), whose energies add; composition as in Du, Li and Mordatch (2020).
    """

    def __init__(self, *models: Objective, weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        if not models:
            raise ValueError(
                "`Sum` adds at least one energy; got none. Pass Sum(first, second, weights=[1.0, 0.5]), say."
            )
        for model in models:
            _check_smooth("Sum", model)
        count = len(models) if weights is None else len(weights)
        if count != len(models) or (isinstance(weights, Tensor) and weights.ndim != 1):
            got = tuple(weights.shape) if isinstance(weights, Tensor) else count
            raise ValueError(
                f"`Sum(weights=...)` wants one number for each of {len(models)} energies; got {got}. Pass as many."
            )
        self.models = nn.ModuleList(models)
        self.weights: Any
        if isinstance(weights, Tensor) and not isinstance(weights, nn.Parameter):
            self.register_buffer("weights", weights)
        else:
            self.weights = weights if isinstance(weights, Tensor) else tuple(weights or [1.0] * count)

    def condition(self, x: Any) -> Any:
        """The condition of each part."""
        return tuple(model.condition(x) for model in self._parts())

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where the first part starts."""
        return self._parts()[0].init_latent(c[0], draw)

    def forward(self, z: Any, c: Any) -> Tensor:
        """The weighted sum of the energies, (B,)."""
        return total(
            model(z, part) * weight for model, part, weight in zip(self._parts(), c, self.weights, strict=True)
        )

    def point(self, z: Any, c: Any) -> Point:
        """Energies and forces, each added up."""
        points = [_gradient_point(model, z, part) for model, part in zip(self._parts(), c, strict=True)]
        energy = total(_energy(point) * weight for point, weight in zip(points, self.weights, strict=True))

        def added(*forces: Tensor) -> Tensor:
            return total(force * weight for force, weight in zip(forces, self.weights, strict=True))

        return Point(points[0].z, energy, rows.map_rows(added, *(point.force for point in points)))

    def readout(self, z: Any, c: Any) -> Any:
        """The answer of the first part."""
        return self._parts()[0].readout(z, c[0])

    def _parts(self) -> list[Objective]:
        return list(self.models)  # pyright: ignore[reportReturnType]


class _Nudge(NamedTuple):
    c: Any
    target: Any


class Nudged(Energy):
    r"""An energy tilted towards a target: :math:`F(z; x, y) = E(z; x) + \beta\, C(\text{answer}(z), y)`.

    The observation is the pair ``(x, y)``. Only the cost is differentiated; a closed form of E stays in use. Settled with
    a small beta of either sign it gives the second phase of equilibrium propagation: begin it at the settled free latent
    (``start=``). Solver, stop rule and step limit are those of the energy.

    Args:
        model: an energy over continuous latents.
        beta: strength of the nudge, of either sign; a number, or a tensor () for one that is learned.
        cost: ``cost(answer, y)``, one number a sample, (B,).

    Raises:
        TypeError: ``model`` is no energy, ``cost`` cannot be called, or an observation that is not a pair.
        ValueError: an energy over discrete latents, a beta that is not one finite number; at the call, a cost that is not
            one number a sample, or does not depend on the latent.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.eye(2), beta=1.0)
        >>> def cost(answer, y):
        ...     return 0.5 * (answer - y).square().sum(1)
        >>> x, y = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
        >>> ebm.infer(ebm.Nudged(memory, 0.5, cost), (x, y), solver=ebm.Picard(0.5)).z.round(decimals=2)
        tensor([[0.7500, 0.2500]])

    Source: Scellier and Bengio (2017), eq. 6, the total energy; a beta of either sign as in Laborieux et al. (2021).
    """

    def __init__(self, model: Objective, beta: float | Tensor, cost: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        _check_smooth("Nudged", model)
        shape = tuple(beta.shape) if isinstance(beta, Tensor) else ()
        if shape or not math.isfinite(float(beta)):
            got = f"shape {shape}" if shape else beta
            raise ValueError(
                f"`Nudged(beta=...)` is one finite number; got {got}. For one a sample, make it a part of y and scale the cost."
            )
        if not callable(cost):
            raise TypeError(
                f"`Nudged(cost=...)` must be callable as cost(answer, y); got {type(cost).__name__}. "
                "Pass a function that returns one number a sample."
            )
        self.model = model
        self.beta = beta
        self.cost = cost
        self.default_steps = model.default_steps

    def condition(self, x: Any) -> Any:
        """The condition of the energy, and the target."""
        if not isinstance(x, (tuple, list)) or len(x) != 2:
            raise TypeError(f"`Nudged` observes a pair (x, y); got {described(x)}. Pass `infer(nudged, (x, y), ...)`.")
        return _Nudge(self.model.condition(x[0]), x[1])

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where the energy starts."""
        return self.model.init_latent(c.c, draw)

    def forward(self, z: Any, c: Any) -> Tensor:
        """Energy and scaled cost, (B,)."""
        return self.model(z, c.c) + self.beta * self._cost(z, c)

    def point(self, z: Any, c: Any) -> Point:
        """The point of the energy, with the nudge added."""
        point = _gradient_point(self.model, z, c.c)
        gradient, cost = slope(lambda latent: self._cost(latent, c, differentiable=True), z)
        force = rows.map_rows(lambda f, g: f - self.beta * g, point.force, gradient)
        return Point(point.z, _energy(point) + self.beta * cost, force)

    def readout(self, z: Any, c: Any) -> Any:
        """The answer of the energy."""
        return self.model.readout(z, c.c)

    def default_solver(self) -> Solver | None:
        """The solver of the energy."""
        return fitting(self.model.default_solver(), self)

    def default_stop(self) -> Stop | None:
        """The stop rule of the energy."""
        return self.model.default_stop()

    def _cost(self, z: Any, c: Any, differentiable: bool = False) -> Tensor:
        cost, batch = self.cost(self.readout(z, c), c.target), rows.count(z)
        if not isinstance(cost, Tensor) or cost.shape != (batch,):
            raise ValueError(
                f"`Nudged(cost=...)` must return one number a sample, shape ({batch},); got {described(cost)}. "
                'Sum over every axis but the first, or pass `reduction="none"`.'
            )
        if differentiable and not cost.requires_grad and not torch.compiler.is_compiling():
            raise ValueError(
                "`Nudged(cost=...)` must depend on the latent; got a cost without a graph. "
                "Compute it from the answer with differentiable operations, without `.detach()` or `.argmax()`."
            )
        return cost


def _gradient_point(model: Objective, z: Any, c: Any) -> Point:
    """The point of an energy with minus its gradient for a force, in closed form where the model has one.

    Declared descent directions of several energies cannot be added: they need not cancel where the gradients do.
    """
    if "gradient" in model.provides:
        return model.point(z, c)
    gradient, energy = slope(lambda latent: model(latent, c), z)
    return Point(z, energy, rows.map_rows(torch.neg, gradient))


def _check_smooth(owner: str, model: Any) -> None:
    if not isinstance(model, Objective) or "energy" not in model.provides:
        raise TypeError(f"`{owner}` takes energies; got {type(model).__name__}, which has none. Pass an `ebm.Energy`.")
    if "discrete" in model.provides:
        raise ValueError(
            f"`{owner}` takes energies over continuous latents; {type(model).__name__} has discrete ones. "
            "Use a graded form of the model, `GradedHopfield` for example."
        )


def _energy(point: Point) -> Tensor:
    assert point.energy is not None  # models that have none are refused when the wrapper is made
    return point.energy


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    first, *others = parts
    return sum(others, first)


def fitting(solver: Solver | None, model: Objective) -> Solver | None:
    """The solver, if the model can do what it needs."""
    return solver if solver is not None and solver.needs <= model.provides else None


def described(x: Any) -> str:
    """An observation in words."""
    if isinstance(x, Tensor):
        return f"a tensor of shape {tuple(x.shape)}"
    return f"a {type(x).__name__} of {len(x)}" if isinstance(x, (tuple, list)) else f"a {type(x).__name__}"
