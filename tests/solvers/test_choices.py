"""What is shown of several replicas: against sorting, counting and comparing by hand, and runs of the single starts."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from tests.energies import Wells, coupling_slope, numbers

X = numbers(5, 3, seed=9)
ALIVE = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.7
ALIVE[0], ALIVE[1] = True, torch.tensor([False, True, False, False, False])


def points(z: Any, energy: Tensor | None = None, force: Any = None) -> Point:
    return Point(z, energy, z if force is None else force)


def by_hand(cost: list[list[float]], alive: Tensor) -> list[list[int]]:
    """Replicas in the race from the best to the worst, of equal ones the lower number first."""
    return [
        sorted((i for i, lives in enumerate(living) if lives), key=lambda i, own=own: (own[i], i))
        for own, living in zip(cost, alive.tolist(), strict=True)
    ]


def racing(choice: Any, found: Point, alive: Tensor) -> list[list[int]]:
    order = choice.order(found, alive)
    assert order.sort(1).values.tolist() == [list(range(alive.shape[1]))] * len(alive), "every number once"
    return [row[:racers] for row, racers in zip(order.tolist(), alive.sum(1).tolist(), strict=True)]


def test_energies_and_residuals_are_those_sorted_by_hand():
    energy, force = numbers(30, seed=1), numbers(30, 4, seed=2)
    energy[[3, 4]] = energy[2].clone()
    size = force.square().mean(1).sqrt()
    height, rest = energy.view(6, 5).tolist(), size.view(6, 5).tolist()
    valley = points(force, energy, force)
    assert racing(ebm.LowestEnergy(), valley, ALIVE) == by_hand(height, ALIVE)
    assert racing(ebm.LowestResidual(), valley, ALIVE) == by_hand(rest, ALIVE)
    update = points(force, None, force)
    assert racing(ebm.LowestEnergy(), update, ALIVE) == by_hand(rest, ALIVE)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_medoid_is_the_oracle_of_pairs(dtype: torch.dtype):
    z = Pair(numbers(30, 2, 2, seed=3).to(dtype), numbers(30, seed=4).to(dtype))
    flat = torch.cat([z.left.flatten(1), z.right[:, None]], 1).double().view(6, 5, 5)
    cost = [
        [sum(float((own[i] - own[j]).square().mean().sqrt()) for j in range(5) if living[j]) for i in range(5)]
        for own, living in zip(flat, ALIVE.tolist(), strict=True)
    ]
    assert racing(ebm.Agreement(), points(z), ALIVE) == by_hand(cost, ALIVE)


def test_the_vote_is_the_oracle_of_counts():
    z = numbers(30, 2, seed=5)
    answers = (z > 0).view(6, 5, 2).tolist()
    cost = []
    for own, living in zip(answers, ALIVE.tolist(), strict=True):
        votes = Counter(tuple(answer) for answer, lives in zip(own, living, strict=True) if lives)
        cost.append([-votes[tuple(answer)] for answer in own])
    assert racing(ebm.Agreement(lambda z: z > 0), points(z), ALIVE) == by_hand(cost, ALIVE)
    as_numbers = ebm.Agreement(lambda z: {"both": (z > 0).long() * torch.tensor([10, 7]), "one": z[:, 0] > 0})
    assert racing(as_numbers, points(z), ALIVE) == by_hand(cost, ALIVE)


def test_a_few_far_astray_do_not_move_the_medoid():
    z = torch.tensor([0.0, 0.2, 0.1, 50.0, 1000.0])[:, None]
    assert racing(ebm.Agreement(), points(z), torch.ones(1, 5, dtype=torch.bool))[0][0] == 1
    assert int((z - z.mean()).abs().argmin()) == 3, "the replica nearest to the mean is another"


def test_rounding_does_not_choose():
    z = 1.0 + 1e-15 * torch.randperm(8, generator=torch.Generator().manual_seed(0)).double()[:, None]
    everyone = torch.ones(1, 8, dtype=torch.bool)
    assert racing(ebm.Agreement(), points(z), everyone) == [list(range(8))]
    assert racing(ebm.Agreement(), points(torch.zeros(8, 1)), everyone) == [list(range(8))]
    assert racing(ebm.Agreement(), points(z[:2] * torch.tensor([[1.0], [3.0]])), everyone[:, :2]) == [[0, 1]]


class Leaning(ebm.Update):
    """Two fixed points for each number, of which the observation makes one the wider valley."""

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        return draw.normal(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (2 * z + c).tanh()


def alone(n: int, x: Tensor, steps: int) -> list[Tensor]:
    """Where each replica's start leads by itself; the others than the first are placed in the first step."""
    samples = torch.arange(len(x))
    zeros = torch.zeros_like(samples)
    starts = [Draw(samples, zeros - 1).of(samples, zeros).normal(x)]
    starts += [Draw(samples, zeros).of(samples, torch.full_like(samples, r)).normal(x) for r in range(1, n)]
    settled = []
    for replica, start in enumerate(starts):
        z = start
        for _ in range(steps - (replica > 0)):
            z = (2 * z + x).tanh()
        settled.append(z)
    return settled


