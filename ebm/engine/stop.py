"""Stop rules: mathematics that says when a sample is done. Resources are limited elsewhere, by a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.objective import Gap, Point

__all__ = ["AtRest", "Confident", "Look", "Plateau", "Reduced", "Stop", "as_known"]


class Look:
    """What a stop rule may see of the running samples; costly parts are computed only when asked for.

    Attributes:
        point: the running point.
        previous: the point before the last step; None before the first.
        accepted: bool (B,), whether the last step moved; None: all did.
        residual: (B,), how far from rest.
        answer: the model's read-out of the running latent.
        gap: a bound on what the energy may still lose, for objectives that list ``"gap"``.
    """

    def __init__(
        self,
        point: Point,
        previous: Point | None,
        accepted: Tensor | None,
        residual: Callable[[], Tensor],
        readout: Callable[[], Any],
        gap: Callable[[], Gap] | None = None,
    ) -> None:
        self.point = point
        self.previous = previous
        self.accepted = accepted
        self._residual = residual
        self._readout = readout
        self._gap = gap

    @cached_property
    def residual(self) -> Tensor:
        return self._residual()

    @cached_property
    def answer(self) -> Any:
        return self._readout()

    @cached_property
    def gap(self) -> Gap:
        assert self._gap is not None  # `needs` says so at the door
        return self._gap()


def as_known(residual: Tensor, point: Point) -> Tensor:
    r"""The residual (B,), and for an update no less than rounding may hide of it where the latent is far out.

    The force of an update is a difference, :math:`f(z) - z`, known to about :math:`\varepsilon |z|`: far enough out any move
    rounds to zero, and that is no rest. Latents up to :math:`\varepsilon^{-1/2}` (3,000 in single precision) are taken at
    their word; beyond, the tolerance must be one that can be known, as with ``AtRest(atol, rtol=...)``.
    """
    if point.energy is not None:
        return residual
    size = rows.rms(point.z).detach()
    eps = torch.finfo(size.dtype).eps
    return torch.where(size > eps**-0.5, torch.maximum(residual, eps * size), residual)


class Stop(ABC):
    """A rule that says which samples are done; a frozen dataclass of settings.

    A rule that compares one number with one threshold says so (``threshold_name`` and `strictest`); the threshold can then
    be calibrated.

    Attributes:
        needs: capabilities that the objective must provide.
        threshold_name: the field that holds the threshold; None where there is no such one.
        larger_is_stricter: whether a larger threshold lets a sample go later.
        in_a_row: at how many checks in a row the threshold must hold.
    """

    needs: frozenset[str] = frozenset()
    reads: bool = False  # whether a check asks for the read-out, whose work is then counted
    threshold_name: str | None = None
    larger_is_stricter: bool = False
    in_a_row: int = 1

    def init(self, look: Look) -> Any:
        """The memory before the first check: a row tree, or None."""
        return None

    @abstractmethod
    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        """Which samples are done, bool (B,), and the next memory. Also asked before the first step."""

    def strictest(self, look: Look) -> Tensor:
        """The strictest threshold that this check would meet, (B,); infinitely loose where none would do."""
        raise ValueError(
            f"`{type(self).__name__}` has no threshold of its own; one was asked for. Use `AtRest`, `Plateau`, `Confident` or "
            "`Patience` of these, or define `threshold_name` and `strictest`."
        )

    def followed(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        """The strictest threshold that this check would meet, (B,), and the next memory; for rules that add up over looks."""
        return self.strictest(look), memory

    def with_threshold(self, value: float) -> Stop:
        """The same rule with another threshold.

        Raises:
            ValueError: a rule without a threshold, or a value outside its range.
        """
        if self.threshold_name is None:
            raise ValueError(
                f"`{type(self).__name__}` has no threshold of its own; got {value} for it. Use `AtRest`, `Plateau`, "
                "`Confident` or `Patience` of these."
            )
        fields: dict[str, Any] = {self.threshold_name: value}
        return replace(self, **fields)  # pyright: ignore[reportArgumentType, reportCallIssue, reportReturnType]


def _not_negative(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"`{owner}({name}=...)` may not be negative; got {value}. Try 1e-4.")


@dataclass(frozen=True)
class AtRest(Stop):
    r"""Done when the residual is small: :math:`\text{RMS}(F) \le \text{atol} + \text{rtol}\,\text{RMS}(z)`.

    Args:
        atol: >= 0, in units of the latent.
        rtol: >= 0, relative to the size of the latent.

    Raises:
        ValueError: a negative tolerance.

    Example:
        >>> import torch, ebm
        >>> model = ebm.ModernHopfield(torch.eye(4), beta=20.0)
        >>> ebm.infer(model, torch.eye(4) + 0.1, steps=50, stop=ebm.AtRest(1e-5)).steps
        tensor([1, 1, 1, 1])

    Source: the residual test of any fixed-point solver; a root mean square, so that it means the same at any size.
    """

    atol: float = 1e-4
    rtol: float = 0.0
    threshold_name: ClassVar[str | None] = "atol"

    def __post_init__(self) -> None:
        _not_negative("AtRest", atol=self.atol, rtol=self.rtol)

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        bound = self.atol + self.rtol * rows.rms(look.point.z) if self.rtol else self.atol
        return look.residual <= bound, None

    def strictest(self, look: Look) -> Tensor:
        return look.residual - self.rtol * rows.rms(look.point.z) if self.rtol else look.residual


@dataclass(frozen=True)
class Reduced(Stop):
    r"""Done when the residual has fallen to a share of what it was: :math:`\text{RMS}(F) \le r\, \text{RMS}(F_0)`.

    :math:`F_0` is the force at the first look; a resumed call remembers it.

    Args:
        share: r in (0, 1).

    Raises:
        ValueError: a share outside (0, 1).

    Example:
        >>> import ebm
        >>> ebm.Reduced(1e-3)
        Reduced(share=0.001)

    Source: the relative residual test of iterative methods, Kelley (1995), section 1.1.
    """

    share: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"`Reduced(share=...)` must lie between 0 and 1; got {self.share}. Try 1e-3.")

    def init(self, look: Look) -> Any:
        """The first residual, (B,)."""
        return look.residual

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        return look.residual <= self.share * memory, memory


@dataclass(frozen=True)
class Plateau(Stop):
    r"""Done when a step changes the energy by little: :math:`|E' - E| \le \text{atol} + \text{rtol}\,|E|`.

    Rejected steps say nothing and are ignored. On a deep chain started from a forward pass the energy can pause long
    before rest: `AtRest` is the safer rule there.

    Args:
        atol: >= 0, in units of energy.
        rtol: >= 0, relative to the energy.

    Raises:
        ValueError: a negative tolerance.

    Example:
        >>> import ebm
        >>> ebm.Plateau(rtol=1e-3)
        Plateau(atol=1e-06, rtol=0.001)

    Source: the decrease test of any minimiser.
    """

    atol: float = 1e-6
    rtol: float = 1e-5
    needs: ClassVar[frozenset[str]] = frozenset({"energy"})
    threshold_name: ClassVar[str | None] = "atol"

    def __post_init__(self) -> None:
        _not_negative("Plateau", atol=self.atol, rtol=self.rtol)

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        energy = look.point.energy
        assert energy is not None  # `needs` says so at the door
        if look.previous is None or look.previous.energy is None:
            return torch.zeros_like(energy, dtype=torch.bool), None
        done = (energy - look.previous.energy).abs() <= self.atol + self.rtol * energy.abs()
        return done if look.accepted is None else done & look.accepted, None

    def strictest(self, look: Look) -> Tensor:
        energy = look.point.energy
        assert energy is not None  # `needs` says so at the door
        if look.previous is None or look.previous.energy is None:
            return torch.full_like(energy, torch.inf)
        change = (energy - look.previous.energy).abs() - self.rtol * energy.abs()
        return change if look.accepted is None else change.masked_fill(~look.accepted, torch.inf)


@dataclass(frozen=True)
class Confident(Stop):
    r"""Done when the read-out, taken as logits, is sure: :math:`\max_k \text{softmax}(\text{answer})_k \ge` threshold.

    The classes are axis 1 of the answer; where it has further axes (positions), every one of them must be sure.

    Args:
        threshold: in (0, 1].

    Raises:
        ValueError: a threshold outside (0, 1].

    Example:
        >>> import ebm
        >>> ebm.Confident(0.95)
        Confident(threshold=0.95)

    Source: the confidence rule of early-exit networks, e.g. Teerapittayanon et al. (2016), there with entropy.
    """

    threshold: float = 0.95
    reads: ClassVar[bool] = True
    threshold_name: ClassVar[str | None] = "threshold"
    larger_is_stricter: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"`Confident(threshold=...)` must lie in (0, 1]; got {self.threshold}. Try 0.95.")

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        return self.strictest(look) >= self.threshold, None

    def strictest(self, look: Look) -> Tensor:
        answer = look.answer
        if not isinstance(answer, Tensor) or answer.ndim < 2:
            got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(
                f"`Confident` needs logits of shape (B, classes, ...); the read-out gave {got}. Override `readout`, or use `AtRest`."
            )
        sure = answer.detach().float().softmax(1).amax(1)
        return sure if sure.ndim == 1 else sure.flatten(1).amin(1)
