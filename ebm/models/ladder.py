"""Landscapes that follow one another: a ladder, each sample on a rung of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Objective, Point, slope
from ebm.solvers import AdaptiveDescent, Annealed
from ebm.solvers.base import Solver
from ebm.solvers.rungs import OnRung, level_count

__all__ = ["Ladder", "Levelled"]


class Levelled(nn.Module):
    r"""A landscape that is told its level: :math:`E_k(z; x)` for :math:`k = 0 \ldots K - 1`, usually one network for all.

    Define ``forward(z, c, rung)``, which returns one energy a sample, shape (B,), and ``init_latent(c, draw)``; ``rung`` is
    int64 (B,), and samples of several rungs come together. A network that gives a force and no energy (a score) overrides
    ``point(z, c, rung)`` and sets ``has_energy = False``. It is settled as ``Ladder(model)``.

    Attributes:
        rungs: how many levels there are; set it on the class or the instance.
        has_energy: whether points carry an energy.

    Example:
        >>> import torch, ebm
        >>> class Sharpening(ebm.Levelled):
        ...     rungs = 3
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c, rung):
        ...         return 0.5 * (1 + rung) * (z - c).square().sum(1)
        >>> ebm.infer(ebm.Ladder(Sharpening()), torch.ones(1, 2), steps=60).answer
        tensor([[1., 1.]])

    Source: the noise-conditional networks of Song and Ermon (2019); the energies of Du, Mao and Tenenbaum (2024).
    """

    rungs: int = 0
    has_energy: ClassVar[bool] = True

    def condition(self, x: Any) -> Any:
        """What depends on the observation alone, a row tree; computed once a call. By default ``x`` itself."""
        return x

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where settling starts, on the first rung; ``draw`` is the only source of noise."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say where settling starts. "
            "Define `init_latent(self, c, draw)`, or pass `start=` a latent."
        )

    def forward(self, z: Any, c: Any, rung: Tensor) -> Tensor:
        """One energy a sample, (B,)."""
        raise NotImplementedError

    def point(self, z: Any, c: Any, rung: Tensor) -> Point:
        """The latent, its energy (B,) and minus the gradient, each sample in the landscape of its rung."""
        gradient, energy = slope(lambda latent: self._checked(latent, c, rung), z)
        return Point(z, energy, rows.map_rows(torch.neg, gradient))

    def readout(self, z: Any, c: Any) -> Any:
        """The answer read off a latent. By default the latent itself."""
        return z

    def _checked(self, z: Any, c: Any, rung: Tensor) -> Tensor:
        energy, batch = self(z, c, rung), len(rung)
        if isinstance(energy, Tensor) and energy.shape == (batch,):
            return energy
        got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(
            f"`{type(self).__name__}.forward` must return one energy a sample, shape ({batch},); got {got}. "
            "Sum over every axis but the first."
        )


class Ladder(Objective):
    r"""A ladder of landscapes over one latent: :math:`E(z, k; x) = E_k(z; x)`, with the rung k a part of the state.

    The latent is an `OnRung`: the latent ``z`` of the landscapes, and the ``rung`` of each sample, on which no force acts. The
    solver `Annealed` moves samples from rung to rung; any other leaves them where they are. ``start=`` is an `OnRung`, or,
    with `Annealed`, a latent of the landscapes. The residual is that of ``z``, the answer that of the last landscape.

    Each sample is evaluated in its own landscape only. Landscapes that are one object are evaluated together, so a ladder of
    temperatures, ``Ladder([model] * 5)``, costs what the model costs. FLOPs are priced on the first rung: landscapes
    should be of one architecture where a FLOP budget is used.

    Args:
        landscapes: energies, first to last, that all see the same observation; or one `Levelled` module.

    Raises:
        TypeError: a landscape that is no energy.
        ValueError: no landscape, or one whose force is not minus its gradient (a memory with discrete latents, say).

    Example:
        >>> import torch, ebm
        >>> ladder = ebm.Ladder([ebm.ModernHopfield(torch.eye(2), beta=beta) for beta in (4.0, 8.0, 16.0)])
        >>> ebm.infer(ladder, torch.tensor([[0.6, 0.4]]), steps=60).answer.round(decimals=2)
        tensor([[1., 0.]])

    Source: Du, Mao and Tenenbaum (2024), Learning iterative reasoning through energy diffusion; simulated annealing,
    Kirkpatrick, Gelatt and Vecchi (1983), for ladders of temperatures.
    """

    def __init__(self, landscapes: Sequence[Objective] | Levelled) -> None:
        super().__init__()
        self.levels = landscapes if isinstance(landscapes, Levelled) else _Several(landscapes)
        if self.levels.rungs < 1:
            raise ValueError(
                f"`Ladder` needs at least one landscape; got {self.levels.rungs}. Pass energies, or set `rungs` on {type(self.levels).__name__}."
            )
        energy = {"energy"} if self.levels.has_energy else set[str]()
        self.provides = frozenset({"levels", level_count(self.rungs), *energy})

    @property
    def rungs(self) -> int:
        """How many landscapes there are."""
        return self.levels.rungs

    def condition(self, x: Any) -> Any:
        """The condition of the landscapes."""
        return self.levels.condition(x)

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where the first landscape starts, on the first rung."""
        z = self.levels.init_latent(c, draw)
        return OnRung(z, torch.zeros_like(rows.rms(z)))

    def forward(self, z: Any, c: Any) -> Tensor:
        """One energy a sample, (B,)."""
        return self.levels(z.z, c, self._whole(z.rung))

    def point(self, z: Any, c: Any) -> Point:
        """The point of each sample in its own landscape, with no force on the rung."""
        point = self.levels.point(z.z, c, self._whole(z.rung))
        return Point(OnRung(point.z, z.rung), point.energy, OnRung(point.force, torch.zeros_like(z.rung)))

    def readout(self, z: Any, c: Any) -> Any:
        """The answer of the last landscape."""
        return self.levels.readout(z.z, c)

    def residual(self, point: Point, c: Any) -> Tensor:
        """The root mean square of the force on ``z``."""
        return rows.rms(point.force.z)

    def move(self, point: Point, c: Any) -> Any:
        """The force; none acts on the rung."""
        return point.force

    def default_solver(self) -> Solver | None:
        """`AdaptiveDescent`, twenty steps a rung; the safe default of the library needs an energy."""
        return Annealed(AdaptiveDescent(), steps=20, rungs=self.rungs) if self.levels.has_energy else None

    def _whole(self, rung: Tensor) -> Tensor:
        """The rung as a number that can index."""
        return rung.detach().round().to(torch.int64).clamp(0, self.rungs - 1)