def test_the_answer_is_that_of_most_single_starts():
    x = 0.15 * numbers(40, 1, seed=6)
    found = ebm.infer(
        Leaning(), x, steps=30, solver=ebm.Restarts(9, ebm.Picard(), choose=ebm.Agreement(lambda z: z > 0))
    )
    settled = torch.stack(alone(9, x, 30), 1)[..., 0]
    torch.testing.assert_close(found.carry.memory.points.z[..., 0], settled)
    most = 2 * (settled > 0).sum(1) > 9
    assert torch.equal(found.z[:, 0] > 0, most)
    plain = ebm.infer(Leaning(), x, steps=30, solver=ebm.Restarts(9, ebm.Picard()))
    assert not torch.equal(plain.z[:, 0] > 0, most), "the residual chooses others: the case shows something"
    medoid = ebm.infer(Leaning(), x, steps=30, solver=ebm.Restarts(9, ebm.Picard(), choose=ebm.Agreement()))
    assert torch.equal(medoid.z[:, 0] > 0, most)


def test_a_race_drops_those_who_agree_least():
    """Of eight the four nearest to the others stay, then of those two: replayed from runs of the single starts."""
    x = 0.15 * numbers(20, 1, seed=6)
    solver = ebm.Restarts(8, ebm.Picard(0.1), every=2, choose=ebm.Agreement(lambda z: (4 * z).round().long()))
    found = ebm.infer(Leaning(), x, steps=4, solver=solver).carry.memory
    left = [list(range(8)) for _ in x]
    whole = ebm.Restarts(8, ebm.Picard(0.1))
    for steps in (2, 4):
        stood = ebm.infer(Leaning(), x, steps=steps, solver=whole).carry.memory.points.z[..., 0]
        for sample, race in enumerate(left):
            answers = {r: round(4 * float(stood[sample, r])) for r in race}
            votes = Counter(answers.values())
            stay = sorted(race, key=lambda r, answers=answers, votes=votes: (-votes[answers[r]], r))
            left[sample] = sorted(stay[: len(race) // 2])
    assert [row.nonzero().flatten().tolist() for row in found.alive] == left


def test_a_call_keeps_the_last_point_unless_it_says_otherwise():
    inner = ebm.AdaptiveDescent()
    keeps = [
        ebm.Restarts(3, inner, choose=choice).keep
        for choice in (ebm.LowestEnergy(), ebm.LowestResidual(), ebm.Agreement())
    ]
    assert keeps == ["best", "last", "last"]
    assert ebm.Restarts(3, ebm.Langevin(0.1)).keep == "last"
    solver = ebm.Restarts(5, inner, spread=1.5, choose=ebm.Agreement())
    shown = [ebm.infer(Wells(3), X, steps=k, solver=solver) for k in range(9)]
    heights = torch.stack([each.energy for each in shown])  # type: ignore[arg-type]
    assert (heights[-1] > heights.amin(0) + 1e-3).any(), "agreement is not energy: the case shows something"
    best = ebm.infer(Wells(3), X, steps=8, solver=solver, keep="best")
    torch.testing.assert_close(best.energy, heights.amin(0))


def test_the_residual_of_an_energy_may_choose():
    solver = ebm.Restarts(6, ebm.Descent(0.02), spread=1.5, choose=ebm.LowestResidual())
    found = ebm.infer(Wells(3), X, steps=6, solver=solver)
    stood = found.carry.memory.points
    torch.testing.assert_close(found.residual, rows.rms(stood.force.flatten(0, 1)).view(5, 6).amin(1))
    assert (found.energy > stood.energy.amin(1) + 1e-3).any(), "the lowest is another"


def test_the_gradient_is_that_of_the_replica_shown():
    model = Wells(3)
    solver = ebm.Restarts(4, ebm.Descent(0.1), spread=1.5, choose=ebm.Agreement())
    found = ebm.infer(model, X, steps=5, solver=solver, adjoint=ebm.Unroll())
    (slope,) = torch.autograd.grad(found.z.sum(), model.coupling)
    finite = coupling_slope(model, lambda other: ebm.infer(other, X, steps=5, solver=solver).z)
    torch.testing.assert_close(slope, finite, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize(
    "choice",
    [ebm.LowestResidual(), ebm.Agreement(), ebm.Agreement(lambda z: z > 0)],
    ids=["residual", "medoid", "vote"],
)
def test_an_empty_batch(choice: Any):
    solver = ebm.Restarts(3, ebm.Descent(0.1), spread=1.0, choose=choice)
    assert len(ebm.infer(Wells(3), X[:0], steps=3, solver=solver)) == 0


def test_what_is_no_choice_is_refused():
    with pytest.raises(TypeError, match=r"`Restarts\(choose=...\)` is a choice; got str\. Pass"):
        ebm.Restarts(3, ebm.Descent(0.1), choose="agreement")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is a function of latents; got int"):
        ebm.Agreement(3)  # type: ignore[arg-type]
    for answer, words in (
        (lambda z: z, r"torch.float64 of shape \(15, 3\)"),
        (lambda z: z[:1] > 0, r"bool of shape \(1, 3\)"),
    ):
        solver = ebm.Restarts(3, ebm.Descent(0.1), spread=1.0, choose=ebm.Agreement(answer))
        with pytest.raises(TypeError, match=rf"off 15 latents, a row each; got .*{words}"):
            ebm.infer(Wells(3), X, steps=1, solver=solver)
