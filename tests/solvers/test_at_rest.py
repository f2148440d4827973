"""Far out and at rest: no secant leads away from rest, no rounding is called rest, and gradients stay right past it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm
from tests.energies import numbers

DTYPES = [torch.float32, torch.float64]


class Down(ebm.Update):
    """z' = relu(z - 0.1): the force is constant until it meets zero, the only fixed point."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (z - 0.1).clamp_min(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("solver", [ebm.Broyden(), ebm.Anderson(), ebm.Anderson(every=1, spare=0.0)], ids=repr)
def test_where_the_force_is_constant_secants_lead_to_rest_as_plain_steps_do(solver: ebm.Solver, dtype: torch.dtype):
    x = 2 * torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    found = ebm.infer(Down(), x, steps=200, solver=solver, stop=ebm.AtRest(1e-5))
    assert found.converged.all(), found
    assert found.z.abs().max() < 1e-3
    evals = ebm.infer(Down(), x, steps=200, solver=ebm.Picard(), stop=ebm.AtRest(1e-5)).evals
    assert found.evals.sum() < 1.6 * evals.sum()


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e8), (torch.float64, 1e16)])
def test_a_force_lost_to_rounding_is_no_rest(dtype: torch.dtype, far: float):
    x = torch.full((1, 2), far, dtype=dtype)
    assert torch.equal(Down()(x, x), x), "the move rounds to nothing"
    for stop in (ebm.AtRest(1e-5), ebm.Patience(ebm.AtRest(1e-5), 2)):
        found = ebm.infer(Down(), x, steps=5, stop=stop, solver=ebm.Picard())
        assert not found.converged.any() and found.residual > 0.1
    tolerant = ebm.infer(
        Down(), x, steps=5, stop=ebm.AtRest(1e-5, rtol=4 * torch.finfo(dtype).eps), solver=ebm.Picard()
    )
    assert tolerant.converged.all(), "a tolerance relative to the latent can be known"


