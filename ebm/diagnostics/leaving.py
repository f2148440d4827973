"""When a sample would have left under every threshold, from one run without any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ebm.diagnostics.quality import Quality, scored
from ebm.engine import Detached, Look, Stop, infer, stream
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["Full", "Trial", "given_candidates", "own_candidates"]

_PER_DECADE = 16


@dataclass(frozen=True)
class _Watching(Stop):
    """Never stops, and remembers what threshold the other rule's check would have met.

    It does not say that it reads answers, so that the full run is charged as if no rule looked on.
    """

    rule: Stop

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.needs

    def init(self, look: Look) -> Any:
        inner = self.rule.init(look)
        return self.rule.followed(look, inner)[0], inner

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        level, inner = self.rule.followed(look, memory[1])
        return torch.zeros_like(level, dtype=torch.bool), (level, inner)


@dataclass(frozen=True, eq=False)
class Full:
    """A full run: level, quality and steps so far, each (S + 1, B); FLOPs executed."""

    level: Tensor
    quality: Tensor
    steps: Tensor
    flops: int


@dataclass(frozen=True)
class Trial:
    """What is tried: a model settled so, its answers judged so, under a rule."""

    stop: Stop
    model: Objective
    steps: int
    solver: Solver | None
    quality: Quality
    keep: Literal["best", "last"] | None

    def full(self, batches: list[tuple[Any, Any]], generator: torch.Generator | None) -> Full:
        """All batches for all their steps."""
        parts = [self._settle(x, y, generator) for x, y in batches]
        level, quality, steps = (
            torch.cat([getattr(part, name).cpu() for part in parts], 1) for name in ("level", "quality", "steps")
        )
        return Full(level, quality, steps, sum(part.flops for part in parts))

    def stopped(
        self, rule: Stop, batches: list[tuple[Any, Any]], generator: torch.Generator | None
    ) -> tuple[Tensor, float, int]:
        """The same with a rule that stops them: quality (B,), mean steps, and FLOPs executed."""
        found, taken, flops = [], [], 0
        for x, y in batches:
            end = infer(
                self.model,
                x,
                steps=self.steps,
                solver=self.solver,
                stop=rule,
                adjoint=Detached(),
                keep=self.keep,
                compact=True,
                generator=generator,
            )
            found.append(scored(self.quality, end.answer, y, len(end)).cpu())
            taken.append(end.steps.cpu())
            flops += end.flops
        return torch.cat(found), torch.cat(taken).double().mean().item(), flops

    def _settle(self, x: Any, y: Any, generator: torch.Generator | None) -> Full:
        worst = -math.inf if self.stop.larger_is_stricter else math.inf
        levels, qualities, taken, flops = [], [], [], 0
        watching = _Watching(self.stop)
        for item in stream(
            self.model,
            x,
            steps=self.steps,
            solver=self.solver,
            stop=watching,
            adjoint=Detached(),
            keep=self.keep,
            generator=generator,
        ):
            level, _ = item.carry.rest
            levels.append(level.detach().masked_fill(level.isnan(), worst))
            qualities.append(scored(self.quality, item.answer, y, len(item)))
            taken.append(item.steps)
            flops = item.flops
        missing = self.steps + 1 - len(levels)  # every sample ended early
        levels += [torch.full_like(levels[-1], worst)] * missing
        qualities += qualities[-1:] * missing
        taken += taken[-1:] * missing
        return Full(_lasting(torch.stack(levels), self.stop), torch.stack(qualities), torch.stack(taken), flops)


def _lasting(level: Tensor, stop: Stop) -> Tensor:
    """The best threshold met so far, over the last ``in_a_row`` checks each: what a threshold must be compared with."""
    times, sign = stop.in_a_row, -1.0 if stop.larger_is_stricter else 1.0
    level = level * sign
    padding = level.new_full((times - 1, level.shape[1]), math.inf)
    held = torch.cat([padding, level]).unfold(0, times, 1).amax(-1)
    return held.cummin(0).values * sign


def own_candidates(stop: Stop, level: Tensor) -> list[float]:
    """Candidates fixed beforehand, strictest first; of those looser than all that was seen, the first alone."""
    seen = level[level.isfinite()].double()
    if stop.larger_is_stricter:
        near = [round(1 - float(f"{10 ** (k / _PER_DECADE):.3g}"), 9) for k in range(-6 * _PER_DECADE, 0)]
        small = [float(f"{10 ** (-k / _PER_DECADE):.3g}") for k in range(_PER_DECADE, 4 * _PER_DECADE + 1)]
        grid = [1.0, *near, *small]
        loosest = seen.min().item() if len(seen) else 1.0
        beyond = [value for value in grid if value <= loosest]
    else:
        grid = [0.0, *(float(f"{10 ** (k / _PER_DECADE):.3g}") for k in range(-12 * _PER_DECADE, 6 * _PER_DECADE + 1))]
        loosest = seen.max().item() if len(seen) else 0.0
        beyond = [value for value in grid if value >= loosest]
    return grid[: len(grid) - max(len(beyond) - 1, 0)]


def given_candidates(stop: Stop, thresholds: Sequence[float]) -> list[float]:
    """Candidates given, strictest first, each one that the rule takes."""
    values = sorted({float(value) for value in thresholds}, reverse=stop.larger_is_stricter)
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(
            f"`calibrate(thresholds=...)` wants finite numbers; got {list(thresholds)}. Leave it out for the default."
        )
    for value in values:
        stop.with_threshold(value)
    return values
