"""Recall from many patterns: chunked sums are exact in constant memory, and a shortlist loses what it says at most."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ebm
from ebm.testing import PROMISES, Case, check_objective
from hebbian.memory import ChunkedMemory, ExactIndex, FaissIndex, ShortlistMemory, SoftmaxMemory

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
@pytest.mark.parametrize("beta", [0.1, 3.0, 200.0])
def test_chunked_recall_is_exact(chunk: int, beta: float):
    patterns, q = normal(0, 23, 6), normal(1, 5, 6)
    memory = ChunkedMemory(patterns, beta, chunk=chunk)
    found, wanted = memory.mixture(q), beta * q @ patterns.T
    torch.testing.assert_close(found.mean, wanted.softmax(1) @ patterns, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.log_sum, wanted.logsumexp(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.top, wanted.softmax(1).amax(1), rtol=1e-11, atol=1e-12)
    energy = ebm.ModernHopfield(patterns, beta)
    torch.testing.assert_close(memory.energy(q), energy(q, energy.condition(q)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", [1, -1])
def test_overlaps_that_grow_or_fall_from_chunk_to_chunk_do_not_overflow(order: int):
    patterns = torch.linspace(1, 4000, 40, dtype=torch.float32)[torch.arange(40) * order][:, None] * torch.ones(1, 2)
    memory = ChunkedMemory(patterns, 1.0, chunk=3)
    found = memory.mixture(torch.ones(2, 2))
    torch.testing.assert_close(found.mean, torch.full((2, 2), 4000.0))
    assert bool(torch.isfinite(found.log_sum).all())


class Disk:
    """A provider of one's own: it counts what it hands out, and makes it on the way."""

    def __init__(self, source: Tensor) -> None:
        self.source, self.largest = source, 0

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.source.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        part = self.source[rows].numpy().astype(np.float16)
        self.largest = max(self.largest, len(part))
        return part


def test_patterns_come_from_anything_that_can_be_cut(tmp_path: Path):
    patterns, q = normal(2, 50, 4).half().double(), normal(3, 3, 4)
    wanted = ebm.infer(SoftmaxMemory(patterns, 2.0), q, steps=3, stop=ebm.AtRest(0.0)).z
    on_disk = np.memmap(tmp_path / "patterns", np.float64, "w+", shape=(50, 4))
    on_disk[:] = patterns.numpy()
    on_disk.flush()
    read_only = np.memmap(tmp_path / "patterns", np.float64, "r", shape=(50, 4))
    provider = Disk(patterns)
    for source in (patterns, patterns.float(), on_disk, read_only, provider):
        found = ebm.infer(ChunkedMemory(source, 2.0, chunk=8), q, steps=3, stop=ebm.AtRest(0.0)).z
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    assert provider.largest == 8


def test_a_confirming_pass_is_spared_and_a_mixture_is_certified():
    patterns = torch.nn.functional.normalize(normal(4, 60, 16), dim=1)
    memory = ChunkedMemory(patterns, 40.0, chunk=16)
    found = ebm.infer(memory, patterns[:5] + 0.02 * normal(5, 5, 16))
    assert bool(found.converged.all()) and torch.equal(found.evals, found.steps) and int(found.steps.max()) <= 3
    assert bool((memory.residual(memory.point(found.z, None), None) <= 1e-5).all())


@pytest.mark.parametrize("beta", [0.3, 4.0])
def test_the_chunked_bound_is_never_below_the_next_move(beta: float):
    memory, z = ChunkedMemory(normal(6, 40, 5), beta, chunk=9), normal(7, 30, 5)
    for _ in range(5):
        point = memory.point(z, None)
        z = z + point.force
        assert bool((memory.point(z, None).force.square().mean(1).sqrt() <= point.bound).all())


def test_gradients_through_chunks():
    patterns, q = normal(8, 11, 4), normal(9, 3, 4).requires_grad_()
    memory = ChunkedMemory(patterns, 1.0, chunk=4)
    z = ebm.infer(memory, q, steps=2, adjoint=ebm.Unroll(), stop=ebm.AtRest(0.0)).z
    (found,) = torch.autograd.grad(z.square().sum(), q)
    state = q
    for _ in range(2):
        state = (state @ patterns.T).softmax(1) @ patterns
    (wanted,) = torch.autograd.grad(state.square().sum(), q)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


