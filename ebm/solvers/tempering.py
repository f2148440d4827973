"""Parallel tempering: replicas at several temperatures that trade places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Flip, Point
from ebm.solvers.base import Field, Info, Solver, Step, View, Wrapper
from ebm.solvers.metropolis import Tally, accepts

__all__ = ["Tempering"]


@dataclass(frozen=True)
class Tempering(Wrapper):
    r"""Parallel tempering: each sample holds a replica at every temperature of a ladder, and neighbours trade places.

    A step moves every replica once with the sampler inside, all in one evaluation of the batch, and then proposes swaps of
    neighbours, of even and of odd pairs in turn. A swap of replicas k and l is accepted with the probability

    .. math:: \min\big(1, e^{(1/T_k - 1/T_l)(E_k - E_l)}\big)

    so the coldest replica, which is the latent returned, samples :math:`p(z) \propto e^{-E(z)/T_0}` as the sampler inside
    would, but crosses barriers by way of the hot ones. A step costs as many evaluations as there are temperatures.

    Args:
        inner: a sampler at temperature 1, which is shown :math:`E/T_k`: `MALA`, `HMC`, `Langevin`, `UnderdampedLangevin`,
            `Gibbs`. Its step size holds for E/T_k; with a ``warmup`` each replica of each sample finds its own.
        temperatures: T_0 < T_1 < ..., at least two, all above zero; a factor between neighbours works well, such that the
            swaps of every pair are accepted in about a fifth to a half of the cases (`ebm.diagnostics.swaps`).

    Raises:
        TypeError: ``inner`` is no sampler.
        ValueError: an inner temperature other than one, or temperatures that do not rise from above zero.

    Example:
        >>> import torch, ebm
        >>> from ebm.diagnostics import swaps
        >>> solver = ebm.Tempering(ebm.MALA(0.1), temperatures=(1.0, 2.0, 4.0))
        >>> memory, generator = ebm.ModernHopfield(torch.eye(2)), torch.Generator().manual_seed(0)
        >>> solution = ebm.infer(memory, torch.zeros(5, 2), steps=20, solver=solver, generator=generator)
        >>> swaps(solution).shape
        torch.Size([5, 2])

    Source: Swendsen and Wang (1986); Geyer (1991); Hukushima and Nemoto (1996). All replicas start from one latent. A
    sample of which any replica turns to NaN ends NONFINITE.
    """

    inner: Solver
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    keep: ClassVar[str] = "last"
    noisy: ClassVar[bool] = True
    samples: ClassVar[bool] = True
    recalls: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Solver) or not self.inner.samples:
            raise TypeError(
                f"`Tempering(inner, ...)` wants a sampler; got {self.inner!r}. Pass `Tempering(MALA(0.1), (1.0, 2.0, 4.0))`, say."
            )
        own = getattr(self.inner, "temperature", 1.0)
        if own != 1:
            raise ValueError(
                f"`Tempering` sets the temperatures itself; got {self.inner!r} at {own}. Leave the inner one at 1."
            )
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        rising = all(low < high for low, high in zip(self.temperatures, self.temperatures[1:], strict=False))
        if (
            len(self.temperatures) < 2
            or not rising
            or not self.temperatures[0] > 0
            or math.isinf(self.temperatures[-1])
        ):
            raise ValueError(
                "`Tempering(temperatures=...)` wants at least two finite numbers that rise from above zero; got "
                f"{self.temperatures}. Try (1.0, 2.0, 4.0)."
            )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the sampler inside needs, and energies to compare."""
        return self.inner.needs | {"energy"}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """What the sampler inside asks, for each temperature."""
        return {kind: len(self.temperatures) * times for kind, times in self.inner.most(z, differentiated).items()}

    def init(self, point: Point) -> Any:
        """The replicas but the coldest, the sampler's memory of each temperature, the steps taken and the tally of swaps."""
        count, energy = len(self.temperatures), _energy(point)
        hot = rows.map_rows(lambda leaf: leaf.unsqueeze(1).expand(-1, count - 1, *leaf.shape[1:]), tuple(point))
        ladder = _Ladder.of(self.temperatures, energy)
        moves = self.inner.init(ladder.scaled(Point(*rows.take(tuple(point), ladder.samples))))
        steps = torch.zeros_like(energy, dtype=torch.int64)
        none = steps[:, None].expand(-1, count - 1)
        return {"hot": hot, "moves": _grouped(moves, count), "steps": steps, "swaps": Tally(none, none)}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One step of every replica at its temperature, then one round of swaps."""
        count, energy = len(self.temperatures), _energy(point)
        ladder = _Ladder.of(self.temperatures, energy)
        everyone = rows.map_rows(
            lambda cold, hot: torch.cat([cold.unsqueeze(1), hot], 1).flatten(0, 1), tuple(point), memory["hot"]
        )
        moved = self.inner.step(
            _Tempered(field, ladder), ladder.scaled(Point(*everyone)), _flat(memory["moves"]), _Folded(draw, count)
        )
        fresh, accepted = tuple(ladder.unscaled(moved.point)), moved.info.accepted
        # what stays is kept as it was: scaled to and fro at every step its energy would drift by rounding
        replicas = _grouped(fresh if accepted is None else rows.where(accepted, fresh, everyone), count)
        order, swapped, tally = self._swaps(replicas[1], memory, draw)
        index = (order + count * torch.arange(len(energy), device=order.device)[:, None]).flatten()
        replicas = _grouped(rows.take(_flat(replicas), index), count)
        new = Point(*rows.map_rows(lambda leaf: leaf[:, 0], replicas))
        sound = rows.finite(rows.map_rows(lambda leaf: leaf[:, 1:].flatten(1), replicas))
        new = new._replace(energy=torch.where(sound, _energy(new), torch.nan))
        hot = rows.map_rows(lambda leaf: leaf[:, 1:], replicas)
        accepted = None if accepted is None else _grouped(accepted, count)[:, 0] | swapped[:, 0]
        following = {"hot": hot, "moves": _grouped(moved.memory, count), "steps": memory["steps"] + 1, "swaps": tally}
        return Step(new, following, Info(accepted))

    def _swaps(self, energies: Tensor, memory: Any, draw: Draw) -> tuple[Tensor, Tensor, Tally]:
        """Who stands where after the swaps (B, R), which pairs swapped (B, R - 1), and their tally."""
        count = energies.shape[1]
        inverse = 1 / energies.new_tensor(self.temperatures)
        log_ratio = (inverse[:-1] - inverse[1:]) * (energies[:, :-1] - energies[:, 1:]).detach()
        pair = torch.arange(count - 1, device=energies.device)
        proposed = (pair + memory["steps"][:, None]) % 2 == 0
        swapped = proposed & accepts(log_ratio, draw)
        up, none = swapped.to(torch.int64), torch.zeros_like(memory["steps"])[:, None]
        place = torch.arange(count, device=energies.device)
        order = place + torch.cat([up, none], 1) - torch.cat([none, up], 1)
        return order, swapped, memory["swaps"].counted(swapped, proposed)


@dataclass(frozen=True)
class _Ladder:
    """The temperature and the sample of each replica, replicas of a sample side by side: both (B * R,)."""

    temperatures: Tensor
    samples: Tensor

    @staticmethod
    def of(temperatures: tuple[float, ...], energy: Tensor) -> _Ladder:
        batch, count = energy.shape[0], len(temperatures)
        samples = torch.arange(batch, device=energy.device).repeat_interleave(count)
        return _Ladder(energy.new_tensor(temperatures).repeat(batch), samples)

    def scaled(self, point: Point) -> Point:
        """The point of E/T."""
        return Point(point.z, _energy(point) / self.temperatures, rows.scale(point.force, 1 / self.temperatures))

    def unscaled(self, point: Point) -> Point:
        """The point of E, given that of E/T."""
        return Point(point.z, _energy(point) * self.temperatures, rows.scale(point.force, self.temperatures))


class _Tempered(View):
    """The field of E/T, asked about replicas."""

    def __init__(self, field: Field, ladder: _Ladder) -> None:
        super().__init__(field.of(ladder.samples))
        self._ladder = ladder

    def of(self, samples: Tensor) -> Field:
        some: Any = super().of(samples)
        some._ladder = _Ladder(self._ladder.temperatures[samples], self._ladder.samples[samples])
        return some

    def __call__(self, z: Any) -> Point:
        return self._ladder.scaled(self.field(z))

    def flip(self, z: Any, block: Tensor) -> Flip:
        flip = self.field.flip(z, block)
        return flip._replace(rise=flip.rise / self._ladder.temperatures)


class _Folded(Draw):
    """The noise of replicas: that of their sample, at places of their own."""

    def __init__(self, draw: Draw, count: int) -> None:
        self._draw = draw
        self._count = count

    def normal(self, like: Any) -> Any:
        return _flat(self._draw.normal(_grouped(like, self._count)))

    def uniform(self, like: Any) -> Any:
        return _flat(self._draw.uniform(_grouped(like, self._count)))


def _grouped(tree: Any, count: int) -> Any:
    """Rows of replicas (B * R, ...) as rows of samples (B, R, ...)."""
    return rows.map_rows(lambda leaf: leaf.unflatten(0, (leaf.shape[0] // count, count)), tree)


def _flat(tree: Any) -> Any:
    """Rows of samples (B, R, ...) as rows of replicas (B * R, ...)."""
    return rows.map_rows(lambda leaf: leaf.flatten(0, 1), tree)


def _energy(point: Point) -> Tensor:
    assert point.energy is not None  # `needs` says so at the door
    return point.energy
