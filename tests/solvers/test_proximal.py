"""Proximal methods and energies with a simple term, against closed forms, the conditions of optimality, and scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from tests.energies import Quadratic, Tanh, Tree, Wells, numbers

X = numbers(5, 3, seed=9)
SOLVERS = [ebm.Proximal(), ebm.FISTA(), ebm.FISTA(restart="energy")]


class Shaped(ebm.Term):
    """The nuclear norm of rows of four numbers as matrices of two by two, for the tests of every term."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.norm = ebm.NuclearNorm(weight)

    def forward(self, z: Tensor) -> Tensor:
        return self.norm(z.unflatten(1, (2, 2)))

    def prox(self, z: Tensor, size: float | Tensor) -> Tensor:
        return self.norm.prox(z.unflatten(1, (2, 2)), size).flatten(1)


TERMS = {
    "l1": lambda: ebm.L1(0.4),
    "l1 by number": lambda: ebm.L1(torch.tensor([0.1, 0.7, 0.0, 0.4], dtype=torch.float64)),
    "non-negative": lambda: ebm.NonNegative(0.3),
    "group": lambda: ebm.GroupL1(0.6),
    "box": lambda: ebm.Within(ebm.Box(-0.4, 0.7)),
    "nuclear": lambda: Shaped(0.5),
}


