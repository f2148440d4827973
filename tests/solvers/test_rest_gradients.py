"""A sample at rest sends the gradient of the rest through any number of further steps, whatever its company does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm import rows

ORDINARY, WALLED, NOWHERE, FALLING = 0.0, 1.0, 2.0, 3.0
X = torch.tensor([[0.8, -0.5, 0.3], [0.0, 0.0, 0.0], [-1.2, 0.4, 2.0]], dtype=torch.float64)


class Crowd(ebm.Energy):
    """Ordinary samples, and others that share their weights and fail: at a wall, from the start, or by falling for ever."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))
        self.stiff = nn.Parameter(torch.tensor([1.0, 3.0, 6.0], dtype=torch.float64))

    def init_latent(self, c: Tensor, draw: Any) -> Any:
        return torch.where(c[:, 3:] == NOWHERE, 1.0, 0.0) * torch.ones_like(c[:, :3])

    def forward(self, z: Any, c: Tensor) -> Tensor:
        flat = rows.flatten(z)
        kind, across = c[:, 3], flat @ self.weight
        bowl = nn.functional.softplus(across).sum(1) + 0.5 * (self.stiff * (flat - c[:, :3]).square()).sum(1)
        inside = torch.where((kind == WALLED) | (kind == NOWHERE), 1e-3 - flat.square().sum(1), 1.0)
        return torch.where(kind == FALLING, -across.square().sum(1), bowl - inside.log())


class Parts(Crowd):
    """The same over a latent of two parts."""

    def init_latent(self, c: Tensor, draw: Any) -> Any:
        z = super().init_latent(c, draw)
        return {"a": z[:, :1], "b": z[:, 1:]}


