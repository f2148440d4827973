"""Implicit gradients of everything with a notion of rest of its own, against finite differences of what was settled."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm import rows
from ebm.engine.root import Root
from hebbian.sparse import SparseCoding
from tests.energies import Quadratic, Tanh, numbers

SIZE = 6
X = 2 * numbers(3, SIZE, seed=1)
Y = numbers(3, SIZE, seed=2)
MASK = torch.rand(3, SIZE, generator=torch.Generator().manual_seed(3)) < 0.4
HELD = (X, MASK, Y)
CLEAR = ebm.Implicit(ebm.GMRES(rtol=1e-12, steps=400))


class Bowl(ebm.Energy):
    """A quadratic with a quartic wall; a latent of any shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape or (SIZE,)
        root = numbers(SIZE, SIZE, seed=4)
        self.matrix = nn.Parameter(root @ root.T / SIZE + torch.eye(SIZE, dtype=root.dtype))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.new_zeros(len(c), *self.shape)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        flat = z.flatten(1)
        return 0.5 * ((flat @ self.matrix) * flat).sum(1) - (flat * c).sum(1) + 0.05 * flat.pow(4).sum(1)


class Scaled(Bowl):
    """Judges rest by a residual of its own."""

    def residual(self, point: ebm.Point, c: Any) -> Tensor:
        return 3 * rows.rms(point.force)


class Told(Scaled):
    """And says what vanishes."""

    def move(self, point: ebm.Point, c: Any) -> Any:
        return rows.scale(point.force, 3.0)


