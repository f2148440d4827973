"""What a model says: an energy to lower, or a local update to agree with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.noise import Draw

if TYPE_CHECKING:
    from ebm.engine.stop import Stop
    from ebm.solvers.base import Solver

__all__ = [
    "Energy",
    "Flip",
    "Gap",
    "Lasso",
    "Objective",
    "Point",
    "Product",
    "Update",
    "alias",
    "defines_together",
    "spared",
    "unwritten",
    "variable",
]

Product = Callable[..., Any]
"""A linear map of row trees shaped like the latent, each sample by itself."""


class Point(NamedTuple):
    """A latent and what its objective says of it; all a solver ever sees.

    Attributes:
        z: the latent, a row tree.
        energy: (B,), or None for an `Update` that has none.
        force: a row tree like ``z``: where the objective wants the latent to move.

    Example:
        >>> import torch
        >>> from ebm import Point
        >>> Point(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3)).force.shape
        torch.Size([2, 3])
    """

    z: Any
    energy: Tensor | None
    force: Any


class Flip(NamedTuple):
    """What one unit of each sample could be instead.

    Attributes:
        value: (B,), the other of its two values.
        rise: (B,), the energy with that value less the energy now.
    """

    value: Tensor
    rise: Tensor


class Gap(NamedTuple):
    """How much lower the energy could be at most.

    Attributes:
        width: (B,), at least the energy less its minimum; zero at the minimum.
        energy: (B,), the energy itself.
    """

    width: Tensor
    energy: Tensor


class Lasso(NamedTuple):
    r"""An energy :math:`\tfrac12 z^T G z - b^T z + \sum_i w_i |z_i|` over latents (B, K), as far as all samples share it.

    Attributes:
        gram: G, (K, K).
        weight: w, (K,).
        signed: whether a latent may be negative; if not, it is kept at zero or above.
    """

    gram: Tensor
    weight: Tensor
    signed: bool


class Objective(nn.Module):
    """What a latent wants. Derive from `Energy` or `Update`, never from this class.

    Attributes:
        provides: names of what the objective can do; a solver names what it needs and the door refuses a pair that
            does not fit. ``"energy"``: points carry one. ``"gradient"``: the force is minus its gradient.
            ``"discrete"``: latents of finitely many values, which no gradient moves. ``"conditional"``: `conditional(z, c, block)`. ``"sweep"``: also `sweep(z, c, held=None)`, all
            units in turn but those held, bool like z.
            ``"flip"``: latents of two values each, `flip(z, c, block)`, which returns a `Flip`. ``"residuals"``: the
            energy is half the squared length of `residuals(z, c)`, (B, M). ``"gap"``: a bound on what the energy may still
            lose, `gap(point, c)`, a `Gap`. ``"lasso"``: the energy is a quadratic with weighted absolute values: `lasso(c)`,
            a `Lasso`, and `bend(direction, c)`, the product with its matrix in the direction's precision. ``"prox"``: the force is
            that of a smooth part alone, and `prox(z, size, c)` takes the rest; ``"separable"``: each number by itself.
        default_steps: the step limit of a call that gives no limit at all; None (as here) makes such a call an error.
    """

    provides: frozenset[str] = frozenset()
    default_steps: int | None = None
    _spares: frozenset[str] = frozenset()  # methods that were seen to leave their latent as it is

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward(z, c)``, with the module's hooks."""
        if len(args) + len(kwargs) < 2:
            raise TypeError(
                f"`{type(self).__name__}` is called as model(z, c), with a latent and a condition; got {len(args) + len(kwargs)} arguments. "
                "To settle an observation, call `ebm.infer(model, x, steps=...)`."
            )
        return super().__call__(*args, **kwargs)

    def condition(self, x: Any) -> Any:
        """What depends on the observation alone, a row tree; computed once a call. By default ``x`` itself."""
        return x

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Where settling starts, a row tree; ``draw`` is the only source of noise."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say where settling starts. "
            "Define `init_latent(self, c, draw)`, or pass `start=` a latent."
        )

    def readout(self, z: Any, c: Any) -> Any:
        """The answer read off a latent. By default the latent itself."""
        return z

    def point(self, z: Any, c: Any) -> Point:
        """The latent with its energy and force."""
        raise NotImplementedError

    def residual(self, point: Point, c: Any) -> Tensor:
        """How far a sample is from rest, (B,): the root mean square of its force; zero at rest."""
        return rows.rms(point.force)

    def move(self, point: Point, c: Any) -> Any:
        """What vanishes at rest, a row tree like the latent: the force.

        An objective with a `residual` of its own defines this, too; `Implicit` refuses it otherwise.
        """
        return point.force

    @property
    def tells_rest(self) -> bool:
        """Whether `move` vanishes where `residual` does, as far as the class shows; a wrapper also asks what it wraps."""
        return defines_together(self)

    def idle(self, x: Any) -> str | None:
        """Why steps from the model's own start cannot change the answer for this observation, or None; a call that takes steps warns of it."""
        return None

    def default_solver(self) -> Solver | None:
        """The solver this model settles best with; None asks for the library's safe default."""
        return None

    def default_stop(self) -> Stop | None:
        """The stop rule of a call that gives none; None never stops early."""
        return None


