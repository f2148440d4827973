"""The exact solver of sparse codes comes to the minimum, and no step of it rises: at any weight, with twin atoms, and with more atoms than numbers.

The oracle is the dual energy in extended precision, which no code can be below, wherever its dual point comes from.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import ebm
from ebm import Status
from ebm.objective import Point
from ebm.solvers import base
from hebbian.sparse import ActiveSet, CoordinateDescent, DualityGap, SparseCoding, silent
from hebbian.sparse.descent import descend
from tests.energies import numbers

NEVER = ebm.Patience(DualityGap(0.0), 10**6)
LONG = np.longdouble
KINDS = ("plain", "twins", "copies", "negatives", "convolved", "zero atoms")


class Problem(NamedTuple):
    """A dictionary (K, N), signals (B, N), a weight, and whether numbers may be negative."""

    atoms: Tensor
    x: Tensor
    weight: float
    signed: bool

    def model(self, dtype: torch.dtype = torch.float64) -> SparseCoding:
        term = ebm.L1(self.weight) if self.signed else ebm.NonNegative(self.weight)
        return SparseCoding(self.atoms.to(dtype), term)


def problem(seed: int) -> Problem:
    """A small problem of a random kind and size, with a weight between 1e-6 and 1 of the largest useful one; the last signal is zero."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    size, kind = 2 + pick(7), KINDS[seed % len(KINDS)]
    atoms = drawn(max(2, int(size * (0.5, 1, 2, 4)[pick(4)])), size)
    if kind == "convolved":
        places = torch.eye(size, dtype=torch.float64)[:, None]
        atoms = torch.conv1d(places, drawn(2, 1, 3), padding=2).permute(1, 2, 0).reshape(-1, size)
    half = len(atoms) // 2
    if kind == "twins":
        atoms[half : 2 * half] = atoms[:half] + 1e-5 * drawn(half, size)
    elif kind == "copies":
        atoms[half : 2 * half] = atoms[:half]
    elif kind == "negatives":
        atoms[half : 2 * half] = -atoms[:half] + 1e-5 * pick(2) * drawn(half, size)
    elif kind == "zero atoms":
        atoms[0] = 0
    x = drawn(3, size)
    if pick(2):
        x = drawn(3, 2) @ atoms[[pick(len(atoms)), pick(len(atoms))]]
    x[2] = 0
    signed = bool(pick(2))
    force = x @ atoms.T
    largest = float(force.abs().max() if signed else force.max().clamp_min(0)) or 1.0
    return Problem(atoms, x, largest * 10 ** (-6 * float(torch.rand(1, generator=generator))), signed)


def long(tensor: Tensor) -> Any:
    return np.asarray(tensor.double().numpy(), dtype=LONG)


def energies(task: Problem, z: Tensor) -> Any:
    missed, code = long(task.x) - long(z) @ long(task.atoms), long(z)
    return (missed**2).sum(1) / 2 + LONG(task.weight) * np.abs(code).sum(1)


def least(task: Problem, z: Tensor) -> Any:
    """What no code's energy is below, (B,): the dual energy of the code made exact on its own face by refinement."""
    atoms, weight, found = long(task.atoms), LONG(task.weight), []
    for x, code in zip(long(task.x), long(z), strict=True):
        face, code = np.nonzero(code)[0], code.copy()
        gram, sign = (atoms[face] @ atoms[face].T).astype(float), np.sign(code[face])
        for _ in range(6 if len(face) else 0):
            steep = atoms[face] @ (x - code @ atoms) - weight * sign
            code[face] += np.linalg.lstsq(gram, steep.astype(float), rcond=1e-15)[0]
        missed = x - code @ atoms
        force = atoms @ missed
        worst = max((np.abs(force) if task.signed else force).max(), LONG(0))
        dual = missed * min(LONG(1), weight / worst if worst > 0 else LONG(1))
        found.append((x @ x - (x - dual) @ (x - dual)) / 2)
    return np.array(found)


