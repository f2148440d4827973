"""Sum, Nudged and Clamped against closed forms of quadratic energies, and how they pass on what a model can do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.objective import Point


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def precision_matrix(size: int, seed: int) -> Tensor:
    root = numbers(size, size, seed=seed)
    return root @ root.T / size + 0.5 * torch.eye(size, dtype=torch.float64)


class Gaussian(ebm.Energy):
    """E = (z - W x) P (z - W x) / 2, with a closed-form force; at rest z = W x."""

    def __init__(self, size: int = 4, seed: int = 0, answers: int | None = None) -> None:
        super().__init__()
        self.matrix = nn.Parameter(precision_matrix(size, seed))
        self.weight = nn.Parameter(numbers(size, 3, seed=seed + 50))
        self.answers = size if answers is None else answers
        self.points = 0

    def condition(self, x: Tensor) -> Tensor:
        return x @ self.weight.T

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * ((z - c) @ self.matrix * (z - c)).sum(1)

    def point(self, z: Tensor, c: Tensor) -> Point:
        self.points += 1
        force = -(z - c) @ self.matrix
        return Point(z, -0.5 * ((z - c) * force).sum(1), force)

    def readout(self, z: Tensor, c: Tensor) -> Tensor:
        return z[:, : self.answers]


class Preconditioned(Gaussian):
    """The same energy with a declared descent direction, twice as steep in the first number."""

    provides = frozenset({"energy"})

    def point(self, z: Tensor, c: Tensor) -> Point:
        point = super().point(z, c)
        scale = torch.ones_like(z)
        scale[:, 0] = 2
        return point._replace(force=point.force * scale)


class Drift(ebm.Update):
    """f(z) = z M + W x, over a dict of two leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(0.3 * numbers(2, 2, seed=4))

    def init_latent(self, c: Tensor, draw: Any) -> dict[str, Tensor]:
        return {"a": torch.zeros_like(c), "b": torch.ones_like(c)}

    def forward(self, z: dict[str, Tensor], c: Tensor) -> dict[str, Tensor]:
        return {"a": z["b"] @ self.matrix + c, "b": z["a"] @ self.matrix - c}


X = numbers(5, 3, seed=9)
Z = numbers(5, 4, seed=8)
PLAIN = ebm.Descent(0.2)  # an energy cannot tell points apart to 1e-11, so no solver that judges by it