class Energy(Objective):
    r"""An energy :math:`E(z; x)`, low where the latent ``z`` explains the observation ``x``.

    Define ``forward(z, c)``, which returns one energy a sample, shape (B,), and ``init_latent(c, draw)``. The force is
    :math:`-\nabla_z E`, by automatic differentiation; a model may override `point` with a cheaper closed form, or with
    a declared descent direction other than minus the gradient (then take ``"gradient"`` out of ``provides``).

    Raises:
        ValueError: from `point`, if ``forward`` returns anything but one energy a sample.

    Example:
        >>> import torch, ebm
        >>> class Bowl(ebm.Energy):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c):
        ...         return 0.5 * (z - c).square().sum(1)
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> ebm.infer(Bowl(), x, steps=20).z.round(decimals=3)
        tensor([[1., 2.]])

    Source: LeCun et al. (2006), A tutorial on energy-based learning.
    """

    provides = frozenset({"energy", "gradient"})

    def forward(self, z: Any, c: Any) -> Tensor:
        """One energy a sample, (B,)."""
        raise NotImplementedError(
            f"`{type(self).__name__}` has no `forward(z, c)`. Define it: an energy a sample, shape (B,), as in `ebm.Energy`'s example."
        )

    def point(self, z: Any, c: Any) -> Point:
        """The latent, its energy (B,) and minus the gradient; differentiable where the grad mode asks for it."""
        gradient, energy = slope(lambda latent: self._checked(latent, c), z)
        return Point(z, energy, rows.map_rows(torch.neg, gradient))

    def _checked(self, z: Any, c: Any) -> Tensor:
        energy = self(z, c)
        batch = rows.count(z)
        if isinstance(energy, Tensor) and energy.shape == (batch,):
            if energy.requires_grad or torch.compiler.is_compiling():
                return energy
            raise ValueError(
                f"`{type(self).__name__}.forward` must return an energy that can be differentiated in `z`; got one without a graph. "
                "Compute it from `z` with differentiable operations, without `.detach()`."
            )
        got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(
            f"`{type(self).__name__}.forward` must return one energy a sample, shape ({batch},); got {got}. "
            "Sum over every axis but the first."
        )


class Update(Objective):
    r"""A local rule of motion :math:`z' = f(z; x)`; at rest :math:`z = f(z; x)`.

    Define ``forward(z, c)``, which returns a latent like ``z``, and ``init_latent(c, draw)``. The force is
    :math:`f(z; x) - z`; there is no energy, so best-so-far ranks by residual.

    Raises:
        ValueError: from `point`, if ``forward`` returns other parts than ``z`` has, or other shapes.

    Example:
        >>> import torch, ebm
        >>> class Halve(ebm.Update):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c):
        ...         return 0.5 * z + c
        >>> ebm.infer(Halve(), torch.ones(1, 1), steps=30).z.round(decimals=4)
        tensor([[2.]])

    Source: Bai, Kolter and Koltun (2019), Deep equilibrium models, eq. 1-2.
    """

    def forward(self, z: Any, c: Any) -> Any:
        """The next latent, like ``z``."""
        raise NotImplementedError(
            f"`{type(self).__name__}` has no `forward(z, c)`. Define it: a latent like `z`, as in `ebm.Update`'s example."
        )

    def point(self, z: Any, c: Any) -> Point:
        """The latent and the move :math:`f(z) - z`; the energy is None."""
        moved = rows.matched(spared(self, "forward", z, c), z, self, "forward")
        return Point(z, None, rows.map_rows(torch.sub, moved, z))


