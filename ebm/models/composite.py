"""A smooth energy plus a simple term: what proximal methods settle."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ebm import rows
from ebm.engine.stop import Stop
from ebm.models.clamped import Clamped
from ebm.models.terms import Term
from ebm.noise import Draw
from ebm.objective import Energy, Objective, Point
from ebm.solvers import FISTA
from ebm.solvers.base import Solver

__all__ = ["Composite"]


class Composite(Energy):
    r"""A smooth energy plus a simple term that has kinks or walls: :math:`E(z; x) = f(z; x) + g(z)`.

    A point carries the whole energy and, as its force, minus the gradient of the smooth part alone; so the force is no
    slope of the energy, and the capability ``"prox"`` stands in the place of ``"gradient"``. Rest is where a proximal step
    leads nowhere: the residual is the root mean square of :math:`\operatorname{prox}_g(z + F) - z`.

    Where the term is infinite a latent is moved to the nearest one where it is not, wherever it is looked at; so any start
    will do. Observation, start, read-out, stop rule and step limit are those of the smooth energy; the solver is `FISTA`.

    Args:
        smooth: an energy whose force is minus its gradient.
        term: the simple term: `L1`, `GroupL1`, `NonNegative`, `Within`, or your own `Term`.

    Raises:
        TypeError: ``smooth`` is no energy with a gradient, or ``term`` no `Term`.
        ValueError: ``smooth`` is `Clamped`; the clamp goes outside.

    Example:
        >>> import torch, ebm
        >>> class Bowl(ebm.Energy):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c):
        ...         return 0.5 * (z - c).square().sum(1)
        >>> sparse = ebm.Composite(Bowl(), ebm.L1(0.5))
        >>> ebm.infer(sparse, torch.tensor([[2.0, -0.3, -1.0]]), steps=20).z
        tensor([[ 1.5000,  0.0000, -0.5000]])

    Source: Beck and Teboulle (2009), the model of section 2.
    """

    def __init__(self, smooth: Objective, term: Term) -> None:
        super().__init__()
        if not isinstance(smooth, Objective) or not {"energy", "gradient"} <= smooth.provides:
            able = ", ".join(sorted(smooth.provides)) if isinstance(smooth, Objective) else "nothing"
            raise TypeError(
                f"`Composite(smooth, term)` wants an energy whose force is minus its gradient; got {type(smooth).__name__}, "
                f"which provides {able or 'neither'}. Pass an `ebm.Energy` over continuous latents."
            )
        if not isinstance(term, Term):
            raise TypeError(
                f"`Composite(smooth, term)` adds a `Term`; got {type(term).__name__}. Pass `L1(0.1)`, say; "
                "add another smooth energy with `Sum`."
            )
        if isinstance(smooth, Clamped):
            raise ValueError(
                "`Composite(smooth, term)` over `Clamped` would pull at what is held; got one. Hold it outside: `Clamped(Composite(...))`."
            )
        self.smooth = smooth
        self.term = term
        self.default_steps = smooth.default_steps

    @property
    def provides(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """``"energy"`` and ``"prox"``; ``"separable"`` where the term is."""
        return frozenset({"energy", "prox", *(("separable",) if self.term.separable else ())})

    def condition(self, x: Any) -> Any:
        """The condition of the smooth energy."""
        return self.smooth.condition(x)

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where the smooth energy starts."""
        return self.smooth.init_latent(c, draw)

    def forward(self, z: Any, c: Any) -> Tensor:
        """The whole energy where the term is finite, (B,)."""
        z = self.term.inside(z)
        return self.smooth(z, c) + self.term(z)

    def point(self, z: Any, c: Any) -> Point:
        """The latent where the term is finite, the whole energy there, and minus the gradient of the smooth part."""
        z = self.term.inside(z)
        point = self.smooth.point(z, c)
        return point._replace(energy=point.energy + self.term(point.z))

    def prox(self, z: Any, size: float | Tensor, c: Any) -> Any:
        """The proximal map of the term, with a step size for all or one a sample (B,)."""
        return self.term.prox(z, size)

    def readout(self, z: Any, c: Any) -> Any:
        """The answer of the smooth energy."""
        return self.smooth.readout(z, c)

    def residual(self, point: Point, c: Any) -> Tensor:
        """Root mean square of a proximal step of size one, (B,)."""
        return rows.rms(self.move(point, c))

    def move(self, point: Point, c: Any) -> Any:
        """A proximal step of size one, zero at rest."""
        return self.term.move(point.z, point.force)

    def default_solver(self) -> Solver:
        """The accelerated proximal gradient method."""
        return FISTA()

    def default_stop(self) -> Stop | None:
        """The stop rule of the smooth energy."""
        return self.smooth.default_stop()