MILLION = """
import resource, sys
import numpy as np, torch, ebm
from hebbian.memory import ChunkedMemory

size, width, path = 1_000_000, 128, sys.argv[1]
patterns = np.memmap(path, np.float32, "w+", shape=(size, width))
draws = torch.Generator().manual_seed(0)
for first in range(0, size, 50_000):
    patterns[first : first + 50_000] = torch.nn.functional.normalize(torch.randn(50_000, width, generator=draws), dim=1).numpy()
wanted = torch.randint(size, (16,), generator=draws)
query = torch.tensor(patterns[wanted.numpy()]) + 0.03 * torch.randn(16, width, generator=draws)
found = ebm.infer(ChunkedMemory(patterns, 60.0, largest=1.0001), query)
assert bool(found.converged.all()), found.status
assert float((found.z - torch.tensor(patterns[wanted.numpy()])).abs().max()) < 1e-3
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_million_patterns_of_128_take_less_than_four_gigabytes(tmp_path: Path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MILLION, str(tmp_path / "patterns")], cwd=root, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    assert int(done.stdout) / 1024**2 < 4.0  # kibibytes


def test_the_exact_index_finds_the_largest_products():
    patterns, q = normal(10, 33, 5), normal(11, 4, 5)
    scores, ids = ExactIndex(patterns, chunk=10).search(q, 6)
    best = (q @ patterns.T).topk(6, 1)
    assert torch.equal(ids, best.indices)
    torch.testing.assert_close(scores, best.values)
    scores, ids = ExactIndex(patterns[:3]).search(q, 5)
    assert bool((ids[:, 3:] == -1).all()) and bool((ids[:, :3] >= 0).all())


@pytest.mark.parametrize("search", ["each", "once"])
def test_a_shortlist_of_all_is_exact(search: str):
    patterns, q = normal(12, 20, 5), normal(13, 6, 5)
    memory = ShortlistMemory(patterns, ExactIndex(patterns), 20, 1.5, search=search)
    wanted = ebm.infer(SoftmaxMemory(patterns, 1.5), q, steps=4, stop=ebm.AtRest(0.0)).z
    found = ebm.infer(memory, q, steps=4, stop=ebm.AtRest(0.0)).z
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)
    assert float(memory.neglected(q).max()) == 0


@pytest.mark.parametrize("k", [2, 5, 12])
def test_what_a_shortlist_neglects_is_bounded(k: int):
    patterns, q = normal(14, 40, 5), normal(15, 9, 5)
    memory = ShortlistMemory(patterns, ExactIndex(patterns), k, 1.0)
    weight = (q @ patterns.T).softmax(1)
    lost = 1 - weight.topk(k, 1).values.sum(1)
    bound = memory.neglected(q)
    assert bool((lost <= bound + 1e-12).all()) and bool((bound <= 1).all())
    short = memory(q, {"found": None})
    largest = patterns.norm(dim=1).max()
    assert bool(((short - weight @ patterns).norm(dim=1) <= 2 * bound * largest).all())


def test_an_index_is_asked_once_or_at_each_update_and_may_find_fewer():
    class Counting(ExactIndex):
        calls = 0

        def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
            self.calls += 1
            scores, ids = super().search(queries, k)
            return scores, torch.where(torch.arange(k) == k - 1, -1, ids)

    patterns, q = normal(16, 20, 5), normal(17, 4, 5)
    found = {}
    for search in ("each", "once"):
        index = Counting(patterns)
        memory = ShortlistMemory(patterns.numpy(), index, 4, 1.0, search=search)
        memory(q, memory.condition(q))
        index.calls = 0
        ebm.infer(memory, q, steps=3, stop=ebm.AtRest(0.0))
        found[search] = index.calls
        near = (q @ patterns.T).topk(3, 1)
        wanted = (near.values.softmax(1)[:, :, None] * patterns[near.indices]).sum(1)
        torch.testing.assert_close(memory(q, memory.condition(q)), wanted, rtol=1e-10, atol=1e-11)
    assert found["once"] <= 2 and found["each"] >= 3


def test_an_index_that_finds_nothing_is_an_error():
    class Empty:
        def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
            return queries[:, :k], torch.full((len(queries), k), -1)

    memory = ShortlistMemory(normal(18, 20, 5), Empty(), 4, 1.0)
    with pytest.raises(ValueError, match="The index finds no pattern for sample 0"):
        ebm.infer(memory, normal(19, 3, 5), steps=1)


class FakeIndex:
    """What `FaissIndex` uses of a faiss index: add, train, search, is_trained, nprobe; float32 arrays only."""

    nprobe = 1

    def __init__(self, width: int, trained: bool) -> None:
        self.held, self.is_trained = np.zeros((0, width), np.float32), trained

    def train(self, part: np.ndarray) -> None:
        self.is_trained = True

    def add(self, part: np.ndarray) -> None:
        assert self.is_trained and part.dtype == np.float32 and part.flags.c_contiguous
        self.held = np.concatenate([self.held, part])

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert queries.dtype == np.float32 and queries.flags.c_contiguous
        scores = queries @ self.held.T
        ids = np.argsort(-scores, 1)[:, :k]
        return np.take_along_axis(scores, ids, 1), ids


def test_faiss_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def factory(width: int, words: str, metric: str) -> FakeIndex:
        asked.append((width, words, metric))
        return FakeIndex(width, trained=words != "IVF4,Flat")

    fake = types.SimpleNamespace(index_factory=factory, METRIC_INNER_PRODUCT="products")
    monkeypatch.setitem(sys.modules, "faiss", fake)
    patterns, q = normal(20, 30, 5), normal(21, 4, 5)
    index = FaissIndex.build(patterns, "IVF4,Flat", nprobe=3, chunk=7)
    assert asked == [(5, "IVF4,Flat", "products")] and index.index.nprobe == 3
    for found, wanted in zip(index.search(q, 6), ExactIndex(patterns).search(q, 6), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    exact = ebm.infer(ShortlistMemory(patterns, ExactIndex(patterns), 6, 1.0), q, steps=2)
    torch.testing.assert_close(ebm.infer(ShortlistMemory(patterns, index, 6, 1.0), q, steps=2).z, exact.z)


def test_without_faiss_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'equilibrate[index]'")):
        FaissIndex.build(normal(0, 3, 2))


def at_scale() -> dict[str, Case]:
    patterns, q = normal(22, 12, 4), normal(23, 5, 4)
    return {
        "chunked": Case(ChunkedMemory(patterns, 2.0, chunk=5), q, solver=ebm.Picard()),
        "shortlist": Case(ShortlistMemory(patterns, ExactIndex(patterns), 4, 1.0), q, solver=ebm.Picard()),
        "asked once": Case(
            ShortlistMemory(patterns, ExactIndex(patterns), 4, 1.0, search="once"), q, solver=ebm.Picard()
        ),
    }


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("which", at_scale())
def test_the_promises_at_scale(promise: str, which: str):
    PROMISES[promise](at_scale()[which])


@pytest.mark.parametrize("which", at_scale())
def test_they_are_objectives(which: str):
    check_objective(at_scale()[which].model, at_scale()[which].x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ChunkedMemory(torch.ones(3)), "wants something of shape (N, D) that can be cut"),
        (lambda: ChunkedMemory(torch.eye(3), 0.0), "`ChunkedMemory(beta=...)` must be above zero and finite; got 0.0."),
        (lambda: ChunkedMemory(torch.eye(3), chunk=0), "`ChunkedMemory(chunk=...)` must be at least 1; got 0."),
        (lambda: ShortlistMemory(torch.eye(3), ExactIndex(torch.eye(3)), 0), "must be at least 1; got 0. Try 64."),
        (lambda: ShortlistMemory(torch.eye(3), ExactIndex(torch.eye(3)), 1, -1.0), "must be above zero and finite"),
        (
            lambda: ShortlistMemory(torch.eye(3), ExactIndex(torch.eye(3)), 1, search="x"),
            'is "each" or "once"; got \'x\'',
        ),
    ],
)
def test_wrong_settings_are_refused(call, words: str):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
