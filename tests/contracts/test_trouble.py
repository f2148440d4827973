"""Problems without a rest to find: every solver ends with an honest status and the best point it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import Status, rows
from tests.contracts.members import SOLVERS
from tests.energies import numbers

X = numbers(4, 2, seed=1)


class Rotation(ebm.Update):
    """z' is z turned by a fifth of a circle, and a little longer: no step by itself comes nearer to the rest at zero."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        turn = torch.tensor([[0.309, -0.951], [0.951, 0.309]], dtype=z.dtype)
        return 1.001 * z @ turn


class Logistic(ebm.Update):
    """The chaotic map z' = 4 z (1 - z); it leaves [0, 1] for infinity."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.sigmoid()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 4 * z * (1 - z)


class Slope(ebm.Energy):
    """An energy without a lower bound, and with a force that never gets less."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return -z.sum(1)


class Cliff(ebm.Energy):
    """An energy that falls ever faster: descent runs into infinity within a few steps."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return -z.square().square().sum(1)


class Fading(ebm.LeastSquares):
    """Residuals that only vanish at infinity."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.exp(-z)


class Wild(ebm.MonotoneCell):
    """A cell whose weights are not monotone at all: it trebles what it has."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(2, 2)
            self.double()

    @property
    def weight(self) -> Tensor:
        return 3 * torch.eye(2, dtype=torch.float64)


TROUBLES: dict[str, Callable[[], ebm.Objective]] = {
    "rotation": Rotation,
    "logistic": Logistic,
    "slope": Slope,
    "cliff": Cliff,
    "fading": Fading,
    "wild": Wild,
    "sloping": lambda: ebm.Composite(Slope(), ebm.L1(0.5)),
    "ladder": lambda: ebm.Ladder([Slope(), Slope(), Cliff()]),
}
FITTING = [(s, t) for t in TROUBLES for s in SOLVERS if SOLVERS[s].needs <= TROUBLES[t]().provides]


@pytest.mark.parametrize(("solver", "trouble"), FITTING)
def test_trouble_is_told_and_the_best_point_is_kept(solver: str, trouble: str):
    model, part, tolerance = TROUBLES[trouble](), SOLVERS[solver], 1e-6
    start = ebm.infer(model, X, steps=0, solver=part, keep="best")
    found = ebm.infer(model, X, steps=80, solver=part, keep="best", stop=ebm.AtRest(tolerance))
    assert found.steps.max() <= 80 and not bool((found.status == Status.RUNNING).any())
    assert bool(rows.finite(found.z).all()) and not bool(found.residual.isnan().any())
    point = model.point(found.z, model.condition(X))
    if point.energy is None:
        torch.testing.assert_close(found.residual, part.residual(model, point, model.condition(X)))
        assert bool((found.residual <= start.residual).all())
    else:
        torch.testing.assert_close(found.energy, point.energy.detach())
        assert bool((found.energy <= start.energy).all())  # pyright: ignore[reportOperatorIssue]
    converged = found.status == Status.CONVERGED
    last = part.residual(model, found.carry.point, model.condition(X))
    assert bool((last[converged] <= tolerance).all()), "CONVERGED is said of a point that is at rest"
    if trouble in ("slope", "sloping") and not isinstance(part, ebm.Project):
        assert not bool(converged.any()), "there is no rest to find"


def test_every_solver_meets_trouble():
    met = {solver for solver, _ in FITTING}
    assert met == {name for name, part in SOLVERS.items() if not part.needs & {"conditional", "flip"}}