def excess(task: Problem, z: Tensor) -> float:
    """By how much the worst energy is above the least, as a share of it."""
    energy = energies(task, z)
    return float(((energy - least(task, z)) / np.maximum(energy, 1e-300)).max())


def walked(task: Problem, steps: int, solver: ebm.Solver | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """Where a call is after each step; checks on the way that no energy rises but by rounding."""
    items = ebm.stream(task.model(dtype), task.x.to(dtype), steps=steps, solver=solver, stop=NEVER, keep="last")
    codes = [item.z for item in items]
    energy = np.stack([energies(task, z) for z in codes])
    rise = (energy[1:] - energy[:-1]) / np.maximum(energy[:-1], 1e-300)
    assert rise.max() <= 16 * torch.finfo(dtype).eps, task
    return codes[-1]


def judged(seed: int) -> None:
    """Nothing rises, also past rest; the minimum is reached; and the gap of the default rule is honest.

    Codes of twins may be so long that the rounding of the force is more than a gap of 1e-9: those stall there.
    """
    task = problem(seed)
    walked(task, 10)
    found = ebm.infer(task.model(), task.x, steps=60, stop=DualityGap(1e-9))
    assert ended(found) and excess(task, found.z) < 1e-9, seed
    if seed % 3 == 0:
        found = ebm.infer(task.model(), task.x, steps=60)
        assert ended(found) and excess(task, found.z) < 1.01e-6, seed


def ended(found: ebm.Solution) -> bool:
    return bool(((found.status == Status.CONVERGED) | (found.status == Status.STALLED)).all())


@pytest.mark.parametrize("part", range(3))
def test_the_energy_comes_to_its_minimum_and_never_rises(part: int):
    for seed in range(1000 + 12 * part, 1000 + 12 * (part + 1)):
        judged(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_the_energy_comes_to_its_minimum_on_two_hundred_problems(part: int):
    for seed in range(100 * part, 100 * (part + 1)):
        judged(seed)


def test_every_pattern_of_signs_is_worse():
    """Enumeration: the best of all 3^5 faces, each solved in closed form, with twins and with more atoms than numbers."""
    for seed in (3, 4):
        atoms = numbers(5, 3, seed=seed)
        atoms[4] = atoms[1] + 1e-3 * numbers(3, seed=seed + 10)
        x = numbers(1, 3, seed=seed + 20)
        for weight in (1e-3, 0.1):
            best = float(x.square().sum()) / 2
            for signs in product((-1.0, 0.0, 1.0), repeat=5):
                face = [atom for atom in range(5) if signs[atom]]
                if not 0 < len(face) <= 3:  # there is a minimum with no more atoms than numbers
                    continue
                sign = torch.tensor(signs, dtype=torch.float64)[face]
                code = torch.linalg.solve(atoms[face] @ atoms[face].T, atoms[face] @ x[0] - weight * sign)
                if (code * sign > 0).all():
                    missed = x[0] - code @ atoms[face]
                    best = min(best, float(missed @ missed) / 2 + weight * float(code.abs().sum()))
            found = ebm.infer(SparseCoding(atoms, ebm.L1(weight)), x, steps=50, stop=DualityGap(1e-9))
            assert float(found.energy) == pytest.approx(best, rel=1e-9)  # type: ignore[arg-type]


def test_a_wall_beyond_a_whole_newton_step_is_seen():
    atoms = torch.tensor([[0.9762, 0.2169], [0.8006, 0.5991], [0.9763, 0.2162], [0.5573, 0.8303]], dtype=torch.float64)
    task = Problem(atoms, torch.tensor([[0.6596, 0.2498]], dtype=torch.float64), 0.01, False)
    assert excess(task, walked(task, 3)) < 1e-9


@pytest.mark.parametrize("weight", [1e-1, 1e-3, 1e-6])
def test_an_atom_that_feels_nothing_at_the_minimum_does_not_hold_it_up(weight: float):
    """Orthogonal atoms are soft thresholds; the one between them feels a force of zero there."""
    atoms = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0]], dtype=torch.float64)
    x = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    found = ebm.infer(SparseCoding(atoms, ebm.L1(weight)), x)
    assert found.converged.all() and int(found.steps) <= 2
    wanted = torch.tensor([[2 - weight, 0, weight - 1]], dtype=torch.float64)
    torch.testing.assert_close(found.answer, wanted, rtol=0, atol=1e-9)


