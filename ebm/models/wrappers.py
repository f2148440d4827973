"""Objectives made from other objectives: a sum, a nudge towards a target, parts of the latent held fixed.

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
from ebm.objective import Energy, Flip, Objective, Point, Update, slope
from ebm.solvers import FISTA, Picard
from ebm.solvers.base import Solver

__all__ = ["Clamped", "Nudged", "Sum"]


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
        return _total(
            model(z, part) * weight for model, part, weight in zip(self._parts(), c, self.weights, strict=True)
        )

    def point(self, z: Any, c: Any) -> Point:
        """Energies and forces, each added up."""
        points = [_gradient_point(model, z, part) for model, part in zip(self._parts(), c, strict=True)]
        energy = _total(_energy(point) * weight for point, weight in zip(points, self.weights, strict=True))

        def added(*forces: Tensor) -> Tensor:
            return _total(force * weight for force, weight in zip(forces, self.weights, strict=True))

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
            raise TypeError(f"`Nudged` observes a pair (x, y); got {_described(x)}. Pass `infer(nudged, (x, y), ...)`.")
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
        return _fitting(self.model.default_solver(), self)

    def default_stop(self) -> Stop | None:
        """The stop rule of the energy."""
        return self.model.default_stop()

    def _cost(self, z: Any, c: Any, differentiable: bool = False) -> Tensor:
        cost, batch = self.cost(self.readout(z, c), c.target), rows.count(z)
        if not isinstance(cost, Tensor) or cost.shape != (batch,):
            raise ValueError(
                f"`Nudged(cost=...)` must return one number a sample, shape ({batch},); got {_described(cost)}. "
                'Sum over every axis but the first, or pass `reduction="none"`.'
            )
        if differentiable and not cost.requires_grad and not torch.compiler.is_compiling():
            raise ValueError(
                "`Nudged(cost=...)` must depend on the latent; got a cost without a graph. "
                "Compute it from the answer with differentiable operations, without `.detach()` or `.argmax()`."
            )
        return cost


class _Hold(NamedTuple):
    c: Any
    mask: Any
    values: Any
    held: Tensor  # (B,), how many numbers are held


class Clamped(Objective):
    r"""Any objective with parts of its latent held at given values; the rest settles given those.

    .. math:: \bar z = m \odot v + (1 - m) \odot z, \qquad E'(z) = E(\bar z), \qquad F'(z) = (1 - m) \odot F(\bar z)

    The observation is the triple ``(x, mask, values)``: ``mask`` (bool, true where held) and ``values`` are row trees
    like the latent; a leaf of both may be None, which holds nothing there. A latent is moved to its held values wherever
    it is looked at, so any start and any solver will do, samplers included. The residual is that of the free numbers.

    Args:
        model: an energy or an update. What it can do beyond a point (a conditional for discrete latents; a proximal map
            that takes each number by itself) is passed through, as are its solver, stop rule, step limit and read-out.

    Raises:
        TypeError: ``model`` is no objective, or an observation that is not a triple.
        ValueError: at the call, a mask that is not boolean, or mask or values of another shape than the latent.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.ModernHopfield(torch.tensor([[1.0, 0, 1], [0, 1, 0]]), beta=8.0)
        >>> query, mask = torch.tensor([[0.1, 0.0, 1.0]]), torch.tensor([[False, False, True]])
        >>> ebm.infer(ebm.Clamped(memory), (query, mask, query)).z.round(decimals=2)
        tensor([[1., 0., 1.]])

    Source: clamped visible units, Ackley, Hinton and Sejnowski (1985).
    """

    def __init__(self, model: Objective) -> None:
        super().__init__()
        if not isinstance(model, Objective):
            raise TypeError(
                f"`Clamped` wraps an energy or an update; got {type(model).__name__}. Pass a model of this library."
            )
        self.model = model
        self.provides = model.provides & {"energy", "gradient", "conditional", "sweep", "flip", *_prox_of(model)}
        self.default_steps = model.default_steps

    def condition(self, x: Any) -> Any:
        """The condition of the model, the mask and the values."""
        if not isinstance(x, (tuple, list)) or len(x) != 3:
            raise TypeError(
                f"`Clamped` observes a triple (x, mask, values); got {_described(x)}. "
                "Pass `infer(clamped, (x, mask, values), ...)`."
            )
        observed, mask, values = x
        wrong = next((leaf.dtype for leaf in rows.leaves(mask) if leaf.dtype != torch.bool), None)
        if wrong is not None:
            raise ValueError(
                f"The mask of `Clamped` must be boolean, true where held; got {wrong}. Convert it with `.bool()`."
            )
        counts = [leaf.flatten(1).sum(1) if leaf.ndim > 1 else leaf.to(torch.int64) for leaf in rows.leaves(mask)]
        if not counts:
            raise ValueError(
                "The mask of `Clamped` holds nothing; got no tensor in it. Pass a bool tensor like the latent."
            )
        return _Hold(self.model.condition(observed), mask, values, _total(counts))

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where the model starts, with the held values put in."""
        return self._held(self.model.init_latent(c.c, draw), c)

    def forward(self, z: Any, c: Any) -> Any:
        """The energy with the values held, (B,); or, of an update, the next latent."""
        moved = self.model(self._held(z, c), c.c)
        return moved if "energy" in self.provides else self._held(moved, c)

    def point(self, z: Any, c: Any) -> Point:
        """The point of the model at the held latent, with no force on what is held."""
        point = self.model.point(self._held(z, c), c.c)
        return point._replace(force=rows.map_rows(_free, point.force, c.mask))

    def prox(self, z: Any, size: float | Tensor, c: Any) -> Any:
        """The proximal map of the model's term on the free numbers."""
        return self._held(self.model.prox(z, size, c.c), c)  # pyright: ignore[reportCallIssue]

    def conditional(self, z: Any, c: Any, block: Tensor) -> Tensor:
        """What the units ``block`` want, (B,); their values where they are held."""
        latent = self._held(z, c)
        wanted = self.model.conditional(latent, c.c, block)  # pyright: ignore[reportCallIssue]
        mask, own = _units(latent, c.mask, block)
        return torch.where(mask, own, wanted)

    def sweep(self, z: Any, c: Any) -> Any:
        """Every free unit in turn, by the model's own sweep."""
        return self.model.sweep(self._held(z, c), c.c, c.mask)  # pyright: ignore[reportCallIssue]

    def flip(self, z: Any, c: Any, block: Tensor) -> Flip:
        """What the units ``block`` could be instead; the values they have where they are held."""
        latent = self._held(z, c)
        flip = self.model.flip(latent, c.c, block)  # pyright: ignore[reportCallIssue]
        mask, own = _units(latent, c.mask, block)
        return Flip(torch.where(mask, own, flip.value), flip.rise.masked_fill(mask, 0))

    def readout(self, z: Any, c: Any) -> Any:
        """The answer of the model, read off the held latent."""
        return self.model.readout(self._held(z, c), c.c)

    def residual(self, point: Point, c: Any) -> Tensor:
        """Of the model, over the free numbers alone: holding more does not look like rest."""
        size = sum(leaf[0].numel() if leaf.shape[0] else 1 for leaf in rows.leaves(point.z))
        free = (size - c.held).clamp_min(1)
        residual = rows.rms(self.move(point, c)) if "prox" in self.provides else self.model.residual(point, c.c)
        return residual * (size / free).sqrt().to(residual.dtype)

    def move(self, point: Point, c: Any) -> Any:
        """Of the model, and none of what is held."""
        move = self.model.move(point, c.c)
        return move if move is point.force else rows.map_rows(_free, move, c.mask)

    @property
    def tells_rest(self) -> bool:
        """Whether the model's does."""
        return super().tells_rest and self.model.tells_rest

    def default_solver(self) -> Solver | None:
        """The solver of the model, if what it needs is passed on."""
        solver = self.model.default_solver() or (Picard() if isinstance(self.model, Update) else None)
        return _fitting(solver, self) or (FISTA() if "prox" in self.provides else None)

    def default_stop(self) -> Stop | None:
        """The stop rule of the model, if what it needs is passed on."""
        stop = self.model.default_stop()
        return stop if stop is not None and stop.needs <= self.provides else None

    def _held(self, z: Any, c: Any) -> Any:
        return rows.map_rows(_hold, z, c.mask, c.values)


