"""The lists that the contract suite runs over. A new part joins by adding itself here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import ebm
import hebbian
import hebbian.memory
from ebm import rows
from ebm.testing import Case
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, Wells, numbers

SOLVERS: dict[str, ebm.Solver] = {
    "descent": ebm.Descent(0.3),
    "momentum": ebm.Descent(0.2, momentum=0.8),
    "nesterov": ebm.Descent(0.2, momentum=0.8, nesterov=True),
    "too large": ebm.Descent(1.9),
    "learned": ebm.Descent(torch.tensor(0.3, dtype=torch.float64)),
    "adaptive": ebm.AdaptiveDescent(),
    "l-bfgs": ebm.LBFGS(3),
    "newton-cg": ebm.NewtonCG(
        products=2
    ),  # with more, small models rest to rounding, and how often that is multiplied is chance
    "gauss-newton": ebm.GaussNewton(products=4),
    "adam": ebm.Adam(0.1),
    "spectral": ebm.BarzilaiBorwein(),
    "spectral long": ebm.BarzilaiBorwein("long", window=3, first=5.0),
    "backtracking": ebm.Backtracking(first=20.0, trials=3),
    "accelerated": ebm.Nesterov(),
    "accelerated by energy": ebm.Nesterov(first=3.0, restart="energy"),
    "proximal": ebm.Proximal(),
    "fista": ebm.FISTA(first=3.0),
    "sweep": ebm.Sweep(ebm.BarzilaiBorwein(), blocks=2),
    "sweep of searches": ebm.Sweep(ebm.Backtracking(first=20.0, trials=3), blocks=2),
    "sweep of newton": ebm.Sweep(ebm.NewtonCG(products=2), blocks=2),  # as above
    "sweep of gauss-newton": ebm.Sweep(ebm.GaussNewton(), blocks=2),
    "sweep of adaptive": ebm.Sweep(ebm.AdaptiveDescent(), blocks=2),
    "sweep of leaves": ebm.Sweep(ebm.Langevin(0.05, 0.5)),
    "picard": ebm.Picard(),
    "damped": ebm.Picard(0.5),
    # with fewer free numbers than past forces these are nearly parallel, and rounding grows by up to 1 / ridge: the promises hold to 1e-10
    "anderson": ebm.Anderson(3, ridge=1e-6, mixing=0.5, every=1, spare=0.0),
    "anderson at times": ebm.Anderson(3, ridge=1e-6, mixing=0.5, every=2, spare=0.5),
    "anderson by default": ebm.Anderson(),
    "broyden": ebm.Broyden(3, mixing=0.5),
    "broyden by default": ebm.Broyden(),
    "adam by default": ebm.Adam(),
    "peaceman-rachford": ebm.PeacemanRachford(0.7),
    "anderson by energy": ebm.Anderson(4, ridge=1e-6, mixing=0.5, safeguard="energy", every=1, spare=0.0),
    "langevin": ebm.Langevin(0.05, 0.5),
    "preconditioned langevin": ebm.Langevin(0.05, 0.5, torch.tensor(2.0, dtype=torch.float64)),
    "underdamped langevin": ebm.UnderdampedLangevin(0.3, 0.7, 0.5),
    "mala": ebm.MALA(0.1, 0.5),
    "searching mala": ebm.MALA(0.05, warmup=3),
    "hmc": ebm.HMC(0.2, 3, jitter=0.3),
    "searching hmc": ebm.HMC(0.3, 2, warmup=4),
    "tempering": ebm.Tempering(ebm.MALA(0.05), (0.5, 1.0, 2.0)),
    "tempered hmc": ebm.Tempering(ebm.HMC(0.2, 2, warmup=2), (1.0, 3.0)),
    "gibbs": ebm.Gibbs(),
    "cyclic gibbs": ebm.Gibbs(0.7, "cyclic"),
    "tempered gibbs": ebm.Tempering(ebm.Gibbs(), (0.5, 1.0)),
    "box": ebm.Project(ebm.Descent(0.3), ebm.Box(-0.3, 0.5)),
    "sphere": ebm.Project(ebm.Adam(0.1), ebm.Sphere()),
    "boxed anderson": ebm.Project(ebm.Anderson(), ebm.Box(-0.5, 0.5)),
    "boxed broyden": ebm.Project(ebm.Broyden(), ebm.Box(-0.5, 0.5)),
    "boxed adaptive": ebm.Project(ebm.AdaptiveDescent(), ebm.Box(-0.3, 0.5)),
    # near rest rounding decides whether one more product is made, and company may change rounding: few products leave no choice
    "boxed newton": ebm.Project(ebm.NewtonCG(products=2), ebm.Box(-0.3, 0.5)),
    "boxed l-bfgs": ebm.Project(ebm.LBFGS(), ebm.Box(-0.3, 0.5)),
    "asynchronous": ebm.Asynchronous(),
    "cyclic": ebm.Asynchronous("cyclic"),
    "flow": ebm.Flow(0.3, horizon=1.0),
    "endless flow": ebm.Flow(0.2, method="midpoint"),
    "adaptive flow": ebm.AdaptiveFlow(1.3, rtol=1e-3, atol=1e-3, first=0.5),
    "boxed flow": ebm.Project(ebm.AdaptiveFlow(method="bosh3", rtol=1e-2, atol=1e-2), ebm.Box(-0.3, 0.5)),
    "downhill": ebm.Downhill(ebm.Descent(0.6)),
    "annealed": ebm.Annealed(
        (ebm.Descent(0.3), ebm.Adam(0.1), ebm.AdaptiveDescent()), steps=(2, 1, 2), scales=(2, 1, 1.5)
    ),
    "annealed langevin": ebm.Annealed(tuple(ebm.Langevin(0.05, t) for t in (1.0, 0.5, 0.1)), steps=2),
    "restarts": ebm.Restarts(5, ebm.AdaptiveDescent(), spread=0.4, every=2),
    "restarts with momentum": ebm.Restarts(4, ebm.Descent(0.2, momentum=0.8), spread=0.4, every=1, eta=3, least=2),
    "restarts of a sampler": ebm.Restarts(3, ebm.Langevin(0.05, 0.5), spread=0.4),
    "restarts of sweeps": ebm.Restarts(3, ebm.Asynchronous(), spread=lambda z, draw: draw.normal(z).sign(), every=2),
    "restarts by agreement": ebm.Restarts(5, ebm.Descent(0.2), spread=0.4, every=3, least=2, choose=ebm.Agreement()),
    "restarts by votes": ebm.Restarts(
        5, ebm.Picard(0.3), spread=0.4, choose=ebm.Agreement(lambda z: rows.flatten(z)[:, :2] > 0)
    ),
    "restarts by residual": ebm.Restarts(4, ebm.Adam(0.1), spread=0.4, every=2, choose=ebm.LowestResidual()),
    "boxed restarts": ebm.Project(ebm.Restarts(3, ebm.Adam(0.1), spread=0.4, every=2), ebm.Box(-0.3, 0.5)),
    "reversible": ebm.Reversible(0.4, step_size=0.5),
}

# The wrappers that take any solver, to be put around each and around one another.
AROUND: dict[str, Callable[[ebm.Solver], ebm.Solver]] = {
    "sweep": lambda solver: ebm.Sweep(solver, blocks=2),
    "project": lambda solver: ebm.Project(solver, ebm.Box(-0.3, 0.5)),
    "restarts": lambda solver: ebm.Restarts(2, solver, spread=0.1),
    "downhill": ebm.Downhill,
}

X = numbers(5, 3, seed=9)
X[4] *= 0.01  # an easy sample among harder ones


def small(name: str) -> Callable[[], Case]:
    """A small objective of the tests on the common observations."""
    makers: dict[str, Callable[[], ebm.Objective]] = {
        "quadratic": Quadratic,
        "closed": ClosedQuadratic,
        "wells": lambda: Wells(3),
        "tree": lambda: Tree(3),
        "tanh": lambda: Tanh(3),
    }
    return lambda: Case(makers[name](), X)


def seeded(make: Callable[[], nn.Module]) -> Any:
    """A module in float64 whose weights do not depend on what ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().double()