def test_waking_at_rest_alone_needs_few_steps():
    """Waking while the face is not at rest takes 134 steps here."""
    atoms = torch.nn.functional.normalize(numbers(64, 32, seed=1), dim=1)
    x = numbers(4, 32, seed=2)
    task = Problem(atoms, x, 0.01 * float((x @ atoms.T).abs().max()), True)
    found = ebm.infer(task.model(), x, steps=200, stop=DualityGap(1e-9))
    assert found.converged.all() and (found.steps < 25).all() and excess(task, found.z) < 1e-9


def test_in_single_precision_nothing_rises_and_samples_end():
    for seed in range(1000, 1012):
        task = problem(seed)
        task = task._replace(atoms=task.atoms.float().double(), x=task.x.float().double())
        assert excess_of(task, walked(task, 12, dtype=torch.float32)) < 1e-4, seed
        found = ebm.infer(task.model(torch.float32), task.x.float())
        assert ended(found) and (found.steps < 100).all()


def excess_of(task: Problem, z: Tensor) -> float:
    """`excess` of codes that are too coarse to tell which atoms are active: as a share of the least, found in double precision."""
    least_ = least(task, ebm.infer(task.model(), task.x, stop=DualityGap(1e-9)).z)
    energy = energies(task, z)
    return float(((energy - least_) / np.maximum(energy, 1e-300)).max())


@pytest.mark.parametrize("solver", [CoordinateDescent(), CoordinateDescent(1, active=False)], ids=["few", "all"])
def test_sweeps_do_not_raise_an_energy(solver: ebm.Solver):
    for seed in range(1000, 1012):
        walked(problem(seed), 8, solver)


