"""Anderson's mixing: its inner products, its rhythm, and what it spares."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm.engine.field import CountedField
from tests.energies import Quadratic, Tanh, numbers

X = numbers(6, 3, seed=9)


class Linear(ebm.Update):
    """z' = A z + x, of norm 0.95; or symmetric, with eigenvalues to 0.97 on both sides."""

    def __init__(self, size: int = 12, symmetric: bool = False) -> None:
        super().__init__()
        matrix = numbers(size, size, seed=3)
        basis, values = torch.linalg.qr(matrix).Q, torch.linspace(-0.97, 0.97, size, dtype=torch.float64)
        slow, plain = (basis * values) @ basis.T, 0.95 * matrix / torch.linalg.matrix_norm(matrix, 2)
        self.matrix = torch.nn.Parameter(slow if symmetric else plain)

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return z @ self.matrix.T + c


def history(solver: ebm.Solver, model: ebm.Update, x: Tensor, steps: int) -> tuple[list[ebm.Point], list[Any]]:
    """Points and memories of a bare loop."""
    field = CountedField(model, x, len(x))
    with torch.no_grad():
        point = field(torch.zeros_like(x))
        points, memories, draw = [point], [solver.init(point)], None
        for _ in range(steps):
            step = solver.step(field, points[-1], memories[-1], draw)  # type: ignore[arg-type]
            points.append(step.point)
            memories.append(step.memory)
    return points, memories


@pytest.mark.parametrize(
    "solver",
    [
        *(ebm.Anderson(4, every=every, spare=0.0) for every in (1, 2, 3, 7)),
        ebm.Anderson(4, every=2, spare=0.75),
        ebm.Anderson(4, every=1, spare=0.8),
    ],
    ids=repr,
)
def test_products_carried_along_are_those_of_the_forces(solver: ebm.Anderson):
    x = numbers(5, 12, seed=4)
    points, memories = history(solver, Linear(symmetric=True), x, 3 * solver.every + 9)
    looked = 0
    for step, memory in enumerate(memories[1:], 1):
        mixed = (memory["plain"] == 0) & (memory["filled"] > 1)
        for row in mixed.nonzero().flatten().tolist():
            known = min(int(memory["filled"][row]) - 1, 3)
            forces = torch.stack([p.force[row] for p in points[max(0, step - known) : step]])
            torch.testing.assert_close(
                memory["gram"][row, 3 - known :, 3 - known :], forces @ forces.T, rtol=1e-12, atol=1e-14
            )
            looked += known > 1
    assert looked


def test_a_full_window_combines_the_forces_as_gmres_does():
    model, x, steps = Linear(), numbers(1, 12, seed=4), 6
    solver = ebm.Anderson(steps + 2, ridge=0.0, safeguard=None, every=1, spare=0.0)
    points, _ = history(solver, model, x, steps)
    forces = torch.stack([p.force[0] for p in points])
    gram = forces @ forces.T
    raw = torch.linalg.solve(gram, torch.ones(len(gram), dtype=gram.dtype))
    combined = (raw / raw.sum()) @ forces
    # GMRES: the smallest residual b - (1 - A) z over the Krylov space of b
    system = torch.eye(12, dtype=x.dtype) - model.matrix.detach()
    krylov = torch.stack([torch.linalg.matrix_power(system, k) @ x[0] for k in range(steps)], 1)
    image = system @ torch.linalg.qr(krylov).Q
    best = x[0] - image @ torch.linalg.lstsq(image, x[0]).solution
    torch.testing.assert_close(combined.norm(), best.norm(), rtol=1e-6, atol=0)


def test_every_third_step_mixes():
    solver = ebm.Anderson(4, every=3, spare=0.0)
    points, _ = history(solver, Linear(), numbers(5, 12, seed=4), 9)
    plain = [torch.equal(after.z, before.z + before.force) for before, after in pairwise(points)]
    assert plain == [True, True, False] * 3


def test_a_map_that_contracts_well_is_not_mixed():
    model, x = Tanh(3, gain=0.3), X
    spared = ebm.infer(model, x, steps=12, solver=ebm.Anderson(4, every=2, spare=0.6), keep="last")
    plain = ebm.infer(model, x, steps=12, solver=ebm.Picard(), keep="last")
    assert torch.equal(spared.z, plain.z)
    mixed = ebm.infer(model, x, steps=12, solver=ebm.Anderson(4, every=2, spare=0.0), keep="last")
    assert not torch.equal(mixed.z, plain.z)


@pytest.mark.parametrize("solver", [ebm.Anderson(), ebm.Anderson(5, every=4, spare=0.0)], ids=repr)
def test_a_slow_map_takes_fewer_evaluations_than_plain_iteration(solver: ebm.Solver):
    model, x = Linear(symmetric=True), numbers(5, 12, seed=4)
    goal: Any = {"steps": 2000, "stop": ebm.AtRest(1e-9)}
    found = ebm.infer(model, x, solver=solver, **goal)
    assert found.converged.all()
    eye = torch.eye(12, dtype=x.dtype)
    torch.testing.assert_close(found.z, torch.linalg.solve(eye - model.matrix, x.T).T.detach(), rtol=0, atol=1e-6)
    assert 2 * found.evals.sum() < ebm.infer(model, x, solver=ebm.Picard(), **goal).evals.sum()


@pytest.mark.parametrize("solver", [ebm.Anderson(), ebm.Anderson(4, every=1, spare=0.0)], ids=repr)
def test_alone_as_in_company(solver: ebm.Solver):
    model, x = Tanh(3, gain=0.95), X * torch.tensor([0.01, 0.1, 0.5, 1.0, 3.0, 9.0])[:, None]
    options: Any = {"steps": 80, "solver": solver, "stop": ebm.AtRest(1e-10), "compact": True}
    together = ebm.infer(model, x, **options)
    alone = ebm.cat([ebm.infer(model, row, **options) for row in x.split(1)])
    assert together.steps.tolist() == alone.steps.tolist()
    torch.testing.assert_close(together.z, alone.z, rtol=1e-8, atol=1e-12)


def test_a_rejected_step_begins_anew():
    model = Quadratic(high=1.9)
    solver = ebm.Anderson(4, mixing=1.0, growth=0.2, every=1, spare=0.0)
    field = CountedField(model, X @ model.weight.detach(), len(X))
    with torch.no_grad():
        point = field(numbers(6, 4, seed=5) * 3)
        memory, rejected = solver.init(point), 0
        for _ in range(60):
            step = solver.step(field, point, memory, None)  # type: ignore[arg-type]
            turned_down = ~step.info.accepted
            rejected += int(turned_down.sum())
            assert bool((step.memory["filled"][turned_down] == 1).all())
            assert torch.equal(step.point.z[turned_down], point.z[turned_down])
            point, memory = step.point, step.memory
    assert rejected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, r"`Anderson\(every=...\)` must be at least 1; got 0"),
        ({"spare": 1.0}, r"`Anderson\(spare=...\)` must lie in \[0, 1\); got 1.0"),
        ({"window": 1}, r"`Anderson\(window=...\)` must be at least 2; got 1"),
        ({"ridge": -1.0}, r"`Anderson\(ridge=...\)` may not be negative; got -1.0"),
    ],
)
def test_settings_outside_their_range(settings: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        ebm.Anderson(**settings)
