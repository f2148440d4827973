"""A stretch of answers that begins anywhere along the way: what losses over several answers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ebm.engine import Detached, Unroll, infer, stream
from ebm.losses.begins import Begin, Noisy
from ebm.losses.spans import check_range, drawn, never, uncertain
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["Stretch", "check_stretch"]


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
        if generator is None and (self.noise_start or self.begin or uncertain(self.burn_in) or uncertain(self.steps)):
            raise ValueError(
                "This loss draws its burn-in, steps and start from a generator; got none. Pass "
                "`generator=torch.Generator().manual_seed(0)`, the same one to every call, or settings that draw nothing."
            )
        burnt, count = drawn(self.burn_in, generator), drawn(self.steps, generator)
        begin = self._begin(model, x, generator)
        options: dict[str, Any] = {"solver": self.solver, "stop": never(model), "generator": generator}
        if burnt:
            # the solver's memory goes on, so training sees the very path that settling takes
            begin = {
                "resume": infer(
                    model, x, steps=burnt, adjoint=Detached(), keep="last", **begin, **options
                ).raise_for_status()
            }
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
        for begin in (self.begin, Noisy(self.noise_scale, self.noise_start)):
            latent = None if begin is None else begin(model, x, generator)
            if latent is not None:
                return {"start": latent}
        return {}


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
