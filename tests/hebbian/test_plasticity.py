"""Plastic models against loops in their own formulas, chunks against tokens, inner loops against closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.testing import PROMISES, Case, check_objective
from hebbian.plasticity import (
    ABCD,
    DeepMemory,
    DifferentiablePlasticity,
    FastWeights,
    LinearMemory,
    Neuromodulated,
    Pairs,
    Plastic,
    chunked,
    dpfp,
    elu_plus_one,
    ridge_memory,
    run,
    sum_normalised,
    tokens,
    unit,
)
from hebbian.plasticity.inner_loop import largest

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64, its parameters drawn large enough to matter."""
    model.double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=F64))
    return model


def read(seed: int = 0, batch: int = 3, length: int = 20, wide: int = 5, out: int = 4, decays: bool = True):
    generator = torch.Generator().manual_seed(seed)
    keys = unit(normal(seed, batch, length, wide))
    strength = torch.rand(batch, length, generator=generator, dtype=F64)
    decay = torch.rand(batch, length, generator=generator, dtype=F64) if decays else None
    return tokens(keys, normal(seed + 1, batch, length, out), normal(seed + 2, batch, length, wide), strength, decay)


# --- fast weights


@pytest.mark.parametrize("rule", ["sum", "delta"])
def test_fast_weights_are_the_loop_of_their_formula(rule) -> None:
    some = read()
    answers, last = run(FastWeights(rule), some)
    for b in range(3):
        state = torch.zeros(4, 5, dtype=F64)
        for t in range(20):
            k, v, q = some.keys[b, t], some.values[b, t], some.queries[b, t]
            beta, a = some.strength[b, t], some.decay[b, t]
            erased = torch.eye(5, dtype=F64) - beta * torch.outer(k, k) if rule == "delta" else torch.eye(5, dtype=F64)
            state = a * state @ erased + beta * torch.outer(v, k)
            torch.testing.assert_close(answers[b, t], state @ q)
        torch.testing.assert_close(last[b], state)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 20, 64])
