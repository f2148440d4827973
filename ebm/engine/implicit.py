"""The gradient of being at rest: no step is differentiated, only the condition that the force vanishes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.adjoint import Adjoint, Ended, Run, Stage
from ebm.engine.linear import GMRES, ConjugateGradient, LinearSolver
from ebm.engine.root import Root
from ebm.objective import Point
from ebm.solution import Carry, Status

__all__ = ["Implicit"]


@dataclass(frozen=True)
class Implicit(Adjoint):
    r"""The gradient of the condition :math:`F(z^*, \theta) = 0`, whatever steps led there. Memory: one evaluation.

    .. math:: J^T v = -\nabla_z L,\qquad \nabla_\theta L = v^T\, \partial F / \partial \theta,\qquad J = \partial F / \partial z
              \text{ at } z^*

    The call settles without a graph, evaluates the force at the kept latent once more with one, and solves for v when the
    loss is differentiated. Autograd then carries v through the force to parameters, observation and all else the model closed
    over. What the answer owes to the start, to the solver's settings and to noise has no gradient. FLOPs of the linear solve
    are not counted, as those of no backward pass are.

    It is exact at rest alone. Where a sample ended before, the gradient is that of the nearest thing to rest and off by about
    the residual; ``solution.residual`` and ``solution.status`` say how far, and nothing is raised. ``solution.energy`` is
    differentiated with its latent held, which at rest is its whole gradient; ``solution.residual`` is not differentiated. Samples
    that ended NONFINITE send nothing.

    The condition is what the solver and the objective call rest: for `Project` :math:`P(z + F(z)) = z`, for `Composite`
    :math:`\operatorname{prox}(z + F(z)) = z`. A solver or an objective that defines ``residual`` without ``move`` is refused.

    Args:
        linear_solver: for v; None takes `ConjugateGradient` where the force is minus the gradient of an energy, and no
            constraint or term bends it, and `GMRES` elsewhere.
        twice: keep a second evaluation, so that the gradient can be differentiated once more (``create_graph=True``).

    Raises:
        TypeError: no linear solver.
        RuntimeError: in the backward pass, a derivative of higher order than was kept.

    Warns:
        LinearSolveWarning: in the backward pass, where a sample's relative residual ends above twice the tolerance.

    Example:
        >>> import torch, ebm
        >>> class Springs(ebm.Energy):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c):
        ...         return 0.5 * (z - c).square().sum(1) + 0.5 * z.square().sum(1)
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> ebm.infer(Springs(), x, steps=50, adjoint=ebm.Implicit()).z.sum().backward()
        >>> x.grad  # rest is at x / 2
        tensor([[0.5000, 0.5000]])

    Source: Bai, Kolter and Koltun (2019), theorem 1; Samuel and Tappen (2009) for energies. Products with J are automatic
    differentiation of one evaluation that stays.
    """

    linear_solver: LinearSolver | None = None
    twice: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"rest"})

    def __post_init__(self) -> None:
        if self.linear_solver is not None and not isinstance(self.linear_solver, LinearSolver):
            raise TypeError(
                f"`Implicit(linear_solver=...)` is a linear solver or None; got {type(self.linear_solver).__name__}. "
                "Pass `ConjugateGradient()`, `GMRES()`, `Neumann(steps=10)` or `AndersonLinear()`."
            )

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        final = carry
        for stage in run(carry, graph=False, after=1 + self.twice):
            if stage.running:
                yield stage
            final = stage.carry()
        yield Ended(self._attached(run, final))

    def _attached(self, run: Run, carry: Carry) -> Carry:
        """The carry with its kept point made a function of the force there, for all samples that did not fail."""
        samples = (carry.status != Status.NONFINITE).nonzero().flatten()
        carry = rows.map_rows(torch.detach, carry)
        if not torch.is_grad_enabled():
            return carry
        rest = run.rest(carry, samples, 1 + self.twice)
        z = rows.map_rows(lambda leaf: leaf.detach().requires_grad_(), rest.z)
        point, move = rest.at(z)
        solver = self.linear_solver or (ConjugateGradient() if rest.gradient and move is point.force else GMRES())
        root, z = Root.of(z, point.z, move, solver, within=self.twice)
        if self.twice:
            again, move = rest.at(z)
            _, z = Root.of(z, again.z, move, solver, below=root)
        energy = None if point.energy is None else _Held.apply(point.energy)
        point = Point(z, energy, rows.map_rows(torch.detach, point.force))
        name = "point" if rest.carry.best is None else "best"
        kept: Any = getattr(rest.carry, name)
        return rest.carry._replace(**{name: Point(*rows.put(tuple(kept), samples, tuple(point)))})


class _Held(torch.autograd.Function):
    """Energies whose latent is held. That is their whole gradient at rest, but no second derivative."""

    @staticmethod
    def forward(ctx: Any, energy: Tensor) -> Tensor:
        return energy.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "`solution.energy` of an `Implicit` call was differentiated with `create_graph=True`; its latent is held, so there is one "
                "derivative only. Evaluate the energy at `solution.z` and use `Implicit(twice=True)`, or choose `Unroll()`."
            )
        return gradients[0]
