"""Any solver, with a step kept only where it lowers the energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step, View, Wrapper
from ebm.solvers.trial import evaluate_trial

__all__ = ["Downhill"]


@dataclass(frozen=True)
class Downhill(Wrapper):
    r"""Any solver, with each step of a sample kept only if :math:`E(z') \le E(z)`, and the latent left where it was otherwise.

    The memory of the solver inside goes on either way, so a solver without noise or memory (`Descent` without momentum) whose
    step is turned down is turned down for ever: its step size is too large there.

    Args:
        inner: the solver that proposes, for example ``Project(Descent(0.1), Box(-1, 1))``.

    Raises:
        TypeError: ``inner`` is no solver.

    Example:
        >>> import torch, ebm
        >>> model = ebm.Sum(ebm.ModernHopfield(torch.eye(2), beta=4.0))
        >>> solver = ebm.Downhill(ebm.Langevin(0.1, temperature=0.1))
        >>> generator = torch.Generator().manual_seed(0)
        >>> solution = ebm.infer(model, torch.ones(1, 2), steps=20, solver=solver, record="energy", generator=generator)
        >>> energy = solution.trace["energy"]
        >>> bool((energy[1:] <= energy[:-1]).all())
        True

    Source: the test of a gradient step in Du, Mao and Tenenbaum (2024), Learning iterative reasoning through energy diffusion.
    """

    inner: Solver
    samples: ClassVar[bool] = False  # what goes downhill alone draws from no distribution

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver):
            raise TypeError(
                f"`Downhill` wraps a solver; got {type(self.inner).__name__}. Pass `Downhill(Descent(0.1))`, say."
            )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the solver inside needs, and an energy."""
        return self.inner.needs | {"energy"}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """What the solver inside asks; each evaluation twice where one that is not finite must not reach a graph."""
        asked = self.inner.most(z, differentiated)
        return {**asked, "point": asked.get("point", 0) * (2 if differentiated else 1)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """A step of the solver inside, kept or not."""
        guarded = _Guarded(field, point)
        proposal = self.inner.step(guarded, point, memory, draw)
        new, old = proposal.point.energy, point.energy
        assert new is not None and old is not None  # `needs` says so at the door
        # a comparison with NaN is false, and an energy of minus infinity no answer
        kept = guarded.finite & (new <= old) & rows.finite(tuple(proposal.point))
        accepted = kept if proposal.info.accepted is None else kept & proposal.info.accepted
        settled = Point(*rows.where(kept, tuple(proposal.point), tuple(point)))
        return Step(settled, proposal.memory, Info(accepted, proposal.info.stalled, proposal.info.busy))


class _Guarded(View):
    """A field that, while a graph is kept, answers a question that is not finite at the point the step began from.

    Attributes:
        finite: bool (B,), which samples never needed that; all of them where no graph is kept.
    """

    def __init__(self, field: Field, point: Point) -> None:
        super().__init__(field)
        self._point = point
        self.finite = torch.ones_like(rows.rms(point.force), dtype=torch.bool)

    def of(self, samples: Tensor) -> Field:
        """Some rows, not guarded."""
        return self.field.of(samples)

    def __call__(self, z: Any) -> Point:
        if not torch.is_grad_enabled():
            return self.field(z)
        trial = evaluate_trial(self.field, z, self._point)
        self.finite = self.finite & trial.finite
        return trial.point
