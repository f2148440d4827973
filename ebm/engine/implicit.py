"""The gradient of being at rest: no step is differentiated, only the condition that the force vanishes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ebm import rows
from ebm.engine.adjoint import Adjoint, Ended, Run, Stage
from ebm.engine.field import transposed
from ebm.engine.linear import GMRES, ConjugateGradient, LinearSolver, LinearSolveWarning
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
    that ended NONFINITE send nothing. It can be differentiated once, not twice.

    Under a constraint the condition is the solver's: that of `Project` is :math:`P(z + F(z)) = z`. A solver that judges rest by a
    residual of its own without saying which move vanishes (`Solver.move`) is refused.

    Args:
        linear_solver: for v; None takes `ConjugateGradient` where the force is minus the gradient of an energy, and no
            constraint bends it, and `GMRES` elsewhere.

    Raises:
        TypeError: no linear solver.

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
    needs: ClassVar[frozenset[str]] = frozenset({"rest"})

    def __post_init__(self) -> None:
        if self.linear_solver is not None and not isinstance(self.linear_solver, LinearSolver):
            raise TypeError(
                f"`Implicit(linear_solver=...)` is a linear solver or None; got {type(self.linear_solver).__name__}. "
                "Pass `ConjugateGradient()`, `GMRES()`, `Neumann(steps=10)` or `AndersonLinear()`."
            )

    def settle(self, run: Run, carry: Carry) -> Iterator[Stage]:
        final = carry
        for stage in run(carry, graph=False, after=1):
            if stage.running:
                yield stage
            final = stage.carry()
        yield Ended(self._attached(run, final))

    def _attached(self, run: Run, carry: Carry) -> Carry:
        """The carry with its kept point made a function of the force there, for all samples that did not fail."""
        samples = (carry.status != Status.NONFINITE).nonzero().flatten()
        carry = rows.map_rows(torch.detach, carry)
        if not torch.is_grad_enabled() or not len(samples):
            return carry
        rest = run.rest(carry, samples)
        carry, point = rest.carry, rest.point
        solver = self.linear_solver or (ConjugateGradient() if rest.symmetric else GMRES())
        latents = list(rows.leaves(rest.point.z))
        z = iter(_Attach.apply(_Pull(rest.point.z, rest.move, solver), len(latents), *latents, *rows.leaves(rest.move)))
        point = point._replace(
            z=rows.map_rows(lambda _: next(z), point.z), force=rows.map_rows(torch.detach, point.force)
        )
        name = "point" if carry.best is None else "best"
        kept: Any = getattr(carry, name)
        return carry._replace(**{name: Point(*rows.put(tuple(kept), samples, tuple(point)))})


class _Attach(torch.autograd.Function):
    """The latents as they are; backwards, what the loss wants of them becomes what it wants of the force."""

    @staticmethod
    def forward(ctx: Any, pull: _Pull, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.pull = pull
        return tuple(latent.clone() for latent in tensors[:count])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return (None, None, *[None] * len(gradients), *ctx.pull(gradients))


class _Pull(NamedTuple):
    """Solves for v. The right-hand side is the gradient itself and the matrix -J^T: positive definite for an energy."""

    z: Any
    move: Any
    solver: LinearSolver

    def __call__(self, gradients: tuple[Tensor, ...]) -> list[Tensor]:
        like, product = list(gradients), transposed(self.z, self.move, keep=False)
        wanted = rows.flatten(like)

        def matrix(v: Tensor) -> Tensor:
            return rows.flatten(list(rows.leaves(product(self._tree(v))))).neg()

        v = self.solver.solve(matrix, wanted)
        v = torch.where(rows.finite(v)[:, None], v, 0.0)
        self._check(torch.linalg.vector_norm(wanted - matrix(v), dim=1), torch.linalg.vector_norm(wanted, dim=1))
        return rows.unflatten(v, like)

    def _tree(self, flat: Tensor) -> Any:
        return rows.unflatten(flat, self.move)

    def _check(self, error: Tensor, size: Tensor) -> None:
        """Say which samples have no gradient worth the name, and whether the linear solver or the settling is to blame."""
        relative = error / size.clamp_min(torch.finfo(size.dtype).tiny)
        tolerance = self.solver.tolerance(size.dtype)
        bad = ~((relative <= 2 * tolerance) | (size == 0))
        if not bool(bad.any()):
            return
        residual = rows.rms(rows.map_rows(torch.detach, self.move))
        warnings.warn(
            f"{int(bad.sum())} of {len(bad)} linear solves of {type(self.solver).__name__} ended above their tolerance {tolerance:.1g}: "
            f"relative residual up to {float(relative[bad].max()):.1g}, at latents whose own residual is up to "
            f"{float(residual[bad].max()):.1g}. Settle longer if that is large; else allow more `steps=`, or try `GMRES()`.",
            LinearSolveWarning,
            stacklevel=2,
        )
