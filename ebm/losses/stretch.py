"""A stretch of answers that begins anywhere along the way: what losses over several answers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ebm import rows
from ebm.engine import Look, Stop, Unroll, infer, stream
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["Begin", "Elsewhere", "Stretch", "neighbour"]


class Begin(Protocol):
    """Says where a batch begins to settle."""

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """A latent, a row tree of B samples, made without a gradient; or None for the model's own start."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """Begin where another observation has settled: latents that are old, sure of themselves, and wrong.

    What is settled on large problems has been undecided for longer than anything in training; a model that always begins afresh never
    sees such latents. With ``change=neighbour`` it begins at the answer to another problem and learns to give one that does not depend on the
    start; with a change to an easier or looser problem, whose answer contains the wanted one, it learns to go on from there.

    Args:
        change: ``change(x, generator)``, another observation of the same shape; `neighbour`, say.
        steps: settled under it without a gradient: (least, most), both included, drawn once a batch.
        odds: probability that a batch begins so, in [0, 1].

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import Elsewhere, Progressive, neighbour
        >>> rule = Progressive(torch.nn.functional.cross_entropy, begin=Elsewhere(neighbour, (0, 20), odds=0.5))
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> loss = rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long(), torch.Generator().manual_seed(0))

    Source: ours; latents of another observation as in the measure of Anil et al. (2022), Path independent equilibrium models.
    """

    change: Callable[[Any, torch.Generator], Any]
    steps: tuple[int, int] = (0, 32)
    odds: float = 0.5

    def __post_init__(self) -> None:
        check_range("Elsewhere", "steps", self.steps, 0)
        if not 0 <= self.odds <= 1:
            raise ValueError(f"`Elsewhere(odds=...)` is a probability; got {self.odds}. Pass a number from 0 to 1.")

    def __call__(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """Latents of the changed observation, or None."""
        if torch.rand((), generator=generator, device=generator.device) >= self.odds:
            return None
        other, count = self.change(x, generator), drawn(self.steps, generator)
        return (
            infer(model, other, steps=count, keep="last", stop=never(model), generator=generator).raise_for_status().z
        )


def neighbour(x: Any, generator: torch.Generator) -> Any:
    """Each sample's observation is that of the sample before it.

    Example:
        >>> import torch
        >>> from ebm.losses import neighbour
        >>> neighbour(torch.tensor([[1.0], [2.0], [3.0]]), torch.Generator())
        tensor([[3.],
                [1.],
                [2.]])
    """
    return rows.map_rows(lambda leaf: leaf.roll(1, 0), x)


@dataclass(frozen=True)
class Stretch:
    """Settle for n random steps without a gradient, then for k with one, and look at each of these k answers.

    Args:
        burn_in: n >= 0, or (least, most) to draw n from, both included.
        steps: k >= 1, or (least, most) to draw k from, both included.
        noise_start: probability in [0, 1] that a batch starts from noise.
        noise_scale: standard deviation of that noise, >= 0, in units of the latent.
        begin: where a batch begins; None, and wherever it says None: the model's own start, or noise.
        solver: how the latent moves; None asks the model.

    Raises:
        TypeError: steps that are not whole numbers.
        ValueError: a setting outside its range.

    Example:
        >>> from ebm.losses import Stretch
        >>> Stretch(burn_in=(0, 30), steps=8).steps
        8

    Source: Bansal et al. (2022), End-to-end algorithm synthesis with recurrent networks, section 3.2.
    """

    burn_in: int | tuple[int, int] = 0
    steps: int | tuple[int, int] = 8
    noise_start: float = 0.0
    noise_scale: float = 1.0
    begin: Begin | None = None
    solver: Solver | None = None

    def __post_init__(self) -> None:
        check_stretch("Stretch", self)

    def answers(self, model: Objective, x: Any, generator: torch.Generator | None) -> tuple[int, Iterator[Solution]]:
        """How many answers there will be, and an iterator over them, each with a graph.

        Raises:
            ValueError: no generator, though something is to be drawn.
            InferenceError: from the iterator: some samples ended NONFINITE; training on the others in silence would hide it.
        """
        if generator is None and (self.noise_start or self.begin or _random(self.burn_in) or _random(self.steps)):
            raise ValueError(
                "This loss draws its burn-in, steps and start from a generator; got none. Pass "
                "`generator=torch.Generator().manual_seed(0)`, the same one to every call, or settings that draw nothing."
            )
        burnt, count = drawn(self.burn_in, generator), drawn(self.steps, generator)
        begin = self._begin(model, x, generator)
        options: dict[str, Any] = {"solver": self.solver, "stop": never(model), "generator": generator}
        if burnt:
            # the solver's memory goes on, so training sees the very path that settling takes
            begin = {"resume": infer(model, x, steps=burnt, keep="last", **begin, **options).raise_for_status()}
        items = stream(model, x, steps=count, adjoint=Unroll(), **begin, **options)
        return count, self._after_each(items)

    def _after_each(self, items: Iterator[Solution]) -> Iterator[Solution]:
        next(items).raise_for_status()  # before the first step
        for item in items:
            yield item.raise_for_status()

    def _begin(self, model: Objective, x: Any, generator: torch.Generator | None) -> dict[str, Any]:
        """Where settling begins: where `begin` says, at noise, or (nothing) at the model's own start."""
        if generator is None:
            return {}
        latent = None if self.begin is None else self.begin(model, x, generator)
        if latent is not None:
            return {"start": latent}
        if not self.noise_start or torch.rand((), generator=generator, device=generator.device) >= self.noise_start:
            return {}
        keys = draw_keys(rows.count(x), next(rows.leaves(x)).device, generator)
        draw = Draw(keys, torch.full_like(keys, -1))
        with torch.no_grad():
            like = model.init_latent(model.condition(x), draw)
        return {"start": rows.scale(draw.normal(like), self.noise_scale)}


