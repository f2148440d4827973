"""Resources: steps, seconds and FLOPs, of one call or of a pot that several calls share."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.engine.loop import Settling
from ebm.solution import Carry, Status

__all__ = ["Budget", "CallLimits"]


@dataclass
class Budget:
    """One pot of resources shared by several calls, for example over a loader.

    Each call takes what it uses out of the pot. When the pot is empty, later calls still get their initial answer.

    Args:
        steps: sample-steps >= 0: a batch of 64 that takes 10 steps each uses 640.
        seconds: >= 0, on the clock of the calls.
        flops: >= 0, one multiply-add is 2. Fixed parts (condition, start, read-out) are counted and may overdraw.

    Attributes:
        steps, seconds, flops: what is left; None: unlimited. FLOPs and seconds may end a little below zero.

    Raises:
        ValueError: no limit at all, or a negative one.

    Example:
        >>> import torch, ebm
        >>> pot, model = ebm.Budget(steps=5), ebm.ModernHopfield(torch.eye(2))
        >>> [ebm.infer(model, torch.eye(2), steps=2, budget=pot).steps.tolist() for _ in range(2)]
        [[2, 2], [0, 0]]
        >>> pot.steps
        1
    """

    steps: int | None = None
    seconds: float | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None and self.flops is None:
            raise ValueError(
                "`Budget()` without a resource holds nothing back; got none. Pass `steps=`, `seconds=` or `flops=`."
            )
        for name in ("steps", "seconds", "flops"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"`Budget({name}=...)` may not be negative; got {value}. Pass zero or more.")

    def spend(self, steps: int, seconds: float, flops: int) -> None:
        """Take out what a call used."""
        self.steps = None if self.steps is None else self.steps - steps
        self.seconds = None if self.seconds is None else self.seconds - seconds
        self.flops = None if self.flops is None else self.flops - flops


def _least(*limits: float | None) -> Any:
    """The smallest of the limits that are given; None where none is."""
    given = [limit for limit in limits if limit is not None]
    return min(given) if given else None


class CallLimits:
    """What one call may use, asked before every step.

    Args:
        steps: of this call for each sample; an int, (B,) or None.
        seconds: of this call; None without limit.
        flops: of this call; None without limit.
        pot: shared resources; None without.
        clock: seconds, never going back.
        start: the clock's reading when the call began.
        device: waited for before the clock is read, so that a step is timed and not its launch.
    """

    def __init__(
        self,
        steps: int | Tensor | None,
        seconds: float | None,
        flops: int | None,
        pot: Budget | None,
        clock: Callable[[], float],
        start: float,
        device: torch.device,
    ) -> None:
        self.steps = steps
        self.seconds = _least(seconds, pot.seconds if pot else None)
        self.flops = _least(flops, pot.flops if pot else None)
        self.shared_steps = pot.steps if pot else None
        self.start = start
        self.used: Callable[[], tuple[int, int]] = lambda: (0, 0)  # sample-steps and FLOPs of the call so far
        self._clock = clock
        self._device = device
        self._longest = 0.0
        self._begun: float | None = None
        self._target: Tensor | None = None
        self._horizon: int | None = None
        self._timed = 0

    def aim(self, carry: Carry) -> None:
        """Fix the step count at which each sample ends, from where it stands now."""
        steps = self.steps.to(carry.steps.device) if isinstance(self.steps, Tensor) else self.steps
        self._target = None if steps is None else carry.steps + steps
        self._horizon = None

    def spare(self, last: int, carry: Carry) -> CallLimits:
        """These limits, but ending each sample ``last`` steps before its target (never before where it stands)."""
        other = self.again()
        assert self._target is not None
        other._target = torch.maximum(self._target - last, carry.steps)
        return other

    def only_steps(self, target: Tensor) -> CallLimits:
        """No limit but a step count for each sample."""
        other = self.again()
        other.seconds = other.flops = other.shared_steps = None
        other._target = target
        return other

    def holding_back(self, sample_steps: int, flops: int) -> CallLimits:
        """These limits, with resources kept for work that is sure to follow."""
        other = self.again()
        other.flops = None if other.flops is None else other.flops - flops
        other.shared_steps = None if other.shared_steps is None else other.shared_steps - sample_steps
        return other

    def again(self) -> CallLimits:
        """The same limits for another stretch of the same call."""
        other = copy(self)
        other._horizon = other._begun = None
        other._timed = 0
        return other

    def begin(self) -> bool:
        """Whether time is left to start a step; seen again because a consumer may have paused."""
        if self.seconds is None:
            return True
        self._begun = self._now()
        return not self._late(self._begun)

    def room(self, settling: Settling) -> int:
        """How many steps are sure to be granted: up to the first target, where steps are the only limit."""
        if self._horizon is None or not (self.seconds is self.flops is self.shared_steps is None):
            return 1
        return self._horizon - settling.taken

    def close(self, settling: Settling) -> None:
        """End the samples that a resource has run out for."""
        if self.seconds is not None and self._late(self._lap(settling)):
            settling.end(Status.OUT_OF_TIME)
        if self._target is not None and settling.running:
            self._close_finished(settling)
        if not settling.running:
            return
        steps, flops = self.used() if self.flops is not None or self.shared_steps is not None else (0, 0)
        if self.flops is not None and flops + max(settling.next_flops(), 1) > self.flops:
            settling.end(Status.OUT_OF_FLOPS)
        elif self.shared_steps is not None and steps + settling.running > self.shared_steps:
            settling.end(Status.OUT_OF_STEPS)

    def _lap(self, settling: Settling) -> float:
        """The time, with the step that has just ended measured."""
        now = self._now()
        if self._begun is not None and settling.taken != self._timed:
            self._longest = max(self._longest, now - self._begun)
        self._timed = settling.taken
        return now

    def _close_finished(self, settling: Settling) -> None:
        """Steps are looked at only when the first sample can have reached its target."""
        if self._horizon is not None and settling.taken < self._horizon:
            return
        block = settling.block
        goal: Any = self._target
        target = goal if block.samples is None else goal[block.samples]
        left = target - block.carry.steps - block.taken
        settling.end(Status.OUT_OF_STEPS, left <= 0)
        if settling.running:
            open_ones = left if settling.block.active is None else left[settling.block.active]
            self._horizon = settling.taken + int(open_ones.min())

    def _late(self, now: float) -> bool:
        return now - self.start + self._longest >= self.seconds  # pyright: ignore[reportOperatorIssue]

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()
