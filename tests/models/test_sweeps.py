"""A memory's own sweep is its conditionals, one unit after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ebm
from ebm.models.binary import BinaryMemory


def memories(count: int, units: int) -> list[BinaryMemory]:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(2, (count, units), generator=generator).double() * 2 - 1
    bias = 0.1 * torch.randn(units, generator=generator, dtype=torch.float64)
    return [
        ebm.Hopfield(ebm.Hopfield.store(patterns).weight, bias),
        ebm.Hopfield.store(patterns),
        ebm.DenseMemory(patterns, ebm.Polynomial(3)),
        ebm.DenseMemory(patterns, ebm.RectifiedPolynomial(2)),
        ebm.DenseMemory(patterns, ebm.Exponential()),
    ]


@pytest.mark.parametrize("units", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("which", range(5), ids=["biased", "hebb", "cubic", "rectified", "exponential"])
def test_a_sweep_is_the_units_in_order(which: int, units: int) -> None:
    memory = memories(12, units)[which]
    z = torch.randint(2, (9, units), generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    c = memory.condition(z)
    wanted: Tensor = z
    for unit in range(units):
        block = torch.full((9,), unit)
        wanted = wanted.scatter(1, block[:, None], memory.conditional(wanted, c, block)[:, None])
    assert torch.equal(memory.sweep(z, c), wanted)  # type: ignore[operator]
    assert units == 1 or not torch.equal(wanted, z)


def test_a_model_without_a_sweep_of_its_own_is_swept_by_conditionals() -> None:
    class Plain(ebm.Hopfield):
        provides = ebm.Hopfield.provides - {"sweep"}

    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(2, (6, 30), generator=generator).float() * 2 - 1
    query = torch.where(torch.rand(6, 30, generator=generator) < 0.2, -patterns, patterns)
    solver = ebm.Asynchronous("cyclic")
    fast, slow = (ebm.infer(kind.store(patterns), query, solver=solver, steps=4) for kind in (ebm.Hopfield, Plain))
    assert torch.equal(fast.z, slow.z)
    assert torch.equal(fast.steps, slow.steps)


@pytest.mark.parametrize("kind", [ebm.Hopfield.store, ebm.DenseMemory])
def test_a_clamped_sweep_leaves_what_is_held_and_is_the_units_in_order(kind) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(2, (6, 70), generator=generator).double() * 2 - 1
    query = torch.where(torch.rand(6, 70, generator=generator) < 0.3, -patterns, patterns)
    held = torch.rand(6, 70, generator=generator) < 0.5
    model = ebm.Clamped(kind(patterns))
    c = model.condition((query, held, query))
    wanted: Tensor = query
    for unit in range(70):
        block = torch.full((6,), unit)
        wanted = wanted.scatter(1, block[:, None], model.conditional(wanted, c, block)[:, None])
    found = model.sweep(query, c)
    assert torch.equal(found, wanted)
    assert torch.equal(found[held], query[held])
    assert not torch.equal(found, query)