@pytest.mark.parametrize("rule", ["sum", "delta"])
@pytest.mark.parametrize("decays", [True, False], ids=["gated", "plain"])
def test_chunks_of_any_size_are_the_tokens_one_by_one(rule, chunk: int, decays: bool) -> None:
    some, start = read(decays=decays), normal(9, 3, 4, 5)
    answers, state = chunked(some, rule, chunk, start)
    wanted, last = run(FastWeights(rule), some, start)
    torch.testing.assert_close(answers, wanted, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(state, last, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rule", ["sum", "delta"])
def test_gradients_through_chunks_are_those_through_tokens(rule) -> None:
    found = []
    for way in ("chunks", "tokens"):
        some = type(read())(*(leaf.clone().requires_grad_() for leaf in read()))
        answers, last = chunked(some, rule, 6) if way == "chunks" else run(FastWeights(rule), some)
        (answers.square().sum() + last.sin().sum()).backward()
        found.append([leaf.grad for leaf in some])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("rule", ["sum", "delta"])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_decays_of_zero_begin_anew_in_chunks_as_one_by_one(rule, dtype: torch.dtype) -> None:
    some = read(length=9)
    some.decay[0, 0] = some.decay[1, 3] = some.decay[1, 4] = some.decay[2, 8] = 0.0
    some.decay[0, 5] = 1e-30
    start, found = normal(9, 3, 4, 5).to(dtype), []
    exact = type(some)(
        *(leaf.to(dtype).double() for leaf in some)
    )  # what the tokens say in their dtype, worked out exactly
    for way, parts in (("chunks", some), ("tokens", exact)):
        kept = dtype if way == "chunks" else F64
        parts = type(some)(*(leaf.to(kept).clone().requires_grad_() for leaf in parts))
        first = start.to(kept).requires_grad_()
        answers, last = chunked(parts, rule, 4, first) if way == "chunks" else run(FastWeights(rule), parts, first)
        grads = torch.autograd.grad(answers.double().sin().sum() + last.double().cos().sum(), [*parts, first])
        assert answers.dtype == last.dtype == kept
        found.append([leaf.double() for leaf in (answers.detach(), last.detach(), *grads)])
    tolerance = 32 * torch.finfo(dtype).eps
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_chunks_of_no_tokens_are_refused_and_features_of_nothing_are_nothing() -> None:
    with pytest.raises(ValueError, match="`chunked` wants at least one token"):
        chunked(tokens(torch.ones(1, 0, 2), torch.ones(1, 0, 3)))
    assert not sum_normalised(torch.zeros(2, 3)).any()


def test_a_decay_that_is_strong_does_not_overflow() -> None:
    some = read(length=400)._replace(decay=torch.full((3, 400), 1e-3, dtype=F64))
    torch.testing.assert_close(chunked(some, "delta", 200)[0], run(FastWeights("delta"), some)[0])


def test_orthonormal_keys_hold_as_many_values_and_the_sum_rule_is_linear_attention() -> None:
    keys = torch.linalg.qr(normal(0, 6, 6))[0][None]
    values = normal(1, 1, 6, 4)
    _, state = run(FastWeights("delta"), tokens(keys, values))
    torch.testing.assert_close(keys @ state.mT, values)
    some = read(decays=False)
    scores = (some.queries @ some.keys.mT).tril() * some.strength[:, None]
    torch.testing.assert_close(run(FastWeights("sum"), some)[0], scores @ some.values)


def test_writing_a_key_again_overwrites_only_if_its_length_is_one() -> None:
    key, values = normal(0, 5), normal(1, 1, 2, 3)
    for norm, exact in ((unit(key), True), (sum_normalised(key.abs()), False)):
        twice = norm.expand(1, 2, 5)
        _, state = run(FastWeights("delta"), tokens(twice, values))
        told = state @ norm / norm.square().sum()
        assert torch.allclose(told[0], values[0, 1]) == exact


def test_infer_reads_a_token_a_step_and_stays_where_the_tokens_end() -> None:
    some, model = read(), FastWeights("delta")
    answers, last = run(model, some)
    for steps in (1, 7, 20, 31):
        solution = ebm.infer(model, some, steps=steps)
        torch.testing.assert_close(solution.answer, answers[:, min(steps, 20) - 1])
    torch.testing.assert_close(solution.z["state"], last)
    first = ebm.infer(model, some, steps=5)
    assert torch.equal(ebm.infer(model, some, steps=15, resume=first).answer, ebm.infer(model, some, steps=20).answer)


def test_features() -> None:
    x = normal(0, 7, 5)
    torch.testing.assert_close(unit(x).norm(dim=1), torch.ones(7, dtype=F64))
    torch.testing.assert_close(sum_normalised(elu_plus_one(x)).sum(1), torch.ones(7, dtype=F64))
    r = torch.relu(torch.cat([x, -x], 1))
    wanted = torch.cat([torch.stack([r[:, i] * r[:, i - j] for i in range(10)], 1) for j in (1, 2)], 1)
    torch.testing.assert_close(dpfp(x, 2), wanted)


# --- plastic connections


@pytest.mark.parametrize("rule", ["hebb", "oja"])
def test_differentiable_plasticity_is_its_loop(rule) -> None:
    model: DifferentiablePlasticity = drawn(DifferentiablePlasticity(4, 3, rule))  # type: ignore[assignment]
    x = normal(5, 2, 9, 4)
    answers, last = run(model, x)
    eta = model.rate
    for b in range(2):
        trace = torch.zeros(3, 4, dtype=F64)
        for t in range(9):
            y = torch.tanh((model.weight + model.alpha * trace) @ x[b, t])
            torch.testing.assert_close(answers[b, t], y)
            if rule == "hebb":
                trace = (1 - eta) * trace + eta * torch.outer(y, x[b, t])
            else:
                trace = trace + eta * (torch.outer(y, x[b, t]) - y[:, None] ** 2 * trace)
        torch.testing.assert_close(last[b], trace)


def test_without_alpha_nothing_is_plastic_and_a_teacher_clamps() -> None:
    model: DifferentiablePlasticity = drawn(DifferentiablePlasticity(4, 3))  # type: ignore[assignment]
    x, teacher = normal(5, 2, 9, 4), 10 * normal(6, 2, 9, 3).sign()
    plain = model.weight @ x.mT
    model.alpha.data.zero_()
    torch.testing.assert_close(run(model, x)[0].mT, torch.tanh(plain))
    assert (run(model, (x, teacher))[0].sign() == teacher.sign()).double().mean() > 0.99


@pytest.mark.parametrize("retroactive", [False, True])
def test_neuromodulation_is_its_loop_and_silence_freezes(retroactive: bool) -> None:
    model: Neuromodulated = drawn(Neuromodulated(4, 3, retroactive))  # type: ignore[assignment]
    x = 4 * normal(5, 1, 19, 4)
    answers, last = run(model, x)
    trace, past, eta = torch.zeros(3, 4, dtype=F64), torch.zeros(3, 4, dtype=F64), torch.sigmoid(model.logit_rate)
    for t in range(19):
        y = torch.tanh((model.weight + model.alpha * trace) @ x[0, t])
        torch.testing.assert_close(answers[0, t], y)
        signal = torch.tanh(model.modulator.weight[0] @ y + model.modulator.bias)
        both = torch.outer(y, x[0, t])
        trace = (trace + signal * (past if retroactive else both)).clamp(-1, 1)
        past = (1 - eta) * past + eta * both
    torch.testing.assert_close(last["trace"][0], trace)
    assert trace.detach().abs().max() == 1  # the clip was needed
    for parameter in model.modulator.parameters():
        parameter.data.zero_()
    assert not run(model, x)[1]["trace"].any()


@pytest.mark.parametrize("bounded", [False, True])
def test_abcd_is_its_loop(bounded: bool) -> None:
    model: ABCD = drawn(ABCD(4, 3, bounded=bounded))  # type: ignore[assignment]
    x = normal(5, 1, 9, 4)
    answers, last = run(model, x)
    weight = model.first.clone()
    a, b, c, d = model.coefficients
    for t in range(9):
        y = torch.tanh(weight @ x[0, t])
        torch.testing.assert_close(answers[0, t], y)
        for i in range(3):
            for j in range(4):
                change = a[i, j] * y[i] * x[0, t, j] + b[i, j] * x[0, t, j] + c[i, j] * y[i] + d[i, j]
                weight[i, j] = weight[i, j] + model.rates[i, j] * change
        if bounded:
            weight = weight / weight.abs().max()  # the whole layer's, as in the authors' code
            assert weight.abs().max() == 1
    torch.testing.assert_close(last[0], weight)
    first = model.first.clone()
    model.redraw(torch.Generator().manual_seed(3))
    assert not torch.equal(first, model.first)


PLASTIC = {
    "differentiable": lambda: DifferentiablePlasticity(3, 2, rate=0.3),
    "oja": lambda: DifferentiablePlasticity(3, 2, "oja", rate=0.3),
    "modulated": lambda: Neuromodulated(3, 2),
    "retroactive": lambda: Neuromodulated(3, 2, True),
    "abcd": lambda: ABCD(3, 2),
}


@pytest.mark.parametrize("name", PLASTIC)
def test_gradients_of_every_parameter_are_finite_differences(name: str) -> None:
    model: Plastic = drawn(PLASTIC[name](), 1)  # type: ignore[assignment]
    x = 0.3 * normal(2, 2, 5, 3)
    names = [key for key, _ in model.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        return torch.func.functional_call(
            _Run(model), {f"model.{k}": v for k, v in zip(names, values, strict=True)}, (x,)
        )

    values = tuple(p.detach().clone().requires_grad_() for _, p in model.named_parameters())
    assert torch.autograd.gradcheck(loss, values, atol=1e-6)


class _Run(nn.Module):
    def __init__(self, model: Plastic) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return run(self.model, x)[0]


# --- inner loops


def pairs(seed: int, batch: int = 4, count: int = 30, wide: int = 12, out: int = 5, noise: float = 0.3):
    """Correlated keys (variances fall as 1 / rank), noisy values; and the weights behind them."""
    spread = torch.arange(1, wide + 1).double() ** -0.5
    turn = torch.linalg.qr(normal(seed + 7, wide, wide))[0]
    keys = normal(seed, batch, count, wide) * spread @ turn
    weight = normal(seed + 1, batch, out, wide)
    return Pairs(keys, keys @ weight.mT + noise * normal(seed + 2, batch, count, out)), weight


def test_one_step_from_zero_is_linear_attention_and_a_pair_at_a_time_is_the_delta_rule() -> None:
    shown, _ = pairs(0)
    query = normal(4, 4, 3, 12)
    memory = LinearMemory(rate=1.0)
    weight = ebm.infer(memory, shown, steps=1, keep="last").z
    torch.testing.assert_close(memory.read(weight, query), (query @ shown.keys.mT) @ shown.values)
    state = None
    for t in range(30):
        one = Pairs(shown.keys[:, t : t + 1], shown.values[:, t : t + 1], state)
        state = ebm.infer(memory, one, steps=1, keep="last").z
    torch.testing.assert_close(state, run(FastWeights("delta"), tokens(shown.keys, shown.values))[1])


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_linear_memory_lowers_its_objective_at_every_step_and_ends_at_ridge_regression(ridge: float) -> None:
    shown, _ = pairs(1)
    shown = shown._replace(before=normal(8, 4, 5, 12))
    memory, values = LinearMemory(ridge), []
    for item in ebm.stream(memory, shown, steps=300, keep="last"):
        error = (memory.read(item.z, shown.keys) - shown.values).square().sum(2).mean(1)
        values.append(error + ridge * (item.z - shown.before).square().sum((1, 2)))
    falls = torch.stack(values).diff(dim=0)
    assert (falls <= 1e-12).all()
    best = ridge_memory(shown, ridge)
    solved = ebm.infer(memory, shown, steps=20_000, stop=ebm.AtRest(1e-13)).z
    torch.testing.assert_close(solved, best, atol=1e-8, rtol=1e-8)
    n, k = shown.keys.shape[1], shown.keys.shape[2]
    stacked = torch.cat([shown.keys, math.sqrt(n * ridge) * torch.eye(k, dtype=F64).expand(4, k, k)], 1)
    wanted = torch.cat([shown.values, math.sqrt(n * ridge) * shown.before.mT], 1)
    torch.testing.assert_close(best.mT, torch.linalg.lstsq(stacked, wanted).solution)


def test_the_bound_of_the_step_is_above_the_largest_eigenvalue_and_near_it() -> None:
    factors = normal(0, 6, 40, 20) * torch.logspace(-3, 3, 6, dtype=F64)[:, None, None]
    gram = factors.mT @ factors
    exact = torch.linalg.eigvalsh(gram)[:, -1]
    assert (largest(gram) >= exact * (1 - 1e-12)).all()
    assert (largest(gram) <= 1.03 * exact).all()
    assert largest(torch.zeros(1, 3, 3)).tolist() == [0.0]


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e10, 1e25])
def test_the_linear_memory_comes_to_rest_for_keys_of_any_scale(scale: float, ridge: float) -> None:
    keys, values = (scale * normal(0, 2, 20, 4)).float(), normal(1, 2, 20, 3).float()
    found = ebm.infer(LinearMemory(ridge), Pairs(keys, values), steps=300)
    assert found.status.tolist() != [ebm.Status.NONFINITE] * 2
    best = ridge_memory(Pairs(keys.double(), values.double()), ridge)
    torch.testing.assert_close(found.z.double() / best.abs().max(), best / best.abs().max(), atol=1e-5, rtol=0)


def missed(memory, weight, shown: Pairs, true: Tensor, seed: int) -> float:
    """Relative squared error on clean values of new keys of the same kind."""
    turn = torch.linalg.qr(normal(seed + 7, 12, 12))[0]
    query = normal(seed + 99, 4, 500, 12) * torch.arange(1, 13).double() ** -0.5 @ turn
    clean = query @ true.mT
    return float((memory.read(weight, query) - clean).square().sum() / clean.square().sum())


@pytest.mark.parametrize("seed", range(5))
def test_more_inner_steps_help_on_noisy_correlated_pairs_and_very_many_do_not_hurt(seed: int) -> None:
    shown, true = pairs(10 * seed)
    memory = LinearMemory(0.3**2 / 30)
    at = {t: missed(memory, ebm.infer(memory, shown, steps=t).z, shown, true, 10 * seed) for t in (1, 8, 64, 1000)}
    assert at[8] < 0.7 * at[1]
    assert at[64] <= at[8]
    assert at[1000] <= 1.02 * at[64]


def test_the_normalised_step_is_stable_where_a_fixed_one_is_not() -> None:
    shown, _ = pairs(3)
    scaled = Pairs(30 * shown.keys, shown.values)
    assert ebm.infer(LinearMemory(), scaled, steps=500, keep="last").z.abs().max() < 10
    wild = ebm.infer(LinearMemory(rate=1.0), scaled, steps=50, keep="last")
    assert not wild.z.isfinite().all() or wild.z.abs().max() > 1e6 or (wild.status == ebm.Status.FAILED).any()


def test_the_deep_memory_never_fits_worse_and_fits_what_a_matrix_cannot() -> None:
    torch.manual_seed(0)
    keys = normal(0, 2, 60, 4)
    values = keys.square().sum(2, keepdim=True)
    deep = DeepMemory(4, 1, hidden=64).double()
    energies = [ebm.infer(deep, Pairs(keys, values), steps=steps).energy for steps in (1, 8, 64, 300)]
    assert all(bool((b <= a).all()) for a, b in itertools.pairwise(energies))
    linear = ridge_memory(Pairs(keys, values), 1e-6)
    left = 0.5 * (keys @ linear.mT - values).square().sum(2).mean(1)
    assert (energies[-1] < 0.2 * left).all()


def test_gradients_reach_an_outer_loop() -> None:
    shown, _ = pairs(2)
    keys = shown.keys.clone().requires_grad_()
    memory = LinearMemory(0.1)
    ebm.infer(memory, Pairs(keys, shown.values), steps=3, keep="last", adjoint=ebm.Unroll()).z.sum().backward()
    assert keys.grad is not None
    assert keys.grad.isfinite().all()
    assert keys.grad.any()


# --- promises and refusals

KINDS = {
    "fast weights": lambda: Case(FastWeights("delta"), read(batch=5, length=6), steps=5),
    "plastic": lambda: Case(drawn(DifferentiablePlasticity(4, 3)), normal(1, 5, 6, 4), steps=5),
    "modulated": lambda: Case(drawn(Neuromodulated(4, 3, True)), normal(1, 5, 6, 4), steps=5),
    "abcd": lambda: Case(drawn(ABCD(4, 3)), normal(1, 5, 6, 4), steps=5),
    "linear memory": lambda: Case(
        LinearMemory(0.01), pairs(0, batch=5)[0]._replace(before=normal(8, 5, 5, 12)), steps=5
    ),
    "deep memory": lambda: Case(DeepMemory(12, 5, 8).double(), pairs(0, batch=5)[0], steps=5),
}


@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize("promise", PROMISES)
def test_every_kind_keeps_the_promises(promise: str, which: str) -> None:
    PROMISES[promise](KINDS[which]())


@pytest.mark.parametrize("which", KINDS)
def test_every_kind_is_an_objective(which: str) -> None:
    case = KINDS[which]()
    check_objective(case.model, case.x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: FastWeights("gated"), ValueError, r'"sum" or "delta"; got \'gated\''),  # type: ignore[arg-type]
        (lambda: ebm.infer(FastWeights(), torch.ones(1, 2), steps=1), TypeError, "Make them with `tokens"),
        (lambda: tokens(torch.ones(2, 3, 4), torch.ones(2, 4, 4)), ValueError, r"keys \(B, T, K\)"),
        (lambda: tokens(torch.ones(2, 3, 4), torch.ones(2, 3, 4), strength=torch.ones(2)), ValueError, "strength"),
        (lambda: chunked(read(), chunk=0), ValueError, "at least 1; got 0"),
        (lambda: chunked(read(), state=torch.ones(1, 1, 1)), ValueError, "weights of shape"),
        (lambda: run(FastWeights(), read(length=0)), ValueError, "at least one token"),
        (lambda: DifferentiablePlasticity(0, 2), ValueError, "at least 1; got 0"),
        (lambda: DifferentiablePlasticity(2, 2, rate=1.0), ValueError, "below 1; got 1.0"),
        (lambda: run(DifferentiablePlasticity(2, 2), torch.ones(1, 3)), ValueError, r"shape \(B, T, 2\)"),
        (lambda: Neuromodulated(2, 2, rate=0.0), ValueError, "above 0"),
        (lambda: ABCD(2, 2, spread=-1.0), ValueError, "at least 0"),
        (lambda: LinearMemory(-1.0), ValueError, "ridge"),
        (lambda: LinearMemory(rate=0.0), ValueError, "rate"),
        (
            lambda: ebm.infer(LinearMemory(), torch.ones(1, 2), steps=1),
            TypeError,
            r"Pairs\(keys, values\)`; got Tensor",
        ),
        (
            lambda: ebm.infer(DeepMemory(2, 2, 3), Pairs(torch.ones(1, 2, 3), torch.ones(1, 2, 2)), steps=1),
            ValueError,
            "keys of 2",
        ),
        (lambda: DeepMemory(2, 2, 0), ValueError, "hidden"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words: str) -> None:
    with pytest.raises(error, match=words):
        call()