class Head(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sum(1)


def cost(answer: Tensor, y: Tensor) -> Tensor:
    return (answer - y).square().sum(1)


def ball(z: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return torch.where(size > 0.7, z * 0.7 / size.clamp_min(1e-9), z)


def atoms(*shape: int) -> Tensor:
    found = numbers(*shape, seed=5)
    return found / found.flatten(1).norm(dim=1).view(-1, *[1] * (len(shape) - 1))


class Case(NamedTuple):
    name: str
    model: ebm.Objective
    x: Any
    solver: ebm.Solver | None = None


WALK = ebm.Descent(0.2)
WEIGHT = nn.Parameter(0.5 + numbers(SIZE, seed=6).abs())
CASES = [
    Case("L1", ebm.Composite(Bowl(), ebm.L1(WEIGHT)), X),
    Case("L1 by Proximal", ebm.Composite(Bowl(), ebm.L1(0.7)), X, ebm.Proximal()),
    Case("NonNegative", ebm.Composite(Bowl(), ebm.NonNegative(0.3)), X),
    Case("Within a box", ebm.Composite(Bowl(), ebm.Within(ebm.Box(-0.5, 0.5))), X),
    Case("Within a ball", ebm.Composite(Bowl(), ebm.Within(ball)), X, ebm.Proximal()),
    Case("GroupL1", ebm.Composite(Bowl(3, 2), ebm.GroupL1(0.7)), X),
    Case("NuclearNorm", ebm.Composite(Bowl(3, 2), ebm.NuclearNorm(0.9)), X),
    Case("sparse code", SparseCoding(atoms(12, SIZE), ebm.L1(0.2)), Y),
    Case("positive code", SparseCoding(atoms(12, SIZE), ebm.NonNegative(0.1)), Y),
    Case("code in groups", SparseCoding(atoms(8, SIZE), ebm.GroupL1(0.3), group=2), Y),
    Case("convolved code", SparseCoding(atoms(3, 2, 3), ebm.L1(0.3)), numbers(2, 2, 7, seed=7)),
    Case("Clamped", ebm.Clamped(Bowl()), HELD, WALK),
    Case("Clamped update", ebm.Clamped(Tanh(SIZE)), HELD),
    Case("Clamped Composite", ebm.Clamped(ebm.Composite(Bowl(), ebm.L1(0.7))), HELD),
    Case("Clamped Nudged", ebm.Clamped(ebm.Nudged(Bowl(), 0.3, cost)), ((X, Y), MASK, Y), WALK),
    Case("Nudged Clamped", ebm.Nudged(ebm.Clamped(Bowl()), 0.3, cost), (HELD, Y), WALK),
    Case("Clamped Sum", ebm.Clamped(ebm.Sum(Bowl(), Bowl(), weights=[1.0, 0.4])), HELD, WALK),
    Case("Clamped Halting", ebm.Clamped(ebm.Halting(Bowl(), Head())), HELD, WALK),
    Case("Halting Clamped", ebm.Halting(ebm.Clamped(Bowl()), Head()), HELD, WALK),
    Case("Composite Nudged", ebm.Composite(ebm.Nudged(Bowl(), 0.3, cost), ebm.L1(0.7)), (X, Y)),
    Case("Project over Clamped", ebm.Clamped(Bowl()), (X, MASK, 0.3 * Y), ebm.Project(WALK, ebm.Box(-0.5, 0.5))),
    Case("Project over FISTA", ebm.Composite(Bowl(), ebm.L1(0.7)), X, ebm.Project(ebm.FISTA(), ebm.Box(-0.5, 0.5))),
    Case("Project on a sphere", Bowl(), X, ebm.Project(WALK, ebm.Sphere())),
    Case("Ladder", ebm.Ladder([Bowl()]), X, WALK),
    Case("a move of its own", Told(), X, WALK),
]


def floats(tree: Any) -> list[Tensor]:
    return [leaf for leaf in rows.leaves(tree) if leaf.is_floating_point()]


def settled(case: Case, x: Any, adjoint: ebm.Adjoint) -> ebm.Solution:
    stop = ebm.AtRest(1e-11)
    return ebm.infer(case.model, x, steps=2000, stop=stop, solver=case.solver, adjoint=adjoint, keep="last")


def loss(solution: ebm.Solution) -> Tensor:
    parts = [leaf * numbers(*leaf.shape, seed=8) + leaf.square() for leaf in floats(solution.z)]
    return sum((part.sum() for part in parts), torch.zeros((), dtype=X.dtype))


def by_differences(run: Callable[[], Tensor], tensors: list[Tensor], directions: list[Tensor], size: float) -> float:
    ends = []
    for way in (size, -2 * size):
        with torch.no_grad():
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor.add_(direction, alpha=way)
        ends.append(float(run()))
    with torch.no_grad():
        for tensor, direction in zip(tensors, directions, strict=True):
            tensor.add_(direction, alpha=size)
    return (ends[0] - ends[1]) / (2 * size)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gradient_of_rest_against_differences(case: Case):
    x = rows.map_rows(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), case.x)
    tensors = [p for p in case.model.parameters() if p.numel()] + floats(x)
    solution = settled(case, x, CLEAR)
    assert float(solution.residual.max()) < 1e-11 and not solution.residual.requires_grad
    found = torch.autograd.grad(loss(solution), tensors, materialize_grads=True, allow_unused=True)
    directions = [numbers(*tensor.shape, seed=10 + k) for k, tensor in enumerate(tensors)]
    wanted = by_differences(lambda: loss(settled(case, x, ebm.Detached())), tensors, directions, size=1e-5)
    got = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
    assert got == pytest.approx(wanted, rel=1e-5)


def test_the_cases_have_kinks_and_walls():
    for name in ("L1", "sparse code", "convolved code", "Clamped Composite"):
        case = next(case for case in CASES if case.name == name)
        z = settled(case, case.x, ebm.Detached()).z
        assert bool((z == 0).any()) and bool((z != 0).any()), name


def test_what_is_held_gets_its_gradient_in_closed_form():
    """b = k a / (1 + k) beside a held at v, so d(a + b) / d(v, k) = 1 + k / (1 + k), v / (1 + k)^2."""

    class Two(ebm.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.k = nn.Parameter(torch.tensor(1.0))

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * self.k * (z[:, 1] - z[:, 0]).square() + 0.5 * z[:, 1].square()

    model, v = Two(), torch.tensor([[2.0, 0.0]], requires_grad=True)
    x = (torch.ones(1, 2), torch.tensor([[True, False]]), v)
    solution = ebm.infer(ebm.Clamped(model), x, steps=60, solver=ebm.Descent(0.4), adjoint=ebm.Implicit())
    of_v, of_k = torch.autograd.grad(solution.z.sum(), [v, model.k])
    torch.testing.assert_close(of_v, torch.tensor([[1.5, 0.0]]))
    torch.testing.assert_close(of_k, torch.tensor(0.5))


@pytest.mark.parametrize(
    "model",
    [Scaled(), ebm.Clamped(Scaled()), ebm.Halting(ebm.Clamped(Scaled()), Head())],
    ids=lambda m: type(m).__name__,
)
def test_a_residual_without_a_move_is_refused(model: ebm.Objective):
    x = X if isinstance(model, Scaled) else HELD
    with pytest.raises(ValueError, match=r"defines `residual` without `move\(point, c\)`"):
        ebm.infer(model, x, steps=3, solver=WALK, adjoint=ebm.Implicit())
    ebm.infer(model, x, steps=3, solver=WALK, adjoint=ebm.Unroll())


def test_a_residual_written_over_one_that_has_a_move_is_refused_too():
    class Other(ebm.Composite):
        def residual(self, point: ebm.Point, c: Any) -> Tensor:
            return 2 * super().residual(point, c)

    class Away(ebm.Project):
        def residual(self, objective: ebm.Objective, point: ebm.Point, c: Any) -> Tensor:
            return 2 * super().residual(objective, point, c)

    with pytest.raises(ValueError, match="defines `residual` without `move"):
        ebm.infer(Other(Bowl(), ebm.L1(0.1)), X, steps=3, adjoint=ebm.Implicit())
    with pytest.raises(ValueError, match="needs a solver that comes to rest"):
        ebm.infer(Bowl(), X, steps=3, solver=Away(WALK, ebm.Sphere()), adjoint=ebm.Implicit())


def test_a_clamp_goes_around_a_term():
    with pytest.raises(ValueError, match=r"Hold it outside: `Clamped\(Composite\(...\)\)`"):
        ebm.Composite(ebm.Clamped(Bowl()), ebm.L1(0.1))
    held = ebm.Clamped(ebm.Composite(Bowl(), ebm.L1(0.7)))
    found = ebm.infer(held, HELD, steps=2000, stop=ebm.AtRest(1e-11), keep="last")
    assert bool(found.converged.all()) and torch.equal(found.z[MASK], Y[MASK])
    # the conditions of the lasso on the free numbers, by its subgradient
    force = held.point(found.z, held.condition(HELD)).force
    on = (found.z != 0) & ~MASK
    torch.testing.assert_close(force[on], 0.7 * found.z[on].sign(), rtol=0, atol=1e-9)
    assert bool((force[~MASK & ~on].abs() <= 0.7).all())
    assert "prox" not in ebm.Clamped(ebm.Composite(Bowl(3, 2), ebm.GroupL1(0.7))).provides


# Twice


def penalty(model: ebm.Objective, x: Any, **options: Any) -> list[Tensor]:
    """The gradient of a loss that holds first gradients, in a way that does not let z's own gradient hide it."""
    x = rows.map_rows(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), x)
    tensors = [*model.parameters(), *floats(x)]
    z = ebm.infer(model, x, **options).z
    second = z.sum()
    for total in (z.sum(), z.pow(3).sum()):
        first = torch.autograd.grad(total, tensors, create_graph=True, allow_unused=True)
        second = second + sum(g.square().sum() for g in first if g is not None and g.requires_grad)
    found = torch.autograd.grad(second, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


@pytest.mark.parametrize(
    ("model", "x"),
    [(Bowl(), X), (Tanh(SIZE, gain=0.5), X), (ebm.Clamped(Bowl()), HELD), (ebm.Composite(Bowl(), ebm.Within(ball)), X)],
    ids=["energy", "update", "clamped", "curved wall"],
)
def test_second_derivatives_are_those_of_unrolling(model: ebm.Objective, x: Any):
    solver = (
        ebm.Picard(0.5) if isinstance(model, Tanh) else ebm.Project(WALK, ball) if "prox" in model.provides else WALK
    )
    options: Any = {"steps": 90, "solver": solver, "keep": "last"}
    wanted = penalty(Bowl() if "prox" in model.provides else model, x, adjoint=ebm.Unroll(), **options)
    options["solver"] = None if "prox" in model.provides else solver
    twice = ebm.Implicit(ebm.GMRES(rtol=1e-13), twice=True)
    for got, want in zip(penalty(model, x, adjoint=twice, **options), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)


def rested(
    adjoint: ebm.Adjoint, model: ebm.Objective | None = None, x: Tensor | None = None
) -> tuple[Tensor, Tensor, ebm.Solution]:
    x = X.clone().requires_grad_() if x is None else x
    solution = ebm.infer(model or Bowl(), x, steps=100, solver=WALK, adjoint=adjoint, keep="last")
    return x, solution.z, solution


def test_a_hessian_and_a_hessian_over_a_batch_of_directions():
    model = Bowl()
    x = X[:1].clone()

    def of(adjoint: ebm.Adjoint) -> Callable[[Tensor], Tensor]:
        return lambda x: ebm.infer(model, x, steps=80, solver=WALK, adjoint=adjoint, keep="last").z.square().sum()

    twice = ebm.Implicit(twice=True)
    wanted = torch.autograd.functional.hessian(of(ebm.Unroll()), x)
    torch.testing.assert_close(torch.autograd.functional.hessian(of(twice), x), wanted)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(of(twice)(x), x, create_graph=True)
    along = torch.eye(SIZE, dtype=x.dtype)[:, None]
    found = torch.func.vmap(lambda v: torch.autograd.grad(slope, x, v, retain_graph=True)[0])(along)
    torch.testing.assert_close(found.squeeze(), wanted.squeeze())  # type: ignore[union-attr]


OFTEN = "more often than it kept evaluations for"


@pytest.mark.parametrize("ask", ["x", "parameter"])
def test_a_second_derivative_is_refused_where_none_was_kept(ask: str):
    """However it is asked for: `inputs=` must not lead around the refusal."""
    model = Bowl()
    x, z, solution = rested(ebm.Implicit(), model)
    of = model.matrix if ask == "parameter" else x
    with pytest.raises(RuntimeError, match=OFTEN):
        torch.autograd.grad(z.sum(), of, create_graph=True)
    with pytest.raises(RuntimeError, match=r"`solution\.energy` of an `Implicit` call"):
        torch.autograd.grad(solution.energy.sum(), of, create_graph=True)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=OFTEN):
        torch.autograd.functional.hessian(lambda x: rested(ebm.Implicit(), model, x)[1].square().sum(), X)


@pytest.mark.parametrize("model", [Bowl(), Quadratic(SIZE, SIZE)], ids=lambda m: type(m).__name__)
def test_a_third_derivative_is_refused(model: Bowl | Quadratic):
    """Also on a way that meets the lower root alone: the force of a quadratic is linear, and so is this loss."""
    x, z, _ = rested(ebm.Implicit(twice=True), model)
    (first,) = torch.autograd.grad(z.sum(), model.matrix, create_graph=True)
    with pytest.raises(RuntimeError, match=OFTEN):
        torch.autograd.grad(first.sum() + z.sum(), x, create_graph=True)


def test_a_spectral_map_is_differentiated_once():
    low = X.view(3, 3, 2).clone().requires_grad_()
    image = ebm.NuclearNorm(0.1).prox(low, 1.0)
    with pytest.raises(RuntimeError, match="`NuclearNorm` was differentiated with `create_graph=True`"):
        torch.autograd.grad(image.sum(), low, create_graph=True)


def test_many_gradients_at_once():
    x, z, _ = rested(ebm.Implicit())
    wanted = torch.stack([torch.autograd.grad(z[0, k], x, retain_graph=True)[0] for k in range(SIZE)])
    along = torch.zeros(SIZE, *z.shape, dtype=z.dtype)
    along[:, 0] = torch.eye(SIZE, dtype=z.dtype)
    found = torch.func.vmap(lambda v: torch.autograd.grad(z, x, v, retain_graph=True)[0])(along)
    torch.testing.assert_close(found, wanted)
    with pytest.raises(RuntimeError, match="Pass `vectorize=False`"):
        torch.autograd.grad(z, x, along, is_grads_batched=True)


def test_a_call_that_nobody_holds_is_collected():
    """Also one that was never differentiated, whose graph autograd has not let go."""

    def roots() -> int:
        gc.collect()
        return sum(type(thing) is Root for thing in gc.get_objects())

    before = roots()
    _, z, solution = rested(ebm.Implicit(twice=True))
    assert roots() == before + 2
    del z, solution, _
    assert roots() == before


# Transforms of PyTorch, and nobody


@pytest.mark.parametrize("adjoint", [ebm.Detached(), ebm.Unroll(), ebm.Truncated(2), ebm.Implicit()], ids=repr)
@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp", "dual"])
@pytest.mark.parametrize("model", [Quadratic(SIZE, SIZE), Tanh(SIZE)], ids=lambda m: type(m).__name__)
def test_inside_a_transform_it_is_right_or_refused(model: ebm.Objective, transform: str, adjoint: ebm.Adjoint):
    one = torch.ones_like(X)

    def run(x: Tensor) -> Tensor:
        return ebm.infer(model, x, steps=5, solver=ebm.Picard(0.3), adjoint=adjoint).z.sum()

    def found() -> Tensor:
        if transform == "vmap":
            return torch.func.vmap(run)(X[None])
        if transform == "grad":
            return torch.func.grad(run)(X).sum()
        if transform == "jvp":
            return torch.func.jvp(run, (X,), (one,))[1]
        with torch.autograd.forward_ad.dual_level():
            return torch.autograd.forward_ad.unpack_dual(run(torch.autograd.forward_ad.make_dual(X, one))).tangent  # type: ignore[return-value]

    x = X.clone().requires_grad_()
    total = run(x)
    wanted = torch.autograd.grad(total, x)[0].sum() if total.requires_grad else torch.zeros_like(total)
    forward = transform in ("jvp", "dual")
    kept = isinstance(adjoint, ebm.Unroll) or (isinstance(adjoint, (ebm.Detached, ebm.Truncated)) and not forward)
    if transform != "vmap" and kept and (isinstance(model, Tanh) or transform == "dual"):
        torch.testing.assert_close(found(), wanted)
    else:
        with pytest.raises(RuntimeError, match="`infer` was called inside"):
            found()


@pytest.mark.parametrize(
    ("adjoint", "solver"),
    [
        (ebm.Unroll(), WALK),
        (ebm.Unroll(checkpoint=2), WALK),
        (ebm.Truncated(2), WALK),
        (ebm.Implicit(), WALK),
        (ebm.Implicit(twice=True), WALK),
        (ebm.Reverse(), ebm.Reversible()),
    ],
    ids=lambda part: repr(part),
)
@pytest.mark.parametrize("stop", [None, ebm.AtRest(1e-3)], ids=["no stop", "a stop"])
def test_a_batch_of_nobody_can_be_differentiated(adjoint: ebm.Adjoint, solver: ebm.Solver, stop: ebm.Stop | None):
    model, x = Quadratic(SIZE, SIZE), X[:0].clone().requires_grad_()
    solution = ebm.infer(model, x, steps=3, stop=stop, solver=solver, adjoint=adjoint)
    solution.answer.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    for p in model.parameters():
        assert p.grad is not None and not bool(p.grad.any())
