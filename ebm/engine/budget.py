"""Resources: steps, seconds and FLOPs, of one call or of a pot that several calls share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm.engine.loop import Settling
from ebm.solution import Carry, Status

__all__ = ["Account", "Budget", "CallLimits"]

_ENDLESS = 1 << 62  # steps: added to those taken before, still a whole number of 64 bits
_POTS = threading.Lock()  # of all pots, which are plain data that may be copied and sent


@dataclass
class Budget:
    """One pot of resources shared by several calls, for example over a loader, or by streams and threads that take turns.

    Each call sets aside what its next step may use before it starts it, and gives back what was not used; so calls that run
    at the same time cannot take the same resource twice. When the pot is empty, later calls still get their initial answer.

    Args:
        steps: sample-steps >= 0: a batch of 64 that takes 10 steps each uses 640.
        seconds: >= 0, on the clock of the calls; of calls that overlap each is charged its own, pauses included.
        flops: >= 0, one multiply-add is 2. Fixed parts (condition, start, read-out) are counted and may overdraw.

    Attributes:
        steps, seconds, flops: what is left; None: unlimited. FLOPs and seconds may end a little below zero.

    Raises:
        TypeError: a limit that is no number, or a count that is no whole number.
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
        for name, kinds, wanted in (
            ("steps", int, "a whole number"),
            ("seconds", (int, float), "a number"),
            ("flops", int, "a whole number"),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TypeError(
                    f"`Budget({name}=...)` is {wanted}; got {value!r} ({type(value).__name__}). Pass a Python number."
                )
            if not value >= 0:
                raise ValueError(f"`Budget({name}=...)` may not be negative; got {value}. Pass zero or more.")

    def spend(self, steps: int, seconds: float, flops: int) -> None:
        """Take out what a call used, or put back what it had set aside, where a number is negative."""
        with _POTS:
            self._spend(steps, seconds, flops)

    def reserve(self, steps: int, seconds: float, flops: int) -> bool:
        """Take out what a call is about to use; False, and nothing taken, where less steps or FLOPs are left."""
        with _POTS:
            short = any(
                left is not None and wanted > max(left, 0)
                for left, wanted in ((self.steps, steps), (self.flops, flops))
            )
            if not short:
                self._spend(steps, seconds, flops)
            return not short

    def _spend(self, steps: int, seconds: float, flops: int) -> None:
        self.steps = None if self.steps is None else self.steps - steps
        self.seconds = None if self.seconds is None else self.seconds - seconds
        self.flops = None if self.flops is None else self.flops - flops


class Account:
    """What one call has used so far, and how much of it its pot was charged for; known to the call and to its limits.

    Attributes:
        fixed: FLOPs of condition and start.
        executed: FLOPs of evaluations outside of a loop.
        settlings: the loops of the call.
        read: FLOPs of the read-out.
        tail: seconds from the end of the last step to the solution, as far as they are known.
        pause: the longest time between two steps, but for those that a consumer of a stream makes.
        lapped: when the last step ended, or the first may have started; None without a deadline.
    """

    def __init__(self, pot: Budget | None, start: float) -> None:
        self.pot = pot
        self.fixed = self.executed = self.read = 0
        self.settlings: list[Settling] = []
        self.tail = self.pause = 0.0
        self.lapped: float | None = None
        self._charged: tuple[int, float, int] = (0, start, 0)

    @property
    def steps(self) -> int:
        """Sample-steps taken."""
        return sum(settling.sample_steps for settling in self.settlings)

    @property
    def flops(self) -> int:
        """FLOPs executed, the read-out included."""
        return self.fixed + self.read + self.executed + sum(settling.executed for settling in self.settlings)

    def left(self) -> tuple[int | None, float | None, int | None]:
        """What of the pot this call may still use: what is in it, and what is set aside for this call."""
        assert self.pot is not None
        steps, _, flops = self._charged
        return (
            None if self.pot.steps is None else self.pot.steps + steps - self.steps,
            self.pot.seconds,
            None if self.pot.flops is None else self.pot.flops + flops - self.flops,
        )

    def charge(self, now: float | None, steps: int = 0, flops: int = 0) -> None:
        """Charge the pot for what was used, and set aside so much more."""
        if self.pot is not None:
            due = self._due(now, steps, flops)
            self.pot.spend(*due)
            self._settled(due)

    def reserve(self, now: float | None, steps: int, flops: int) -> bool:
        """As `charge`; False, and nothing done, where the pot holds less."""
        if self.pot is None:
            return True
        due = self._due(now, steps, flops)
        granted = self.pot.reserve(*due)
        if granted:
            self._settled(due)
        return granted

    def _due(self, now: float | None, steps: int, flops: int) -> tuple[int, float, int]:
        taken, since, executed = self._charged
        return self.steps + steps - taken, 0.0 if now is None else now - since, self.flops + flops - executed

    def _settled(self, due: tuple[int, float, int]) -> None:
        steps, seconds, flops = self._charged
        self._charged = steps + due[0], seconds + due[1], flops + due[2]


class CallLimits:
    """What one call may use, asked before every step.

    Args:
        steps: of this call for each sample; an int, (B,) or None.
        seconds: of this call; None without limit.
        flops: of this call; None without limit.
        account: what the call has used, and the pot it shares.
        clock: seconds, never going back.
        start: the clock's reading when the call began.
        device: waited for before the clock is read, so that a step is timed and not its launch.
        streamed: whether a consumer decides how long the pause between two steps is.
    """

    def __init__(
        self,
        steps: int | Tensor | None,
        seconds: float | None,
        flops: int | None,
        account: Account,
        clock: Callable[[], float],
        start: float,
        device: torch.device,
        streamed: bool,
    ) -> None:
        self.steps = steps
        self.seconds = seconds
        self.flops = flops
        self.pot = account.pot
        self.start = start
        self._account = account
        self._streamed = streamed
        self._held = 0, 0  # sample-steps and FLOPs kept for work that is sure to follow
        self._reserved = False
        self._clock = clock
        self._device = device
        self._longest = 0.0
        self._begun: float | None = None
        self._target: Tensor | None = None
        self._horizon: int | None = None
        self._timed = 0

    @property
    def deadline(self) -> bool:
        """Whether time is limited."""
        return self.seconds is not None or (self.pot is not None and self.pot.seconds is not None)

    def aim(self, carry: Carry) -> None:
        """Fix the step count at which each sample ends, from where it stands now."""
        steps = self.steps
        if isinstance(steps, Tensor):
            steps = steps.to(carry.steps.device, torch.int64).clamp(max=_ENDLESS)
        elif steps is not None:
            steps = min(steps, _ENDLESS)
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
        other.seconds = other.flops = other.pot = None
        other._target = target
        return other

    def holding_back(self, sample_steps: int, flops: int) -> CallLimits:
        """These limits, with resources kept for work that is sure to follow."""
        other = self.again()
        other._held = other._held[0] + sample_steps, other._held[1] + flops
        return other

    def again(self) -> CallLimits:
        """The same limits for another stretch of the same call."""
        other = copy(self)
        other._horizon = other._begun = None
        other._timed, other._reserved = 0, False
        return other

    def begin(self, settling: Settling) -> bool:
        """Whether a step may start: looked at again because a consumer may have paused, and another call may have taken
        what is left of the pot."""
        now = None
        if self.deadline:
            now = self._begun = self._now()
            if self._account.lapped is not None and not self._streamed:
                self._account.pause = max(self._account.pause, now - self._account.lapped)
            if self._late(now):
                return False
        if self.pot is None:
            return True
        self._reserved = self._account.reserve(now, *self._next(settling))
        return self._reserved

    def room(self, settling: Settling) -> int:
        """How many steps are sure to be granted: up to the first target, where steps are the only limit."""
        if self._horizon is None or not (self.seconds is self.flops is self.pot is None):
            return 1
        return self._horizon - settling.taken

    def close(self, settling: Settling) -> None:
        """End the samples that a resource has run out for."""
        now = self._lap(settling) if self.deadline else None
        self._account.charge(now, *(self._held if self._reserved else (0, 0)))
        if now is not None and self._late(now):
            settling.end(Status.OUT_OF_TIME)
        if self._target is not None and settling.running:
            self._close_finished(settling)
        if settling.running and (self.flops is not None or self.pot is not None):
            self._close_poor(settling)

    def _close_poor(self, settling: Settling) -> None:
        """End all samples if their next step would cost more than is left."""
        steps, flops = self._next(settling)
        left_steps, _, left_flops = (None, None, None) if self.pot is None else self._account.left()
        flops = max(flops, self._held[1] + 1)
        own = self.flops is not None and self._account.flops + flops > self.flops
        if own or (left_flops is not None and flops > left_flops):
            settling.end(Status.OUT_OF_FLOPS)
        elif left_steps is not None and steps > left_steps:
            settling.end(Status.OUT_OF_STEPS)

    def _next(self, settling: Settling) -> tuple[int, int]:
        """Sample-steps and FLOPs of the next step at most, with what is held back."""
        return self._held[0] + settling.running, self._held[1] + settling.next_flops()

    def _lap(self, settling: Settling) -> float:
        """The time, with the step that has just ended measured."""
        now = self._account.lapped = self._now()
        if self._begun is not None and settling.taken != self._timed:
            self._longest = max(self._longest, now - self._begun)
        self._timed = settling.taken
        return now

    def since_lap(self) -> float:
        """The time since the last step ended."""
        lapped = self._account.lapped
        return 0.0 if lapped is None else self._now() - lapped

    def now(self) -> float:
        """The time, the work on the device done where time is limited."""
        return self._now() if self.deadline else self._clock()

    def granted_flops(self) -> int | None:
        """FLOPs that may be used in all; None without limit."""
        pot = None if self.pot is None else self.pot.flops
        given = [limit for limit in (self.flops, pot) if limit is not None]
        return min(given) if given else None

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
        """Whether the longest step so far, and what follows the last one, would end after the deadline."""
        account = self._account
        needed = self._longest + account.tail + account.pause
        if self.seconds is not None and now - self.start + needed >= self.seconds:
            return True
        if self.pot is None or self.pot.seconds is None:
            return False
        account.charge(now, *(self._held if self._reserved else (0, 0)))
        return needed >= self.pot.seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()
