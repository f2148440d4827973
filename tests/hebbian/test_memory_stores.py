"""Stores against closed forms, loops and their own promises; a memory that is added to, forgotten from, saved and loaded."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

import ebm
from hebbian.memory import (
    Gardner,
    HebbStore,
    HopfieldMemory,
    Palimpsest,
    PseudoInverse,
    SequenceMemory,
    SoftmaxMemory,
    Store,
    Storkey,
    UniversalHopfield,
    Unlearning,
)
from hebbian.memory.capacity import random_patterns

STORES = [
    HebbStore(),
    Storkey(),
    PseudoInverse(),
    Gardner(0.5),
    Unlearning(rounds=2, dreams=4),
    Palimpsest(decay=0.1),
    Palimpsest(bound=0.2),
]


def drawn(count: int, units: int, seed: int = 0) -> Tensor:
    return random_patterns(count, units, torch.Generator().manual_seed(seed)).double()


def written(store: Store, patterns: Tensor) -> HopfieldMemory:
    memory = HopfieldMemory(patterns.shape[1], store, dtype=torch.float64)
    memory.add(patterns)
    return memory


@pytest.mark.parametrize("store", STORES, ids=str)
def test_what_is_stored_is_recalled_and_the_network_is_a_hopfield_network(store: Store) -> None:
    patterns = drawn(3, 60)
    memory = written(store, patterns)
    query = patterns.clone()
    query[:, :5] *= -1
    assert torch.equal(ebm.infer(memory, query).answer, patterns)
    assert memory.count == 3
    assert torch.equal(memory.weight, memory.weight.T) or torch.allclose(memory.weight, memory.weight.T, atol=1e-12)
    assert not memory.weight.diagonal().any()
    ebm.Hopfield(memory.weight)  # refuses what is not symmetric, finite and without diagonal


@pytest.mark.parametrize("store", [HebbStore(), Storkey(), PseudoInverse(), Unlearning(rounds=2, dreams=4)], ids=str)
def test_patterns_added_one_by_one_are_patterns_added_at_once(store: Store) -> None:
    patterns = drawn(6, 40)
    memory = HopfieldMemory(40, store, dtype=torch.float64)
    for pattern in patterns:
        memory.add(pattern[None])
    assert torch.allclose(memory.weight, written(store, patterns).weight, atol=1e-12)


@pytest.mark.parametrize("store", [s for s in STORES if s.keeps or isinstance(s, HebbStore)], ids=str)
def test_forgetting_leaves_the_memory_of_the_rest(store: Store) -> None:
    patterns = drawn(5, 40)
    memory = written(store, patterns)
    memory.forget(patterns[[1, 3]])
    rest = patterns[[0, 2, 4]]
    assert memory.count == 3
    assert torch.allclose(memory.weight, written(store, rest).weight, atol=1e-12)
    assert torch.equal(memory.patterns, rest if store.keeps else memory.patterns[:0])


@pytest.mark.parametrize("store", STORES, ids=str)
def test_a_memory_is_saved_and_loaded_and_goes_on(store: Store) -> None:
    patterns = drawn(6, 40)
    memory = written(store, patterns[:4])
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    other = HopfieldMemory(40, store, dtype=torch.float64)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other.weight, memory.weight)
    assert other.count == 4
    memory.add(patterns[4:])
    other.add(patterns[4:])
    assert torch.equal(other.weight, memory.weight)
    assert torch.equal(other.patterns, memory.patterns)


# --- each store by a second road


def test_storkey_is_the_loop_of_its_formula_and_begins_as_hebb() -> None:
    patterns, size = drawn(4, 7), 7
    weight = torch.zeros(size, size, dtype=torch.float64)
    for xi in patterns:
        new = weight.clone()
        for i in range(size):
            for j in range(size):
                if i == j:
                    continue
                h_ij = sum(weight[i, k] * xi[k] for k in range(size) if k not in (i, j))
                h_ji = sum(weight[j, k] * xi[k] for k in range(size) if k not in (i, j))
                new[i, j] += (xi[i] * xi[j] - xi[i] * h_ji - h_ij * xi[j]) / size
        weight = new
    assert torch.allclose(written(Storkey(), patterns).weight, weight, atol=1e-12)
    assert torch.equal(written(Storkey(), patterns[:1]).weight, written(HebbStore(), patterns[:1]).weight)


def test_storkey_holds_more_than_hebb() -> None:
    patterns = drawn(50, 250)
    hebb, storkey = (
        float((ebm.infer(written(store, patterns), patterns).answer * patterns).mean())
        for store in (HebbStore(), Storkey())
    )
    assert storkey > 0.99
    assert hebb < 0.97


def test_pseudo_inverse_is_the_projection_and_its_patterns_are_eigenvectors() -> None:
    patterns = drawn(12, 30)
    patterns[5] = patterns[4]  # the same once more adds nothing
    memory = written(PseudoInverse(), patterns)
    projection = torch.linalg.pinv(patterns) @ patterns
    assert torch.allclose(memory.weight, projection - torch.diag(projection.diagonal()), atol=1e-12)
    assert torch.allclose((memory.weight + torch.diag(projection.diagonal())) @ patterns.T, patterns.T, atol=1e-12)


def test_pseudo_inverse_holds_every_pattern_below_as_many_as_units() -> None:
    patterns = drawn(63, 64)
    memory = HopfieldMemory(64, PseudoInverse(), dtype=torch.float64)
    for part in patterns.split(9):
        memory.add(part)
    assert torch.equal(ebm.infer(memory, patterns).answer, patterns)


def test_pseudo_inverse_holds_patterns_that_are_alike_where_hebb_mixes_them() -> None:
    base, other = drawn(1, 80), drawn(10, 80, seed=1)
    patterns = torch.where(torch.rand(10, 80, generator=torch.Generator().manual_seed(2)) < 0.7, base, other)
    assert torch.equal(ebm.infer(written(PseudoInverse(), patterns), patterns).answer, patterns)
    with pytest.warns(
        ebm.CapacityWarning, match="holds 10 patterns in 80 units, and 100% of the patterns are no states of rest"
    ):
        memory = written(HebbStore(), patterns)
    assert not torch.equal(ebm.infer(memory, patterns).answer, patterns)


def near(count: int, units: int, seed: int) -> Tensor:
    """Linearly independent patterns, each one unit away from one before."""
    generator = torch.Generator().manual_seed(seed)
    patterns = random_patterns(1, units, generator).double()
    for unit in torch.randperm(units, generator=generator)[: count - 1].tolist():
        new = patterns[int(torch.randint(len(patterns), (), generator=generator))].clone()
        new[unit] *= -1
        patterns = torch.cat([patterns, new[None]])
    return patterns


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("units", [5, 8, 33, 100])
def test_pseudo_inverse_holds_patterns_one_unit_apart(units: int, dtype: torch.dtype) -> None:
    for seed in range(6):
        patterns = near(2 + seed * (units - 3) // 6, units, seed).to(dtype)
        for at_once in (len(patterns), 1):
            memory = HopfieldMemory(units, PseudoInverse(), dtype=dtype)
            for part in patterns.split(at_once):
                memory.add(part)
            for order in ("cyclic", "random"):
                assert torch.equal(ebm.infer(memory, patterns, solver=ebm.Asynchronous(order)).answer, patterns)


def test_pseudo_inverse_added_one_by_one_in_float32_is_as_exact_as_its_weights() -> None:
    patterns = near(8, 400, 0)
    memory = HopfieldMemory(400, PseudoInverse(), dtype=torch.float32)
    for part in patterns.split(1):
        memory.add(part)
    projection = torch.linalg.pinv(patterns) @ patterns
    torch.testing.assert_close(
        memory.weight.double(), projection - torch.diag(projection.diagonal()), atol=2e-9, rtol=0
    )


def test_a_memory_that_has_forgotten_all_of_hebb_keeps_every_state() -> None:
    patterns, memory = drawn(7, 30).float(), HopfieldMemory(30, HebbStore())
    memory.add(patterns)
    for part in patterns.split(1):
        memory.forget(part)
    assert memory.count == 0 and not memory.weight.any()
    states = drawn(5, 30, seed=4).float()
    assert torch.equal(ebm.infer(memory, states).answer, states)


def test_a_memory_that_is_too_full_warns_once_and_one_that_is_not_does_not() -> None:
    memory = HopfieldMemory(50, HebbStore())
    memory.add(drawn(5, 50).float())
    with pytest.warns(ebm.CapacityWarning, match="holds 45 patterns in 50 units.* Hebb's rule holds about 7"):
        memory.add(drawn(40, 50, seed=1).float())
    memory.add(drawn(40, 50, seed=2).float())  # once a memory
    memory = HopfieldMemory(20)
    memory.add(drawn(10, 20).float())
    with pytest.warns(ebm.CapacityWarning, match="no unit feels any other, so every state is at rest"):
        memory.add(drawn(30, 20, seed=3).float())
    with pytest.warns(ebm.CapacityWarning, match=r"`Hopfield.store\(patterns\)` holds 60 patterns in 100 units"):
        ebm.Hopfield.store(drawn(60, 100))
    ebm.Hopfield.store(drawn(10, 100))


def test_memories_take_arrays() -> None:
    patterns = drawn(3, 20)
    memory = HopfieldMemory(20, dtype=torch.float64)
    memory.add(patterns.numpy())  # type: ignore[arg-type]
    assert torch.equal(ebm.infer(memory, patterns).answer, patterns)
    for make in (
        ebm.Hopfield.store,
        ebm.DenseMemory,
        ebm.ModernHopfield,
        SoftmaxMemory,
        UniversalHopfield,
        SequenceMemory,
    ):
        assert make(patterns.numpy()).state_dict().keys() == make(patterns).state_dict().keys()  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_gardner_gives_every_unit_of_every_pattern_its_margin(margin: float) -> None:
    patterns = drawn(20, 80)
    memory = written(Gardner(margin), patterns)
    margins = patterns * (patterns @ memory.weight) / memory.weight.norm(dim=1)
    assert (margins > margin).all()


def test_gardner_holds_more_patterns_than_the_projection_can() -> None:
    patterns = drawn(66, 60)
    assert torch.equal(ebm.infer(written(Gardner(0.0, sweeps=5000), patterns), patterns).answer, patterns)


def test_gardner_says_when_a_margin_is_out_of_reach_and_leaves_the_memory_as_it_was() -> None:
    patterns = drawn(40, 20)
    memory = HopfieldMemory(20, Gardner(2.0, sweeps=20), dtype=torch.float64)
    with pytest.raises(
        RuntimeError, match=r"did not reach its margin for 40 patterns in 20 sweeps: .* The memory is as it was"
    ):
        memory.add(patterns)
    assert memory.count == 0
    assert not memory.weight.any()
    assert not len(memory.patterns)


def test_unlearning_makes_patterns_easier_to_reach() -> None:
    patterns = drawn(12, 100)
    start = drawn(400, 100, seed=5)
    reached = []
    for store in (HebbStore(), Unlearning(0.01, rounds=20, dreams=16)):
        found = ebm.infer(written(store, patterns), start, generator=torch.Generator().manual_seed(0)).answer
        reached.append(float(((found @ patterns.T).abs().amax(1) == 100).double().mean()))
    assert reached[1] > reached[0] + 0.1


def test_a_palimpsest_keeps_the_latest_and_loses_the_oldest_where_hebb_loses_all() -> None:
    patterns = drawn(400, 200)

    def kept(memory: HopfieldMemory, asked: Tensor) -> float:
        return float(((ebm.infer(memory, asked).answer * asked).mean(1) > 0.9).double().mean())

    for store in (Palimpsest(decay=6 / 200), Palimpsest(bound=0.35 / 200**0.5)):
        memory = written(store, patterns)
        assert kept(memory, patterns[-5:]) == 1.0
        assert kept(memory, patterns[:100]) < 0.1
    with pytest.warns(ebm.CapacityWarning):
        memory = written(HebbStore(), patterns)
    assert kept(memory, patterns[-5:]) < 0.5


def test_a_fading_palimpsest_written_at_once_is_the_loop() -> None:
    patterns = drawn(5, 12)
    weight = torch.zeros(12, 12, dtype=torch.float64)
    for xi in patterns:
        weight = (0.8 * weight + 2.0 * xi[:, None] * xi / 12).fill_diagonal_(0)
    store = Palimpsest(decay=0.2, strength=2.0)
    assert torch.allclose(written(store, patterns).weight, weight, atol=1e-12)
    in_parts = written(store, patterns[:2])
    in_parts.add(patterns[2:])  # what was there fades once a pattern
    assert torch.allclose(in_parts.weight, weight, atol=1e-12)


# --- wrong use, and nothing lost


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: HopfieldMemory(0), ValueError, "at least 1; got 0"),
        (lambda: HopfieldMemory(2.0), TypeError, "whole number; got 2.0"),  # type: ignore[arg-type]
        (lambda: HopfieldMemory(4, "hebb"), TypeError, r"wants a store; got 'hebb'. Pass `HebbStore\(\)`"),  # type: ignore[arg-type]
        (lambda: Palimpsest(), ValueError, "never forgets; give one of them"),
        (lambda: Palimpsest(decay=1.5), ValueError, "decay"),
        (lambda: PseudoInverse(-1.0), ValueError, "tolerance"),
        (lambda: Gardner(-0.1), ValueError, "margin"),
        (lambda: Gardner(sweeps=0), ValueError, "sweeps"),
        (lambda: Unlearning(dreams=0), ValueError, "dreams"),
        (
            lambda: HopfieldMemory(4).add(torch.ones(1, 3)),
            ValueError,
            "wants 4 numbers a pattern, as many as units; got 3",
        ),
        (lambda: HopfieldMemory(4).add(torch.zeros(1, 4)), ValueError, "patterns of .-1"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_pattern_that_is_not_held_cannot_be_forgotten_and_nothing_changes() -> None:
    patterns = drawn(4, 20)
    memory = written(Storkey(), patterns)
    before = memory.weight.clone()
    with pytest.raises(ValueError, match=r"row 1 is not held \(4 patterns are\)"):
        memory.forget(torch.stack([patterns[0], -patterns[1]]))
    assert memory.count == 4
    assert torch.equal(memory.weight, before)
    with pytest.raises(NotImplementedError, match="`Palimpsest` cannot take a pattern back"):
        written(Palimpsest(decay=0.1), patterns).forget(patterns[:1])


def test_the_store_of_the_parent_makes_a_memory_that_takes_more() -> None:
    patterns = drawn(3, 40)
    memory = HopfieldMemory.store(patterns[:2])
    memory.add(patterns[2:])
    assert torch.allclose(memory.weight, ebm.Hopfield.store(patterns).weight, atol=1e-12)
