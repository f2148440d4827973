"""What a solver is: settings that say how a latent moves one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from ebm.noise import Draw
from ebm.objective import Flip, Lasso, Objective, Point, Product, defines_together

__all__ = ["Field", "Info", "Solver", "Step", "View"]


class Field(Protocol):
    """All a solver may ask of the outside world; the engine counts the calls.

    What goes beyond a point needs a capability, named in brackets, that the solver declares in ``needs``.
    """

    def __call__(self, z: Any) -> Point:
        """The point at a latent: one evaluation."""
        ...

    def aside(self, z: Any) -> Point:
        """The same, asked for the sake of a derivative: the solver will not return this point."""
        ...

    def of(self, samples: Tensor) -> Field:
        """The field of rows that belong to the given samples (int64, one a row), of which one may have several or none."""
        ...

    def start(self, draw: Draw) -> Any:
        """Where the objective itself starts, drawn anew."""
        ...

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        """The values the units ``block`` want, given all others, for discrete latents [conditional]."""
        ...

    def sweep(self, z: Any) -> Any:
        """Every unit in turn set to what it wants [conditional]; in one question where the objective provides ``"sweep"``."""
        ...

    def flip(self, z: Any, block: Tensor) -> Flip:
        """The other value of the units ``block``, and by how much taking it raises the energy, for latents of two values [flip]."""
        ...

    def curvature(self, z: Any) -> Product:
        """The product of a direction with the Hessian of the energy at ``z`` [gradient]; one evaluation, then the products.

        A product may also be given which samples need it, bool (B,): it is charged to those alone.
        """
        ...

    def gauss_newton(self, z: Any) -> Product:
        r"""The product of a direction with :math:`J^T J`, J the Jacobian of the residuals at ``z`` [residuals].

        Linearising counts as one ``"residuals"``, then the products; these as in `curvature`.
        """
        ...

    def prox(self, z: Any, size: float | Tensor) -> Any:
        """The proximal map of the energy's simple term, with a step size for all or one a sample (B,) [prox]."""
        ...

    def resolvent(self, z: Any, size: float) -> Any:
        """The resolvent of the linear part of a monotone update [resolvent]."""
        ...

    def lasso(self) -> Lasso:
        """What all samples share of a quadratic energy with weighted absolute values [lasso]; known before, so not counted."""
        ...

    def bend(self, direction: Any) -> Any:
        """The product of a direction with the matrix of `lasso`, in the direction's own precision [lasso]."""
        ...


class View:
    """A field seen through something: hands every question on; a subclass changes some.

    Args:
        field: the field behind.
    """

    def __init__(self, field: Field) -> None:
        self.field = field

    def __call__(self, z: Any) -> Point:
        return self.field(z)

    def aside(self, z: Any) -> Point:
        return self(z)

    def of(self, samples: Tensor) -> Field:
        """The same view of those rows; a view that holds rows of its own takes theirs, too."""
        part = copy(self)
        part.field = self.field.of(samples)
        return part

    def start(self, draw: Draw) -> Any:
        return self.field.start(draw)

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        return self.field.conditional(z, block)

    def sweep(self, z: Any) -> Any:
        return self.field.sweep(z)

    def flip(self, z: Any, block: Tensor) -> Flip:
        return self.field.flip(z, block)

    def curvature(self, z: Any) -> Product:
        return self.field.curvature(z)

    def gauss_newton(self, z: Any) -> Product:
        return self.field.gauss_newton(z)

    def prox(self, z: Any, size: float | Tensor) -> Any:
        return self.field.prox(z, size)

    def resolvent(self, z: Any, size: float) -> Any:
        return self.field.resolvent(z, size)

    def lasso(self) -> Lasso:
        return self.field.lasso()

    def bend(self, direction: Any) -> Any:
        return self.field.bend(direction)


