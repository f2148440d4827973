"""What a field answers beyond points: products against explicit Hessians and Jacobians, their gradients and their price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian

import ebm
from ebm import rows
from ebm.engine.field import CountedField
from ebm.noise import Draw
from ebm.solvers.base import View
from tests.contracts.members import Decay
from tests.energies import ClosedQuadratic, Quadratic, Tree, Wells, numbers

X = numbers(3, 3, seed=9)


class Slanted(ebm.Energy):
    """One part of the latent enters as a square and the other with a constant slope, or both with a constant slope."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat

    def init_latent(self, c: Tensor, draw: Any) -> Any:
        return {"bent": c.clone(), "flat": c.clone()}

    def forward(self, z: Any, c: Tensor) -> Tensor:
        bent = z["bent"] * c if self.flat else z["bent"].square() * c
        return (bent + 2 * z["flat"]).sum(1)


class TreeFit(ebm.LeastSquares):
    """Residuals of a latent in two parts, one of them a number a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(numbers(3, 4, seed=5))

    def init_latent(self, c: Tensor, draw: Any) -> Any:
        return {"mean": 0.5 * c, "scale": c[:, 0].exp()}

    def residuals(self, z: Any, c: Tensor) -> Tensor:
        predicted = z["scale"][:, None] * torch.tanh(z["mean"] @ self.weight)
        return torch.cat([predicted, z["mean"] - c], 1)


class Offset(ebm.LeastSquares):
    """Linear residuals that leave a part of the latent out."""

    def init_latent(self, c: Tensor, draw: Any) -> Any:
        return (c, c)

    def residuals(self, z: Any, c: Tensor) -> Tensor:
        return 3 * z[0] - c


def coding(**settings: Any) -> ebm.PredictiveCoding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return ebm.PredictiveCoding([3, 4, 2], **settings).double()


def seat(model: ebm.Objective, x: Any) -> tuple[Any, Any]:
    """A condition, and a latent away from the start."""
    with torch.no_grad():
        c = model.condition(x)
        keys = torch.arange(3)
        z = model.init_latent(c, Draw(keys, torch.zeros_like(keys)))
    seeds = iter(range(20, 40))
    return rows.map_rows(lambda leaf: leaf + 0.3 * numbers(*leaf.shape, seed=next(seeds)), z), c


def by_column(product: Callable[[Any], Any], z: Any) -> Tensor:
    """The matrix of each sample that a product stands for, (B, D, D)."""
    basis = torch.eye(rows.flatten(z).shape[1], dtype=torch.float64)
    columns = [product(rows.unflatten(unit.expand(rows.count(z), -1), z)) for unit in basis]
    return torch.stack([rows.flatten(column) for column in columns], 2)


def one(tree: Any, row: int) -> Any:
    return rows.take(tree, torch.tensor([row]))


def explicit(derivative: Callable[..., Any], fn: Callable[[Any, Any], Tensor], z: Any, c: Any) -> Tensor:
    """A derivative by torch, of one sample, in the numbers of its latent side by side."""
    return derivative(lambda flat: fn(rows.unflatten(flat[None], z), c), rows.flatten(z)[0])


MODELS = {
    "wells": (lambda: Wells(3), X),
    "tree": (lambda: Tree(3), X),
    "closed form": (ClosedQuadratic, X),
    "predictive coding": (coding, (X, numbers(3, 2))),
    "a part without curvature": (lambda: Slanted(False), X),
    "no curvature at all": (lambda: Slanted(True), X),
}
FITS = {
    "decay": (Decay, X),
    "tree": (TreeFit, X),
    "predictive coding": (coding, (X, numbers(3, 2))),
    "precisions": (lambda: coding(precision=[2.0, torch.tensor([0.5, 3.0])], prior=0.7), (None, numbers(3, 2))),
    "a part left out": (Offset, X),
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_curvature_against_the_explicit_hessian(name: str, grad: bool):
    make, x = MODELS[name]
    model = make()
    z, c = seat(model, x)
    with torch.set_grad_enabled(grad):
        found = by_column(CountedField(model, c, 3).curvature(z), z).detach()
    for row in range(3):
        wanted = explicit(hessian, lambda latent, given: model(latent, given).sum(), one(z, row), one(c, row))
        torch.testing.assert_close(found[row], wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", FITS)
def test_gauss_newton_against_the_explicit_jacobian(name: str, grad: bool):
    make, x = FITS[name]
    model = make()
    z, c = seat(model, x)
    with torch.set_grad_enabled(grad):
        found = by_column(CountedField(model, c, 3).gauss_newton(z), z).detach()
    for row in range(3):
        slope = explicit(jacobian, lambda latent, given: model.residuals(latent, given)[0], one(z, row), one(c, row))
        torch.testing.assert_close(found[row], slope.T @ slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "make"), [("curvature", lambda: Wells(3)), ("gauss_newton", Decay)])
def test_products_are_differentiable_under_grad_mode(kind: str, make: Callable[[], ebm.Objective]):
    model = make()
    z, c = seat(model, X)
    names, values = zip(*model.named_parameters(), strict=True)

    class Fixed(nn.Module):
        """Products with the parameters as arguments."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, latent: Tensor, along: Tensor) -> Tensor:
            return getattr(CountedField(self.model, c, 3), kind)(latent)(along)

    def product(latent: Tensor, along: Tensor, *parameters: Tensor) -> Tensor:
        given = {f"model.{name}": value for name, value in zip(names, parameters, strict=True)}
        return torch.func.functional_call(Fixed(), given, (latent, along))

    leaves = [leaf.detach().clone().requires_grad_() for leaf in (z, numbers(*z.shape, seed=3), *values)]
    assert torch.autograd.gradcheck(product, tuple(leaves))


