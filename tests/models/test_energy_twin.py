"""The energy twin: zero where the cell rests, and the force that finite differences give."""

from __future__ import annotations

import torch
from torch import nn

import ebm
from tests.contracts.members import seeded
from tests.energies import numbers


def twin() -> ebm.EnergyTwin:
    return seeded(lambda: ebm.EnergyTwin(ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1)))


def test_the_force_is_minus_the_slope_of_the_energy() -> None:
    model, x = twin(), numbers(2, 1, 5)
    c, z = model.condition(x), 0.5 * numbers(2, 3, 5, seed=4)
    force, small = model.point(z, c).force, 1e-6
    for place in [(0, 0, 0), (0, 2, 4), (1, 1, 2)]:
        step = torch.zeros_like(z)
        step[place] = small
        slope = (model(z + step, c) - model(z - step, c)).sum() / (2 * small)
        assert torch.allclose(force[place], -slope, atol=1e-8)


def test_the_twin_is_at_zero_where_the_cell_rests() -> None:
    model, x = twin(), numbers(4, 1, 5)
    rest = ebm.infer(model.cell, x, steps=400, stop=ebm.AtRest(1e-12))
    assert bool(rest.converged.all())
    with torch.no_grad():
        point = model.point(rest.z, model.condition(x))
    assert float(point.energy.max()) < 1e-20 and float(point.force.abs().max()) < 1e-10


def test_where_nothing_is_heard_the_steps_are_the_cells() -> None:
    model, x = twin(), numbers(4, 1, 5)
    with torch.no_grad():
        model.cell.cell.weight.zero_()  # no unit changes another's gate or target
    ours, its = (ebm.infer(each, x, steps=7, keep="last").z for each in (model, model.cell))
    assert torch.allclose(ours, its, atol=1e-12)


def test_cell_and_twin_have_the_same_parameters() -> None:
    model = twin()
    assert [p.shape for p in model.parameters()] == [p.shape for p in model.cell.parameters()]