class Info(NamedTuple):
    """What an observer needs to know of a step.

    Attributes:
        accepted: bool (B,), False where the proposal was turned down and the latent stayed; None: all accepted.
        stalled: bool (B,), True where the solver can make no further progress; None: none.
        busy: bool (B,), True where a stop rule may not end the sample yet, because the point shown is not all there is; None: none.
    """

    accepted: Tensor | None = None
    stalled: Tensor | None = None
    busy: Tensor | None = None


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
        incidental: whether that is no more than the order of a sweep, so that calls with the same noise are as good as any.
        additive: whether every step adds its move to the latent it has, so that a number that is not finite can never turn
            finite again; then the engine may look at the last of several steps.
        compiles: whether ``compile=True`` suits it: a step has no shape that depends on data, and no loop over units.
        samples: whether the latents are draws from a distribution; then no stop rule of a model ends a chain, since one that
            ends where the energy is low draws from another distribution. A rule that the call gives is obeyed.
        recalls: whether a step may end at a point that an earlier step evaluated, as solvers with replicas do.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    keep: str = "best"
    noisy: bool = False
    incidental: ClassVar[bool] = False
    additive: ClassVar[bool] = False
    compiles: ClassVar[bool] = True
    samples: bool = False
    recalls: ClassVar[bool] = False

    @abstractmethod
    def init(self, point: Point) -> Any:
        """The memory before the first step: a row tree, or None."""

    @abstractmethod
    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One step from ``point``; ``draw`` is the only source of noise (None unless ``noisy``)."""

    def start(self, z: Any) -> Any:
        """Where this solver may start, given where the call wants to: the same latent, but for constraints."""
        return z

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """The most questions of each kind that one step may ask for a sample; a FLOP budget is planned with it.

        ``"point"`` is an evaluation; the other kinds are the methods of `Field`.
        """
        return {"point": 1}

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        """How far from rest a point is under this solver, (B,); the objective's own, but for constraints."""
        return objective.residual(point, c)

    @property
    def learns(self) -> bool:
        """Whether steps are judged by forces or learn from them (line searches, secants): then a constraint must show it forces
        that vanish at rest. By default so for whoever needs an energy and its gradient, and is no sampler."""
        return not self.samples and {"energy", "gradient"} <= self.needs

    @property
    def provides(self) -> frozenset[str]:
        """What an adjoint may ask for beyond a step: ``"rest"``, that `move` is right; ``"reverse"``, that `reverse` is there."""
        return frozenset() if self.samples or not defines_together(self) else frozenset({"rest"})

    def move(self, objective: Objective, point: Point, c: Any) -> Any:
        """What vanishes at rest under this solver, a row tree like the latent; the objective's own, but for constraints.

        A solver with a `residual` of its own defines this, too; `Implicit` refuses it otherwise.
        """
        return objective.move(point, c)

    def reverse(self, field: Field, point: Point, memory: Any) -> tuple[Point, Any]:
        """The point and memory before the step that led here, for a solver that lists ``"reverse"`` in ``provides``."""
        raise NotImplementedError(f"{type(self).__name__} cannot be run backwards.")


class Wrapper(Solver):
    """A solver around another (field ``inner``): hands on what it does not change, every property of the solver inside included.

    Not ``additive``: that is a promise about the steps of the wrapper itself, which may undo what is not finite.
    """

    inner: Solver

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the solver inside needs."""
        return self.inner.needs

    @property
    def keep(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the solver inside keeps."""
        return self.inner.keep

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside draws noise."""
        return self.inner.noisy

    @property
    def compiles(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside compiles."""
        return self.inner.compiles

    @property
    def samples(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside draws from a distribution."""
        return self.inner.samples

    @property
    def learns(self) -> bool:
        """Whether the solver inside learns from forces."""
        return self.inner.learns

    @property
    def recalls(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the solver inside may end a step at an older point."""
        return self.inner.recalls

    @property
    def provides(self) -> frozenset[str]:
        """What the solver inside provides, of what a wrapper can hand on: `move`, but for one with a `residual` alone."""
        return self.inner.provides & frozenset({"rest"} if defines_together(self) else ())

    def init(self, point: Point) -> Any:
        return self.inner.init(point)

    def start(self, z: Any) -> Any:
        """Where the solver inside may start."""
        return self.inner.start(z)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        return self.inner.most(z, differentiated)

    def residual(self, objective: Objective, point: Point, c: Any) -> Tensor:
        return self.inner.residual(objective, point, c)

    def move(self, objective: Objective, point: Point, c: Any) -> Any:
        return self.inner.move(objective, point, c)
