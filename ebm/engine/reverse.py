"""The exact gradient through a solver that can be run backwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ebm.engine.adjoint import Adjoint, Run, Stage
from ebm.engine.tape import Rewind
from ebm.solution import Carry

__all__ = ["Reverse"]

_LONGEST = 20


@dataclass(frozen=True)
class Reverse(Adjoint):
    """The exact gradient of what was computed, with earlier states found by running the solver backwards from later ones.

    Memory is one step, and one state in ``segment``: running backwards loses digits, some at every step, so the state before
    each segment is kept. The backward pass makes every step once more and runs it back, for the time of about two forward
    passes more. Needs a solver that can be run backwards: `Reversible`.

    Args:
        segment: steps between kept states, from 1 to 20.

    Raises:
        ValueError: a segment outside that range; at the call, a solver that cannot be run backwards.
        RuntimeError: in the backward pass, where a step made again is not the step that was made.

    Warns:
        ReversalWarning: in the backward pass, where running a segment back misses the kept state by more than a thousandth.

    Example:
        >>> import torch, ebm
        >>> query = torch.eye(2).requires_grad_()
        >>> memory = ebm.ModernHopfield(torch.eye(2))
        >>> solution = ebm.infer(memory, query, steps=50, solver=ebm.Reversible(), adjoint=ebm.Reverse())
        >>> solution.z.sum().backward()
        >>> query.grad.shape
        torch.Size([2, 2])

    Source: McCallum, Arora and Foster (2025), Reversible deep equilibrium models. There the whole run is one segment; segments
    and the warning are ours.
    """

    segment: int = 8
    needs: ClassVar[frozenset[str]] = frozenset({"reverse"})

    def __post_init__(self) -> None:
        if not 1 <= self.segment <= _LONGEST:
            raise ValueError(
                f"`Reverse(segment=...)` must lie between 1 and {_LONGEST}; got {self.segment}. Longer ones lose every digit; try 8."
            )

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        return run(carry, graph=True, tape=Rewind(self.segment))
