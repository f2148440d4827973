"""What a solver is: settings that say how a latent moves one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from ebm.noise import Draw
from ebm.objective import Objective, Point

__all__ = ["Field", "Info", "Solver", "Step"]


class Field(Protocol):
    """All a solver may ask of the outside world; the engine counts the calls."""

    def __call__(self, z: Any) -> Point:
        """The point at a latent: one evaluation."""
        ...

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        """The values the units ``block`` want, given all others; for objectives with discrete latents."""
        ...


class Info(NamedTuple):
    """What an observer needs to know of a step.

    Attributes:
        accepted: bool (B,), False where the proposal was turned down and the latent stayed; None: all accepted.
        stalled: bool (B,), True where the solver can make no further progress; None: none.
    """

    accepted: Tensor | None = None
    stalled: Tensor | None = None


class Step(NamedTuple):
    """The outcome of one step: the new point, the new memory, and what an observer needs."""

    point: Point
    memory: Any
    info: Info = Info()


class Solver(ABC):
    """How a latent moves: a frozen dataclass of settings, with all that evolves in ``memory``.

    A solver moves every row, never looks at a mask, never judges when to stop (it may report that it is stalled) and
    never writes in place. One object can serve many threads.

    Attributes:
        needs: capabilities that the objective must provide (see `Objective.provides`).
        keep: which point a call returns by default, ``"best"`` (lowest energy or residual seen) or ``"last"``.
        noisy: whether a step draws noise.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    keep: str = "best"
    noisy: bool = False

    @abstractmethod
    def init(self, point: Point) -> Any:
        """The memory before the first step: a row tree, or None."""

    @abstractmethod
    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One step from ``point``; ``draw`` is the only source of noise (None unless ``noisy``)."""

    def start(self, z: Any) -> Any:
        """Where this solver may start, given where the call wants to: the same latent, but for constraints."""
        return z

    def most_evals(self, differentiated: bool = False) -> int:
        """The most evaluations that one step may ask for; a FLOP budget is planned with it."""
        return 1

    def conditionals(self, z: Any) -> int:
        """How many conditionals of one unit a step asks for; zero for all but discrete solvers."""
        return 0

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        """How far from rest a point is under this solver, (B,); the objective's own, but for constraints."""
        return objective.residual(point, c)


class Wrapper(Solver):
    """A solver around another (field ``inner``): hands on what it does not change."""

    inner: Solver

    def init(self, point: Point) -> Any:
        return self.inner.init(point)

    def most_evals(self, differentiated: bool = False) -> int:
        return self.inner.most_evals(differentiated)

    def conditionals(self, z: Any) -> int:
        return self.inner.conditionals(z)

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        return self.inner.residual(objective, point, c)
