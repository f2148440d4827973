"""The checks that ship find what they are for, and say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import ebm
from ebm.objective import Point
from ebm.testing import PROMISES, Case, check_anytime, check_objective, check_solver
from tests.energies import ClosedQuadratic, Quadratic, Tanh, numbers

X = numbers(4, 3, seed=1)


class Normed(Quadratic):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, dtype=torch.float64)

    def condition(self, x):
        return super().condition(self.norm(x))


class Averaging(Quadratic):
    def forward(self, z, c):
        return super().forward(z, c) - z.mean(0).square().sum()


class Meaning(Quadratic):
    def forward(self, z, c):
        return super().forward(z, c).mean()


class Crooked(ClosedQuadratic):
    def point(self, z, c):
        return super().point(z, c)._replace(force=c - z @ self.matrix.T * 1.01)


class Shifted(ClosedQuadratic):
    def point(self, z, c):
        point = super().point(z, c)
        return point._replace(energy=point.energy + 1)


class Hoarding(Quadratic):
    """Keeps a per-sample tensor on itself instead of in the condition."""

    def condition(self, x):
        self.seen = x
        return super().condition(x)

    def forward(self, z, c):
        return super().forward(z, c) + (z * self.seen[:, :1]).sum(1)


class Unwrapped(Quadratic):
    """Passes a matrix of no sample on without saying so."""

    def condition(self, x):
        return {"pull": x @ self.weight, "matrix": self.matrix}

    def init_latent(self, c, draw):
        return torch.zeros_like(c["pull"])

    def forward(self, z, c):
        return (0.5 * (z @ c["matrix"]) * z - z * c["pull"]).sum(1)


class Ranked(Quadratic):
    def readout(self, z, c):
        return z - z.amax(0)


class Noisy(Quadratic):
    def init_latent(self, c, draw):
        return torch.randn(c.shape, dtype=c.dtype)


class Skewed(Tanh):
    def point(self, z, c):
        return Point(z, None, self(z, c))


class Spectral(Quadratic):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3, dtype=torch.float64))

    def forward(self, z, c):
        return super().forward(z, c) + self.line(z).square().sum(1)


class Ticking(Quadratic):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ticks", torch.zeros(()))

    def forward(self, z, c):
        self.ticks += 1
        return super().forward(z, c)


class Paired(ebm.Energy):
    """Two parts of one shape."""

    def init_latent(self, c, draw):
        return {"a": c.clone(), "b": torch.sin(c)}

    def forward(self, z, c):
        return ((z["a"] - c).square() + 3 * (z["b"] - z["a"]).square()).sum(1)


class Whole(Paired):
    """Differentiates in the tensors it is handed, and so through all that hangs on them."""

    def point(self, z, c):
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            z = ebm.rows.map_rows(lambda leaf: leaf if leaf.requires_grad else leaf.detach().requires_grad_(), z)
            energy = self(z, c)
            slopes = torch.autograd.grad(energy.sum(), list(z.values()), create_graph=keep)
        return Point(z, energy, {key: -slope for key, slope in zip(z, slopes, strict=True)})


class Swapped(Paired):
    """Two forces in the right places under the wrong names."""

    def point(self, z, c):
        point = super().point(z, c)
        return point._replace(force={"b": point.force["a"], "a": point.force["b"]})


class Fewer(Paired):
    def point(self, z, c):
        point = super().point(z, c)
        return point._replace(force={"a": point.force["a"]})


class Halving(Tanh):
    def point(self, z, c):
        z *= 0.5
        return super().point(z, c)


class Doubling(Quadratic):
    def condition(self, x):
        x *= 2
        return super().condition(x)


class Showing(Quadratic):
    def readout(self, z, c):
        return z.relu_()


class TurnedRound(Paired):
    """A right closed form that lists the parts the other way round."""

    def point(self, z, c):
        point = super().point(z, c)
        return point._replace(force={"b": point.force["b"], "a": point.force["a"]})


BROKEN = [
    (Normed(), "`Normed` holds `norm`, a BatchNorm1d, which takes its mean over the batch"),
    (Spectral(), "`Spectral` holds `line`, under spectral_norm, which moves its estimate of the norm at every step"),
    (Ticking(), "Ticking moves its buffer `ticks`. Inference leaves no trace"),
    (Whole(), "The force of `Whole.point` is another where latent and condition have a graph"),
    (Swapped(), r"The force of `Swapped.point` is not minus the gradient of `forward`"),
    (
        Fewer(),
        r"`Fewer.point\(...\).force` must give a row tree like the latent `z`: `z` is a dict of 'a', 'b'; got a dict of 'a'",
    ),
    (Halving(3), "`Halving.point` writes into the latent. Make a new tensor"),
    (Doubling(), "`Doubling.condition` writes into the observation"),
    (Showing(), "`Showing.readout` writes into the latent"),
    (Averaging(), "Rows mix in Averaging: the energy of sample 0 is"),
    (Meaning(), r"must (give|return) one energy a sample, shape \(4,\); got \(\)"),
    (Crooked(), "The force of `Crooked.point` is not minus the gradient of `forward`"),
    (Shifted(), "`Shifted.point` gives other energies than `forward`"),
    (Unwrapped(inputs=3), "wrap what belongs to no sample in `Shared`"),
    (Ranked(), "Rows mix in Ranked: the read-out of sample"),
    (Noisy(), "Rows mix in Noisy: the start of sample 0"),
    (Skewed(3), r"The force of `Skewed.point` is not `forward\(z, c\) - z`"),
    (Hoarding(), "The condition of Hoarding (cannot be split by|does not follow its) samples"),
]


@pytest.mark.parametrize(("model", "words"), BROKEN, ids=lambda part: type(part).__name__)
def test_a_broken_objective_is_found_out(model: ebm.Objective, words: str):
    x = X[:3] if isinstance(model, Unwrapped) else X
    with pytest.raises((AssertionError, ValueError), match=words):
        check_objective(model, torch.cat([x, x]) if isinstance(model, Unwrapped) else x)


def test_a_force_in_another_order_is_right():
    check_objective(TurnedRound(), X)


def test_a_batch_norm_in_eval_mode_is_fine_and_stays_as_it_is():
    model = Normed()
    with pytest.raises(AssertionError):
        check_objective(model, X)
    assert (model.norm.running_mean == 0).all() and model.norm.num_batches_tracked == 0 and model.training
    check_objective(model.eval(), X)


@dataclass(frozen=True)
class Mutating(ebm.Descent):
    def step(self, field, point, memory, draw):
        point.z.add_(point.force, alpha=0.1)
        return ebm.Step(field(point.z), memory)


@dataclass(frozen=True)
class Overwriting(ebm.Adam):
    def step(self, field, point, memory, draw):
        outcome = super().step(field, point, memory, draw)
        memory["mean"].copy_(outcome.memory["mean"])
        return outcome


@dataclass(frozen=True)
class Counting(ebm.Descent):
    calls: list[int] = field(default_factory=list)

    def step(self, field, point, memory, draw):
        self.calls.append(1)
        return ebm.Step(field(ebm.rows.add(point.z, point.force, 0.1 / len(self.calls))), memory)


@dataclass(frozen=True)
class PerBatch(ebm.Descent):
    def init(self, point):
        return torch.zeros(1)


@dataclass(frozen=True)
class Mixing(ebm.Descent):
    def step(self, field, point, memory, draw):
        return ebm.Step(field(point.z + 0.1 * point.force / point.force.norm()), memory)


@dataclass(frozen=True)
class Greedy(ebm.Descent):
    def step(self, field, point, memory, draw):
        field(point.z)
        return super().step(field, point, memory, draw)


@dataclass(frozen=True)
class Lazy(ebm.Descent):
    def step(self, field, point, memory, draw):
        first = torch.arange(point.z.shape[0])[:, None] == 0
        return ebm.Step(field(torch.where(first, point.z, point.z + 0.1 * point.force)), memory)


@dataclass(frozen=True)
class Global(ebm.Descent):
    def step(self, field, point, memory, draw):
        torch.rand(1)
        return super().step(field, point, memory, draw)


@dataclass
class Thawed(ebm.Descent.__mro__[1]):  # type: ignore[misc]
    rate: float = 0.1

    def init(self, point: Any) -> Any:
        return None

    def step(self, field, point, memory, draw):
        return ebm.Step(field(ebm.rows.add(point.z, point.force, self.rate)), None)


FAULTY = [
    (Mutating(), "writes into the point in place"),
    (Overwriting(), "writes into its memory in place"),
    (Counting(), "gives another outcome when asked again|changed its own settings"),
    (PerBatch(), "nothing per batch sits in a memory"),
    (Mixing(), "mixes samples"),
    (Greedy(), "asked for 2 of `point`; `most` says 1"),
    (Lazy(), "mixes samples|did not move samples"),
    (Global(), "draws from the global generator"),
    (Thawed(), "must be a frozen dataclass"),
]


@pytest.mark.parametrize(("solver", "words"), FAULTY, ids=lambda part: type(part).__name__)
def test_a_broken_solver_is_found_out(solver: ebm.Solver, words: str):
    with pytest.raises(AssertionError, match=words):
        check_solver(solver)


@pytest.mark.parametrize("solver", [Mutating(0.1), Overwriting(0.1), Mixing(0.1)], ids=lambda s: type(s).__name__)
def test_a_broken_solver_breaks_promises(solver: ebm.Solver):
    with pytest.raises(AssertionError):
        check_anytime(Quadratic(), X, solver=solver)


def test_a_model_that_mixes_rows_breaks_promises():
    with pytest.raises(AssertionError, match="alone ends elsewhere than in company"):
        PROMISES["a_sample_does_not_know_its_batch"](Case(Averaging(), X, ebm.Descent(0.2)))
    with pytest.raises(AssertionError, match=r"^[a-z ]+: "):
        check_anytime(Averaging(), X, solver=ebm.Descent(0.2))
