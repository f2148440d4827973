"""Sampling by Hamiltonian trajectories and a test of acceptance: exact, whatever the step size."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.diagonal import check_diagonal, over, times
from ebm.solvers.metropolis import Search, Tally, accepts, check_hot, check_search, searched
from ebm.solvers.trial import Trial, evaluate_trial

__all__ = ["HMC", "MALA"]


class _Trajectory(Solver):
    """A trajectory of leapfrog steps from a fresh momentum, kept or turned down as a whole, sample by sample."""

    step_size: float | Tensor
    temperature: float
    warmup: int
    target: float
    _power: ClassVar[int] = 1  # of a time in the step size
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "gradient"})
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    samples: ClassVar[bool] = True

    @property
    @abstractmethod
    def _length(self) -> int:
        """How many leapfrog steps."""

    @abstractmethod
    def _time(self, like: Tensor, draw: Draw) -> Any:
        """The time step before any search; a number, or one a sample (B,)."""

    @abstractmethod
    def _variance(self, like: Any) -> Any:
        """The diagonal inverse mass over a latent; None for ones."""

    def init(self, point: Point) -> Any:
        """The tally of proposals, and, with a warm-up, the search for each sample's step size."""
        energy = _energy(point).detach()
        none = torch.zeros_like(energy, dtype=torch.int64)
        return {"tally": Tally(none, none), "search": Search.begun(energy) if self.warmup else None}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """An evaluation a leapfrog step, and one more each where a trial that is not finite must not reach a graph."""
        return {"point": self._length * (2 if differentiated else 1)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One trajectory and its test."""
        search, energy = memory["search"], _energy(point)
        size = self._time(energy, draw)
        size = size if search is None else size * search.offset.exp()
        spin = draw.normal(point.z)
        trial, end = self._travelled(field, point, spin, size)
        change = (energy - _energy(trial.point)) / self.temperature
        log_ratio = change + 0.5 * (rows.dot(spin, spin) - rows.dot(end, end))
        log_ratio = torch.where(trial.finite, log_ratio.detach(), -torch.inf)
        accepted = accepts(log_ratio, draw)
        new = Point(*rows.where(accepted, tuple(trial.point), tuple(point)))
        settled = None if search is None else search.steps >= self.warmup
        tally = memory["tally"].counted(accepted, settled)
        search = None if search is None else searched(search, log_ratio, self.target, self.warmup)
        return Step(new, {"tally": tally, "search": search}, Info(accepted))

    def step_sizes(self, memory: Any) -> Tensor:
        """The step size that each sample uses now, (B,), read off the memory of a carry: its own after a warm-up."""
        search = memory["search"]
        unit = torch.ones_like(memory["tally"].proposed, dtype=torch.float64)
        return self.step_size * (unit if search is None else (self._power * search.offset).exp())

    def _travelled(self, field: Field, point: Point, spin: Any, size: Any) -> tuple[Trial, Any]:
        """The end of a trajectory, and its momentum in units of what the temperature gives it."""
        inverse = self._variance(point.z)
        root = rows.map_rows(torch.sqrt, inverse)
        stride, kick = size * self.temperature**0.5, 0.5 * size / self.temperature**0.5
        trial = Trial(point, torch.ones_like(_energy(point), dtype=torch.bool))
        for _ in range(self._length):
            spin = rows.add(spin, times(trial.point.force, root), kick)
            z = rows.add(trial.point.z, times(spin, root), stride)
            new = evaluate_trial(field, z, point)
            trial = Trial(new.point, trial.finite & new.finite)
            spin = rows.add(spin, times(new.point.force, root), kick)
        return trial, spin


@dataclass(frozen=True)
class MALA(_Trajectory):
    r"""Langevin dynamics with a test of acceptance: samples :math:`p(z) \propto e^{-E(z)/T}` without a bias.

    .. math:: z' = z + a P F(z) + \sqrt{2 a T P}\,\xi, \qquad
              \alpha = \min\Big(1, \frac{p(z')\, q(z \mid z')}{p(z)\, q(z' \mid z)}\Big)

    with q the density of a proposal. Each sample is accepted or turned down by itself; a proposal that is not finite is
    turned down. One evaluation a step. With a ``warmup`` each sample finds the step size that accepts as often as ``target``
    says, by dual averaging, and keeps it from then on; draws of the warm-up are to be left out.

    Args:
        step_size: a > 0; float or tensor. The first one tried, with a warm-up.
        temperature: T > 0.
        preconditioner: the diagonal P > 0: a tensor with one number for each number of a latent, a tree of tensors like
            the latent without its sample axis, or None for ones.
        warmup: for how many steps the step size is sought; zero keeps it as set.
        target: the rate of acceptance sought, in (0, 1).

    Raises:
        ValueError: a setting outside its range; at the call, a preconditioner of another size than the latent.
        TypeError: a preconditioner without floating tensors.

    Example:
        >>> import torch, ebm
        >>> from ebm.diagnostics import acceptance
        >>> memory = ebm.ModernHopfield(torch.eye(2))
        >>> solution = ebm.infer(memory, torch.zeros(3, 2), steps=20, solver=ebm.MALA(0.1), generator=torch.Generator().manual_seed(0))
        >>> acceptance(solution).shape
        torch.Size([3])

    Source: Besag (1994); Roberts and Tweedie (1996). Computed as one leapfrog step of time :math:`\sqrt{2a}` with the
    inverse mass P, which makes the same proposals with the same probabilities. The search is that of Hoffman and Gelman (2014).
    """

    step_size: float | Tensor = 0.1
    temperature: float = 1.0
    preconditioner: Any = None
    warmup: int = 0
    target: float = 0.574
    _power: ClassVar[int] = 2

    def __post_init__(self) -> None:
        positive("MALA", "step_size", self.step_size)
        check_hot("MALA", self.temperature)
        check_diagonal("MALA", "preconditioner", self.preconditioner)
        check_search("MALA", self.warmup, self.target)

    @property
    def _length(self) -> int:
        return 1

    def _time(self, like: Tensor, draw: Draw) -> Any:
        return (2 * self.step_size) ** 0.5

    def _variance(self, like: Any) -> Any:
        return over(self.preconditioner, like)


@dataclass(frozen=True)
class HMC(_Trajectory):
    r"""Hamiltonian Monte Carlo: samples :math:`p(z) \propto e^{-E(z)/T}` by long moves that are accepted often.

    Each step draws a momentum :math:`p \sim N(0, T M)`, follows :math:`M \dot z = p,\; \dot p = F(z)` for ``leapfrog`` steps
    of time a, and accepts the end with the probability :math:`\min(1, e^{(H - H')/T})`, :math:`H = E + p^T M^{-1} p / 2`.
    Each sample is accepted or turned down by itself; a trajectory that is not finite is turned down. ``leapfrog``
    evaluations a step. With a ``warmup`` each sample finds the step size that accepts as often as ``target`` says, by dual
    averaging, and keeps it from then on; draws of the warm-up are to be left out.

    Args:
        step_size: a > 0, a time; float or tensor. The first one tried, with a warm-up.
        leapfrog: the number of leapfrog steps, at least 1. A trajectory should cross the distribution once: their product
            with ``step_size`` about the largest standard deviation, and a few times that where it is curved.
        temperature: T > 0.
        mass: the diagonal M > 0: a tensor with one number for each number of a latent, a tree of tensors like the latent
            without its sample axis, or None for ones. About one over the variances wanted is a good choice.
        jitter: in [0, 1): each step draws its time step from a (1 - jitter) to a (1 + jitter), so that no trajectory
            closes on itself step after step.
        warmup: for how many steps the step size is sought; zero keeps it as set.
        target: the rate of acceptance sought, in (0, 1).

    Raises:
        ValueError: a setting outside its range; at the call, a mass of another size than the latent.
        TypeError: a mass without floating tensors.

    Example:
        >>> import ebm
        >>> ebm.HMC(0.2, leapfrog=8).most(None)
        {'point': 8}

    Source: Duane et al. (1987); Neal (2011), figure 2. The search is that of Hoffman and Gelman (2014).
    """

    step_size: float | Tensor = 0.1
    leapfrog: int = 10
    temperature: float = 1.0
    mass: Any = None
    jitter: float = 0.0
    warmup: int = 0
    target: float = 0.8

    def __post_init__(self) -> None:
        positive("HMC", "step_size", self.step_size)
        if isinstance(self.leapfrog, bool) or not isinstance(self.leapfrog, int) or self.leapfrog < 1:
            raise ValueError(
                f"`HMC(leapfrog=...)` is a whole number of steps, at least 1; got {self.leapfrog!r}. Try 10."
            )
        check_hot("HMC", self.temperature)
        check_diagonal("HMC", "mass", self.mass)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"`HMC(jitter=...)` must lie in [0, 1); got {self.jitter}. Try 0.2.")
        check_search("HMC", self.warmup, self.target)

    @property
    def _length(self) -> int:
        return self.leapfrog

    def _time(self, like: Tensor, draw: Draw) -> Any:
        if not self.jitter:
            return self.step_size
        return self.step_size * (1 + self.jitter * (2 * draw.uniform(like) - 1))

    def _variance(self, like: Any) -> Any:
        return rows.map_rows(torch.reciprocal, over(self.mass, like))


def _energy(point: Point) -> Tensor:
    assert point.energy is not None  # `needs` says so at the door
    return point.energy