class _Several(Levelled):
    """Several energies as one landscape with levels."""

    def __init__(self, models: Sequence[Objective]) -> None:
        super().__init__()
        for model in models:
            _check_landscape(model)
        each: dict[int, int] = {}
        for model in models:
            each.setdefault(id(model), len(each))
        self.own = [each[id(model)] for model in models]
        self.models = nn.ModuleList(models[self.own.index(k)] for k in range(len(each)))
        self.rungs = len(models)

    def condition(self, x: Any) -> Any:
        return tuple(model.condition(x) for model in self._distinct())

    def init_latent(self, c: Any, draw: Draw) -> Any:
        return self._distinct()[self.own[0]].init_latent(c[self.own[0]], draw)

    def forward(self, z: Any, c: Any, rung: Tensor) -> Tensor:
        return self._each(lambda model, latent, part: model(latent, part), z, c, rung)

    def point(self, z: Any, c: Any, rung: Tensor) -> Point:
        return Point(*self._each(lambda model, latent, part: tuple(model.point(latent, part)), z, c, rung))

    def readout(self, z: Any, c: Any) -> Any:
        return self._distinct()[self.own[-1]].readout(z, c[self.own[-1]])

    def _each(self, ask: Callable[[Objective, Any, Any], Any], z: Any, c: Any, rung: Tensor) -> Any:
        """What each sample's own landscape answers, a row tree."""
        models = self._distinct()
        if len(models) == 1:
            return ask(models[0], z, c[0])
        which = torch.tensor(self.own, device=rung.device)[rung]
        present = which.unique().tolist()
        if len(present) == 1:
            return ask(models[present[0]], z, c[present[0]])
        chosen = [(which == k).nonzero().flatten() for k in present]
        answers = [
            ask(models[k], rows.take(z, index), rows.take(c[k], index))
            for k, index in zip(present, chosen, strict=True)
        ]
        return rows.take(rows.cat(answers), torch.cat(chosen).argsort())

    def _distinct(self) -> list[Objective]:
        return list(self.models)  # pyright: ignore[reportReturnType]


def _check_landscape(model: Any) -> None:
    if not isinstance(model, Objective) or "energy" not in model.provides:
        raise TypeError(
            f"`Ladder` takes energies, or one `Levelled` module; got {type(model).__name__}. Pass an `ebm.Energy` for each rung."
        )
    if "gradient" not in model.provides:
        raise ValueError(
            f"`Ladder` takes energies whose force is minus their gradient; that of {type(model).__name__} is another. "
            "Use a smooth form of the model."
        )