def test_rest_of_ordinary_latents_and_of_energies_is_rest():
    class Half(ebm.Update):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * z + c

    class Bowl(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (z - c).square().sum(1)

    assert ebm.infer(Half(), torch.ones(1, 2), steps=60, solver=ebm.Picard(), stop=ebm.AtRest(1e-9)).converged.all()
    far = torch.full((1, 2), 1e8)
    assert ebm.infer(Bowl(), far, steps=1, solver=ebm.Descent(0.1), stop=ebm.AtRest(1e-5)).converged.all()


class Springs(ebm.Energy):
    """Curvatures of 1.2 to 2.5 that are coupled: a plain step of one does not settle. One sample may run away, one may fail."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor([0.2, 0.7, 1.5], dtype=dtype))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        own = 0.5 * (z - c).square().sum(1) + 0.5 * (self.k * (z + 0.1 * z.roll(1, 1)).square()).sum(1)
        away = self.k.sum() * (z * (c[:, :1] == 7)).square().sum(1)
        # the root is one of a constant, but for the sample that fails
        return own - 4 * away + self.k.sum() * (0.5 - z * (c[:, :1] == 9)).sqrt().sum(1)


class Squashed(ebm.Update):
    """A contraction; on one sample it is none, on one it turns to no number."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        matrix = numbers(3, 3, seed=3)
        self.k = nn.Parameter((0.8 * matrix / torch.linalg.matrix_norm(matrix, 2)).to(dtype))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        new = torch.tanh(z @ self.k + c)
        new = torch.where(c[:, :1] == 7, 3 * (z + 1) * (1 + self.k.sum()), new)
        return new * (1 - 2 * z * (c[:, :1] == 9)).sqrt()


COMPANY = torch.tensor([[0.5, 1.0, 1.5], [0.0, 0.0, 0.0], [7.0, 1.0, 1.0], [9.0, 0.2, 0.1]], dtype=torch.float64)


@cache
def right(model: type) -> Tensor:
    """The implicit gradient in double precision."""
    made = model(torch.float64)
    adjoint = ebm.Implicit(ebm.GMRES(rtol=1e-12))
    rest = ebm.infer(made, COMPANY[:1], steps=3000, solver=ebm.Picard(0.5), adjoint=adjoint, stop=ebm.AtRest(1e-14))
    return torch.autograd.grad(rest.z.sum(), made.k)[0]


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


SETTLED: dict[str, tuple[ebm.Solver, int]] = {  # with the steps to rest
    "anderson": (ebm.Anderson(), 40),
    "anderson at every step": (ebm.Anderson(every=1, spare=0.0), 40),
    "broyden": (ebm.Broyden(), 40),
    "project": (ebm.Project(ebm.Broyden(), ebm.Box(-5, 5)), 40),
    "sweep": (ebm.Sweep(ebm.Anderson(mixing=0.5), blocks=3), 40),
    "restarts": (ebm.Restarts(2, ebm.Anderson(), spread=0.1, every=5), 40),
    "picard": (ebm.Picard(0.5), 90),
    "flow": (ebm.Flow(0.6), 70),
    "reversible": (ebm.Reversible(0.5, 0.5), 160),
}


def right_past_rest(name: str, model: Any, dtype: torch.dtype, tries: Any) -> None:
    solver, steps = SETTLED[name]
    for more, x in tries:
        made = model(dtype)
        options: Any = {"steps": steps + more, "solver": solver, "keep": "last", "compact": True}
        z = ebm.infer(made, x.to(dtype), adjoint=ebm.Unroll(), **options).z
        assert torch.equal(z[0], ebm.infer(made, x.to(dtype), **options).z[0]), "a graph changes a latent"
        found = torch.autograd.grad(z[0].sum(), made.k)[0]
        assert error(found, right(model)) < (1e-4 if dtype == torch.float32 else 1e-7), (more, len(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["anderson", "broyden"])
def test_gradients_stay_right_past_rest(name: str, dtype: torch.dtype):
    right_past_rest(name, Springs, dtype, [(0, COMPANY[:1]), (60, COMPANY)])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("model", [Springs, Squashed])
@pytest.mark.parametrize("name", SETTLED)
def test_gradients_stay_right_however_long_past_rest(name: str, model: Any, dtype: torch.dtype):
    right_past_rest(name, model, dtype, [(1, COMPANY[:2]), (100, COMPANY), (300, COMPANY[:1])])


@pytest.mark.parametrize("name", ["anderson", "broyden"])
def test_a_tail_that_begins_at_rest_brings_the_gradient(name: str):
    """Only what was learnt on the way may serve: the plain step of `Springs` does not settle."""
    made, (solver, _) = Springs(torch.float64), SETTLED[name]
    z = ebm.infer(made, COMPANY[:2], steps=90, solver=solver, adjoint=ebm.Truncated(40), keep="last").z
    assert error(torch.autograd.grad(z[0].sum(), made.k)[0], right(Springs)) < 1e-6


def test_anomaly_detection_finds_nothing_at_rest():
    for solver in (ebm.Adam(), ebm.Anderson(), ebm.Broyden(), ebm.Project(ebm.Broyden(), ebm.Box(0, 0.1))):
        made = Springs(torch.float32)
        with torch.autograd.set_detect_anomaly(True):
            z = ebm.infer(made, COMPANY[:2].float(), steps=15, solver=solver, adjoint=ebm.Unroll()).z
            z.sum().backward()
        assert made.k.grad is not None and made.k.grad.isfinite().all()


def test_adam_sends_no_gradient_where_every_force_was_zero():
    """Its slope there is one over eps, and its power with the steps; beside it the sample on its way has a gradient of its own."""
    made = Springs(torch.float32)
    alone, beside = (
        torch.autograd.grad(
            ebm.infer(made, x.float(), steps=400, solver=ebm.Adam(), adjoint=ebm.Unroll()).z.sum(), made.k
        )[0]
        for x in (COMPANY[:1], COMPANY[:2])
    )
    torch.testing.assert_close(beside, alone)
    assert error(beside, right(Springs)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "solver",
    [
        ebm.Adam(),
        ebm.Project(ebm.Adam(), ebm.Box(0, 9)),
        ebm.Downhill(ebm.Sweep(ebm.Adam(), blocks=2)),
        *(ebm.LBFGS(), ebm.Anderson(), ebm.Broyden()),
    ],
    ids=repr,
)
def test_models_in_half_precision_come_to_their_minimum(solver: ebm.Solver, dtype: torch.dtype):
    class Bowl(ebm.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.eye(4, dtype=dtype))

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (z @ self.matrix - c).square().sum(1)

    x = (torch.arange(8).view(2, 4) / 4 + 0.25).to(dtype)
    z = ebm.infer(Bowl(), x, steps=60, solver=solver).z
    assert z.dtype == dtype
    assert (z - x).abs().max() <= 0.1


def test_adam_moves_half_precision_as_far_as_double():
    """Also by forces whose squares are below the least number of float16."""

    class Slope(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return -(z * c).sum(1)

    x = torch.tensor([[1e-5, 1.0, 30.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        z = ebm.infer(Slope(), x.to(dtype), steps=20, solver=ebm.Adam(0.0625)).z
        torch.testing.assert_close(z.double(), torch.full_like(z, 1.25).double(), rtol=2e-2, atol=0)