def test_products_leave_no_graph_outside_grad_mode():
    model = Decay()
    z, c = seat(model, X)
    with torch.no_grad():
        field = CountedField(model, c, 3)
        assert not field.curvature(z)(z).requires_grad and not field.gauss_newton(z)(z).requires_grad


def test_products_are_counted_for_the_samples_that_need_them():
    model = Decay()
    z, c = seat(model, X)
    field = CountedField(model, c, 3)
    curvature, normal = View(field).curvature(z), View(field).gauss_newton(z)
    curvature(z)
    curvature(z, torch.tensor([True, False, True]))
    normal(z, torch.tensor([False, False, True]))
    assert field.asked["point"] == 1 and field.asked["residuals"] == 1
    assert torch.as_tensor(field.asked["curvature"]).tolist() == [2, 1, 2]
    assert torch.as_tensor(field.asked["gauss_newton"]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("solver", [ebm.NewtonCG(products=3), ebm.GaussNewton(products=3), ebm.LBFGS(2)], ids=repr)
@pytest.mark.parametrize("steps", [1, 4])
def test_what_is_charged_is_what_ran(solver: ebm.Solver, steps: int):
    """One sample, so that none rides along in the products of another."""
    model, x = coding(), (X[:1], numbers(1, 2))
    ebm.infer(model, x, steps=steps, solver=solver)  # prices are learned
    with ebm.FlopCounter() as counter:
        found = ebm.infer(model, x, steps=steps, solver=solver)
    looked = 2 * 4 * steps  # the loop's own look for failed samples, an inner product over the latent, is not charged
    assert found.flops == counter.flops - looked
    assert not counter.uncounted


def test_a_product_costs_what_the_counter_says():
    model, x = Quadratic(), X[:1]
    z, c = seat(model, x)
    product = CountedField(model, c, 1).curvature(z)
    with ebm.FlopCounter() as counter:
        product(z)
    costs = [
        ebm.infer(model, x, steps=1, solver=ebm.NewtonCG(products=k, forcing=1e-9, radius=1e6)).flops for k in (1, 3)
    ]
    assert counter.flops > 0 and costs[1] - costs[0] == 2 * counter.flops
