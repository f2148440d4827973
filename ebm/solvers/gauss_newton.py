"""Damped Gauss-Newton steps for energies that are half a sum of squares, for every sample its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import at_rounding, energy_of, extent, sufficient
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.conjugate import conjugate_gradients, forcing_after
from ebm.solvers.descent import positive
from ebm.solvers.newton_cg import agreement, inner_settings
from ebm.solvers.resting import ended, settled
from ebm.solvers.trial import evaluate_trial, held, pick

__all__ = ["GaussNewton"]


@dataclass(frozen=True)
class GaussNewton(Solver):
    r"""Levenberg-Marquardt steps by conjugate gradients, for :math:`E = \tfrac12 \|r\|^2`; never raises the energy.

    With the Jacobian :math:`J` of the residuals,

    .. math:: (J^T J + \mu I)\, p \approx F = -J^T r, \qquad z' = z + p, \qquad
              \mu = \lambda\, \frac{F^T J^T J F}{F^T F}

    The matrix has no negative curvature and leaves the curvature of the residuals out: as quick as Newton's method
    where the residuals are small or nearly linear at rest, linear in its convergence where they are not (then `NewtonCG`
    is the better choice). The damping falls after a good step and grows at ever larger rate after bad ones. A step is
    one evaluation, one linearisation and at most ``products`` products; compiled steps make all of them. A sample
    whose moves have shrunk below rounding reports STALLED.

    Args:
        products: the most products with :math:`J^T J` a step, at least 1.
        forcing: the loosest inner tolerance, relative to the force, in (0, 1).
        damping: the first lambda, > 0, relative to the curvature along the force.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.GaussNewton(damping=0.01)
        GaussNewton(products=20, forcing=0.3, damping=0.01)

    Source: Levenberg (1944); Marquardt (1963); Nielsen (1999) for the change of the damping, as in Madsen, Nielsen and
    Tingleff (2004), section 3.2; Eisenstat and Walker (1996), choice 2. The damping is relative to the Rayleigh quotient along
    the force, which costs nothing; theirs is absolute.
    """

    products: int = 20
    forcing: float = 0.3
    damping: float = 1e-3
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient", "residuals"})

    def __post_init__(self) -> None:
        inner_settings("GaussNewton", self.products, self.forcing)
        positive("GaussNewton", "damping", self.damping)

    def init(self, point: Point) -> Any:
        """The relative damping, the factor by which a failure raises it, and the inner tolerance, (B,)."""
        energy = energy_of(point)
        return {
            "damping": torch.full_like(energy, self.damping),
            "raise": torch.full_like(energy, 2.0),
            "forcing": torch.full_like(energy, self.forcing),
        }

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """The trial (and one more where a graph is kept), the linearisation, and the products."""
        return {"point": 2 if differentiated else 1, "residuals": 1, "gauss_newton": self.products}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trial."""
        force, damping = rows.flatten(point.force), memory["damping"]
        inner = conjugate_gradients(
            field.gauss_newton(point.z), force, point.z, memory["forcing"], self.products, damping=damping
        )
        point, memory, calm = settled(field, point, memory, rows.rms(inner.move))
        inner, damping = (inner, damping) if calm is None else held((inner, damping), ~calm)
        trial = evaluate_trial(field, rows.add(point.z, rows.unflatten(inner.move, point.z)), point, calm=calm)
        inner, force, there = held(inner, trial.live), rows.flatten(trial.before.force), rows.flatten(trial.after.force)
        slope = (force * inner.move).sum(1)
        accepted = sufficient(trial, point, slope, slope - (there * inner.move).sum(1))
        new = Point(*pick(accepted, tuple(trial.point), tuple(point)))
        ratio = agreement(trial.before, trial.after, inner.gain).clamp(0, 1)
        most = torch.finfo(damping.dtype).max ** 0.25
        following = {
            "damping": torch.where(
                accepted, damping * (1 - (2 * ratio - 1) ** 3).clamp_min(1 / 3), damping * memory["raise"]
            ).clamp(1 / most, most),
            "raise": torch.where(accepted, torch.full_like(damping, 2.0), (2 * memory["raise"]).clamp_max(most)),
            "forcing": forcing_after(memory["forcing"], force, there, accepted, self.forcing),
        }
        # the next move is shorter by about the factor that the damping grew by
        stalled = ~accepted & at_rounding(rows.rms(inner.move) / memory["raise"], extent(point.z))
        return Step(ended(field, new, stalled), held(following, trial.live), Info(accepted, stalled))