def test_an_atom_that_is_ruled_out_loses_its_number_in_the_sweeps():
    task = Problem(torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.05]], dtype=torch.float64), 0.1, True)
    model, start = task.model(), torch.tensor([[0.9, 1e-3]], dtype=torch.float64)
    c = model.condition(task.x)
    assert silent(model.lasso(c), model.point(start, c)).tolist() == [[False, True]]
    found = ebm.infer(model, task.x, steps=1, solver=CoordinateDescent(), start=start, stop=NEVER)
    torch.testing.assert_close(found.z, torch.tensor([[0.9, 0.0]], dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_step_that_rises_or_is_no_number_is_turned_down():
    model, x = SparseCoding(torch.eye(2, dtype=torch.float64), ebm.L1(0.1)), torch.ones(4, 2, dtype=torch.float64)
    c = model.condition(x)
    old = model.point(torch.full((4, 2), 0.5, dtype=torch.float64), c)
    new = old.z.clone()
    new[0], new[1], new[3] = 0.6, 0.499, torch.nan
    end = descend(_At(model, c), new, old)
    assert end.good.tolist() == [True, False, True, False] and end.idle.tolist() == [False, True, True, True]
    assert torch.equal(end.point.z[1:], old.z[1:]) and float(end.point.z[0, 0]) == 0.6
    fine = model.point(end.point.z, c)
    assert end.point.energy is not None and fine.energy is not None and torch.equal(end.point.energy, fine.energy)


class _At(base.View):
    """The field of a model, as far as `descend` asks."""

    def __init__(self, model: SparseCoding, c: Any) -> None:
        self.model, self.c = model, c

    def __call__(self, z: Any) -> Point:
        return self.model.point(z, self.c)


def test_screening_has_no_room_to_spare():
    """Orthogonal atoms, closed form: what the first one leaves undone is all but all of the gap, and the second is active by a hair."""
    weight, far, height = 0.1, 3.0, 0.1 * 1.0001 / 3.0
    task = Problem(
        torch.tensor([[1.0, 0.0], [0.0, height]]).double(), torch.tensor([[1.0, far]]).double(), weight, True
    )
    model = task.model()
    active = height * far > weight
    for short in (0.3, 1e-2, 1e-3):
        z = torch.tensor([[1.0 - weight - short, 0.0]], dtype=torch.float64)
        c = model.condition(task.x)
        assert active and not silent(model.lasso(c), model.point(z, c)).any()


def slopes(task: Problem, steps: int, adjoint: Any, rows: list[int], goal: Tensor) -> tuple[Tensor, Tensor]:
    model, x = task.model(), task.x[rows].clone().requires_grad_()
    found = ebm.infer(model, x, steps=steps, stop=NEVER, adjoint=adjoint)
    (found.z * goal[rows]).sum().backward()
    assert x.grad is not None and model.dictionary.grad is not None
    return model.dictionary.grad, x.grad


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (12, 5)], ids=["few", "many"])
def test_gradients_at_rest_are_right_however_long_ago_it_was_reached(signed: bool, shape: tuple[int, int]):
    atoms = torch.nn.functional.normalize(numbers(*shape, seed=1), dim=1)
    x = torch.cat([numbers(2, shape[1], seed=2), torch.zeros(1, shape[1], dtype=torch.float64)])
    task = Problem(atoms, x, 0.05, signed)
    goal, along, beside = numbers(3, shape[0], seed=3), numbers(*shape, seed=4), numbers(3, shape[1], seed=5)

    def rise(rows: list[int], atoms_: Tensor, x_: Tensor) -> float:
        ends = [task._replace(atoms=atoms + h * atoms_, x=x + h * x_) for h in (1e-6, -1e-6)]
        codes = [ebm.infer(end.model(), end.x[rows], steps=20, stop=NEVER).z for end in ends]
        return float(((codes[0] - codes[1]) * goal[rows]).sum()) / 2e-6

    for rows in ([0, 1, 2], [1]):
        right = rise(rows, along, 0 * x), rise(rows, 0 * atoms, beside)
        for adjoint, steps in ((ebm.Unroll(), 6), (ebm.Unroll(), 50), (ebm.Truncated(1), 6), (ebm.Truncated(3), 50)):
            by_atoms, by_signal = slopes(task, steps, adjoint, rows, goal)
            found = float((by_atoms * along).sum()), float((by_signal * beside[rows]).sum())
            assert found == pytest.approx(right, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_gradients_stay_small_where_the_face_is_singular(steps: int):
    """Copies and more atoms than numbers: what the signal does not see has no gradient."""
    atoms = torch.nn.functional.normalize(numbers(12, 5, seed=1), dim=1)
    atoms[6:] = atoms[:6]
    task = Problem(atoms, numbers(4, 5, seed=2), 0.02, True)
    for slope in slopes(task, steps, ebm.Unroll(), [0, 1, 2, 3], numbers(4, 12, seed=3)):
        assert slope.isfinite().all() and slope.abs().max() < 1e4


def test_settings_are_not_needed_for_the_worst_of_faces():
    """All at once, one at a time, round by round: each comes to the same minimum."""
    for seed in (1001, 1003, 1010):
        task = problem(seed)
        for solver in (ActiveSet(1e-6), ActiveSet(1.0), ActiveSet(rounds=1), ActiveSet(rounds=1, sketch=0)):
            found = ebm.infer(task.model(), task.x, steps=400, solver=solver, stop=DualityGap(1e-9))
            assert excess(task, found.z) < 1e-9, (seed, solver)