class Fit(ebm.LeastSquares):
    """Residuals that do not vanish at rest."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.tensor([[1.0, 0.5, 0.2], [0.0, 2.0, 0.3], [0.4, 0.0, 1.0]], dtype=torch.float64)
        )

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c[:, :3])

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.cat([(z @ self.weight).tanh() - 0.5, z - c[:, :3]], 1)


def observed(*kinds: float) -> Tensor:
    """The three samples of X as ordinary ones, and one more of each kind."""
    others = [torch.tensor([[0.7, -0.2, 0.4, kind]], dtype=torch.float64) for kind in kinds]
    return torch.cat([torch.nn.functional.pad(X, (0, 1)), *others])


def loss(z: Any) -> Tensor:
    """A loss of the ordinary samples, whose cotangent is nowhere zero."""
    return (rows.flatten(z)[:3] + 0.4).sin().sum()


def gradient(model: ebm.Objective, x: Tensor, dtype: torch.dtype = torch.float64, **options: Any) -> Tensor:
    model, x = model.to(dtype), x.to(dtype)
    z = ebm.infer(model, x, keep="last", **options).z
    with torch.autograd.set_detect_anomaly(True):  # a nan on the way stops it, also where a mask would hide it
        found = torch.autograd.grad(loss(z), list(model.parameters()))
    return torch.cat([part.flatten().double() for part in found])


def oracle(model: ebm.Energy) -> Tensor:
    """The gradient at rest by the implicit function theorem, with dense matrices, sample by sample."""
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for x in observed().split(1):

        def energy(z: Tensor, x: Tensor = x) -> Tensor:
            return model(z[None], x)[0]

        z = torch.zeros(3, dtype=torch.float64)
        for _ in range(60):
            slope, bend = torch.func.grad(energy)(z).detach(), torch.func.hessian(energy)(z).detach()
            z = z - torch.linalg.solve(bend, slope)
        adjoint = torch.linalg.solve(torch.func.hessian(energy)(z).detach(), (z + 0.4).cos())
        at = z.clone().requires_grad_()
        slope = torch.autograd.grad(energy(at), at, create_graph=True)[0]
        found = torch.autograd.grad(-(slope * adjoint).sum(), list(model.parameters()))
        total = total + torch.cat([part.flatten() for part in found])
    return total


def error(found: Tensor, right: Tensor) -> float:
    return float((found - right).norm() / right.norm())


SOLVERS = [
    ebm.AdaptiveDescent(),
    ebm.BarzilaiBorwein(),
    ebm.Nesterov(),
    ebm.LBFGS(),
    ebm.NewtonCG(),
    ebm.Sweep(ebm.AdaptiveDescent(), 2),
]
MORE = [
    ebm.BarzilaiBorwein("long", first=100.0),
    ebm.Backtracking(),
    ebm.Downhill(ebm.AdaptiveDescent()),
    ebm.Restarts(2, ebm.LBFGS(), spread=0.1),
]
PRECISION = {torch.float32: 1e-3, torch.float64: 1e-6}
SINGLE = [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
COMPANY = (WALLED, NOWHERE, FALLING)


@pytest.mark.parametrize("dtype", SINGLE, ids=str)
@pytest.mark.parametrize("solver", [*SOLVERS, *(pytest.param(s, marks=pytest.mark.slow) for s in MORE)], ids=repr)
def test_a_sample_at_rest_sends_the_gradient_of_the_rest(solver: ebm.Solver, dtype: torch.dtype):
    options: Any = {"steps": 30, "solver": solver, "adjoint": ebm.Unroll()}
    found = gradient(Crowd(), observed(*COMPANY), dtype, **options)
    assert error(found, oracle(Crowd())) < PRECISION[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("solver", [*SOLVERS[:5], *MORE[:2]], ids=repr)
def test_and_does_so_for_good(solver: ebm.Solver, dtype: torch.dtype):
    found = gradient(Parts(), observed(), dtype, steps=150, solver=solver, adjoint=ebm.Unroll())
    assert error(found, oracle(Crowd())) < PRECISION[dtype]


@pytest.mark.parametrize("solver", [ebm.AdaptiveDescent(), ebm.LBFGS(), ebm.NewtonCG()], ids=repr)
def test_the_last_steps_alone_do_so_too(solver: ebm.Solver):
    found = gradient(Parts(), observed(WALLED), steps=40, solver=solver, adjoint=ebm.Truncated(2))
    assert error(found, oracle(Crowd())) < 1e-6


@pytest.mark.parametrize("dtype", SINGLE, ids=str)
@pytest.mark.parametrize("solver", [ebm.GaussNewton(), ebm.LBFGS()], ids=repr)
def test_least_squares_at_rest(solver: ebm.Solver, dtype: torch.dtype):
    found = gradient(Fit(), observed(), dtype, steps=40, solver=solver, adjoint=ebm.Unroll())
    assert error(found, oracle(Fit())) < PRECISION[dtype]


@pytest.mark.parametrize("dtype", SINGLE, ids=str)
@pytest.mark.parametrize("solver", [ebm.FISTA(), pytest.param(ebm.Proximal(), marks=pytest.mark.slow)], ids=repr)
def test_a_code_at_rest_is_that_of_its_support(solver: ebm.Solver, dtype: torch.dtype):
    class Code(ebm.Energy):
        def __init__(self) -> None:
            super().__init__()
            atoms = torch.tensor([[1.0, 0.1, 0.0], [0.1, 1.0, 0.2], [0.5, 0.5, -0.6], [0.0, -0.2, 1.0]])
            self.atoms = nn.Parameter(atoms.double())

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c.new_zeros(len(c), 4)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (z @ self.atoms - c).square().sum(1)

    def settle(model: Code, dtype: torch.dtype, steps: int = 60) -> Tensor:
        options: Any = {"steps": steps, "solver": solver, "adjoint": ebm.Unroll()}
        return ebm.infer(ebm.Composite(model.to(dtype), ebm.L1(0.1)), X.to(dtype), **options).z

    model = Code()
    z = settle(model, torch.float64, 150).detach()
    right = torch.zeros_like(model.atoms)
    for x, code in zip(X, z, strict=True):
        on = code.abs() > 1e-9
        used = model.atoms[on]
        known = torch.linalg.solve(used @ used.T, used @ x - 0.1 * code[on].sign())
        torch.testing.assert_close(known, code[on], atol=1e-9, rtol=0)
        right = right + torch.autograd.grad((known + 0.4).sin().sum(), model.atoms)[0]
    model = Code()
    with torch.autograd.set_detect_anomaly(True):
        found = torch.autograd.grad((settle(model, dtype) + 0.4).sin().sum(), model.atoms)[0]
    assert error(found.double(), right) < PRECISION[dtype]


def test_directions_in_which_nothing_bends_keep_their_derivative():
    class Half(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.cat([torch.zeros_like(c), 3 * c], 1)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (z[:, :1] - c).square().sum(1)

    x = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    z = ebm.infer(Half(), x, steps=20, adjoint=ebm.Unroll()).z
    slopes = [torch.autograd.grad(part, x, retain_graph=True)[0].item() for part in z[0]]
    assert slopes == pytest.approx([1.0, 3.0])


def test_second_derivatives_at_rest():
    x = torch.tensor([[0.3, -0.8]], dtype=torch.float64, requires_grad=True)

    class Cubic(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (z.exp() - (c.sin() + 2) * z).sum(1)  # rest at log(sin(c) + 2)

    z = ebm.infer(Cubic(), x, steps=30, solver=ebm.NewtonCG(), adjoint=ebm.Unroll()).z
    first = torch.autograd.grad(z.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    known = torch.autograd.grad((x.sin() + 2).log().sum(), x, create_graph=True)[0]
    torch.testing.assert_close(first, known)
    torch.testing.assert_close(second, torch.autograd.grad(known.sum(), x)[0])


# Decisions are those without a graph


class Barrier(ebm.Energy):
    """Rest at c / 2; no number below zero."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.ones_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (2 * z - c * z.log()).sum(1)


