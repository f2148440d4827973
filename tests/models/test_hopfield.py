"""Hopfield networks against enumeration of all states, autograd, and what is known of their flow."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor

import ebm

F64 = torch.float64


def signs(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.int64).mul(2).sub(1).to(F64)


def couplings(seed: int, units: int) -> tuple[Tensor, Tensor]:
    """A random symmetric weight without diagonal, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(units, units, generator=generator, dtype=F64)
    return (raw + raw.T).fill_diagonal_(0), torch.randn(units, generator=generator, dtype=F64)


def all_states(units: int) -> Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=units)), dtype=F64)


def brute_energy(weight: Tensor, bias: Tensor, state: Tensor) -> float:
    n = len(state)
    pairs = sum(float(weight[i, j] * state[i] * state[j]) for i in range(n) for j in range(n))
    return -0.5 * pairs - sum(float(bias[i] * state[i]) for i in range(n))


def corrupted(patterns: Tensor, flips: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = patterns.clone()
    for row in found:
        where = torch.randperm(len(row), generator=generator)[:flips]
        row[where] = -row[where]
    return found


# Binary


@pytest.mark.parametrize("seed", range(3))
def test_the_energy_is_the_sum_over_pairs(seed: int):
    weight, bias = couplings(seed, 5)
    model, states = ebm.Hopfield(weight, bias), all_states(5)
    energy = model(states, model.condition(states))
    wanted = [brute_energy(weight, bias, state) for state in states]
    torch.testing.assert_close(energy, torch.tensor(wanted, dtype=F64), rtol=1e-12, atol=1e-12)
    point = model.point(states, model.condition(states))
    torch.testing.assert_close(point.energy, energy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rest_is_where_no_single_flip_lowers_the_energy(seed: int):
    weight, bias = couplings(seed, 6)
    model, states = ebm.Hopfield(weight, bias), all_states(6)
    energies = {tuple(s.tolist()): brute_energy(weight, bias, s) for s in states}

    def is_minimum(state: Tensor) -> bool:
        flipped = [state.clone().index_fill_(0, torch.tensor(i), -float(state[i])) for i in range(6)]
        return all(energies[tuple(f.tolist())] >= energies[tuple(state.tolist())] for f in flipped)

    minima = torch.tensor([is_minimum(state) for state in states])
    point = model.point(states, model.condition(states))
    assert torch.equal(model.residual(point, None) == 0, minima)
    assert 0 < int(minima.sum()) < len(states)
    solution = ebm.infer(model, states)
    assert bool(solution.converged.all())
    assert all(is_minimum(state) for state in solution.z)


@pytest.mark.parametrize("seed", range(3))
def test_the_conditional_is_the_cheaper_of_both_signs(seed: int):
    weight, bias = couplings(seed, 5)
    model, states = ebm.Hopfield(weight, bias), all_states(5)
    c = model.condition(states)
    block = torch.randint(0, 5, (len(states),), generator=torch.Generator().manual_seed(seed))
    wanted = model.conditional(states, c, block)
    for state, unit, sign in zip(states, block.tolist(), wanted.tolist(), strict=True):
        energies = {
            v: brute_energy(weight, bias, state.clone().index_fill_(0, torch.tensor(unit), v)) for v in (-1.0, 1.0)
        }
        assert sign == min(energies, key=lambda v: energies[v])
    force = model.point(states, c).force.gather(1, block[:, None]).flatten()
    own = states.gather(1, block[:, None]).flatten()
    torch.testing.assert_close(force, wanted - own, rtol=0, atol=0)


def test_no_flip_raises_the_energy():
    weight, bias = couplings(0, 30)
    model, state = ebm.Hopfield(weight, bias), signs(1, 8, 30)
    c = model.condition(state)
    energy, flips = model(state, c), 0
    for unit in torch.arange(30).repeat(6):
        block = unit.expand(8)
        wanted = model.conditional(state, c, block)
        flips += int((wanted != state[:, unit]).sum())
        state = state.scatter(1, block[:, None], wanted[:, None])
        lower = model(state, c)
        assert bool((lower <= energy + 1e-12).all())
        energy = lower
    assert flips > 20
    assert bool((model.residual(model.point(state, c), c) == 0).all())


def test_a_unit_without_a_field_keeps_its_state():
    states = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
    model = ebm.Hopfield(torch.tensor([[0.0, 0.1, 0.1], [0.1, 0.0, 0.0], [0.1, 0.0, 0.0]]))
    c = model.condition(states)
    assert torch.equal(model.conditional(states, c, torch.zeros(2, dtype=torch.int64)), states[:, 0])
    assert bool((model.point(states, c).force[:, 0] == 0).all())


def test_a_field_that_is_zero_but_for_rounding_counts_as_zero():
    """1/N is not dyadic: fields that cancel leave different dust in different sums, and the state must not chase it."""
    patterns = signs(3, 6, 49).float()
    model = ebm.Hopfield.store(patterns)
    states = signs(4, 400, 49).float()
    exact = (patterns.double().T @ patterns.double()).fill_diagonal_(0)
    zero = (states.double() @ exact) == 0
    assert int(zero.sum()) > 100
    field = states @ model.weight
    assert int((field[zero] != 0).sum()) > 10, "no dust: the test would show nothing"
    c = model.condition(states)
    assert bool((model.point(states, c).force[zero] == 0).all())
    for unit in range(49):
        kept = model.conditional(states, c, torch.full((400,), unit)) == states[:, unit]
        assert bool(kept[zero[:, unit]].all())
        moved = states[:, unit].double() * (states.double() @ exact)[:, unit] < 0
        assert torch.equal(~kept, moved)


def test_what_counts_as_zero_belongs_to_the_unit_and_is_far_below_true_fields():
    weight = torch.zeros(4, 4)
    weight[0, 1] = weight[1, 0] = 1e6
    weight[2, 3] = weight[3, 2] = 1e-3
    model, states = ebm.Hopfield(weight), torch.tensor([[1.0, 1.0, 1.0, -1.0]])
    c = model.condition(states)
    assert float(model.conditional(states, c, torch.tensor([2]))) == -1.0
    assert model.point(states, c).force.tolist() == [[0.0, 0.0, -2.0, 2.0]]
    hebb = ebm.Hopfield.store(signs(0, 100, 1000).float())  # fields are whole multiples of 1/N
    assert float(hebb.condition(signs(1, 1, 1000).float())["slack"].value.amax()) < 0.01 / 1000


def test_hebbs_store_is_the_sum_over_patterns():
    patterns = signs(0, 3, 7)
    weight = torch.zeros(7, 7, dtype=F64)
    for pattern in patterns:
        for i in range(7):
            for j in range(7):
                weight[i, j] += 0.0 if i == j else float(pattern[i] * pattern[j]) / 7
    torch.testing.assert_close(ebm.Hopfield.store(patterns).weight, weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ebm.GradedHopfield.store(patterns, beta=2.0).weight, weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", ["random", "cyclic"])
def test_corrupted_patterns_are_recalled(order):
    patterns = signs(5, 8, 200)
    solution = ebm.infer(ebm.Hopfield.store(patterns), corrupted(patterns, 30, 6), solver=ebm.Asynchronous(order))
    assert torch.equal(solution.answer, patterns)
    assert bool(solution.converged.all()) and int(solution.steps.max()) < 10
    assert bool((solution.residual == 0).all())


def test_retrieval_is_one_line_and_counts_its_work():
    patterns = signs(5, 3, 60).float()
    query = corrupted(patterns, 6, 1)
    solution = ebm.infer(ebm.Hopfield.store(patterns), query, compact=True)
    assert torch.equal(solution.answer, patterns)
    point, conditional = 2 * 60 * 60, 2 * 60
    per_sample = point + solution.steps * (point + 60 * conditional)
    assert torch.equal(solution.flops_per_sample, per_sample)
    assert solution.flops == int(per_sample.sum())
    assert solution.uncounted == {}


def test_the_query_is_left_alone_and_the_start_is_the_query():
    patterns = signs(2, 2, 20)
    query = corrupted(patterns, 3, 0)
    before = query.clone()
    solution = ebm.infer(ebm.Hopfield.store(patterns), query, steps=0)
    assert torch.equal(solution.z, query)
    ebm.infer(ebm.Hopfield.store(patterns), query)
    assert torch.equal(query, before)


def test_weights_that_are_parameters_stay_so_and_get_the_hebbian_gradient():
    weight, bias = couplings(1, 4)
    model = ebm.Hopfield(torch.nn.Parameter(weight), torch.nn.Parameter(bias))
    assert {name for name, _ in model.named_parameters()} == {"weight", "bias"}
    assert not dict(ebm.Hopfield(weight, bias).named_parameters())
    states = signs(1, 3, 4)
    model(states, model.condition(states)).sum().backward()
    torch.testing.assert_close(model.weight.grad, -0.5 * states.T @ states)
    torch.testing.assert_close(model.bias.grad, -states.sum(0))


# Graded


@pytest.mark.parametrize("beta", [0.5, 2.0, 6.0])
def test_the_graded_energy_is_the_integral_form(beta: float):
    """Against the form of 1984, with the integral of the inverse of v = tanh(beta u) done numerically."""
    weight, bias = couplings(2, 3)
    u = torch.tensor([[0.3, -0.2, 0.05], [0.0, 0.4, -0.1]], dtype=F64) / beta
    model = ebm.GradedHopfield(weight, bias, beta)
    for state, energy in zip(u, model(u, model.condition(u)), strict=True):
        v = (beta * state).tanh()
        middle = (torch.arange(20000, dtype=F64) + 0.5) / 20000
        integral = sum(float((middle * end).atanh().mean() * end / beta) for end in v)
        wanted = -0.5 * float(v @ weight @ v) - float(bias @ v) + integral
        assert float(energy) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_flow_is_minus_the_gradient_over_the_slope_of_the_activity(seed: int):
    weight, bias = couplings(seed, 6)
    model = ebm.GradedHopfield(weight, bias, beta=1.5)
    u = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=F64, requires_grad=True)
    c = model.condition(u.detach())
    (gradient,) = torch.autograd.grad(model(u, c).sum(), u)
    point = model.point(u.detach(), c)
    slope = 1.5 * (1 - (1.5 * u.detach()).tanh().square())
    torch.testing.assert_close(gradient, -point.force * slope, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(point.energy, model(u.detach(), c), rtol=1e-12, atol=1e-12)
    v = (1.5 * u.detach()).tanh()
    torch.testing.assert_close(point.force, v @ weight + bias - u.detach(), rtol=1e-12, atol=1e-12)


def test_the_energy_falls_along_a_fine_flow():
    weight, bias = couplings(4, 10)
    model = ebm.GradedHopfield(weight, bias, beta=3.0)
    u = torch.randn(5, 10, generator=torch.Generator().manual_seed(0), dtype=F64) * 3
    flow = ebm.infer(model, u, steps=2000, solver=ebm.Descent(0.005), stop=ebm.AtRest(0.0), record=["energy"])
    energy = flow.trace["energy"]
    assert bool((energy.diff(dim=0) <= 1e-12).all())
    assert bool((energy[0] - energy[-1] > 1).all())


def test_steps_within_the_bound_never_raise_the_energy_and_beyond_it_may():
    units, beta = 4, 4.0
    weight = (torch.eye(units, dtype=F64) - 1) * 0.8  # smallest eigenvalue -2.4
    model = ebm.GradedHopfield(weight, beta=beta)
    bound = 1 / (1 + beta * 2.4)
    u = torch.full((1, units), 0.02, dtype=F64)

    def most_rise(size: float) -> float:
        traced = ebm.infer(model, u, steps=200, solver=ebm.Descent(size), stop=ebm.AtRest(0.0), record=["energy"])
        return float(traced.trace["energy"].diff(dim=0).amax())

    assert most_rise(bound) <= 1e-12
    assert most_rise(4 * bound) > 1e-3


def test_graded_recall_is_one_line():
    patterns = signs(5, 5, 100)
    solution = ebm.infer(ebm.GradedHopfield.store(patterns), 0.4 * corrupted(patterns, 15, 3))
    assert torch.equal(solution.answer.sign(), patterns)
    assert bool(solution.converged.all()) and bool((solution.residual <= 1e-5).all())
    assert float(solution.answer.abs().amax()) <= 1


def test_a_small_gain_forgets():
    patterns = signs(5, 2, 50)
    solution = ebm.infer(ebm.GradedHopfield.store(patterns, beta=0.5), patterns)
    assert float(solution.answer.abs().amax()) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_graded_energy_is_finite_and_smooth_far_out(dtype: torch.dtype):
    model = ebm.GradedHopfield(torch.zeros(1, 1, dtype=dtype), beta=4.0)
    far = torch.tensor([[-1e30], [-700.0], [700.0], [1e30]], dtype=dtype)
    energy = model(far, far)
    assert bool(torch.isfinite(energy).all())
    torch.testing.assert_close(
        energy[1:3], torch.full((2,), math.log(2) / 4, dtype=dtype), rtol=0, atol=700 * 2 * torch.finfo(dtype).eps
    )
    near = torch.linspace(-12, 12, 4001, dtype=dtype)[:, None]
    wanted = near * (4 * near).tanh() - torch.logaddexp(4 * near, -4 * near) / 4 + math.log(2) / 4
    torch.testing.assert_close(
        model(near, near), wanted.flatten(), rtol=0, atol=3e-6 if dtype == torch.float32 else 1e-14
    )


def test_a_sampler_refuses_a_flow_that_is_no_gradient():
    model = ebm.GradedHopfield(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"needs gradient; GradedHopfield provides energy"):
        ebm.infer(model, torch.zeros(1, 2), steps=1, solver=ebm.AdaptiveDescent())


# The door

BAD_WEIGHTS = {
    "square": (
        torch.zeros(2, 3),
        "`{0}(weight)` wants a square tensor (N, N); got (2, 3). From patterns, use `{0}.store(patterns)`.",
    ),
    "vector": (torch.zeros(3), "wants a square tensor (N, N); got (3,)."),
    "list": ([[0.0]], "wants a square tensor (N, N); got list."),
    "whole": (
        torch.zeros(2, 2, dtype=torch.int64),
        "wants floating-point numbers; got torch.int64. Convert it with `.float()`.",
    ),
    "nan": (torch.full((2, 2), math.nan), "must be finite; got NaN or infinity."),
    "uneven": (
        torch.tensor([[0.0, 1.0], [0.5, 0.0]]),
        "must be symmetric; got one that differs from its transpose by 0.5.",
    ),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
@pytest.mark.parametrize("kind", [ebm.Hopfield, ebm.GradedHopfield])
def test_a_weight_that_is_no_coupling_is_refused(kind, name: str):
    weight, words = BAD_WEIGHTS[name]
    with pytest.raises(ValueError, match=re.escape(words.format(kind.__name__))):
        kind(weight)


def test_a_diagonal_is_refused_where_it_would_break_the_rule():
    with pytest.raises(
        ValueError,
        match=re.escape("must have a zero diagonal; got other numbers there. Call `weight.fill_diagonal_(0)`"),
    ):
        ebm.Hopfield(torch.eye(3))
    ebm.GradedHopfield(torch.eye(3))


def test_a_weight_uneven_by_rounding_passes():
    weight, _ = couplings(0, 40)
    weight = weight.float()
    weight[3, 4] *= 1 + 1e-6
    assert not torch.equal(weight, weight.T)
    ebm.Hopfield(weight)


@pytest.mark.parametrize("kind", [ebm.Hopfield, ebm.GradedHopfield])
def test_a_bias_of_another_shape_is_refused(kind):
    with pytest.raises(
        ValueError,
        match=re.escape("(bias=...)` wants one number a unit, torch.float32 (2,) on cpu; got torch.float32 (3,)"),
    ):
        kind(torch.zeros(2, 2), torch.zeros(3))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_a_gain_not_above_zero_is_refused(beta: float):
    with pytest.raises(ValueError, match=re.escape("`GradedHopfield(beta=...)` must be above zero and finite; got")):
        ebm.GradedHopfield(torch.zeros(2, 2), beta=beta)


def test_a_query_of_zeros_and_ones_is_refused():
    model = ebm.Hopfield(torch.zeros(3, 3))
    with pytest.raises(
        ValueError,
        match=re.escape("`Hopfield` settles states of +-1; got other numbers in `x`. Map 0 and 1 by `2 * x - 1`"),
    ):
        ebm.infer(model, torch.tensor([[0.0, 1.0, 1.0]]))


@pytest.mark.parametrize("kind", [ebm.Hopfield, ebm.GradedHopfield])
def test_a_query_of_another_shape_is_refused(kind):
    with pytest.raises(
        ValueError,
        match=re.escape("wants a floating query `x` of shape (B, 3), one row a sample; got torch.float32 (2, 4)."),
    ):
        ebm.infer(kind(torch.zeros(3, 3)), torch.ones(2, 4))


@pytest.mark.parametrize("kind", [ebm.Hopfield, ebm.GradedHopfield])
def test_patterns_that_cannot_be_stored_are_refused(kind):
    with pytest.raises(
        ValueError, match=re.escape(f"`{kind.__name__}.store(patterns)` wants patterns of +-1; got other numbers.")
    ):
        kind.store(torch.tensor([[0.0, 1.0]]))
    with pytest.raises(
        ValueError, match=re.escape("wants a floating tensor (P, N) of patterns; got torch.float32 (4,).")
    ):
        kind.store(torch.ones(4))