def square(answer: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (answer - y).square().sum(1)


def assert_is_gradient(model: ebm.Objective, x: Any, z: Tensor = Z) -> None:
    """The point against plain autograd of ``forward``."""
    c = model.condition(x)
    leaf = z.clone().requires_grad_()
    energy = model(leaf, c)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    point = model.point(z, c)
    assert point.energy is not None
    torch.testing.assert_close(point.energy, energy)
    torch.testing.assert_close(point.force, -gradient)


# Sum


def test_a_sum_of_gaussians_settles_in_their_product():
    first, second = Gaussian(seed=0), Gaussian(seed=1)
    both = ebm.Sum(first, second, weights=[1.0, 0.4])
    solution = ebm.infer(both, X, steps=2000, solver=PLAIN, stop=ebm.AtRest(1e-11))
    precision = first.matrix + 0.4 * second.matrix
    moment = first.condition(X) @ first.matrix + 0.4 * second.condition(X) @ second.matrix
    torch.testing.assert_close(solution.z, torch.linalg.solve(precision, moment.T).T.detach())
    assert bool(solution.converged.all())


@pytest.mark.parametrize("kind", [Gaussian, Preconditioned])
def test_the_force_of_a_sum_is_its_gradient(kind: type[Gaussian]):
    """Declared directions do not add up, so a part that has one is differentiated."""
    assert_is_gradient(ebm.Sum(Gaussian(seed=2), kind(seed=1), weights=[0.5, 2.0]), X)


def test_a_sum_uses_closed_forms():
    parts = Gaussian(seed=0), Gaussian(seed=1)
    ebm.infer(ebm.Sum(*parts), X, steps=3, solver=ebm.Descent(0.1))
    assert [part.points for part in parts] == [4, 4]


def test_a_sum_starts_and_reads_out_like_its_first_part():
    both = ebm.Sum(Gaussian(seed=0, answers=2), Gaussian(seed=1))
    assert ebm.infer(both, X, steps=0).answer.shape == (5, 2)


@pytest.mark.parametrize(
    "weights", [torch.tensor([0.7, -0.2]).double(), nn.Parameter(torch.tensor([0.7, -0.2]).double())]
)
def test_weights_may_be_tensors(weights: Tensor):
    both = ebm.Sum(Gaussian(seed=0), Gaussian(seed=1), weights=weights)
    assert ("weights" in dict(both.named_parameters())) == isinstance(weights, nn.Parameter)
    assert "weights" in both.state_dict()
    assert_is_gradient(both, X)


def test_learned_weights_get_the_gradient_of_finite_differences():
    def settled(weights: Tensor) -> Tensor:
        both = ebm.Sum(Gaussian(seed=0), Gaussian(seed=1), weights=nn.Parameter(weights.detach().clone()))
        del both.weights
        both.weights = weights
        return ebm.infer(both, X, steps=3, solver=ebm.Descent(0.1), adjoint=ebm.Unroll()).z

    assert torch.autograd.gradcheck(settled, (torch.tensor([0.7, 0.2]).double().requires_grad_(),))


# Nudged


@pytest.mark.parametrize("beta", [0.0, 0.3, -0.2, torch.tensor(0.3, dtype=torch.float64)])
@pytest.mark.parametrize("kind", [Gaussian, Preconditioned])
def test_the_nudged_force_is_the_gradient(beta: float | Tensor, kind: type[Gaussian]):
    assert_is_gradient(ebm.Nudged(kind(answers=2), beta, square), (X, numbers(5, 2, seed=3)))


@pytest.mark.parametrize("beta", [0.3, -0.2])
def test_a_nudged_gaussian_settles_in_the_tilted_mean(beta: float):
    model, y = Gaussian(answers=2), numbers(5, 2, seed=3)
    solution = ebm.infer(ebm.Nudged(model, beta, square), (X, y), steps=2000, solver=PLAIN, stop=ebm.AtRest(1e-11))
    out = torch.zeros(4, 4, dtype=torch.float64)
    out[0, 0] = out[1, 1] = beta
    moment = model.condition(X) @ model.matrix + torch.nn.functional.pad(y, (0, 2)) @ out
    torch.testing.assert_close(solution.z, torch.linalg.solve(model.matrix + out, moment.T).T.detach())
    assert solution.answer.shape == (5, 2)


def test_only_the_cost_is_differentiated():
    model = Gaussian()
    ebm.infer(ebm.Nudged(model, 0.1, square), (X, Z), steps=3, solver=ebm.Descent(0.1))
    assert model.points == 4


def test_two_nudges_give_the_gradient_of_the_loss():
    """Equilibrium propagation: the centred difference of parameter gradients, over 2 beta, is that of the settled cost."""
    model, y, beta = Gaussian(answers=2), numbers(5, 2, seed=3), 1e-4

    def settled(strength: float) -> Tensor:
        return ebm.infer(
            ebm.Nudged(model, strength, square), (X, y), steps=2000, solver=PLAIN, stop=ebm.AtRest(1e-12)
        ).z

    def slope(z: Tensor) -> Tensor:
        return torch.autograd.grad(model(z, model.condition(X)).sum(), model.weight)[0]

    estimate = (slope(settled(beta)) - slope(settled(-beta))) / (2 * beta)
    exact = torch.autograd.grad(square(model.condition(X)[:, :2], y).sum(), model.weight)[0]
    torch.testing.assert_close(estimate, exact, rtol=1e-5, atol=1e-6)


def test_targets_travel_with_their_samples():
    """Rows leave at different times; each keeps its own target."""
    nudged, y = ebm.Nudged(Gaussian(), 0.7, square), numbers(5, 4, seed=3) * torch.tensor([[0.0], [1], [5], [20], [80]])
    stop = ebm.AtRest(1e-6)
    together = ebm.infer(nudged, (X, y), steps=500, stop=stop, compact=True)
    alone = ebm.cat([ebm.infer(nudged, (X[i : i + 1], y[i : i + 1]), steps=500, stop=stop) for i in range(5)])
    assert len(set(together.steps.tolist())) > 1
    assert together.steps.tolist() == alone.steps.tolist()
    torch.testing.assert_close(together.z, alone.z)


def test_a_nudge_may_have_labels_for_a_target():
    model, labels = Gaussian(answers=3), torch.tensor([0, 2, 1, 1, 0])

    def cost(answer: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(answer, y, reduction="none")

    free = ebm.infer(model, X, steps=200)
    pushed = ebm.infer(ebm.Nudged(model, 1.0, cost), (X, labels), steps=200)
    assert bool((cost(pushed.answer, labels) < cost(free.answer, labels)).all())
    assert_is_gradient(ebm.Nudged(model, 1.0, cost), (X, labels))


def test_a_nudged_model_can_be_unrolled():
    def settled(y: Tensor) -> Tensor:
        nudged = ebm.Nudged(Gaussian(), 0.3, square)
        return ebm.infer(nudged, (X, y), steps=3, solver=ebm.Descent(0.1), adjoint=ebm.Unroll()).z

    assert torch.autograd.gradcheck(settled, (Z.clone().requires_grad_(),))


# Clamped


def test_a_clamped_gaussian_settles_in_its_conditional_mean():
    model, values = Gaussian(), numbers(5, 4, seed=6)
    mask = torch.tensor([[True, False, False, True]]).repeat(5, 1)
    mask[4] = torch.tensor([False, True, False, False])
    solution = ebm.infer(ebm.Clamped(model), (X, mask, values), steps=2000, solver=PLAIN, stop=ebm.AtRest(1e-11))
    mean, matrix = model.condition(X).detach(), model.matrix.detach()
    for i in range(5):
        held, free = mask[i], ~mask[i]
        shift = matrix[free][:, held] @ (values[i, held] - mean[i, held])
        want = values[i].clone()
        want[free] = mean[i, free] - torch.linalg.solve(matrix[free][:, free], shift)
        torch.testing.assert_close(solution.z[i], want)
    torch.testing.assert_close(solution.energy, model(solution.z, model.condition(X)).detach())


MASK = torch.tensor([[True, False, False, True]]).repeat(5, 1)


@pytest.mark.parametrize(
    "solver",
    [ebm.Descent(0.1, momentum=0.9), ebm.Adam(0.1), ebm.AdaptiveDescent(), ebm.Anderson(), ebm.Langevin(0.01)],
    ids=repr,
)
def test_held_numbers_never_move(solver: ebm.Solver):
    """Not by a bit, under any solver, from any start."""
    values = numbers(5, 4, seed=6)
    clamped, generator = ebm.Clamped(Gaussian()), torch.Generator().manual_seed(0)
    for item in ebm.stream(clamped, (X, MASK, values), steps=5, solver=solver, start=Z, generator=generator):
        assert torch.equal(item.z[MASK], values[MASK])
        assert bool((item.carry.point.force[MASK] == 0).all())
        torch.testing.assert_close(item.energy, clamped.model(item.z, clamped.model.condition(X)).detach())
    assert not torch.allclose(item.z[~MASK], Z[~MASK])


def test_the_clamped_force_is_the_gradient():
    assert_is_gradient(ebm.Clamped(Gaussian()), (X, MASK, numbers(5, 4, seed=6)))


def test_the_residual_is_that_of_the_free_numbers():
    model = Gaussian()
    clamped = ebm.Clamped(model)
    c = clamped.condition((X, MASK, Z))
    point = clamped.point(Z, c)
    want = model.point(Z, model.condition(X)).force[~MASK].view(5, 2).square().mean(1).sqrt()
    torch.testing.assert_close(clamped.residual(point, c), want)
    everything = torch.ones_like(MASK)
    solution = ebm.infer(clamped, (X, everything, Z), steps=5, stop=ebm.AtRest(0.0))
    assert solution.steps.tolist() == [0] * 5 and torch.equal(solution.z, Z)


def test_an_update_keeps_its_solver_and_may_hold_some_leaves():
    values = {"a": None, "b": numbers(5, 2, seed=6)}
    mask = {"a": None, "b": torch.tensor([[True, False]]).repeat(5, 1)}
    x = numbers(5, 2, seed=7)
    model = Drift()
    solution = ebm.infer(ebm.Clamped(model), (x, mask, values), steps=200, stop=ebm.AtRest(1e-12))
    a, b = solution.z["a"], solution.z["b"]
    assert torch.equal(b[:, 0], values["b"][:, 0])
    matrix = model.matrix.detach()
    torch.testing.assert_close(a, b @ matrix + x)
    torch.testing.assert_close(b[:, 1], (a @ matrix - x)[:, 1])
    assert solution.energy is None and bool(solution.converged.all())
    moved = ebm.Clamped(model)(solution.z, ebm.Clamped(model).condition((x, mask, values)))
    torch.testing.assert_close(moved["b"], b)


def test_a_clamped_hopfield_network_completes_a_pattern():
    """Discrete latents: the conditional is passed on, and held units keep their values whatever the others want."""
    patterns = torch.sign(numbers(2, 24, seed=3)).float()
    clamped = ebm.Clamped(ebm.Hopfield.store(patterns))
    assert "conditional" in clamped.provides
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[:, :14] = True
    query = torch.where(mask, patterns, -patterns)
    solution = ebm.infer(clamped, (query, mask, patterns), steps=10)
    assert torch.equal(solution.z, patterns)
    wrong = patterns.clone()
    wrong[:, 0] *= -1
    c = clamped.condition((wrong, mask, wrong))
    units = torch.tensor([0, 20])  # one held against its neighbours' will, one free
    wanted = clamped.model.conditional(torch.where(mask, wrong, patterns), c.c, units)
    assert float(wanted[0]) == -float(wrong[0, 0])
    assert torch.equal(clamped.conditional(patterns, c, units), torch.stack([wrong[0, 0], wanted[1]]))
    held = ebm.infer(clamped, (wrong, mask, wrong), steps=10)
    assert torch.equal(held.z[mask], wrong[mask])


def test_the_rest_of_a_model_is_passed_on():
    memory = ebm.ModernHopfield(torch.eye(3, dtype=torch.float64))
    for wrapped in (ebm.Clamped(memory), ebm.Nudged(memory, 0.1, square)):
        assert type(wrapped.default_solver()) is type(memory.default_solver())
        assert wrapped.default_stop() == memory.default_stop()
        assert wrapped.default_steps == memory.default_steps
        assert wrapped.provides == memory.provides
    assert ebm.Clamped(Preconditioned()).provides == {"energy"}
    assert ebm.Nudged(Preconditioned(), 0.1, square).provides == {"energy", "gradient"}
    assert isinstance(ebm.Clamped(Drift()).default_solver(), ebm.Picard)


def test_wrappers_nest():
    """Clamping a nudged energy and nudging a clamped one are the same."""
    model, y, values = Gaussian(answers=2), numbers(5, 2, seed=3), numbers(5, 4, seed=6)
    inner = ebm.infer(ebm.Clamped(ebm.Nudged(model, 0.3, square)), ((X, y), MASK, values), steps=50)
    outer = ebm.infer(ebm.Nudged(ebm.Clamped(model), 0.3, square), ((X, MASK, values), y), steps=50, start=Z * 0)
    torch.testing.assert_close(inner.z, outer.z)
    torch.testing.assert_close(inner.energy, outer.energy)


def test_a_wrapped_model_resumes_through_a_file(tmp_path: Any):
    observed, clamped = (X, MASK, Z), ebm.Clamped(Gaussian())
    whole = ebm.infer(clamped, observed, steps=7, solver=ebm.Descent(0.1, momentum=0.5))
    part = ebm.infer(clamped, observed, steps=3, solver=ebm.Descent(0.1, momentum=0.5))
    part.save(tmp_path / "part.pt")
    rest = ebm.infer(
        clamped,
        observed,
        steps=4,
        solver=ebm.Descent(0.1, momentum=0.5),
        resume=ebm.Solution.load(tmp_path / "part.pt"),
    )
    assert torch.equal(whole.z, rest.z)


# Doors


class Bowl(ebm.Energy):
    def init_latent(self, c: Any, draw: Any) -> Any:
        return c

    def forward(self, z: Tensor, c: Any) -> Tensor:
        return z.square().sum(1)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ebm.Sum(), ValueError, r"adds at least one energy; got none. Pass Sum\(first"),
        (lambda: ebm.Sum(Gaussian(), Drift()), TypeError, r"`Sum` takes energies; got Drift, which has none. Pass an"),
        (
            lambda: ebm.Sum(Gaussian(), weights=[1, 2]),
            ValueError,
            r"one number for each of 1 energies; got 2. Pass as many",
        ),
        (lambda: ebm.Sum(Gaussian(), weights=torch.ones(1, 1)), ValueError, r"got \(1, 1\). Pass as many"),
        (lambda: ebm.Nudged(Drift(), 1.0, square), TypeError, r"`Nudged` takes energies; got Drift"),
        (
            lambda: ebm.Nudged(Bowl(), torch.ones(3), square),
            ValueError,
            r"is one finite number; got shape \(3,\). For one a",
        ),
        (lambda: ebm.Nudged(Bowl(), float("nan"), square), ValueError, r"is one finite number; got nan"),
        (lambda: ebm.Nudged(Bowl(), 1.0, "mse"), TypeError, r"callable as cost\(answer, y\); got str. Pass a function"),
        (lambda: ebm.Clamped(nn.Linear(2, 2)), TypeError, r"wraps an energy or an update; got Linear. Pass a model"),
    ],
)
def test_wrong_parts_are_refused(make: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make()


def test_discrete_latents_are_not_nudged():
    memory = ebm.Hopfield.store(torch.sign(numbers(1, 8)).float())
    for make in (lambda: ebm.Nudged(memory, 0.1, square), lambda: ebm.Sum(memory)):
        with pytest.raises(ValueError, match=r"over continuous latents; Hopfield has discrete ones. Use a graded form"):
            make()


@pytest.mark.parametrize(
    ("model", "x", "error", "words"),
    [
        (
            ebm.Nudged(Bowl(), 1.0, square),
            X,
            TypeError,
            r"observes a pair \(x, y\); got a tensor of shape \(5, 3\). Pass `infer",
        ),
        (
            ebm.Nudged(Bowl(), 1.0, lambda a, y: square(a, y).mean()),
            (X, X),
            ValueError,
            r"shape \(5,\); got a tensor of shape \(\). Sum",
        ),
        (
            ebm.Nudged(Bowl(), 1.0, lambda a, y: a.detach().sum(1)),
            (X, X),
            ValueError,
            r"must depend on the latent; .* without `.detach",
        ),
        (ebm.Clamped(Bowl()), (X, X), TypeError, r"a triple \(x, mask, values\); got a tuple of 2. Pass `infer"),
        (
            ebm.Clamped(Bowl()),
            (X, X, X),
            ValueError,
            r"mask of `Clamped` must be boolean, .* got torch.float64. Convert",
        ),
        (ebm.Clamped(Bowl()), (X, None, None), ValueError, r"holds nothing; got no tensor in it. Pass a bool"),
        (
            ebm.Clamped(Bowl()),
            (X, X[:, :2] > 0, X),
            ValueError,
            r"mask .* shape of the latent, \(5, 3\); got \(5, 2\). Give both",
        ),
        (ebm.Clamped(Bowl()), (X, X > 0, None), ValueError, r"values of `Clamped` .* \(5, 3\); got None. Give both"),
    ],
)
def test_wrong_observations_are_refused(model: ebm.Objective, x: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        ebm.infer(model, x, steps=1)
