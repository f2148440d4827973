"""Parts of a latent held at given values.

What is held is part of the observation and so of the condition, never of the wrapper: rows can then leave, join and be
resumed as everywhere else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.stop import Stop
from ebm.models.wrappers import described, fitting, total
from ebm.noise import Draw
from ebm.objective import Flip, Objective, Point, Update
from ebm.solvers import FISTA, Picard
from ebm.solvers.base import Solver

__all__ = ["Clamped"]


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
        self.provides = model.provides & {
            "energy",
            "gradient",
            "discrete",
            "conditional",
            "sweep",
            "flip",
            *_prox_of(model),
        }
        self.default_steps = model.default_steps

    def condition(self, x: Any) -> Any:
        """The condition of the model, the mask and the values."""
        if not isinstance(x, (tuple, list)) or len(x) != 3:
            raise TypeError(
                f"`Clamped` observes a triple (x, mask, values); got {described(x)}. "
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
        return _Hold(self.model.condition(observed), mask, values, total(counts))

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
        return fitting(solver, self) or (FISTA() if "prox" in self.provides else None)

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
