"""A force is a partial derivative in the latent: what latent and condition were computed from does not enter it, with a graph or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm import rows
from ebm.engine.field import CountedField, evaluate
from tests.energies import numbers

ADJOINTS = [ebm.Detached(), ebm.Unroll(), ebm.Unroll(checkpoint=1), ebm.Truncated(1), ebm.Implicit()]
X = numbers(4, 3, seed=1)


class Chain(ebm.Energy):
    """Two layers, begun by a forward pass: the upper one is computed from the lower, and both from the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.V = nn.Parameter(torch.eye(2)), nn.Parameter(torch.tensor([[1.0], [2.0]]))

    def init_latent(self, c, draw):
        h = c @ self.W
        return {"h": h, "y": h @ self.V}

    def forward(self, z, c):
        errors = z["h"] - c @ self.W, z["y"] - z["h"] @ self.V, z["y"] - 1
        return 0.5 * sum(error.square().sum(1) for error in errors)


class Curved(ebm.Energy):
    """Layers that are tied by a tanh, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.V = nn.Parameter(numbers(3, 4, seed=2) / 2), nn.Parameter(numbers(4, 2, seed=3) / 2)

    def init_latent(self, c, draw):
        h = torch.tanh(c @ self.W)
        return {"h": h, "y": h @ self.V}

    def forward(self, z, c):
        errors = z["h"] - torch.tanh(c @ self.W), z["y"] - z["h"] @ self.V, torch.tanh(z["y"]) - 0.5
        return 0.5 * sum(error.square().sum(1) for error in errors) + 0.1 * z["h"].square().square().sum(1)


class Pull(ebm.Energy):
    """Pulled to the condition, twice the observation, and to zero: at rest at the observation."""

    def condition(self, x):
        return 2 * x

    def init_latent(self, c, draw):
        return c

    def forward(self, z, c):
        return 0.5 * (z - c).square().sum(1) + 0.5 * z.square().sum(1)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_a_feed_forward_start_does_not_bend_the_force(adjoint: ebm.Adjoint):
    found = ebm.infer(Chain(), torch.ones(1, 2), steps=1, solver=ebm.Descent(0.1), adjoint=adjoint, keep="last").z
    torch.testing.assert_close((found["h"], found["y"]), (torch.ones(1, 2), torch.tensor([[2.8]])))


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_an_observation_may_also_be_the_start(adjoint: ebm.Adjoint):
    h = torch.tensor([[1.0]], requires_grad=True)
    found = ebm.infer(Pull(), h, steps=1, start=h, solver=ebm.Descent(0.1), adjoint=adjoint)
    assert found.z.item() == pytest.approx(1.0) and found.residual.item() == pytest.approx(0.0, abs=1e-6)
    away = ebm.infer(Pull(), h, steps=1, solver=ebm.Descent(0.1), adjoint=adjoint)  # it starts at the condition, 2
    assert away.z.item() == pytest.approx(2.0 - 0.1 * 2.0)


class Sides(ebm.LeastSquares):
    def init_latent(self, c, draw):
        return {"a": c, "b": c}

    def residuals(self, z, c):
        return torch.cat([z["a"] * z["b"] - c, torch.sin(z["a"]) + z["b"]], 1)


class Told(ebm.Levelled):
    rungs = 1

    def init_latent(self, c, draw):
        return {"a": c, "b": c}

    def forward(self, z, c, rung):
        return ((z["a"] * z["b"] - c).square() + torch.sin(z["a"])).sum(1)


class Two(ebm.Energy):
    def init_latent(self, c, draw):
        return {"a": c, "b": c}

    def forward(self, z, c):
        return ((z["a"] * z["b"] - c).square() + torch.sin(z["a"])).sum(1)


class Declared(Two):
    """Its point is another direction, so wrappers differentiate it themselves."""

    provides = frozenset({"energy"})


class ByHand(Two):
    """A point that differentiates in the very tensors it is handed."""

    def point(self, z, c):
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            leaves = {key: leaf if leaf.requires_grad else leaf.detach().requires_grad_() for key, leaf in z.items()}
            energy = self(leaves, c)
            slopes = torch.autograd.grad(energy.sum(), list(leaves.values()), create_graph=keep)
        return ebm.Point(z, energy if keep else energy.detach(), {k: -s for k, s in zip(z, slopes, strict=True)})


class Stepped(ebm.Update):
    """A step of descent along a gradient that it takes itself."""

    def init_latent(self, c, draw):
        return {"a": c, "b": c}

    def forward(self, z, c):
        point = ByHand().point(z, c)
        return rows.add(z, point.force, 0.1)


def cost(answer: Any, y: Tensor) -> Tensor:
    return (answer["a"] * answer["b"] - y).square().sum(1)


KINDS: dict[str, tuple[Callable[[], ebm.Objective], Callable[[Tensor], Any]]] = {
    "energy": (Two, lambda c: c),
    "least squares": (Sides, lambda c: c),
    "sum": (lambda: ebm.Sum(Two(), Declared()), lambda c: (c, c)),
    "nudged": (lambda: ebm.Nudged(Two(), 0.5, cost), lambda c: ebm.Nudged(Two(), 0.5, cost).condition((c, c))),
    "ladder": (lambda: ebm.Ladder([Two(), Two()]), lambda c: (c, c)),
    "levelled": (lambda: ebm.Ladder(Told()), lambda c: c),
    "composite": (lambda: ebm.Composite(Two(), ebm.L1(0.1)), lambda c: c),
    "by hand": (ByHand, lambda c: c),
    "update": (Stepped, lambda c: c),
}


def tied(c: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """A latent of two leaves and a condition, all computed from each other: c from b, b from a, a from what c was."""
    a = c + 0.3
    b = torch.sin(a) + c
    return {"a": a, "b": b}, c + torch.tanh(b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_force_holds_all_else_in_every_kind_of_objective(kind: str):
    model, given = KINDS[kind][0](), KINDS[kind][1]

    def force(z: Any, c: Tensor) -> Tensor:
        latent = model.init_latent(given(c), None)  # type: ignore[arg-type]
        latent = latent._replace(z=z) if hasattr(latent, "rung") else z
        return rows.flatten(evaluate(model, latent, given(c)).force)

    z, c = tied(X.clone().requires_grad_())
    with torch.no_grad():
        wanted = force(*rows.map_rows(torch.detach, (z, c)))
    torch.testing.assert_close(force(z, c), wanted, rtol=1e-12, atol=1e-12)
    same = X.clone().requires_grad_()
    with torch.no_grad():
        wanted = force({"a": X, "b": X.clone()}, X.clone())
    torch.testing.assert_close(force({"a": same, "b": same}, same), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "model"), [("curvature", Two()), ("curvature", ByHand()), ("gauss_newton", Sides())])
def test_products_hold_all_else(kind: str, model: ebm.Objective):
    z, c = tied(X.clone().requires_grad_())
    along = {"a": numbers(4, 3, seed=5), "b": numbers(4, 3, seed=6)}
    with torch.no_grad():
        bare = rows.map_rows(torch.detach, (z, c))
        wanted = getattr(CountedField(model, bare[1], 4), kind)(bare[0])(along)
    found = getattr(CountedField(model, c, 4), kind)(z)(along)
    torch.testing.assert_close(rows.flatten(found), rows.flatten(wanted), rtol=1e-12, atol=1e-12)


def test_a_force_still_hands_gradients_on_to_what_the_latent_was_computed_from():
    def total(x: Tensor) -> Tensor:
        return rows.flatten(evaluate(Two(), *tied(x)).force)

    assert torch.autograd.gradcheck(total, (X[:2].clone().requires_grad_(),))


INNER = [
    ebm.Descent(0.3),
    ebm.AdaptiveDescent(),
    ebm.BarzilaiBorwein(),
    ebm.Nesterov(),
    ebm.LBFGS(2),
    ebm.Adam(0.1),
    ebm.Backtracking(),
]
BEGUN = {
    **{f"sweep {type(inner).__name__}": ebm.Sweep(inner) for inner in INNER},
    "descent": ebm.Descent(0.3, momentum=0.5),
    "picard": ebm.Picard(0.5),
    "newton": ebm.NewtonCG(products=2),
}  # fmt: skip


@pytest.mark.parametrize("name", BEGUN)
def test_a_graph_changes_no_bit_and_its_gradient_is_that_of_differences(name: str):
    solver, steps = BEGUN[name], 4

    def settled(W: Tensor, x: Tensor, adjoint: ebm.Adjoint) -> Tensor:
        """Settled from a feed-forward start, and then once more from there."""
        model: Any = Curved()
        del model.W
        model.W = W
        given: dict[str, Any] = {"solver": solver, "adjoint": adjoint, "keep": "last"}
        z = ebm.infer(model, x, steps=steps, **given).z
        return rows.flatten(
            ebm.infer(model, x, steps=2, start={"h": z["h"], "y": z["h"] @ model.V.detach()}, **given).z
        )

    W, x, weights = Curved().W.detach(), X, numbers(4, 6, seed=7)
    leaves = (W.clone().requires_grad_(), x.clone().requires_grad_())
    found = settled(*leaves, ebm.Unroll())
    assert torch.equal(found, settled(W, x, ebm.Detached()))
    slopes = torch.autograd.grad((found * weights).sum(), leaves)
    again = torch.autograd.grad((settled(*leaves, ebm.Unroll(checkpoint=2)) * weights).sum(), leaves)
    ways, size = (numbers(3, 4, seed=8), numbers(4, 3, seed=9)), 1e-6
    ends = [settled(W + s * ways[0], x + s * ways[1], ebm.Detached()) for s in (size, -size)]
    difference = ((ends[0] - ends[1]) * weights).sum() / (2 * size)
    torch.testing.assert_close(
        sum((s * w).sum() for s, w in zip(slopes, ways, strict=True)), difference, rtol=1e-6, atol=1e-8
    )
    assert all(torch.equal(a, b) for a, b in zip(slopes, again, strict=True))


def test_a_point_asked_for_directly_holds_the_condition() -> None:
    class Pull(ebm.Energy):
        def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return (0.5 * (z - c).square() + 0.5 * z.square()).sum(1)

    h = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    force = Pull().point(h, 2 * h).force
    assert bool((force == 0).all())  # -(z - c) - z; a total derivative would be 1
    (slope,) = torch.autograd.grad(force.sum(), h)
    assert bool((slope == 0).all())  # -2 z + c, all of it in h