def _units(latent: Any, mask: Any, block: Tensor) -> tuple[Tensor, Tensor]:
    """Whether one unit of each sample is held, and its value; both (B,)."""
    held = rows.flatten(rows.map_rows(_mask_of, latent, mask)).gather(1, block[:, None])
    return held.flatten(), rows.flatten(latent).gather(1, block[:, None]).flatten()


def _hold(z: Tensor, mask: Tensor | None, values: Tensor | None) -> Tensor:
    if mask is None and values is None:
        return z
    for name, part in (("mask", mask), ("values", values)):
        if part is None or part.shape != z.shape:
            got = "None" if part is None else tuple(part.shape)
            raise ValueError(
                f"The {name} of `Clamped` must have the shape of the latent, {tuple(z.shape)}; got {got}. "
                "Give both one entry for each number of the latent, or None for a leaf that is free."
            )
    return torch.where(mask, values, z)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _free(force: Tensor, mask: Tensor | None) -> Tensor:
    return force if mask is None else force.masked_fill(mask, 0)


def _mask_of(z: Tensor, mask: Tensor | None) -> Tensor:
    return torch.zeros_like(z, dtype=torch.bool) if mask is None else mask


def _prox_of(model: Objective) -> frozenset[str]:
    """A proximal map is passed on only if holding a number changes nothing for the others."""
    apart = frozenset({"prox", "separable"})
    return apart if apart <= model.provides else frozenset()


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
    if "conditional" in model.provides and "gradient" not in model.provides:
        raise ValueError(
            f"`{owner}` takes energies over continuous latents; {type(model).__name__} has discrete ones. "
            "Use a graded form of the model, `GradedHopfield` for example."
        )


def _energy(point: Point) -> Tensor:
    assert point.energy is not None  # models that have none are refused when the wrapper is made
    return point.energy


def _total(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    return sum(others, first)


def _fitting(solver: Solver | None, model: Objective) -> Solver | None:
    """The solver, if the model can do what it needs."""
    return solver if solver is not None and solver.needs <= model.provides else None


def _described(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"a tensor of shape {tuple(x.shape)}"
    return f"a {type(x).__name__} of {len(x)}" if isinstance(x, (tuple, list)) else f"a {type(x).__name__}"
