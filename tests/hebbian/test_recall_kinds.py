"""Universal, bidirectional and sequence memories, each against what is known of it."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor

import ebm
import hebbian.memory as memories
from ebm.testing import PROMISES, Case, check_objective
from hebbian.memory import (
    BidirectionalMemory,
    DelayedSequence,
    Linear,
    Power,
    SequenceMemory,
    Softmax,
    TopK,
    UniversalHopfield,
    cosine,
    dot,
    euclidean,
    manhattan,
)

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def signs(seed: int, *shape: int) -> Tensor:
    return normal(seed, *shape).sign()


def hadamard(order: int) -> Tensor:
    """Orthogonal patterns of +-1."""
    found = torch.ones(1, 1, dtype=F64)
    while len(found) < order:
        found = torch.cat([torch.cat([found, found], 1), torch.cat([found, -found], 1)])
    return found


# --- similarities and separations


def test_similarities_are_what_their_names_say():
    q, patterns = normal(0, 4, 6), normal(1, 9, 6)
    apart = q[:, None] - patterns[None]
    torch.testing.assert_close(dot(q, patterns), (q[:, None] * patterns).sum(2))
    torch.testing.assert_close(euclidean(q, patterns), -apart.norm(dim=2))
    torch.testing.assert_close(manhattan(q, patterns), -apart.abs().sum(2))
    wanted = torch.nn.functional.cosine_similarity(q[:, None].expand_as(apart), patterns[None].expand_as(apart), dim=2)
    torch.testing.assert_close(cosine(q, patterns), wanted)
    assert torch.equal(cosine(torch.zeros(1, 6, dtype=F64), patterns), torch.zeros(1, 9, dtype=F64))


def test_distances_survive_what_all_patterns_have_in_common():
    x = torch.tensor([[10000.0], [10001.0], [10002.0]])
    q = torch.tensor([[10000.3], [10001.4], [10001.8], [2e6], [-3e5]])
    found = ebm.infer(UniversalHopfield(x, euclidean, TopK(1)), q, steps=1).answer
    assert found.flatten().tolist() == [10000.0, 10001.0, 10002.0, 10002.0, 10000.0]
    patterns = (normal(0, 100, 16) + 1e4).float()
    query = (patterns.double() + 0.3 * normal(1, 100, 16)).float()
    exact = torch.cdist(query.double(), patterns.double())
    assert torch.equal(euclidean(query, patterns).argmax(1), exact.argmin(1))
    torch.testing.assert_close(-euclidean(query, patterns).double(), exact, atol=0, rtol=1e-3)
    half = normal(2, 5, 8).bfloat16()
    assert euclidean(half, half).dtype == torch.bfloat16 and torch.equal(
        euclidean(half, half).argmax(1), torch.arange(5)
    )


@pytest.mark.parametrize("similarity", [dot, cosine, euclidean, manhattan])
def test_similarities_have_slopes_also_at_a_pattern(similarity):
    patterns = normal(1, 9, 6)
    q = torch.cat([patterns[:1], normal(0, 2, 6)]).requires_grad_()
    (slope,) = torch.autograd.grad(similarity(q, patterns).sum(), q)
    assert bool(torch.isfinite(slope).all())
    away = q.detach()[1:].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: similarity(z, patterns), away)


def test_separations_are_what_their_names_say():
    scores = normal(2, 5, 7)
    assert torch.equal(Linear()(scores), scores)
    torch.testing.assert_close(Power(3)(scores), scores.clamp_min(0) ** 3)
    shares = Power(3, normalise=True)(1e30 * scores)
    torch.testing.assert_close(shares, Power(3)(scores) / Power(3)(scores).sum(1, keepdim=True))
    assert torch.equal(Power(3, normalise=True)(-scores.abs()), torch.zeros_like(scores))
    torch.testing.assert_close(Softmax(2.0)(scores), (2 * scores).softmax(1))
    for k in (1, 3, 7, 20):
        found = TopK(k)(scores)
        assert bool(((found > 0).sum(1) == min(k, 7)).all())
        torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=F64))
        assert bool((scores[found > 0].view(5, -1).amin(1) >= scores.masked_fill(found > 0, -9).amax(1)).all())
    assert TopK(1)(torch.zeros(2, 4)).argmax(1).tolist() == [0, 0]


# --- universal Hopfield networks


@pytest.mark.parametrize("beta", [0.3, 2.0, 20.0])
def test_products_and_softmax_are_the_modern_hopfield_network(beta: float):
    patterns, q = normal(3, 12, 5), normal(4, 6, 5)
    universal, modern = UniversalHopfield(patterns, dot, Softmax(beta)), ebm.ModernHopfield(patterns, beta)
    for steps in (1, 4):
        one, other = (ebm.infer(m, q, steps=steps, keep="last", stop=ebm.AtRest(0.0)) for m in (universal, modern))
        torch.testing.assert_close(one.z, other.z, rtol=1e-10, atol=1e-11)
    force = universal.point(q, universal.condition(q)).force
    torch.testing.assert_close(force, modern.point(q, modern.condition(q)).force, rtol=1e-10, atol=1e-11)


def test_products_and_no_separation_are_the_hopfield_network_all_units_at_once():
    patterns, q = signs(5, 3, 31), signs(6, 8, 31)
    memory = UniversalHopfield(patterns, dot, Linear(), output=torch.sign)
    weight = patterns.T @ patterns
    assert torch.equal(memory(q, None), (q @ weight).sign())


def test_distance_and_products_agree_where_patterns_are_of_equal_length():
    patterns = torch.nn.functional.normalize(normal(7, 20, 6), dim=1)
    q = normal(8, 9, 6)
    nearest = [UniversalHopfield(patterns, kind, TopK(1))(q, None) for kind in (dot, cosine, euclidean)]
    assert torch.equal(nearest[0], nearest[1]) and torch.equal(nearest[0], nearest[2])
    assert torch.equal(nearest[0], patterns[(q @ patterns.T).argmax(1)])


def test_the_choice_of_similarity_matters_where_a_pattern_is_large():
    patterns = torch.tensor([[1.0, 0.0], [5.0, 5.0]], dtype=F64)
    q = torch.tensor([[1.0, 0.2]], dtype=F64)
    kinds = {kind: UniversalHopfield(patterns, kind, TopK(1))(q, None)[0].tolist() for kind in (dot, euclidean)}
    assert kinds == {dot: [5.0, 5.0], euclidean: [1.0, 0.0]}
    for kind in (euclidean, manhattan, cosine):
        assert ebm.infer(UniversalHopfield(patterns, kind, Softmax(30.0)), q).z[0].tolist() == pytest.approx(
            [1.0, 0.0], abs=0.01
        )


def test_what_is_recalled_may_stand_for_something_else():
    patterns, values = torch.nn.functional.normalize(normal(9, 10, 8), dim=1), normal(10, 10, 3)
    memory = UniversalHopfield(patterns, dot, Softmax(60.0), values=values)
    found = ebm.infer(memory, patterns + 0.1 * normal(11, 10, 8))
    torch.testing.assert_close(found.answer, values, rtol=1e-3, atol=1e-3)
    assert found.z.shape == (10, 8)


# --- bidirectional memories


def pairs(seed: int = 12) -> tuple[Tensor, Tensor]:
    return signs(seed, 3, 40), signs(seed + 1, 3, 25)


def test_either_end_recalls_the_other():
    x, y = pairs()
    memory = BidirectionalMemory.store(x, y)
    noisy = x.clone()
    noisy[:, :5] *= -1
    forth = ebm.infer(memory, (noisy, torch.zeros_like(y)))
    back = ebm.infer(memory, (torch.zeros_like(x), y))
    assert torch.equal(forth.z[0], x) and torch.equal(forth.z[1], y) and bool(forth.converged.all())
    assert torch.equal(back.z[0], x) and torch.equal(back.z[1], y)


@pytest.mark.parametrize("seed", range(4))
def test_no_move_of_a_layer_raises_the_energy_for_any_weight(seed: int):
    memory = BidirectionalMemory(normal(seed, 15, 11))
    start = (signs(20 + seed, 30, 15), signs(40 + seed, 30, 11))
    found = ebm.infer(memory, start, steps=40, record=["energy"], keep="last")
    energy = found.trace["energy"]
    assert bool((energy.diff(dim=0) <= 1e-12).all()) and bool((energy[-1] < energy[0]).any())
    assert bool(found.converged.all())
    x, y = found.z  # at rest no flip of a unit lowers the energy
    for layer, other in ((0, memory.weight.T), (1, memory.weight)):
        field = (y @ other) if layer == 0 else (x @ other)
        assert bool((field * found.z[layer] >= 0).all())


def test_the_energy_is_its_formula():
    memory, (x, y) = BidirectionalMemory(normal(1, 4, 3)), (signs(2, 5, 4), signs(3, 5, 3))
    wanted = [-float(a @ memory.weight @ b) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(memory((x, y), None), torch.tensor(wanted, dtype=F64))


def test_a_unit_without_a_field_keeps_its_state():
    memory = BidirectionalMemory(torch.zeros(3, 2, dtype=F64))
    found = ebm.infer(memory, (signs(1, 4, 3), signs(2, 4, 2)))
    assert torch.equal(found.z[0], signs(1, 4, 3)) and found.steps.tolist() == [0] * 4


# --- sequences


@pytest.mark.parametrize(("separation", "count"), [(Linear(), 4), (Power(5), 60), (Softmax(40.0), 60)])
def test_a_sequence_is_replayed_in_order(separation, count: int):
    patterns = signs(30, count, 100)
    memory = SequenceMemory(patterns, separation)
    noisy = patterns[:3] * torch.where(torch.arange(100) < 5, -1, 1)
    heard = [item.z for item in ebm.stream(memory, noisy, steps=count + 2, keep="last")]
    for time, start in itertools.product(range(1, count + 3), range(3)):
        assert torch.equal(heard[time][start], patterns[(start + time) % count])


def test_a_sequence_that_ends_comes_to_rest():
    patterns = signs(31, 6, 100)
    found = ebm.infer(SequenceMemory(patterns, Power(3), cycle=False), patterns[2:3], steps=20, stop=ebm.AtRest(0.0))
    assert torch.equal(found.z, patterns[-1:]) and found.steps.tolist() == [3] and bool(found.converged.all())


@pytest.mark.parametrize(("strength", "tau"), [(1.5, 4.0), (2.0, 6.0), (2.5, 3.0)])
def test_a_delayed_sequence_dwells_as_long_as_it_should(strength: float, tau: float):
    patterns = signs(32, 8, 1000)
    memory = DelayedSequence(patterns, strength, tau)
    steps = int(30 * tau)
    seen = [
        int((item.answer @ patterns.T).argmax()) for item in ebm.stream(memory, patterns[:1], steps=steps, keep="last")
    ]
    runs = [(which, len(list(run))) for which, run in itertools.groupby(seen)]
    order, dwell = [which for which, _ in runs], {length for _, length in runs[1:-1]}
    assert len(order) >= 6 and all((b - a) % 8 == 1 for a, b in itertools.pairwise(order))
    wanted = math.log((1 - 1 / strength) / 2) / math.log(1 - 1 / tau)
    assert all(abs(length - wanted - 1) <= 2 for length in dwell), (dwell, wanted)


def test_a_delayed_sequence_that_ends_stays():
    patterns = hadamard(32)[1:5]
    found = ebm.infer(DelayedSequence(patterns, 2.0, 4.0, cycle=False), patterns[:1], steps=120)
    assert torch.equal(found.answer, patterns[-1:])


# --- the contract


def kinds() -> dict[str, Case]:
    q = normal(51, 5, 4)
    weighted = BidirectionalMemory(normal(52, 4, 3))
    patterns = signs(53, 3, 7)
    cases = {
        "with values": Case(UniversalHopfield(normal(50, 6, 4), euclidean, Softmax(3.0), values=normal(54, 6, 2)), q),
        "bidirectional": Case(weighted, (signs(55, 5, 4), signs(56, 5, 3)), steps=4),
        "sequence": Case(SequenceMemory(patterns, Power(3)), signs(57, 5, 7), steps=4),
        "delayed": Case(DelayedSequence(patterns, 2.0, 3.0), signs(57, 5, 7)),
    }
    for similarity, separation in itertools.product(
        (dot, cosine, euclidean, manhattan), (Linear(), Power(2, normalise=True), Softmax(2.0), TopK(2))
    ):
        model = UniversalHopfield(0.4 * normal(50, 6, 4), similarity, separation, output=torch.tanh)
        cases[f"{similarity.__name__} {separation}"] = Case(model, q, steps=4)
    return cases


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("which", kinds())
def test_every_kind_keeps_the_promises(promise: str, which: str):
    PROMISES[promise](kinds()[which])


@pytest.mark.parametrize("which", kinds())
def test_every_kind_is_an_objective(which: str):
    check_objective(kinds()[which].model, kinds()[which].x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Power(0.5), "`Power(n=...)` must be at least 1; got 0.5."),
        (lambda: Softmax(0.0), "`Softmax(beta=...)` must be above zero and finite; got 0.0."),
        (lambda: TopK(0), "`TopK(k=...)` must be at least 1; got 0."),
        (lambda: UniversalHopfield(torch.eye(3), values=torch.eye(2)), "wants a row a pattern, 3; got 2."),
        (lambda: BidirectionalMemory(torch.ones(3)), "wants a floating tensor (P, N)"),
        (lambda: BidirectionalMemory.store(torch.ones(2, 3), torch.ones(3, 3)), "wants pairs; got 2 patterns and 3"),
        (lambda: BidirectionalMemory.store(torch.ones(2, 3), torch.zeros(2, 3)), "wants patterns of +-1"),
        (lambda: ebm.infer(BidirectionalMemory(torch.ones(3, 2)), (torch.ones(1, 2),) * 2), "wants a pair (x, y)"),
        (lambda: ebm.infer(BidirectionalMemory(torch.ones(2, 2)), (torch.rand(1, 2),) * 2), "settles states of +-1"),
        (lambda: SequenceMemory(torch.ones(1, 3)), "wants at least two patterns; got one."),
        (
            lambda: DelayedSequence(torch.ones(2, 3), 1.0),
            "`DelayedSequence(strength=...)` must be above 1 and finite; got 1.0",
        ),
        (
            lambda: DelayedSequence(torch.ones(2, 3), 2.0, 0.5),
            "`DelayedSequence(tau=...)` must be at least 1 and finite",
        ),
    ],
)
def test_wrong_settings_are_refused(call, words: str):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=re.escape("`UniversalHopfield(separation=...)` must be callable; got float.")):
        UniversalHopfield(torch.eye(3), dot, 2.0)


def test_public_names_are_sorted():
    assert memories.__all__ == sorted(memories.__all__, key=lambda name: (name[0].islower(), name))
