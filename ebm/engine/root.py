r"""The root of an equation as a differentiable function of all that the equation closes over.

.. math:: M(\ell, \theta) = 0,\quad z = P(\ell, \theta):\qquad
          J^T v = -\Big(\frac{\partial P}{\partial \ell}\Big)^T g,\qquad
          \nabla_\theta = v^T \frac{\partial M}{\partial \theta} + g^T \frac{\partial P}{\partial \theta},\qquad
          J = \frac{\partial M}{\partial \ell}

P is the identity but where a model moves a latent before it looks at it, as `Clamped` and walls do. Autograd carries v and g
through the graphs of M and P, so nobody has to name the parameters.

A second derivative needs the whole right-hand side as a function of the parameters, the root under it included. So a second
root is put on top of the first: M and P are evaluated at the first root, and what they send back to it cancels,
:math:`(\partial P / \partial \ell)^T g + J^T v = 0`, but for the parts that only a second derivative asks for. The weights v
are then the root of a linear equation, and differentiated as such.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from ebm import rows
from ebm.engine.field import transposed
from ebm.engine.linear import LinearSolver, LinearSolveWarning, unit_size

__all__ = ["Root"]

Leaves = list[Tensor]


class Root:
    """A root that is found already, and how its gradient is.

    Args:
        unknown: the root, leaves of a graph (or another root, ``below``).
        image: what the loss sees of it, as a function of ``unknown``.
        equation: what is zero, as a function of ``unknown``, of the same shapes.
        solver: for the weights v.
        below: the root that ``unknown`` is.
        within: whether another root will stand on this one.
    """

    def __init__(
        self, unknown: Leaves, image: Leaves, equation: Leaves, solver: LinearSolver, below: Root | None, within: bool
    ) -> None:
        self.unknown, self.image, self.equation = unknown, image, equation
        self.solver, self.below, self.within = solver, below, within
        self.plain = all(a is b for a, b in zip(image, unknown, strict=True))
        self._cancelled = (-1, 0.0)

    @classmethod
    def of(
        cls,
        unknown: Any,
        image: Any,
        equation: Any,
        solver: LinearSolver,
        below: Root | None = None,
        within: bool = False,
    ) -> tuple[Root, Any]:
        """The root of row trees, and the image as a function of what the equation closes over.

        A root does not hold that function, whose graph holds the root: Python could never collect such a cycle.
        """
        where, seen, zero = (list(rows.leaves(tree)) for tree in (unknown, image, equation))
        root = cls(where, seen, zero, solver, below, within)
        found = iter(root._attached())
        return root, rows.map_rows(lambda _: next(found), image)

    def _attached(self) -> tuple[Tensor, ...]:
        # a leaf of the graph is nobody's parameter: it needs no gradient
        image = [leaf.detach() for leaf in self.image] if self.plain and self.below is None else self.image
        return _Attach.apply(self, *image, *self.equation)  # pyright: ignore[reportReturnType]

    def weights(self, gradients: tuple[Tensor, ...]) -> Leaves:
        """v for what the loss wants of the image; differentiable where the grad mode asks for it."""
        if any(map(is_legacy_batchedtensor, gradients)):
            raise RuntimeError(_BATCHED)
        if not torch.is_grad_enabled():
            return list(_Solve.apply(self, *gradients))  # pyright: ignore[reportArgumentType]
        if self.within and self._only_cancels(gradients):
            return [torch.zeros_like(leaf) for leaf in self.equation]
        if self.below is None or torch._C._are_functorch_transforms_active():
            raise RuntimeError(_TOO_OFTEN)
        with torch.no_grad():
            found = self.solve(gradients)
        self.below._cancelled = torch._C._current_graph_task_id(), _largest(gradients)
        v = [leaf.requires_grad_() for leaf in found]
        wanted = self._pulled(gradients, keep=True)
        back = rows.leaves(transposed(self.unknown, self.equation, True)(v))
        return list(
            Root(v, v, [a + b for a, b in zip(back, wanted, strict=True)], self.solver, None, False)._attached()
        )

    def solve(self, gradients: tuple[Tensor, ...]) -> Leaves:
        """v, without a graph. The right-hand side is what the loss wants, and the matrix -J^T: positive definite for an energy."""
        product = transposed(self.unknown, self.equation, False)
        like = self._pulled(gradients, keep=False)
        wanted = rows.flatten(like)

        def matrix(v: Tensor) -> Tensor:
            return rows.flatten(list(rows.leaves(product(rows.unflatten(v, like))))).neg()

        v = self.solver.solve(matrix, wanted)
        v = torch.where(rows.finite(v)[:, None], v, 0.0)
        self._check(wanted - matrix(v), wanted)
        return list(rows.leaves(rows.unflatten(v, like)))

    def _pulled(self, gradients: tuple[Tensor, ...], keep: bool) -> Leaves:
        """What the loss wants of the unknown; nothing of a leaf on which the equation never acts, like a rung."""
        like = list(gradients)
        if not self.plain:
            like = list(rows.leaves(transposed(self.unknown, self.image, keep)(like)))
        return [g if e.requires_grad else torch.zeros_like(g) for g, e in zip(like, self.equation, strict=True)]

    def _only_cancels(self, gradients: tuple[Tensor, ...]) -> bool:
        """Whether all that came from above in this backward pass is what is left of a sum that is zero."""
        task, size = self._cancelled
        if task != torch._C._current_graph_task_id():
            return False
        return _largest(gradients) <= 10 * self.solver.tolerance(gradients[0].dtype) * size

    def _check(self, error: Tensor, wanted: Tensor) -> None:
        """Say which samples have no gradient worth the name, and whether the linear solver or the settling is to blame."""
        unit, tolerance = unit_size(wanted).float(), self.solver.tolerance(wanted.dtype)
        error, size = (torch.linalg.vector_norm(part / unit, dim=1) for part in (error, wanted))
        relative = torch.where(size > 0, error / torch.where(size > 0, size, 1.0), 0.0)
        bad = ~(relative <= 2 * tolerance)
        if not bool(bad.any()):
            return
        residual = rows.rms([leaf.detach() for leaf in self.equation])
        warnings.warn(
            f"{int(bad.sum())} of {len(bad)} linear solves of {type(self.solver).__name__} ended above their tolerance {tolerance:.1g}: "
            f"relative residual up to {float(relative[bad].max()):.1g}, at latents whose own residual is up to "
            f"{float(residual[bad].max()):.1g}. Settle longer if that is large; else allow more `steps=`, or try `GMRES()`.",
            LinearSolveWarning,
            stacklevel=2,
        )


_TOO_OFTEN = (
    "An `Implicit` gradient was differentiated (`create_graph=True`) more often than it kept evaluations for: once, or twice with "
    "`Implicit(twice=True)`, and then not over a batch of gradients. Pass `twice=True` if it was not, or choose `Unroll()`."
)

_BATCHED = (
    "An `Implicit` gradient was asked for a whole batch of gradients at once (`vectorize=True` or `is_grads_batched=True`), but each needs a "
    "linear solve of its own. Pass `vectorize=False`, or use `torch.func.vmap` over `torch.autograd.grad`."
)


def _largest(gradients: tuple[Tensor, ...]) -> float:
    return max((float(leaf.detach().abs().max()) for leaf in gradients if leaf.numel()), default=0.0)


class _Attach(torch.autograd.Function):
    """The image as it is; backwards, what the loss wants of it becomes what it wants of the equation and of the image."""

    @staticmethod
    def forward(ctx: Any, root: Root, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.root = root
        return tuple(leaf.clone() for leaf in tensors[: len(root.image)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, *gradients, *ctx.root.weights(gradients)


class _Solve(torch.autograd.Function):
    """The weights without a graph; for a batch of gradients (`torch.func.vmap`), one after the other."""

    @staticmethod
    def forward(root: Root, *gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tuple(root.solve(gradients))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, root: Root, *gradients: Tensor) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        each = [
            root.solve(tuple(g if d is None else g.select(d, k) for g, d in zip(gradients, in_dims[1:], strict=True)))
            for k in range(info.batch_size)
        ]
        return tuple(map(torch.stack, zip(*each, strict=True))), (0,) * len(gradients)
