"""Which of several replicas is shown: the one that lies lowest, that is nearest to rest, or that most of the others agree with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Point

__all__ = ["Agreement", "Choice", "LowestEnergy", "LowestResidual"]


class Choice(ABC):
    """How `Restarts` tells better replicas from worse; a frozen dataclass of settings.

    Attributes:
        keep: which point a call returns by default, as `Solver.keep`; None: what the solver inside says.
    """

    keep: ClassVar[str | None] = None

    @abstractmethod
    def cost(self, points: Point, alive: Tensor) -> Tensor:
        """A number for each replica, the lower the better, (B, n), which may depend on the other replicas of its sample.

        Args:
            points: of all replicas, a row each, those of a sample side by side: B * n rows.
            alive: bool (B, n), who is in the race; others are neither chosen nor asked.
        """

    def order(self, points: Point, alive: Tensor) -> Tensor:
        """The numbers of each sample's replicas from the best to the worst, (B, n); those out of the race come last.

        Of equal ones the lower number comes first.
        """
        with torch.no_grad():
            cost = self.cost(points, alive)
            worst = torch.inf if cost.is_floating_point() else torch.iinfo(cost.dtype).max
            return cost.masked_fill(~alive, worst).argsort(dim=1, stable=True)


@dataclass(frozen=True)
class LowestEnergy(Choice):
    """The replica with the lowest energy; for an update, which has none, the one nearest to rest.

    Example:
        >>> import ebm
        >>> ebm.Restarts(8, ebm.AdaptiveDescent(), spread=1.0).choose
        LowestEnergy()
    """

    def cost(self, points: Point, alive: Tensor) -> Tensor:
        """Energies, without the digits that depend on who is computed together."""
        return _coarse(_rest(points) if points.energy is None else points.energy.detach()).view(alive.shape)


@dataclass(frozen=True)
class LowestResidual(Choice):
    """The replica nearest to rest: the smallest root mean square of the force.

    For energies where a point on a slope may lie lower than any at rest, or whose height does not say which answer is right; an update
    goes by it anyway. The best point so far of an energy goes by the energy, so a call keeps the last one.

    Example:
        >>> import torch, ebm
        >>> class Tilted(ebm.Energy):
        ...     def init_latent(self, c, draw):
        ...         return draw.normal(c)
        ...     def forward(self, z, c):
        ...         return ((z.square() - 1).square() + c * z).sum(1)
        >>> solver = ebm.Restarts(8, ebm.Descent(0.01), choose=ebm.LowestResidual())
        >>> found = ebm.infer(Tilted(), torch.zeros(2, 1), steps=20, solver=solver, generator=torch.Generator().manual_seed(0))
        >>> all_ = found.carry.memory.points.force.abs()
        >>> bool((found.residual[:, None] <= all_[..., 0]).all())
        True
    """

    keep: ClassVar[str | None] = "last"

    def cost(self, points: Point, alive: Tensor) -> Tensor:
        """Root mean squares of the forces, without the digits that depend on who is computed together."""
        return _coarse(_rest(points)).view(alive.shape)


@dataclass(frozen=True)
class Agreement(Choice):
    r"""The replica that most agrees with the others of its sample: the right answer is one, and wrong ones differ.

    For models whose rest says nothing about the answer, above all updates: every fixed point has the residual zero. With a function ``answer`` the replicas vote:
    replica i has as many votes as there are replicas with the very same answer, and the most win. Without one they agree by degrees, and the medoid is
    chosen, which has the least mean distance to the others:

    .. math:: \arg\min_i \sum_{j} d(z_i, z_j), \qquad d(z, z') = \sqrt{\textstyle\frac{1}{D} \sum_k (z_k - z'_k)^2}

    Only replicas in the race are chosen and asked. A drop (``every``) drops those who agree least. Ties go to the lower number, so two replicas
    never outvote the call's own start. The best point so far goes by energy or residual, so a call keeps the last point; ``keep="best"`` would choose among the
    points shown by something else than agreement. What ``answer`` computes is not counted as work of the call.

    Args:
        answer: whole numbers or truth values (R, ...) read off the latents of R replicas, each row by itself, say
            ``lambda z: model.head(z).argmax(1)``; None: the latents' own distances.

    Raises:
        TypeError: ``answer`` cannot be called; in the first step, an answer that is not of whole numbers or truth values.

    Example:
        >>> import torch, ebm
        >>> class Leaning(ebm.Update):
        ...     def init_latent(self, c, draw):
        ...         return draw.normal(c)
        ...     def forward(self, z, c):
        ...         return (2 * z + c).tanh()
        >>> vote = ebm.Agreement(lambda z: z > 0)
        >>> solver = ebm.Restarts(15, ebm.Picard(), choose=vote)
        >>> x, generator = torch.tensor([[0.3], [-0.3]]), torch.Generator().manual_seed(0)
        >>> found = ebm.infer(Leaning(), x, steps=20, solver=solver, generator=generator)
        >>> found.z.sign().flatten().tolist()
        [1.0, -1.0]

    Source: Wang et al. (2023), self-consistency, for the vote; Kaufman and Rousseeuw (1987) for the medoid. The distances are not
    squared, for then the medoid is the replica nearest to the mean, which a few that went far astray can move at will.
    """

    answer: Callable[[Any], Any] | None = None
    keep: ClassVar[str | None] = "last"

    def __post_init__(self) -> None:
        if self.answer is not None and not callable(self.answer):
            raise TypeError(
                f"`Agreement(answer)` is a function of latents; got {type(self.answer).__name__}. Pass `lambda z: z > 0`, say."
            )

    def cost(self, points: Point, alive: Tensor) -> Tensor:
        """The mean distance to the others in the race, or the share of them with another answer."""
        z = rows.map_rows(lambda leaf: leaf.detach(), points.z)
        distance = _spread(z, alive) if self.answer is None else self._dissent(self.answer(z), alive)
        return (distance * alive[:, None, :]).sum(2)

    def _dissent(self, answers: Any, alive: Tensor) -> Tensor:
        """One where two replicas answer differently, (B, n, n)."""
        differs = torch.zeros(*alive.shape, alive.shape[1], dtype=torch.bool, device=alive.device)
        for leaf in rows.leaves(answers):
            if leaf.is_floating_point() or leaf.is_complex() or len(leaf) != alive.numel():
                raise TypeError(
                    f"`Agreement(answer)` reads whole numbers or truth values off {alive.numel()} latents, a row each; got {leaf.dtype} of shape "
                    f"{tuple(leaf.shape)}. Round them, `lambda z: z > 0`, or leave `answer` out to go by distances."
                )
            own = rows.flatten(leaf).unflatten(0, alive.shape)
            differs = differs | torch.stack([(own != own[:, j : j + 1]).any(2) for j in range(own.shape[1])], 2)
        return differs


def _spread(z: Any, alive: Tensor) -> Tensor:
    """Root mean square distances between a sample's replicas, (B, n, n), in units of their last digits."""
    flat = rows.flatten(z)
    flat = (flat.float() if flat.dtype.itemsize < 4 else flat).unflatten(0, alive.shape)
    each = [torch.linalg.vector_norm(flat - flat[:, j : j + 1], dim=2) for j in range(flat.shape[1])]
    size = torch.linalg.vector_norm(flat, dim=2).where(alive, 0.0).amax(1)
    # distances between replicas at one minimum are rounding, which must not choose
    unit = size * 2.0 ** -_digits(size.dtype)
    return (torch.stack(each, 2) / unit.clamp_min(torch.finfo(size.dtype).tiny)[:, None, None]).round().long()


def _rest(points: Point) -> Tensor:
    return rows.rms(points.force).detach()


def _digits(dtype: torch.dtype) -> int:
    return 20 if torch.finfo(dtype).bits <= 32 else 42


def _coarse(value: Tensor) -> Tensor:
    """A number without its last digits: rounding depends on who is computed together.

    It must not decide between replicas at the same or mirrored minima.
    """
    digits = 2.0 ** _digits(value.dtype)
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * digits).round() / digits, exponent)
