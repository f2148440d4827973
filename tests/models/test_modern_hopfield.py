"""Modern Hopfield networks against attention, autograd, and what the concave-convex procedure promises."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

import ebm

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
def test_the_energy_is_the_papers(beta: float):
    patterns, q = normal(0, 7, 4), normal(1, 5, 4)
    model = ebm.ModernHopfield(patterns, beta)
    wanted = []
    for state in q:
        terms = [math.exp(beta * float(pattern @ state)) for pattern in patterns]
        largest = max(float(pattern @ pattern) for pattern in patterns)
        wanted.append(-math.log(sum(terms)) / beta + 0.5 * float(state @ state) + math.log(7) / beta + 0.5 * largest)
    found = torch.tensor(wanted, dtype=F64)
    torch.testing.assert_close(model(q, model.condition(q)), found, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(model.point(q, model.condition(q)).energy, found, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
def test_the_closed_form_is_minus_the_gradient(beta: float):
    model = ebm.ModernHopfield(normal(0, 30, 6), beta)
    q = normal(1, 9, 6).requires_grad_()
    c = model.condition(q.detach())
    (gradient,) = torch.autograd.grad(model(q, c).sum(), q)
    point = model.point(q.detach(), c)
    torch.testing.assert_close(point.force, -gradient, rtol=1e-10, atol=1e-12)
    with torch.enable_grad():
        (through_point,) = torch.autograd.grad(model.point(q, c).energy.sum(), q)
    torch.testing.assert_close(through_point, gradient, rtol=1e-10, atol=1e-12)


def test_one_step_is_attention_with_keys_as_values():
    patterns, q = normal(2, 12, 8), normal(3, 5, 8)
    step = ebm.infer(ebm.ModernHopfield(patterns, beta=8**-0.5), q, steps=1, keep="last", stop=ebm.AtRest(0.0)).z
    attention = torch.nn.functional.scaled_dot_product_attention(q[None], patterns[None], patterns[None])[0]
    torch.testing.assert_close(step, attention, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0, 50.0])
def test_no_step_raises_the_energy_and_it_is_never_negative(beta: float):
    patterns, q = normal(4, 20, 5), 3 * normal(5, 40, 5)
    traced = ebm.infer(ebm.ModernHopfield(patterns, beta), q, steps=30, stop=ebm.AtRest(0.0), record=["energy"])
    energy = traced.trace["energy"]
    assert bool((energy.diff(dim=0) <= 1e-12 * energy[:-1].abs()).all())
    assert bool((energy >= -1e-12).all())
    assert bool((energy[-1] < energy[0]).all())


def test_retrieval_is_one_line_and_queries_leave_when_they_are_done():
    generator = torch.Generator().manual_seed(0)
    patterns = torch.nn.functional.normalize(torch.randn(512, 64, generator=generator), dim=1)
    query = torch.cat([patterns[:20], patterns[20:40] + 0.12 * torch.randn(20, 64, generator=generator)])
    solution = ebm.infer(ebm.ModernHopfield(patterns, beta=20.0), query, compact=True)
    assert torch.equal((solution.answer @ patterns.T).argmax(1), torch.arange(40))
    assert bool(solution.converged.all())
    assert int(solution.steps.min()) < int(solution.steps.max())
    point = 2 * 2 * 512 * 64
    assert torch.equal(solution.flops_per_sample, point * solution.evals)
    assert solution.flops == int(solution.flops_per_sample.sum()) and solution.uncounted == {}


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4])
def test_extreme_scales_stay_finite(scale: float):
    patterns, q = (scale * normal(6, 10, 4)).float(), (scale * normal(7, 3, 4)).float()
    solution = ebm.infer(ebm.ModernHopfield(patterns, beta=8.0), q, steps=5)
    assert bool(torch.isfinite(solution.energy).all()) and bool(torch.isfinite(solution.z).all())


def test_learned_patterns_are_parameters_and_the_bound_follows_them():
    patterns, q = normal(8, 6, 3), normal(9, 4, 3)
    model = ebm.ModernHopfield(torch.nn.Parameter(patterns.clone()))
    ebm.infer(model, q)
    with torch.no_grad():
        model.patterns.mul_(3)
    fresh = ebm.ModernHopfield(3 * patterns, model.beta)
    torch.testing.assert_close(ebm.infer(model, q).energy, ebm.infer(fresh, q).energy)
    solution = ebm.infer(model, q, steps=4, adjoint=ebm.Unroll())
    solution.answer.sum().backward()
    assert float(model.patterns.grad.abs().sum()) > 0


@pytest.mark.parametrize("beta", [0.0, -2.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(beta: float):
    with pytest.raises(ValueError, match=re.escape("`ModernHopfield(beta=...)` must be above zero and finite; got")):
        ebm.ModernHopfield(torch.eye(3), beta)


def test_other_patterns_and_queries_are_refused():
    with pytest.raises(
        ValueError, match=re.escape("wants a floating tensor (P, N) of patterns; got torch.int64 (3, 3).")
    ):
        ebm.ModernHopfield(torch.eye(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=re.escape("got torch.float32 (0, 3). Put one pattern in each row.")):
        ebm.ModernHopfield(torch.zeros(0, 3))
    with pytest.raises(
        ValueError,
        match=re.escape("`ModernHopfield` wants a floating query `x` of shape (B, 3), one row a sample; got"),
    ):
        ebm.infer(ebm.ModernHopfield(torch.eye(3)), torch.ones(2, 4))


def test_the_default_temperature_recalls_what_it_holds_and_completes_halves():
    generator = torch.Generator().manual_seed(0)
    for scale, shift in ((1.0, 0.0), (255.0, 0.0), (0.01, 0.0), (1.0, 3.0)):
        patterns = scale * (torch.rand(100, 64, generator=generator).round() * 2 - 1) + shift * scale * torch.eye(64)[0]
        half = patterns.clone()
        half[:, 32:] = 0
        memory = ebm.ModernHopfield(patterns)
        for query in (patterns, half):
            answer = ebm.infer(memory, query).answer
            assert float((answer - patterns).abs().amax(1).lt(0.01 * scale).double().mean()) >= 0.95
    assert ebm.ModernHopfield(torch.nn.Parameter(patterns)).beta == 1 / 8  # attention's own, to learn from
    assert ebm.ModernHopfield(torch.ones(1, 4)).beta == ebm.ModernHopfield(torch.ones(3, 4)).beta == 0.5


def test_a_temperature_that_suits_follows_the_patterns_that_are_loaded():
    patterns = normal(0, 20, 8)
    memory, other, told = (
        ebm.ModernHopfield(patterns),
        ebm.ModernHopfield(torch.zeros(20, 8)),
        ebm.ModernHopfield(patterns, 3.0),
    )
    other.double().load_state_dict(memory.state_dict())
    assert other.beta == memory.beta
    told.load_state_dict(ebm.ModernHopfield(9 * patterns).state_dict())
    assert told.beta == 3.0