def spared(model: Objective, name: str, z: Any, c: Any) -> Any:
    """What a method makes of a latent that it may write into: it works on copies, until it was once seen to leave its copy as it is."""
    method = model if name == "forward" else getattr(model, name)  # a call of the module runs its hooks
    safe = name in model._spares
    latent = z if safe else rows.map_rows(torch.clone, z)
    if torch.compiler.is_compiling():
        return method(latent, c)
    before = rows.versions(latent)
    found = method(latent, c)
    if rows.versions(latent) == before:
        if not safe:
            model._spares = model._spares | {name}
    elif safe:
        model._spares = model._spares - {name}
        raise _wrote(f"`{type(model).__name__}.{name}`")
    return found


def unwritten(model: Any, name: str, z: Any, *given: Any) -> Any:
    """What a method returns, once it is known that it left the latent ``z`` as it was; every storage has a counter of writes."""
    method = getattr(model, name)
    if torch.compiler.is_compiling():
        return method(*given)
    before = rows.versions(z)
    found = method(*given)
    if rows.versions(z) == before:
        return found
    raise _wrote(f"`{type(model).__name__}.{name}`")


def _wrote(who: str) -> RuntimeError:
    return RuntimeError(
        f"{who} must leave the latent as it is; it wrote into it. Make a new tensor, `z = 0.5 * z` in the place of `z *= 0.5`, and "
        "leave out `inplace=True` in modules such as `torch.nn.ReLU`."
    )


def slope(energy: Callable[[Any], Tensor], z: Any) -> tuple[Any, Tensor]:
    """The gradient of the summed energy in ``z``, and the energies (B,).

    Two roads to the same numbers: `torch.func` compiles, while plain autograd costs a third of it when run eagerly.
    """
    if torch.compiler.is_compiling():

        def total(latent: Any) -> tuple[Tensor, Tensor]:
            each = energy(latent)
            return each.sum(), each

        gradient, (_, each) = torch.func.grad_and_value(total, has_aux=True)(z)
        return gradient, each
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        latent = rows.map_rows(lambda leaf: variable(leaf, keep_graph), z)
        inputs = list(rows.leaves(latent))
        before = rows.versions(latent) if keep_graph else 0
        each = energy(latent)
        if keep_graph and rows.versions(latent) != before:  # without a graph autograd refuses to write into a leaf
            raise _wrote("An energy")
        slopes = iter(torch.autograd.grad(each.sum(), inputs, create_graph=keep_graph, materialize_grads=True))
    gradient = rows.map_rows(lambda _: next(slopes), latent)
    return gradient, (each if keep_graph else each.detach())


def defines_together(part: Any) -> bool:
    """Whether the last class to define ``residual`` defines ``move`` as well, or a class derived from it does."""
    if "residual" in vars(part):
        return "move" in vars(part)
    where = {
        name: next(i for i, kind in enumerate(type(part).__mro__) if name in vars(kind))
        for name in ("residual", "move")
    }
    return where["move"] <= where["residual"]


def variable(leaf: Tensor, keep_graph: bool) -> Tensor:
    """``leaf`` as something to differentiate in; where a graph is kept, behind it the leaf's own."""
    return alias(leaf) if keep_graph and leaf.requires_grad else leaf.detach().requires_grad_()


def alias(leaf: Tensor) -> Tensor:
    """The same numbers behind a node of their own in the graph.

    A derivative in the alias holds everything else: what the leaf itself was computed from, or what was computed from it (another part
    of the latent, the condition), does not pass through the alias. Derivatives of what comes out still reach the leaf's own graph.
    """
    return leaf.view_as(leaf)
