"""A ladder answers for each sample as its own landscape would, and asks no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ebm
from ebm import rows
from ebm.testing.case import evaluations
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, numbers

X = numbers(6, 3, seed=9)
RUNG = torch.tensor([0.0, 2.0, 1.0, 2.0, 0.0, 0.0], dtype=torch.float64)


class Bowl(ebm.Levelled):
    """E_k = (1 + k) |z - c|^2 / 2."""

    rungs = 3

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return torch.zeros_like(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor, rung: torch.Tensor) -> torch.Tensor:
        return 0.5 * (1 + rung) * (z - c).square().sum(1)


class Score(ebm.Levelled):
    """The score of a normal density of a width a level, without an energy."""

    rungs = 2
    has_energy = False

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return draw.normal(c)

    def point(self, z: torch.Tensor, c: torch.Tensor, rung: torch.Tensor) -> ebm.Point:
        return ebm.Point(z, None, (c - z) * (1.0 + 3 * rung)[:, None])


@pytest.mark.parametrize("make", [Quadratic, lambda seed: Tree(3, seed=seed)], ids=["plain", "tree"])
def test_each_sample_is_evaluated_in_its_own_landscape(make: Any):
    models = [make(seed=k) for k in range(3)]
    ladder = ebm.Ladder(models)
    c = ladder.condition(X)
    draw = ebm.Draw(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    z = models[0].init_latent(models[0].condition(X), draw)
    z = rows.map_rows(lambda leaf: leaf + 0.3, z)
    with torch.no_grad():
        point = ladder.point(ebm.OnRung(z, RUNG), c)
        energies = ladder(ebm.OnRung(z, RUNG), c)
    torch.testing.assert_close(energies, point.energy)
    for row, rung in enumerate(RUNG.int().tolist()):
        index = torch.tensor([row])
        with torch.no_grad():
            alone = models[rung].point(rows.take(z, index), models[rung].condition(X[index]))
        torch.testing.assert_close(point.energy[index], alone.energy)
        torch.testing.assert_close(rows.flatten(rows.take(point.force.z, index)), rows.flatten(alone.force))
    assert (point.force.rung == 0).all() and torch.equal(point.z.rung, RUNG)


def test_no_other_landscape_is_asked():
    models = [Quadratic(seed=k) for k in range(3)]
    ladder = ebm.Ladder(models)
    c = ladder.condition(X)
    with evaluations(models[0]) as first, evaluations(models[1]) as second, evaluations(models[2]) as third:
        ladder.point(ebm.OnRung(torch.zeros(6, 4, dtype=torch.float64), RUNG), c)
    assert (first, second, third) == ([3], [1], [2])


def test_one_object_on_several_rungs_is_asked_once():
    model = Quadratic()
    ladder = ebm.Ladder([model] * 3)
    assert len(list(ladder.parameters())) == 2 and len(ladder.condition(X)) == 1
    with evaluations(model) as sizes:
        ladder.point(ebm.OnRung(torch.zeros(6, 4, dtype=torch.float64), RUNG), ladder.condition(X))
    assert sizes == [6]


def test_a_levelled_network_is_told_the_level():
    ladder = ebm.Ladder(Bowl())
    point = ladder.point(ebm.OnRung(torch.zeros_like(X), RUNG), X)
    torch.testing.assert_close(point.energy, 0.5 * (1 + RUNG) * X.square().sum(1))
    torch.testing.assert_close(point.force.z, (1 + RUNG)[:, None] * X)
    bad = Bowl()
    bad.forward = lambda z, c, rung: z - c  # type: ignore[method-assign]
    ladder = ebm.Ladder(bad)
    with pytest.raises(ValueError, match="one energy a sample, shape \\(6,\\); got \\(6, 3\\)"):
        ladder.point(ebm.OnRung(torch.zeros_like(X), RUNG), X)


def test_answer_and_residual():
    last = ClosedQuadratic(seed=4)
    ladder = ebm.Ladder([Quadratic(), last])
    found = ebm.infer(ladder, X, steps=3, solver=ebm.Annealed(ebm.Descent(0.3), steps=(1, 9)))
    torch.testing.assert_close(found.answer, last.readout(found.z.z, None).detach())
    c = last.condition(X)
    torch.testing.assert_close(found.residual, rows.rms(last.point(found.z.z, c).force).detach())
    assert found.z.rung.tolist() == [1.0] * 6


def test_a_start_is_a_latent_or_a_latent_on_a_rung():
    ladder, solver = ebm.Ladder([Quadratic(seed=k) for k in range(3)]), ebm.Annealed(ebm.Descent(0.3), 2, rungs=3)
    plain = torch.ones(6, 4, dtype=torch.float64)
    found = ebm.infer(ladder, X, steps=0, solver=solver, start=plain)
    assert torch.equal(found.z.z, plain) and (found.z.rung == 0).all()
    for start, other in (
        (plain[:, :3], solver),
        (plain, ebm.Descent(0.3)),
    ):  # another shape; a solver that puts nothing on a rung
        with pytest.raises(ValueError, match=r"`Ladder.init_latent` gives a OnRung of a tensor of shape \(6, 4\)"):
            ebm.infer(ladder, X, steps=1, solver=other, start=start)
    found = ebm.infer(ladder, X, steps=99, solver=solver, start=ebm.OnRung(plain, RUNG))
    assert found.steps.tolist() == [6, 2, 4, 2, 6, 6], "two steps for each rung that is left"


def test_a_score_needs_no_energy():
    ladder = ebm.Ladder(Score())
    solver = ebm.Annealed(tuple(ebm.Langevin(0.1, 1e-12) for _ in range(2)), steps=60)
    found = ebm.infer(ladder, X, steps=200, solver=solver)
    torch.testing.assert_close(found.answer, X, rtol=1e-3, atol=1e-3)
    assert found.energy is None and (found.status == ebm.Status.STALLED).all()
    with pytest.raises(ValueError, match="needs energy"):
        ebm.infer(ladder, X, steps=2, solver=ebm.Annealed(ebm.AdaptiveDescent(), rungs=2))


def test_the_default_needs_no_step_size():
    models = [Quadratic(low=0.5, high=20.0, seed=k) for k in range(3)]
    found = ebm.infer(ebm.Ladder(models), X, steps=99)
    assert (found.steps <= 60).all() and (found.status == ebm.Status.STALLED).all()
    with torch.no_grad():
        lowest = models[2](models[2].settled(X), models[2].condition(X))
        start = models[2](torch.zeros_like(found.z.z), models[2].condition(X))
    assert ((found.energy - lowest) < 0.3 * (start - lowest)).all()


def test_a_ladder_travels_through_a_file(tmp_path: Path):
    ladder = ebm.Ladder([Quadratic(seed=k) for k in range(3)])
    part = ebm.infer(ladder, X, steps=7)
    part.save(tmp_path / "part.pt")
    loaded = ebm.Solution.load(tmp_path / "part.pt")
    assert isinstance(loaded.z, ebm.OnRung)
    one, other = (ebm.infer(ladder, X, steps=9, resume=begun) for begun in (part, loaded))
    assert torch.equal(one.z.z, other.z.z) and torch.equal(one.z.rung, other.z.rung)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ebm.Ladder([]), ValueError, "at least one landscape; got 0"),
        (lambda: ebm.Ladder(ebm.Levelled()), ValueError, "set `rungs` on Levelled"),
        (lambda: ebm.Ladder([Quadratic(), Tanh()]), TypeError, "takes energies, or one `Levelled` module; got Tanh"),
        (lambda: ebm.Ladder([ebm.Hopfield.store(torch.ones(1, 3))]), ValueError, "that of Hopfield is another"),
    ],
)
def test_refusals(make: Any, error: type[Exception], words: str):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_refusals_of_a_call():
    ladder = ebm.Ladder([Quadratic(), Quadratic(seed=1)])
    with pytest.raises(ValueError, match="needs 3 levels; Ladder provides 2 levels, energy, levels"):
        ebm.infer(ladder, X, steps=1, solver=ebm.Annealed(ebm.Descent(0.1), rungs=3))
    with pytest.raises(ValueError, match="needs gradient"):
        ebm.infer(ladder, X, steps=1, solver=ebm.Langevin())
    with pytest.raises(ValueError, match="needs 1 levels, levels; Quadratic provides energy, gradient"):
        ebm.infer(Quadratic(), X, steps=1, solver=ebm.Annealed(ebm.Descent(0.1), rungs=1))
    with pytest.raises(ValueError, match="from rung to rung"):
        ebm.infer(ladder, X, steps=1, compile=True)
    with pytest.raises(NotImplementedError, match="does not say where settling starts"):
        ebm.Levelled().init_latent(X, None)