def modern_hopfield() -> Case:
    return Case(ebm.ModernHopfield(numbers(6, 4), 2.0), numbers(5, 4, seed=2))


def gated_cell() -> Case:
    cell = seeded(lambda: ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1))
    return Case(cell, numbers(4, 1, 6), steps=4)


def message_cell() -> Case:
    make = lambda: ebm.MessageCell(ebm.Pairs(), 3, nn.Linear(3, 1), (ebm.Aggregate.SUM, ebm.Aggregate.MAX))  # noqa: E731
    return Case(seeded(make), numbers(4, 1, 5, 5), steps=4)


def board_cell() -> Case:
    cell = seeded(lambda: ebm.MessageCell(ebm.Houses((1, 3)), 3, nn.Linear(3, 1), hidden=4, start=ebm.Noise(0.3)))
    return Case(cell, (numbers(4, 3, 3, 3) > 0.5).double(), steps=4)


def attention_cell() -> Case:
    return Case(seeded(lambda: ebm.AttentionCell(nn.Linear(3, 4), 4, 2, 3, nn.Linear(4, 2))), numbers(4, 5, 3), steps=4)


def matrix_cell() -> Case:
    return Case(seeded(lambda: ebm.MatrixCell(2, 2)), numbers(4, 1, 3, 3), steps=4)