class LeastSquares(ebm.Energy):
    """|z A' - x|^2 / 2."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.new_zeros(c.shape[0], self.matrix.shape[1])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * (z @ self.matrix.T - c).square().sum(1)


class Apart(ebm.Energy):
    """|z - x|^2 / 2 over latents of any shape; at rest with a term, its proximal map of size one."""

    def init_latent(self, c: Any, draw: Any) -> Any:
        return rows.map_rows(torch.ones_like, c)

    def forward(self, z: Any, c: Any) -> Tensor:
        return 0.5 * rows.dot(apart := rows.map_rows(torch.sub, z, c), apart)


def settled(model: ebm.Objective, x: Any, solver: ebm.Solver | None = None, steps: int = 4000) -> ebm.Solution:
    found = ebm.infer(model, x, steps=steps, solver=solver, stop=ebm.AtRest(1e-9))
    assert found.converged.all()
    return found


def lasso() -> tuple[Tensor, Tensor]:
    return numbers(20, 30, seed=1) * torch.logspace(0, 0.7, 30, dtype=torch.float64), numbers(3, 20, seed=2)


# The terms


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("size", [0.3, 2.0, torch.tensor([0.1, 0.9, 3.0, 0.5, 1.0], dtype=torch.float64)], ids=str)
def test_proximal_maps_are_the_lowest_points_of_their_definition(name: str, size: Any):
    """No point of a cloud around the answer, large and small, is lower."""
    term, v = TERMS[name](), 1.5 * numbers(5, 4, seed=3)
    found = term.prox(v, size)

    def cost(u: Tensor) -> Tensor:
        return size * term(u) + 0.5 * (u - v).square().sum(1)

    best = cost(found)
    assert best.isfinite().all() and (found != v).any()
    for seed, width in enumerate([1e-4, 1e-2, 0.3, 2.0] * 30):
        assert (cost(found + width * numbers(5, 4, seed=seed)) >= best).all()
    assert torch.equal(term.inside(found), found)


@pytest.mark.parametrize("name", TERMS)
def test_terms_do_not_mix_samples(name: str):
    term, v, size = TERMS[name](), numbers(5, 4, seed=3), torch.linspace(0.1, 2.0, 5, dtype=torch.float64)
    for row in range(5):
        part = slice(row, row + 1)
        torch.testing.assert_close(term.prox(v[part], size[part]), term.prox(v, size)[part])
        torch.testing.assert_close(term(v[part]), term(v)[part])


def test_walls_are_infinite_outside_and_nothing_inside():
    inside, outside = torch.tensor([[0.0, 0.5]]), torch.tensor([[0.3, -0.1]])
    for term in (ebm.NonNegative(), ebm.Within(ebm.Box(low=0.0))):
        assert term(inside).tolist() == [0.0] and term(outside).tolist() == [float("inf")]
        assert term.inside(outside).tolist() == [[0.30000001192092896, 0.0]]


def test_groups_of_numbers_and_of_leaves():
    tree = {
        "one": torch.tensor([3.0, -0.5]),
        "group": torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]]]),
    }
    found = ebm.GroupL1(1.0).prox(tree, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(found["one"], torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(
        found["group"], torch.tensor([[[2.4, 3.2], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(ebm.GroupL1(2.0)(tree), torch.tensor([16.0, 7.0]))


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 4), (2, 3, 4)], ids=str)
def test_singular_values_are_lowered_and_their_gradient_is_that_of_finite_differences(shape: tuple[int, ...]):
    z, step = numbers(2, *shape, seed=1), torch.tensor([0.4, 1.1], dtype=torch.float64)
    z[:, ..., 0, :] *= 0.1  # some singular values fall to zero
    lowered = ebm.NuclearNorm(1.0).prox(z, step)
    at = step.view(2, *([1] * (len(shape) - 1)))
    torch.testing.assert_close(torch.linalg.svdvals(lowered), (torch.linalg.svdvals(z) - at).clamp_min(0))
    assert (torch.linalg.svdvals(lowered) < 1e-12).any() and (torch.linalg.svdvals(lowered) > 0.1).any()
    assert torch.autograd.gradcheck(ebm.NuclearNorm(1.0).prox, (z.requires_grad_(), step.requires_grad_()))


def test_the_gradient_is_whole_where_singular_values_meet():
    """At a rotation all are one; the map shrinks it, and its derivative along itself and along any skew direction is known."""
    turn = torch.linalg.qr(numbers(4, 4, seed=2)).Q[None]
    z = turn.clone().requires_grad_()
    lowered = ebm.NuclearNorm(0.3).prox(z, 1.0)
    torch.testing.assert_close(lowered, 0.7 * turn)
    symmetric, skew = numbers(4, 4, seed=3), numbers(4, 4, seed=4)
    symmetric, skew = turn @ (symmetric + symmetric.mT), turn @ (skew - skew.mT)
    for along, factor in ((symmetric, 1.0), (skew, 0.7)):
        (slope,) = torch.autograd.grad(lowered, z, along, retain_graph=True)
        torch.testing.assert_close(slope, factor * along)


def test_the_nuclear_norm_is_one_number_over_matrices():
    with pytest.raises(ValueError, match=r"one number for all singular values; got a tensor \(2,\)"):
        ebm.NuclearNorm(torch.ones(2))
    for call in (ebm.NuclearNorm(0.1), lambda z: ebm.NuclearNorm(0.1).prox(z, 1.0)):
        with pytest.raises(ValueError, match=r"wants matrices \(B, ..., m, n\); got a leaf \(2, 3\)"):
            call(torch.ones(2, 3))
    several = {"a": numbers(2, 3, 3, seed=1), "b": numbers(2, 5, 2, 4, seed=2)}
    each = [torch.linalg.matrix_norm(leaf, "nuc").reshape(2, -1).sum(1) for leaf in several.values()]
    torch.testing.assert_close(ebm.NuclearNorm(0.5)(several), 0.5 * (each[0] + each[1]))


def test_a_matrix_that_is_not_finite_spoils_no_other():
    z = numbers(3, 4, 3, seed=1)
    spoilt = z.clone()
    spoilt[1, 0, 0] = float("nan")
    spoilt[2] = float("inf")
    term = ebm.NuclearNorm(0.4)
    for found, wanted in ((term(spoilt), term(z)), (term.prox(spoilt, 1.0), term.prox(z, 1.0))):
        assert torch.equal(found[0], wanted[0]) and found[1:].isnan().all()


def test_three_quarters_of_a_matrix_of_rank_one_tell_the_rest():
    """Without noise, and with a small weight, the lowest point is the matrix."""
    wanted = numbers(1, 12, 1, seed=3) @ numbers(1, 1, 12, seed=4)
    shown = (torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(5)) < 0.75).double()

    class Shown(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (shown * (z - c)).square().flatten(1).sum(1)

    found = ebm.infer(ebm.Composite(Shown(), ebm.NuclearNorm(1e-3)), shown * wanted, steps=5000, stop=ebm.AtRest(1e-8))
    assert found.converged.all() and int(torch.linalg.matrix_rank(found.z, rtol=1e-3)) == 1
    torch.testing.assert_close(found.z, wanted, rtol=0, atol=5e-3)


def test_a_weight_of_the_nuclear_norm_is_learned():
    weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    z = numbers(3, 4, 4, seed=5)
    ebm.NuclearNorm(weight).prox(z, 2.0).sum().backward()
    finite = [float(ebm.NuclearNorm(0.5 + h).prox(z, 2.0).sum()) for h in (1e-6, -1e-6)]
    assert float(weight.grad) == pytest.approx((finite[0] - finite[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("name", ["l1", "non-negative", "group", "nuclear"])
def test_a_term_keeps_the_gradient_whole_at_zero(name: str):
    v = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    for slope in torch.autograd.grad((TERMS[name]().prox(v, 0.5) + 0.0 * v).sum(), v):
        assert (slope == 0).all()


# Settled composites


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("name", TERMS)
def test_orthogonal_designs_have_a_closed_form(name: str, solver: ebm.Solver):
    """With A' A = s I: the proximal map, of step size 1 / s, of A' x / s."""
    matrix = 3 * torch.linalg.qr(numbers(6, 4, seed=4)).Q
    x = 4 * numbers(5, 6, seed=5)
    term = TERMS[name]()
    found = settled(ebm.Composite(LeastSquares(matrix), term), x, solver)
    torch.testing.assert_close(found.z, term.prox(x @ matrix / 9, 1 / 9), rtol=0, atol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_lasso_meets_the_conditions_of_optimality(solver: ebm.Solver):
    matrix, x = lasso()
    found = settled(ebm.Composite(LeastSquares(matrix), ebm.L1(4.0)), x, solver)
    slope = (x - found.z @ matrix.T) @ matrix
    some = found.z != 0
    assert some.any() and (~some).any(), "the solution should be sparse, but not empty"
    torch.testing.assert_close(slope[some], 4.0 * found.z[some].sign(), rtol=0, atol=1e-5)
    assert (slope[~some].abs() <= 4.0 + 1e-6).all()
    assert found.energy.isfinite().all()
    torch.testing.assert_close(found.energy, 0.5 * (x - found.z @ matrix.T).square().sum(1) + 4 * found.z.abs().sum(1))


@pytest.mark.parametrize("positive", [False, True])
def test_a_lasso_is_that_of_scikit_learn(positive: bool):
    linear_model = pytest.importorskip("sklearn.linear_model")
    matrix, x = lasso()
    term = ebm.NonNegative(4.0) if positive else ebm.L1(4.0)
    found = settled(ebm.Composite(LeastSquares(matrix), term), x)
    other = linear_model.Lasso(alpha=4.0 / 20, fit_intercept=False, positive=positive, tol=1e-12, max_iter=100_000)
    for row in range(3):
        wanted = torch.tensor(other.fit(matrix.numpy(), x[row].numpy()).coef_)
        torch.testing.assert_close(found.z[row], wanted, rtol=0, atol=1e-6)


def test_a_learned_weight_moves_and_is_saved_with_the_model():
    weight = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    model = ebm.Composite(Apart(), ebm.L1(weight))
    assert "term.weight" in model.state_dict()
    x = torch.tensor([[2.0, -1.5, 0.1]], dtype=torch.float64)
    found = ebm.infer(model, x, steps=3, solver=ebm.Proximal(), adjoint=ebm.Unroll())
    torch.testing.assert_close(torch.autograd.grad(found.z.sum(), weight)[0].item(), 0.0)  # one down, one up
    found = ebm.infer(model, x, steps=3, solver=ebm.Proximal(), adjoint=ebm.Unroll())
    torch.testing.assert_close(torch.autograd.grad(found.z.abs().sum(), weight)[0].item(), -2.0)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_latents_in_parts(solver: ebm.Solver):
    x = {"a": numbers(3, 2, 2, seed=6), "b": numbers(3, seed=7)}
    found = settled(ebm.Composite(Apart(), ebm.L1(0.5)), x, solver).z
    for leaf, wanted in zip(rows.leaves(found), rows.leaves(ebm.L1(0.5).prox(x, 1.0)), strict=True):
        torch.testing.assert_close(leaf, wanted, rtol=0, atol=1e-7)
    tree = ebm.Composite(Tree(3), ebm.L1(0.05))
    assert settled(tree, X, solver).residual.max() < 1e-7


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("scale", [1e-5, pytest.param(1e5, marks=pytest.mark.slow)])
def test_energies_of_any_scale_need_no_tuning(solver: ebm.Solver, scale: float):
    matrix, x = lasso()
    plain = settled(ebm.Composite(LeastSquares(matrix), ebm.L1(4.0)), x)
    scaled = ebm.Sum(LeastSquares(matrix), weights=[scale])
    model = ebm.Composite(scaled, ebm.L1(4.0 * scale))
    found = ebm.infer(model, x, steps=1500, solver=solver, stop=ebm.AtRest(1e-7 * scale), keep="last")
    assert found.converged.all()
    torch.testing.assert_close(found.z, plain.z, rtol=0, atol=1e-5)


def test_a_proximal_step_never_raises_the_energy_and_each_is_one_evaluation():
    model, x = ebm.Composite(Wells(3), ebm.L1(0.3)), 3 * numbers(8, 3, seed=5)
    for first in (1e-4, 1.0, 1e4):
        found = ebm.infer(model, x, steps=50, solver=ebm.Proximal(first), record="energy")
        energy = found.trace["energy"]
        assert (energy[1:] <= energy[:-1] + 1e-13).all() and (energy[-1] < energy[0]).all()
        assert found.evals.tolist() == (1 + found.steps).tolist()


@pytest.mark.slow
def test_acceleration_pays_where_the_smooth_part_is_ill_conditioned():
    matrix, x = lasso()
    model = ebm.Composite(LeastSquares(matrix), ebm.L1(2.0))
    evals = [
        int(ebm.infer(model, x, steps=1000, solver=solver, stop=ebm.AtRest(1e-7)).evals.sum())
        for solver in (ebm.FISTA(), ebm.Proximal(), ebm.FISTA(restart=None))
    ]
    assert evals[0] < evals[1] and 2 * evals[0] < evals[2], evals


@pytest.mark.parametrize("solver", [*SOLVERS, ebm.Descent(0.3)], ids=repr)
@pytest.mark.parametrize("name", ["non-negative", "box"])
def test_no_latent_is_seen_beyond_a_wall(name: str, solver: ebm.Solver):
    model = ebm.Composite(Quadratic(), TERMS[name]())
    low = 0.0 if name == "non-negative" else -0.4
    for item in ebm.stream(model, X, steps=20, solver=solver, start=torch.full((5, 4), -9.0).double(), keep="last"):
        assert item.z.min() >= low and item.energy.isfinite().all()


def test_a_wall_agrees_with_projection():
    wall = settled(ebm.Composite(Quadratic(), ebm.Within(ebm.Box(-0.4, 0.7))), X)
    projected = ebm.infer(
        Quadratic(), X, steps=400, solver=ebm.Project(ebm.Descent(0.5), ebm.Box(-0.4, 0.7)), stop=ebm.AtRest(1e-9)
    )
    torch.testing.assert_close(wall.z, projected.z, rtol=0, atol=1e-7)
    assert (wall.z == -0.4).any() and (wall.z == 0.7).any()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_without_a_floor_no_rest_is_reported(solver: ebm.Solver):
    class Falling(Apart):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return -super().forward(z, c)

    found = ebm.infer(ebm.Composite(Falling(), ebm.L1(0.3)), X, steps=80, solver=solver, stop=ebm.AtRest(1e-6))
    assert not found.converged.any() and (found.residual > 1.0).all() and found.z.isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_sample_at_rest_stays_there_for_good(solver: ebm.Solver):
    x = torch.tensor([[0.2, -0.1], [0.0, 0.3]])
    found = ebm.infer(ebm.Composite(Apart(), ebm.L1(0.5)), x, steps=80, solver=solver, start=torch.zeros(2, 2))
    assert (found.z == 0).all() and (found.residual == 0).all() and rows.finite(found.carry.memory).all()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_single_precision_settles_past_the_rounding_of_its_energies(solver: ebm.Solver):
    matrix, x = (part.float() for part in lasso())
    model = ebm.Composite(LeastSquares(matrix), ebm.L1(4.0))
    found = ebm.infer(model, x, steps=1500, solver=solver, stop=ebm.AtRest(1e-4), keep="last")
    assert found.converged.all()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_gradients_through_the_steps_are_those_of_finite_differences(solver: ebm.Solver):
    model = ebm.Composite(Wells(3), ebm.L1(0.2))

    def answer(x: Tensor) -> Tensor:
        return ebm.infer(model, x, steps=4, solver=solver, adjoint=ebm.Unroll(), keep="last").z

    assert torch.autograd.gradcheck(answer, X[:3].clone().requires_grad_(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_compiled_steps_go_the_same_way(solver: ebm.Solver):
    torch.compiler.reset()
    model = ebm.Composite(Quadratic(), ebm.L1(0.2))
    eager, compiled = (ebm.infer(model, X, steps=7, solver=solver, compile=c, keep="last") for c in (False, True))
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-10, atol=1e-10)
    assert compiled.evals.tolist() == eager.evals.tolist()


# The door


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ebm.Proximal(first=0), ValueError, r"`Proximal\(first=...\)` must be above zero; got 0"),
        (lambda: ebm.FISTA(restart="no"), ValueError, r"`FISTA\(restart=...\)` is \"gradient\", \"energy\" or None"),
        (lambda: ebm.L1(-0.1), ValueError, r"`L1\(weight\)` is a finite number of at least zero; got -0.1"),
        (lambda: ebm.NonNegative(float("nan")), ValueError, r"`NonNegative\(weight\)`.*got nan"),
        (lambda: ebm.Within(3), TypeError, r"must be callable; got int. Pass `Box\(0, 1\)`"),
        (lambda: ebm.Composite(Tanh(3), ebm.L1(1.0)), TypeError, r"got Tanh, which provides neither"),
        (lambda: ebm.Composite(Quadratic(), Quadratic()), TypeError, r"adds a `Term`; got Quadratic.*with `Sum`"),
        (
            lambda: ebm.infer(Quadratic(), X, steps=1, solver=ebm.Proximal()),
            ValueError,
            r"Proximal needs prox; Quadratic provides energy, gradient",
        ),
        (
            lambda: ebm.infer(ebm.Composite(Quadratic(), ebm.L1(1.0)), X, steps=1, solver=ebm.AdaptiveDescent()),
            ValueError,
            r"AdaptiveDescent needs gradient; Composite provides energy, prox",
        ),
    ],
)
def test_refusals(make: Any, error: Any, words: str):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    "term", [ebm.L1(0.3), ebm.NonNegative(0.2), ebm.GroupL1(0.3)], ids=lambda term: type(term).__name__
)
def test_the_move_of_a_term_is_its_proximal_step(term: ebm.Term):
    z, force = numbers(6, 5, seed=1), numbers(6, 5, seed=2)
    z[0], z[1] = 0.0, z[1].abs()
    torch.testing.assert_close(term.move(z, force), term.prox(z + force, 1.0) - z)