def check_stretch(owner: str, settings: Any) -> None:
    """Raise unless the settings of a stretch are within their ranges."""
    check_range(owner, "burn_in", settings.burn_in, 0)
    check_range(owner, "steps", settings.steps, 1)
    if not 0 <= settings.noise_start <= 1:
        raise ValueError(
            f"`{owner}(noise_start=...)` is a probability; got {settings.noise_start}. Pass a number from 0 to 1."
        )
    if not settings.noise_scale >= 0:
        raise ValueError(f"`{owner}(noise_scale=...)` may not be negative; got {settings.noise_scale}. Try 1.")


@dataclass(frozen=True)
class _Never(Stop):
    """Never done; in the place of the stop rule that a model names for serving."""

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        return torch.zeros_like(look.residual, dtype=torch.bool), None


def never(model: Objective) -> Stop | None:
    """A rule that is never met, for models that name one of their own."""
    return None if model.default_stop() is None else _Never()


def _random(span: int | tuple[int, int]) -> bool:
    return not isinstance(span, int) and span[0] < span[1]


def drawn(span: int | tuple[int, int], generator: torch.Generator | None) -> int:
    """A number of steps, drawn where there is a choice."""
    if isinstance(span, int):
        return span
    if generator is None or span[0] == span[1]:
        return span[0]
    return int(torch.randint(span[0], span[1] + 1, (), generator=generator, device=generator.device))


def check_range(owner: str, name: str, span: Any, lowest: int) -> None:
    """Raise unless a span is a whole number of steps, or two."""
    ends = (span, span) if isinstance(span, int) else span
    whole = isinstance(ends, tuple) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole:
        raise TypeError(
            f"`{owner}({name}=...)` is a whole number of steps, or (least, most); got {span!r}. Try ({lowest}, 8)."
        )
    if not lowest <= ends[0] <= ends[1]:
        raise ValueError(f"`{owner}({name}=...)` wants {lowest} <= least <= most; got {span!r}. Try ({lowest}, 8).")