@pytest.mark.parametrize("solver", [*SOLVERS[:5], *MORE[:2], ebm.FISTA(), ebm.Proximal()], ids=repr)
def test_a_trial_of_no_numbers_decides_the_same_with_a_graph(solver: ebm.Solver):
    x = torch.tensor([[0.1, 0.3], [2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    model = ebm.Composite(Barrier(), ebm.L1(0.01)) if "prox" in solver.needs else Barrier()
    plain, graph = (
        ebm.infer(model, x, steps=25, solver=solver, adjoint=adjoint, keep="last")
        for adjoint in (ebm.Detached(), ebm.Unroll())
    )
    assert torch.equal(plain.z, graph.z.detach())
    assert torch.equal(plain.status, graph.status) and torch.equal(plain.steps, graph.steps)


# Scales


@pytest.mark.parametrize("solver", [*SOLVERS[:5], *MORE[:2], ebm.GaussNewton()], ids=repr)
@pytest.mark.parametrize(("size", "height"), [(1e-15, 1.0), (1.0, 1e20)])
def test_latents_and_energies_of_any_size_in_single_precision(solver: ebm.Solver, size: float, height: float):
    class Bowl(ebm.LeastSquares):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def residuals(self, z: Tensor, c: Tensor) -> Tensor:
            return (z - c) * torch.tensor([1.0, 2.0]) * height**0.5

    x = size * torch.tensor([[0.3, -1.1]])
    found = ebm.infer(Bowl(), x, steps=60, solver=solver)
    torch.testing.assert_close(found.z / size, x / size, rtol=1e-2, atol=1e-2)


def test_the_parts_of_a_sweep_read_no_step_size_off_rounding():
    torch.manual_seed(1)
    model = ebm.PredictiveCoding([3, 5, 4, 2]).double()
    generator = torch.Generator().manual_seed(0)
    x = tuple(torch.randn(5, width, generator=generator).double() for width in (3, 2))
    solver = ebm.Sweep(ebm.AdaptiveDescent())
    whole = ebm.infer(model, x, steps=10, solver=solver)
    assert whole.residual.max() < 1e-5
    begun = ebm.infer(model, x, steps=0, solver=solver)
    one = torch.tensor([1])
    alone = ebm.infer(model, rows.take(x, one), steps=10, solver=solver, resume=begun.take(one))
    for part, other in zip(rows.leaves(alone.z), rows.leaves(whole.take(one).z), strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=1e-9)
