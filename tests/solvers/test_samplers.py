"""Samplers against distributions that are known: moments, weights, enumeration, closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.diagnostics import acceptance, describe, effective_sample_size, swaps
from tests.energies import Pair, numbers

COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


class Gaussian(ebm.Energy):
    """N(mean, covariance), started away from the mean."""

    mean: Tensor
    precision: Tensor

    def __init__(self, mean: Tensor = MEAN, covariance: Tensor = COVARIANCE) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("precision", torch.linalg.inv(covariance))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return draw.normal(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        away = z - self.mean
        return 0.5 * ((away @ self.precision) * away).sum(1)


class Mixture(ebm.Energy):
    """Normal components of one width: weights w, at given places (K, D)."""

    places: Tensor
    weights: Tensor

    def __init__(self, places: Tensor, weights: Tensor, width: float) -> None:
        super().__init__()
        self.register_buffer("places", places)
        self.register_buffer("weights", weights)
        self.width = width

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return self.places[:1].expand(c.shape[0], -1) + 0 * c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        away = z[:, None] - self.places
        return -torch.logsumexp(self.weights.log() - away.square().sum(2) / (2 * self.width**2), 1)


def sampled(model: ebm.Objective, solver: ebm.Solver, chains: int, steps: int, dims: int) -> Any:
    """A recorded call from given keys."""
    x = torch.zeros(chains, dims, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    return ebm.infer(model, x, steps=steps, solver=solver, record="z", generator=generator)


def draws_of(solution: Any, discard: int) -> Tensor:
    return solution.trace["z"][discard + 1 :].transpose(0, 1)


def check_mean(draws: Tensor, wanted: Tensor, bound: float = 4.0) -> None:
    """The mean of draws (chains, steps, dims) within standard errors, by the effective sample size."""
    std, mean = torch.std_mean(draws, (0, 1))
    error = std / effective_sample_size(draws).sqrt()
    assert error.isfinite().all()
    assert ((mean - wanted).abs() < bound * error).all(), ((mean - wanted) / error).tolist()


def check_moments(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    check_mean(draws, mean)
    away = draws - mean
    check_mean((away[..., :, None] * away[..., None, :]).flatten(2), covariance.flatten())


EXACT = {
    "mala": ebm.MALA(0.15),
    "preconditioned mala": ebm.MALA(0.3, preconditioner=COVARIANCE.diagonal()),
    "searching mala": ebm.MALA(3.0, warmup=100),
    "hmc": ebm.HMC(0.35, 5),
    "hmc with mass and jitter": ebm.HMC(0.5, 4, mass=1 / COVARIANCE.diagonal(), jitter=0.4),
    "searching hmc": ebm.HMC(1e-3, 4, warmup=100),
    "one long leap": ebm.HMC(0.7, 1),
    "underdamped": ebm.UnderdampedLangevin(0.4, friction=1.5),
    "underdamped with mass": ebm.UnderdampedLangevin(0.5, mass=1 / COVARIANCE.diagonal()),
    "tempering": ebm.Tempering(ebm.HMC(0.35, 4), (1.0, 1.7)),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_correlated_gaussian(name: str):
    draws = draws_of(sampled(Gaussian(), EXACT[name], 300, 230, 3), 130)
    check_moments(draws, MEAN, COVARIANCE)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda t: ebm.MALA(0.2, t), lambda t: ebm.HMC(0.3, 5, t)], ids=["mala", "hmc"])
@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_temperature_scales_the_covariance(make: Any, temperature: float):
    draws = draws_of(sampled(Gaussian(), make(temperature), 300, 180, 3), 80)
    check_moments(draws, MEAN, temperature * COVARIANCE)


def test_a_temperature_above_one_in_a_ladder():
    solver = ebm.Tempering(ebm.MALA(0.2), (2.0, 4.0, 6.0))
    check_moments(draws_of(sampled(Gaussian(), solver, 300, 180, 3), 80), MEAN, 2 * COVARIANCE)


@pytest.mark.parametrize("solver", [ebm.MALA(0.4), ebm.HMC(0.4, 5)], ids=lambda s: type(s).__name__)
def test_a_mixture_that_can_be_crossed(solver: ebm.Solver):
    """Weights 0.3 and 0.7 at -1.5 and 1.5 in the first direction, of width 0.8."""
    places = torch.tensor([[-1.5, 0.0], [1.5, 0.0]], dtype=torch.float64)
    model = Mixture(places, torch.tensor([0.3, 0.7], dtype=torch.float64), 0.8)
    draws = draws_of(sampled(model, solver, 400, 240, 2), 120)
    spread = torch.tensor([0.64 + 2.25 - 0.6**2, 0.64], dtype=torch.float64)
    check_mean(draws, torch.tensor([0.6, 0.0], dtype=torch.float64))
    check_mean((draws - torch.tensor([0.6, 0.0])).square(), spread)
    nearer = torch.tensor(0.7 * ndtr(1.5 / 0.8) + 0.3 * ndtr(-1.5 / 0.8), dtype=torch.float64)
    check_mean((draws[..., :1] > 0).double(), nearer)


def ndtr(value: float) -> float:
    return float(torch.special.ndtr(torch.tensor(value, dtype=torch.float64)))


@pytest.mark.slow
def test_tempering_crosses_what_a_plain_sampler_does_not():
    """Modes ten widths apart: all chains start in the one of weight 0.25."""
    places = torch.tensor([[-2.5], [2.5]], dtype=torch.float64)
    model = Mixture(places, torch.tensor([0.25, 0.75], dtype=torch.float64), 0.5)
    inner = ebm.MALA(0.15)
    stuck = sampled(model, inner, 150, 200, 1)
    assert (stuck.trace["z"] < 0).double().mean() > 0.99
    solver = ebm.Tempering(inner, (1.0, 2.2, 5.0, 11.0))
    solution = sampled(model, solver, 100, 1500, 1)
    draws = draws_of(solution, 500)
    check_mean((draws > 0).double(), torch.tensor([0.75], dtype=torch.float64))
    check_mean(draws, torch.tensor([1.25], dtype=torch.float64))
    check_mean((draws - 1.25).square(), torch.tensor([0.25 + 2.5**2 - 1.25**2], dtype=torch.float64))
    assert (swaps(solution).mean(0) > 0.15).all() and swaps(solution).shape == (100, 3)
    assert acceptance(solution).shape == (100, 4)
    tally = solution.carry.memory["swaps"]
    assert tally.proposed.unique(dim=0).tolist() == [[750, 750, 750]], "even and odd pairs in turn"


def enumerated(model: ebm.Hopfield, temperature: float) -> tuple[Tensor, Tensor]:
    """Magnetisations and pair correlations from all the states."""
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=model.units)), dtype=torch.float64)
    chances = (-model(states, None) / temperature).softmax(0)
    return chances @ states, (states * chances[:, None]).T @ states


def ising(units: int = 12) -> ebm.Hopfield:
    weight = 0.35 * numbers(units, units, seed=1)
    weight = (weight + weight.T).fill_diagonal_(0)
    return ebm.Hopfield(weight, 0.4 * numbers(units, seed=2))


@pytest.mark.parametrize(
    "solver", [ebm.Gibbs(1.5), ebm.Gibbs(1.5, "cyclic"), ebm.Tempering(ebm.Gibbs(), (1.5, 3.0))], ids=repr
)
def test_gibbs_samples_an_ising_model_as_enumeration_has_it(solver: ebm.Solver):
    model = ising()
    x = numbers(600, 12, seed=3).sign()
    draws = draws_of(ebm.infer(model, x, steps=55, solver=solver, record="z"), 20)
    mean, pairs = enumerated(model, 1.5)
    check_mean(draws, mean)
    above = torch.triu_indices(12, 12, 1)
    check_mean(draws[..., above[0]] * draws[..., above[1]], pairs[above[0], above[1]])


def test_gibbs_samples_a_dense_memory_whose_energy_is_a_logarithm():
    model = ebm.DenseMemory(numbers(3, 6, seed=5).sign(), ebm.Exponential())
    draws = draws_of(ebm.infer(model, numbers(400, 6, seed=3).sign(), steps=60, solver=ebm.Gibbs(2.0), record="z"), 20)
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64)
    chances = (-model(states, None) / 2.0).softmax(0)
    check_mean(draws, chances @ states)
    check_mean((draws * draws.roll(1, 2)), chances @ (states * states.roll(1, 1)))


@pytest.mark.parametrize("separation", [ebm.Polynomial(3), ebm.RectifiedPolynomial(2), ebm.Exponential()], ids=repr)
def test_a_flip_is_the_difference_of_two_energies(separation: Any):
    for model in (ising(7), ebm.DenseMemory(numbers(4, 7, seed=8).sign(), separation)):
        states = numbers(9, 7, seed=6).sign()
        c = model.condition(states)
        for unit in range(7):
            value, rise = model.flip(states, c, torch.full((9,), unit))
            flipped = states.clone()
            flipped[:, unit] *= -1
            assert torch.equal(value, flipped[:, unit])
            torch.testing.assert_close(rise, model(flipped, c) - model(states, c), rtol=1e-10, atol=1e-10)


def test_states_need_not_be_signs():
    """Zeros and ones, by a model that says so: independent coins."""

    class Coins(ebm.Energy):
        provides = frozenset({"energy", "flip"})

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def point(self, z: Tensor, c: Tensor) -> ebm.Point:
            return ebm.Point(z, -(z * c).sum(1), torch.zeros_like(z))

        def flip(self, z: Tensor, c: Tensor, block: Tensor) -> ebm.Flip:
            own = z.gather(1, block[:, None])
            return ebm.Flip(1 - own[:, 0], ((2 * own - 1) * c.gather(1, block[:, None]))[:, 0])

    odds = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    solution = ebm.infer(Coins(), odds.expand(400, -1), steps=40, solver=ebm.Gibbs(), record="z")
    draws = draws_of(solution, 5)
    assert draws.unique().tolist() == [0, 1]
    check_mean(draws, odds.sigmoid())


def test_held_units_are_not_drawn():
    model = ising(6)
    x, mask = numbers(400, 6, seed=7).sign(), torch.tensor([True, False, True, False, False, True]).expand(400, 6)
    held = torch.tensor([1.0, 0, -1, 0, 0, 1], dtype=torch.float64).expand(400, 6)
    solution = ebm.infer(ebm.Clamped(model), (x, mask, held), steps=60, solver=ebm.Gibbs(2.0), record="z")
    draws = draws_of(solution, 10)
    assert torch.equal(draws[..., mask[0]], held[:, None, mask[0]].expand(-1, 50, -1))
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64)
    states = states[(states == held[0])[:, mask[0]].all(1)]
    wanted = (-model(states, None) / 2.0).softmax(0) @ states
    check_mean(draws[..., ~mask[0]], wanted[~mask[0]])


def test_a_chain_is_not_ended_by_the_models_stop_rule():
    model = ising(6)
    x = numbers(20, 6, seed=7).sign()
    assert (ebm.infer(model, x, steps=40, solver=ebm.Gibbs()).steps == 40).all()
    stopped = ebm.infer(model, x, steps=40, solver=ebm.Gibbs(), stop=ebm.AtRest(0.0))
    assert stopped.converged.any(), "a rule of the call is obeyed"


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
def test_the_bias_of_unadjusted_langevin_is_its_closed_form(step_size: float):
    """On E = z^2 / 2 the variance is 1 / (1 - a / 2), not one."""
    model = Gaussian(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))
    draws = draws_of(sampled(model, ebm.Langevin(step_size), 1500, 160, 1), 80)
    wanted = torch.tensor([1 / (1 - step_size / 2)], dtype=torch.float64)
    check_mean(draws.square(), wanted)
    with pytest.raises(AssertionError):
        check_mean(draws.square(), torch.ones(1, dtype=torch.float64))


def test_a_preconditioner_is_a_step_size_a_number():
    """With P the variances wanted, every direction has the bias of a unit Gaussian."""
    covariance = torch.diag(torch.tensor([4.0, 0.04], dtype=torch.float64))
    model = Gaussian(torch.zeros(2, dtype=torch.float64), covariance)
    solver = ebm.Langevin(0.5, preconditioner=covariance.diagonal())
    draws = draws_of(sampled(model, solver, 600, 160, 2), 60)
    check_mean(draws.square(), covariance.diagonal() / 0.75)


def test_underdamped_langevin_forgets_nothing_without_friction():
    """Then it is the leapfrog method: the energy of position and velocity is kept to second order in the step."""
    model = Gaussian(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    x = torch.zeros(3, 2, dtype=torch.float64)

    def drift(step_size: float) -> float:
        steps = round(4 / step_size)
        solver = ebm.UnderdampedLangevin(step_size, friction=0.0)
        end = ebm.infer(model, x, steps=steps, solver=solver, generator=torch.Generator().manual_seed(1))
        start = ebm.infer(model, x, steps=0, solver=solver, generator=torch.Generator().manual_seed(1))
        whole = end.energy + 0.5 * end.carry.memory.square().sum(1)  # pyright: ignore[reportOperatorIssue]
        return float((whole - start.energy).abs().max())

    assert drift(0.05) < 1e-3
    assert 3.5 < drift(0.2) / drift(0.1) < 4.5


class Parts(ebm.Energy):
    """A latent of several parts, one of them a number a sample: independent normals of variances 4, 1 and 0.25."""

    def init_latent(self, c: Tensor, draw: Any) -> Pair:
        return Pair(torch.zeros_like(c), {"scale": torch.zeros_like(c[:, 0]), "grid": torch.zeros_like(c[:, :, None])})

    def forward(self, z: Pair, c: Tensor) -> Tensor:
        scale, grid = z.rest["scale"], z.rest["grid"]
        return z.mean.square().sum(1) / 8 + scale.square() / 2 + 2 * grid.square().sum((1, 2))


TREE = Pair(
    torch.full((2,), 4.0, dtype=torch.float64),
    {"scale": torch.tensor(1.0, dtype=torch.float64), "grid": torch.full((2, 1), 0.25, dtype=torch.float64)},
)
FLAT = torch.tensor([4.0, 4.0, 1.0, 0.25, 0.25], dtype=torch.float64)


@pytest.mark.parametrize("diagonal", [TREE, FLAT], ids=["tree", "flat"])
def test_a_diagonal_may_be_flat_or_a_tree(diagonal: Any):
    x = torch.zeros(200, 2, dtype=torch.float64)
    inverse = rows.map_rows(torch.reciprocal, diagonal)
    for solver in (ebm.MALA(0.5, preconditioner=diagonal), ebm.HMC(0.7, 2, mass=inverse)):
        trace = ebm.infer(Parts(), x, steps=120, solver=solver, record="z").trace["z"]
        steps, chains = trace.mean.shape[:2]
        flat = rows.flatten(rows.map_rows(lambda leaf: leaf.flatten(0, 1), trace))
        check_mean(flat.unflatten(0, (steps, chains)).transpose(0, 1)[:, 40:].square(), FLAT)


def test_flat_and_tree_take_the_same_steps():
    x = torch.zeros(4, 2, dtype=torch.float64)
    for make in (
        lambda d: ebm.Langevin(0.1, preconditioner=d),
        lambda d: ebm.UnderdampedLangevin(0.1, mass=d),
        lambda d: ebm.MALA(0.1, preconditioner=d),
    ):
        one, other = (ebm.infer(Parts(), x, steps=5, solver=make(d)).z for d in (TREE, FLAT))
        torch.testing.assert_close(rows.flatten(one), rows.flatten(other))


def test_mala_accepts_by_the_ratio_of_its_definition():
    """The densities of both proposals, written down, against one leapfrog step."""
    size, temperature, model = 0.6, 1.3, Gaussian()
    solver = ebm.MALA(size, temperature, preconditioner=COVARIANCE.diagonal())
    keys = torch.arange(400)
    draw, again = (ebm.Draw(keys, torch.zeros_like(keys)) for _ in range(2))
    z = MEAN + 0.7 * numbers(400, 3, seed=11)
    point = model.point(z, None)
    outcome = solver.step(lambda latent, samples=None: model.point(latent, None), point, solver.init(point), draw)  # type: ignore[arg-type]

    def density(end: Tensor, begin: Tensor) -> Tensor:
        variance = COVARIANCE.diagonal()
        mean = begin + size * variance * model.point(begin, None).force
        return -((end - mean).square() / variance).sum(1) / (4 * size * temperature)

    spread = (2 * size * temperature * COVARIANCE.diagonal()).sqrt()
    proposal = z + size * COVARIANCE.diagonal() * point.force + spread * again.normal(z)
    rise = (model(z, None) - model(proposal, None)) / temperature
    log_ratio = rise + density(z, proposal) - density(proposal, z)
    wanted = again.uniform(log_ratio).log() < log_ratio
    assert 40 < wanted.sum() < 390
    assert outcome.info.accepted is not None and torch.equal(outcome.info.accepted, wanted)
    torch.testing.assert_close(outcome.point.z, torch.where(wanted[:, None], proposal, z))


@pytest.mark.slow
def test_the_search_finds_the_rate_for_every_chain():
    """Chains of different scales, each too wide or too narrow by far, end at the rate asked for."""

    class Scaled(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c[:, :1] * draw.normal(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (z / c).square().sum(1)

    scales = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64).repeat_interleave(8)
    x = scales[:, None].expand(-1, 10).contiguous()
    for solver, target in ((ebm.HMC(0.3, 5, warmup=300), 0.8), (ebm.MALA(0.3, warmup=300, target=0.6), 0.6)):
        solution = ebm.infer(Scaled(), x, steps=800, solver=solver)
        rates = acceptance(solution)
        assert (rates.unflatten(0, (4, 8)).mean(1) - target).abs().max() < 0.09, rates
        sizes = solver.step_sizes(solution.carry.memory).unflatten(0, (4, 8)).log().mean(1)
        power = 2 if isinstance(solver, ebm.MALA) else 1
        torch.testing.assert_close(sizes.diff(), torch.full((3,), power * math.log(10)).double(), rtol=0, atol=0.4)
        assert (solution.carry.memory["tally"].proposed == 500).all()
        longer = ebm.infer(Scaled(), x, steps=5, solver=solver, resume=solution)
        assert torch.equal(longer.carry.memory["search"].offset, solution.carry.memory["search"].offset)


def test_a_proposal_that_is_not_finite_is_turned_down():
    class Cliff(ebm.Energy):
        """A normal distribution cut off at zero by an energy that is no number beyond."""

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.ones_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (0.5 * z.square() + 0 * z.sqrt()).sum(1)

    x = torch.zeros(400, 1, dtype=torch.float64)
    for solver in (ebm.MALA(0.5), ebm.HMC(0.3, 4), ebm.Tempering(ebm.MALA(0.5), (1.0, 2.0))):
        solution = ebm.infer(Cliff(), x, steps=150, solver=solver, record="z")
        assert (solution.status == ebm.Status.OUT_OF_STEPS).all() and (solution.trace["z"] > 0).all()
        check_mean(draws_of(solution, 50), torch.tensor([math.sqrt(2 / math.pi)], dtype=torch.float64))


def test_a_sample_whose_hot_replica_fails_says_so():
    class Steep(ebm.Energy):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return torch.where(z.abs() > 3, torch.nan, 0.5 * z.square()).sum(1)

    x = torch.zeros(50, 1, dtype=torch.float64)
    alone = ebm.infer(Steep(), x, steps=20, solver=ebm.Langevin(0.1, 0.25))
    assert (alone.status == ebm.Status.OUT_OF_STEPS).all()
    solution = ebm.infer(Steep(), x, steps=20, solver=ebm.Tempering(ebm.Langevin(0.1), (0.25, 50.0)))
    failed = solution.status == ebm.Status.NONFINITE
    assert failed.any() and solution.z.isfinite().all() and solution.energy.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    "solver",
    [
        ebm.UnderdampedLangevin(0.2),
        ebm.MALA(0.2),
        ebm.HMC(0.3, 2, jitter=0.2, warmup=2),
        ebm.Tempering(ebm.MALA(0.1), (1.0, 2.0)),
    ],
    ids=lambda s: type(s).__name__,
)
def test_gradients_through_a_sampler_are_those_of_finite_differences(solver: ebm.Solver):
    """Of what is not a decision: where proposals are accepted alike on both sides."""
    x = torch.zeros(6, 3, dtype=torch.float64)

    class Moved(Gaussian):
        def __init__(self, mean: Tensor) -> None:
            super().__init__()
            del self.mean
            self.mean = torch.nn.Parameter(mean)

    def value(mean: Tensor) -> tuple[Tensor, Tensor]:
        model = Moved(mean)
        z = ebm.infer(model, x, steps=4, solver=solver, adjoint=ebm.Unroll()).z
        total = z.square().sum()
        return total, torch.autograd.grad(total, model.mean)[0]  # type: ignore[arg-type]

    gradient = value(MEAN)[1]
    small = 1e-6
    for axis in range(3):
        move = small * torch.eye(3, dtype=torch.float64)[axis]
        slope = (value(MEAN + move)[0] - value(MEAN - move)[0]).detach() / (2 * small)
        torch.testing.assert_close(slope, gradient[axis], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        ebm.Langevin(0.1, preconditioner=COVARIANCE.diagonal()),
        ebm.UnderdampedLangevin(0.2),
        ebm.HMC(0.3, 2, warmup=3),
        ebm.Tempering(ebm.MALA(0.1), (1.0, 2.0)),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_compiled_sampler_takes_the_same_steps(solver: ebm.Solver):
    x, model = torch.zeros(4, 3, dtype=torch.float64), Gaussian()
    plain, compiled = (ebm.infer(model, x, steps=6, solver=solver, compile=flag) for flag in (False, True))
    torch.testing.assert_close(plain.z, compiled.z)
    assert torch.equal(plain.evals, compiled.evals) and plain.flops == compiled.flops


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ebm.Langevin(temperature=-1.0), r"Langevin\(temperature=.*may not be negative; got -1.0"),
        (
            lambda: ebm.Langevin(preconditioner=torch.tensor([1.0, 0.0])),
            r"preconditioner=.*above zero everywhere; got 0.0",
        ),
        (lambda: ebm.UnderdampedLangevin(friction=-1.0), r"friction=.*may not be negative"),
        (lambda: ebm.UnderdampedLangevin(mass=-torch.ones(2)), r"mass=.*above zero everywhere"),
        (lambda: ebm.MALA(0.0), r"MALA\(step_size=.*above zero; got 0.0"),
        (lambda: ebm.MALA(temperature=0.0), r"MALA\(temperature=.*above zero; got 0.0"),
        (lambda: ebm.MALA(warmup=-1), r"MALA\(warmup=.*whole number of steps; got -1"),
        (lambda: ebm.HMC(target=1.0), r"HMC\(target=.*in \(0, 1\); got 1.0"),
        (lambda: ebm.HMC(leapfrog=0), r"HMC\(leapfrog=.*at least 1; got 0"),
        (lambda: ebm.HMC(jitter=1.0), r"HMC\(jitter=.*\[0, 1\); got 1.0"),
        (lambda: ebm.Gibbs(0.0), r"Gibbs\(temperature=.*above zero; got 0.0"),
        (lambda: ebm.Gibbs(order="odd"), r"Gibbs\(order=.*\"random\" or \"cyclic\"; got 'odd'"),  # type: ignore[arg-type]
        (lambda: ebm.Tempering(ebm.MALA(), (1.0,)), r"at least two finite numbers that rise.*got\s+\(1.0,\)"),
        (lambda: ebm.Tempering(ebm.MALA(), (1.0, 1.0)), r"rise from above zero"),
        (lambda: ebm.Tempering(ebm.MALA(temperature=2.0)), r"sets the temperatures itself"),
    ],
)
def test_refusals(make: Any, words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_refusals_of_types_and_at_the_call():
    with pytest.raises(TypeError, match="wants a sampler; got Descent"):
        ebm.Tempering(ebm.Descent())
    with pytest.raises(TypeError, match=r"HMC\(mass=.*wants a floating tensor.*got 2.0"):
        ebm.HMC(mass=2.0)
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"one for each of the 3 numbers of a latent; got \(2,\)"):
        ebm.infer(Gaussian(), x, steps=1, solver=ebm.Langevin(preconditioner=torch.ones(2)))
    with pytest.raises(ValueError, match="Gibbs needs flip"):
        ebm.infer(Gaussian(), x, steps=1, solver=ebm.Gibbs())
    with pytest.raises(ValueError, match="`compile=True` does not suit Gibbs"):
        ebm.infer(ising(), numbers(2, 12).sign(), steps=1, solver=ebm.Gibbs(), compile=True)


def test_what_a_call_says_of_its_chains():
    solution = sampled(Gaussian(), ebm.HMC(0.35, 4), 16, 300, 3)
    found = describe(solution, discard=51)
    assert found.draws == 16 * 250 and found.rhat.max() < 1.02 and found.ess.min() > 400
    assert ((found.mean - MEAN).abs() < 4 * found.error).all()
    torch.testing.assert_close(found.std, COVARIANCE.diagonal().sqrt(), rtol=0.1, atol=0)
