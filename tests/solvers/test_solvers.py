"""Solvers against oracles: torch's optimisers, closed forms, and the promise not to raise an energy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ebm
from tests.energies import Quadratic, Tanh, Tree, Wells, numbers

X = numbers(5, 3, seed=9)


def by_torch(make: Any, steps: int) -> torch.Tensor:
    """The latents of the same energy under one of torch's optimisers."""
    model = Quadratic()
    c = model.condition(X).detach()
    z = torch.zeros_like(c, requires_grad=True)
    optimiser = make([z])
    for _ in range(steps):
        optimiser.zero_grad()
        model(z, c).sum().backward()
        optimiser.step()
    return z.detach()


@pytest.mark.parametrize(
    ("solver", "make"),
    [
        (ebm.Descent(0.3), lambda p: torch.optim.SGD(p, 0.3)),
        (ebm.Descent(0.2, momentum=0.7), lambda p: torch.optim.SGD(p, 0.2, momentum=0.7)),
        (ebm.Descent(0.2, momentum=0.7, nesterov=True), lambda p: torch.optim.SGD(p, 0.2, momentum=0.7, nesterov=True)),
        (ebm.Adam(0.1), lambda p: torch.optim.Adam(p, 0.1)),
        (ebm.Adam(0.1, betas=(0.5, 0.8), eps=1e-3), lambda p: torch.optim.Adam(p, 0.1, betas=(0.5, 0.8), eps=1e-3)),
        (ebm.Picard(0.7), lambda p: torch.optim.SGD(p, 0.3)),
        (ebm.Langevin(0.3, temperature=0.0), lambda p: torch.optim.SGD(p, 0.3)),
        (ebm.Project(ebm.Adam(0.1), ebm.Box(-1e9, 1e9)), lambda p: torch.optim.Adam(p, 0.1)),
    ],
    ids=lambda part: repr(part) if isinstance(part, ebm.Solver) else "torch",
)
def test_against_torch(solver: ebm.Solver, make: Any):
    for steps in (1, 2, 9):
        found = ebm.infer(Quadratic(), X, steps=steps, solver=solver, keep="last").z
        torch.testing.assert_close(found, by_torch(make, steps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("model", [Quadratic(low=0.01, high=50.0), Wells(3), Tree(3)], ids=lambda m: type(m).__name__)
def test_adaptive_descent_never_raises_the_energy(model: ebm.Energy, first: float):
    trace = ebm.infer(model, X, steps=60, solver=ebm.AdaptiveDescent(first), record="energy").trace["energy"]
    assert (trace[1:] <= trace[:-1]).all()
    assert (trace[-1] < trace[0]).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_adaptive_descent_needs_no_tuning(scale: float):
    class Scaled(Quadratic):
        def forward(self, z, c):
            return scale * super().forward(z, c)

    model = Scaled()
    solution = ebm.infer(model, X, steps=100)
    torch.testing.assert_close(solution.z, model.settled(X).detach(), rtol=1e-6, atol=1e-6)


def test_each_sample_finds_its_own_step_size():
    class Uneven(ebm.Energy):
        def init_latent(self, c, draw):
            return torch.ones_like(c)

        def forward(self, z, c):
            return (0.5 * c.exp() * z.square()).sum(1)

    x = torch.tensor([[0.0, 0.0], [9.0, 9.0], [-9.0, -9.0]], dtype=torch.float64)
    assert ebm.infer(Uneven(), x, steps=15, solver=ebm.AdaptiveDescent(0.5)).z.abs().max() < 1e-8


def test_an_adaptive_sample_that_can_do_no_better_says_so():
    class Wall(ebm.Energy):
        """Its declared slope points uphill: no trial is ever accepted."""

        provides = frozenset({"energy", "gradient"})

        def init_latent(self, c, draw):
            return torch.ones_like(c)

        def point(self, z, c):
            return ebm.Point(z, 0.5 * z.square().sum(1), z)

    solution = ebm.infer(Wall(), X, steps=200)
    assert solution.status.tolist() == [ebm.Status.STALLED] * 5 and (solution.z == 1).all()


def steps_to(residual: float, solver: ebm.Solver, model: ebm.Objective) -> int:
    solution = ebm.infer(model, X, steps=2000, solver=solver, stop=ebm.AtRest(residual))
    assert solution.converged.all()
    return int(solution.steps.max())


@pytest.mark.parametrize("model", [Quadratic(low=0.02, high=1.5), Tanh(3, gain=0.95)], ids=lambda m: type(m).__name__)
def test_anderson_is_quicker_than_picard_at_small_residuals(model: ebm.Objective):
    assert 1.5 * steps_to(1e-10, ebm.Anderson(5, every=1, spare=0.0), model) < steps_to(1e-10, ebm.Picard(), model)


def test_anderson_solves_a_linear_problem_in_as_many_steps_as_it_has_dimensions():
    model = Quadratic()
    solution = ebm.infer(model, X, steps=6, solver=ebm.Anderson(6, ridge=0.0, every=1, spare=0.0))
    torch.testing.assert_close(solution.z, model.settled(X).detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("safeguard", ["residual", "energy"])
def test_anderson_safeguards_hold(safeguard: Any):
    model, growth = Wells(3), 1.5
    solver = ebm.Anderson(4, mixing=0.9, safeguard=safeguard, growth=growth, every=1, spare=0.0)
    trace = ebm.infer(model, 4 * X, steps=40, solver=solver, record=["z", "energy", "residual"]).trace
    free = ebm.infer(
        model,
        4 * X,
        steps=40,
        solver=ebm.Anderson(4, mixing=0.9, safeguard=None, every=1, spare=0.0),
        record=["energy", "residual"],
    ).trace
    # a plain step, as after a rejected one, may rise
    values, others = (t["energy"] if safeguard == "energy" else t["residual"] for t in (trace, free))
    stayed = (trace["z"][1:] == trace["z"][:-1]).all(2)
    assert stayed.any(), "no proposal was ever turned down: the case is too easy"
    z = trace["z"]
    force = model.point(z[:-1].flatten(0, 1), model.condition((4 * X).repeat(len(z) - 1, 1))).force.view_as(z[:-1])
    plain = ((z[1:] - z[:-1] - 0.9 * force).abs() <= 1e-12).all(2)
    assert plain[0].all() and plain[1:][stayed[:-1]].all() and not plain.all()
    allowed = values[:-1] if safeguard == "energy" else growth * values[:-1]
    assert (values[1:] <= allowed + 1e-12)[~plain].all()
    assert (others[1:] > (others[:-1] if safeguard == "energy" else growth * others[:-1])).any()


def test_projection_keeps_every_latent_in_its_set_and_finds_the_constrained_optimum():
    class Apart(ebm.Energy):
        def init_latent(self, c, draw):
            return 5 * draw.normal(c)

        def forward(self, z, c):
            return 0.5 * (z - c).square().sum(1)

    solver = ebm.Project(ebm.Descent(0.5, momentum=0.3), ebm.Box(-0.2, 0.4))
    for item in ebm.stream(Apart(), X, steps=80, solver=solver, keep="last"):
        assert item.z.min() >= -0.2 and item.z.max() <= 0.4
    torch.testing.assert_close(item.z, X.clamp(-0.2, 0.4), rtol=1e-9, atol=1e-9)
    assert item.residual.max() < 1e-9


def test_a_sphere_is_a_sphere_for_each_sample():
    for shape in ((4, 3), (4,), (4, 2, 3)):
        z = numbers(*shape)
        found = ebm.Sphere(2.0)(z)
        lengths = found.abs() if z.ndim == 1 else found.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 2.0))
        torch.testing.assert_close(ebm.Sphere(2.0)(z[1:2]), found[1:2])
    assert ebm.Sphere()(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_an_asynchronous_sweep_sets_one_unit_after_the_other():
    """Every unit wants the opposite of its left neighbour's present state."""

    class Chain(ebm.Energy):
        provides = frozenset({"energy", "conditional"})

        def init_latent(self, c, draw):
            return c

        def point(self, z, c):
            return ebm.Point(z, (z * z.roll(1, 1)).sum(1), -z.roll(1, 1) - z)

        def conditional(self, z, c, block):
            return -z.gather(1, (block - 1).remainder(z.shape[1])[:, None])[:, 0]

    x = torch.tensor([[1.0, 1, 1, 1], [1, -1, -1, 1]], dtype=torch.float64)
    once = ebm.infer(Chain(), x, steps=1, solver=ebm.Asynchronous("cyclic"))
    assert once.z.tolist() == [[-1, 1, -1, 1], [-1, 1, -1, 1]], "a unit sees those set before it in the sweep"
    keys = torch.Generator().manual_seed(0)
    shuffled = ebm.infer(Chain(), x.repeat(50, 1), steps=1, solver=ebm.Asynchronous(), keep="last", generator=keys)
    assert len({tuple(row) for row in shuffled.z[::2].tolist()}) > 1, "every sample has an order of its own"