def halting() -> Case:
    cell = lambda: ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1)  # noqa: E731
    return Case(seeded(lambda: ebm.Halting(cell(), ebm.PooledLogit(3, axis=1))), numbers(4, 1, 6), steps=4)


def energy_twin() -> Case:
    cell = lambda: ebm.GatedCell(1, width=3, head=nn.Conv1d(3, 2, 1), dims=1)  # noqa: E731
    return Case(seeded(lambda: ebm.EnergyTwin(cell())), numbers(4, 1, 6))


def signs(*shape: int, seed: int) -> torch.Tensor:
    return numbers(*shape, seed=seed).sign()


def hopfield() -> Case:
    return Case(ebm.Hopfield.store(signs(2, 7, seed=4)), signs(4, 7, seed=5), steps=4)


def graded_hopfield() -> Case:
    return Case(ebm.GradedHopfield.store(signs(2, 7, seed=4)), numbers(4, 7, seed=5))


def dense_memory() -> Case:
    return Case(ebm.DenseMemory(signs(3, 7, seed=6), ebm.Exponential()), signs(4, 7, seed=7), steps=4)


class Score(nn.Module):
    """A small net of latent and observation, bounded from below."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.cat([z, x], 1))[:, 0] + 0.5 * z.square().sum(1)


def energy_net() -> Case:
    return Case(seeded(lambda: ebm.EnergyNet(Score(), 2, start=ebm.Noise(0.5))), X)


def predictive_coding() -> Case:
    return Case(seeded(lambda: ebm.PredictiveCoding([3, 5, 4, 2])), (X, numbers(5, 2, seed=8)))


class Decay(ebm.LeastSquares):
    """The amplitude and rate of a decay seen at three times, and a weak pull on both: nonlinear residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.times = nn.Parameter(torch.tensor([0.3, 0.8, 1.7], dtype=torch.float64))

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return torch.ones_like(c[:, :2])

    def residuals(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.cat([z[:, :1] * (-z[:, 1:] * self.times).exp() - c, 0.1 * z], 1)


def least_squares() -> Case:
    return Case(Decay(), X)


def nudged() -> Case:
    def cost(answer: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * (answer - y).square().sum(1)

    return Case(ebm.Nudged(Quadratic(), 0.5, cost), (X, numbers(5, 4, seed=8)))


def clamped() -> Case:
    mask = numbers(5, 4, seed=3) > 0
    return Case(ebm.Clamped(Quadratic()), (X, mask, numbers(5, 4, seed=8)))


def summed() -> Case:
    return Case(ebm.Sum(Quadratic(), Quadratic(seed=5), weights=[1.0, 0.3]), X)


def ladder() -> Case:
    shared = Quadratic(seed=5)
    return Case(ebm.Ladder([Quadratic(), shared, shared]), X)


class Warmed(ebm.Levelled):
    """One landscape that narrows from rung to rung."""

    rungs = 3

    def init_latent(self, c: torch.Tensor, draw: Any) -> torch.Tensor:
        return draw.normal(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor, rung: torch.Tensor) -> torch.Tensor:
        return (0.5 * (z - c).square() + 0.1 * rung[:, None] * z.square().square()).sum(1)


def levelled() -> Case:
    return Case(ebm.Ladder(Warmed()), X)


def composite() -> Case:
    return Case(ebm.Composite(Quadratic(), ebm.L1(0.2)), X)


class Shown(ebm.Energy):
    """Half the squared error of two thirds of the entries of a matrix."""

    def init_latent(self, c: torch.Tensor, draw: ebm.Draw) -> torch.Tensor:
        return torch.zeros_like(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shown = torch.arange(c[0].numel(), device=c.device).view(c.shape[1:]) % 3 > 0
        return 0.5 * ((z - c) * shown).square().flatten(1).sum(1)


def completion() -> Case:
    return Case(ebm.Composite(Shown(), ebm.NuclearNorm(0.3)), numbers(5, 3, 4, seed=2))


def walled() -> Case:
    return Case(ebm.Composite(Wells(3), ebm.NonNegative(0.1)), X)


def monotone_cell() -> Case:
    return Case(seeded(lambda: ebm.MonotoneCell(3, 5, margin=0.2)), X)


def layered_net() -> Case:
    return Case(seeded(lambda: hebbian.LayeredNet([3, 4, 2], 0.2)), X)


def held_layered_net() -> Case:
    return Case(seeded(lambda: hebbian.LayeredNet([3, 4, 2], 0.2)), (X, numbers(5, 2, seed=8)))


def softmax_memory() -> Case:
    # its own solver bounds the residual instead of evaluating the answer; tests/hebbian/test_recall_softmax.py tries that
    return Case(hebbian.memory.SoftmaxMemory(numbers(6, 4), 2.0), numbers(5, 4, seed=2), solver=ebm.Picard())


def universal_hopfield() -> Case:
    return Case(hebbian.memory.UniversalHopfield(numbers(6, 4), hebbian.memory.manhattan), numbers(5, 4, seed=2))


def bidirectional_memory() -> Case:
    memory = hebbian.memory.BidirectionalMemory(numbers(4, 3))
    return Case(memory, (signs(5, 4, seed=5), signs(5, 3, seed=6)), steps=4)


def sequence_memory() -> Case:
    return Case(hebbian.memory.SequenceMemory(signs(3, 7, seed=4)), signs(4, 7, seed=5), steps=4)


def delayed_sequence() -> Case:
    return Case(hebbian.memory.DelayedSequence(signs(3, 7, seed=4), 2.0, 3.0), signs(4, 7, seed=5))


MODELS: dict[str, Callable[[], Case]] = {
    **{name: small(name) for name in ("quadratic", "closed", "wells", "tree", "tanh")},
    "modern hopfield": modern_hopfield,
    "gated cell": gated_cell,
    "message cell": message_cell,
    "board cell": board_cell,
    "attention cell": attention_cell,
    "matrix cell": matrix_cell,
    "halting": halting,
    "energy twin": energy_twin,
    "monotone cell": monotone_cell,
    "hopfield": hopfield,
    "graded hopfield": graded_hopfield,
    "dense memory": dense_memory,
    "energy net": energy_net,
    "predictive coding": predictive_coding,
    "least squares": least_squares,
    "nudged": nudged,
    "clamped": clamped,
    "sum": summed,
    "ladder": ladder,
    "levelled": levelled,
    "composite": composite,
    "completion": completion,
    "walled": walled,
    "layered net": layered_net,
    "held layered net": held_layered_net,
    "softmax memory": softmax_memory,
    "universal hopfield": universal_hopfield,
    "bidirectional memory": bidirectional_memory,
    "sequence memory": sequence_memory,
    "delayed sequence": delayed_sequence,
}

# The models that every solver is tried on in the fast suite; the others meet their own solver there, and all in the slow one.
EVERYWHERE = ("quadratic", "wells", "tanh")

# Updates of one latent that provide what the gated cell does and no more, which meets every solver: they meet their own alone.
ALIKE = ("message cell", "board cell", "attention cell", "matrix cell")

STOPS: dict[str, ebm.Stop] = {
    "at rest": ebm.AtRest(0.3),
    "reduced": ebm.Reduced(0.4),
    "plateau": ebm.Plateau(atol=0.05, rtol=0.0),
    "patience": ebm.Patience(ebm.AtRest(0.5), 2),
    "confident": ebm.Confident(0.6),
    "any": ebm.AnyOf(ebm.AtRest(0.2), ebm.Confident(0.7)),
    "all": ebm.AllOf(ebm.AtRest(0.5), ebm.Patience(ebm.Confident(0.5), 2)),
}

ADJOINTS: dict[str, ebm.Adjoint] = {
    "detached": ebm.Detached(),
    "unroll": ebm.Unroll(),
    "truncated": ebm.Truncated(2),
    "truncated beyond": ebm.Truncated(20),
    "checkpointed": ebm.Unroll(checkpoint=2),
    "implicit": ebm.Implicit(),
    "reverse": ebm.Reverse(segment=2),
}
