"""The Hopfield network, binary and graded."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import BinaryMemory, check_patterns, check_query, hold, rounding
from ebm.noise import Draw
from ebm.objective import Energy, Flip, Point
from ebm.rows import Shared
from ebm.solvers import Descent
from ebm.solvers.base import Solver

__all__ = ["CapacityWarning", "GradedHopfield", "Hopfield"]


_BLOCK = 64  # units of a sweep that are worked through between two products
_ASKED = 100  # patterns that tell whether a network is full
_LOST = 0.02  # of the units: a pattern that begins with so many flips is on its way to another state


class CapacityWarning(UserWarning):
    """More patterns were stored than the network can hold: most of those asked are no states of rest.

    Example:
        >>> import torch, ebm, warnings
        >>> patterns = torch.randn(60, 100, generator=torch.Generator().manual_seed(0)).sign()
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", ebm.CapacityWarning)  # known, and meant
        ...     memory = ebm.Hopfield.store(patterns)
    """


class Hopfield(BinaryMemory):
    r"""The Hopfield network: states :math:`s \in \{-1, 1\}^N` that settle into the nearest stored pattern, if there are few.

    .. math:: E(s) = -\tfrac12 s^T W s - b^T s, \qquad s_i \leftarrow \text{sgn}\big((W s)_i + b_i\big)

    one unit at a time. Sampled with `Gibbs` it is an Ising model, W the couplings and b the field: J = W, h = b. A unit whose field is zero (to rounding) keeps its state. With W symmetric and without diagonal no
    flip raises E, so every sample comes to rest in a state that no single flip improves.

    Args:
        weight: (N, N), symmetric with a zero diagonal. A parameter stays one; any other tensor becomes a buffer.
        bias: (N,), the field each unit feels from outside; None is zero.

    Raises:
        ValueError: a weight that is not square, symmetric, finite and without diagonal, or a bias of another shape; at the
            call, a query of another shape or with numbers other than +-1.

    Example:
        >>> import torch, ebm
        >>> patterns = torch.tensor([[1.0, 1, 1, 1, -1, -1, -1, -1], [1.0, -1, 1, -1, 1, -1, 1, -1]])
        >>> query = torch.tensor([[-1.0, 1, 1, 1, -1, -1, -1, -1]])
        >>> ebm.infer(ebm.Hopfield.store(patterns), query).answer
        tensor([[ 1.,  1.,  1.,  1., -1., -1., -1., -1.]])

    Source: Hopfield (1982), with states +-1 for 0 and 1 and the threshold as a bias; the original leaves a unit at its
    threshold off, here it keeps its state.
    """

    provides = BinaryMemory.provides | {"sweep"}
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        _check_weight("Hopfield", weight)
        if bool(weight.detach().diagonal().any()):
            raise ValueError(
                "`Hopfield(weight)` must have a zero diagonal; got other numbers there. Call `weight.fill_diagonal_(0)`: a unit that "
                "feels itself could cycle or raise the energy."
            )
        _hold_couplings(self, "Hopfield", weight, bias)
        self.units = weight.shape[0]

    @classmethod
    def store(cls, patterns: Tensor) -> Hopfield:
        r"""The memory of some patterns by Hebb's rule, :math:`W = \frac1N \sum_\mu \xi^\mu \xi^{\mu T}` without its diagonal.

        Args:
            patterns: (P, N), +-1, one a row.

        Raises:
            ValueError: patterns of another shape or with other numbers.

        Warns:
            CapacityWarning: most of the patterns are not held.

        Example:
            >>> import torch, ebm
            >>> ebm.Hopfield.store(torch.tensor([[1.0, -1.0]])).weight
            tensor([[ 0.0000, -0.5000],
                    [-0.5000,  0.0000]])

        Source: Hopfield (1982), there without the factor 1 / N.
        """
        return cls(_hebb("Hopfield.store(patterns)", patterns))

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query, and the field that counts as zero for each unit: what a sum of N products may have gained by rounding."""
        check_query("Hopfield", x, self.units)
        return {"query": x, "slack": Shared(_slack(self.weight.detach(), self.bias.detach()))}

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The energy, (B,)."""
        return self._energy(z, self._field(z))

    def point(self, z: Tensor, c: Any) -> Point:
        """Energy and force from one product."""
        field = self._field(z)
        return Point(z, self._energy(z, field), _signs(field, z, c["slack"].value) - z)

    def conditional(self, z: Tensor, c: Any, block: Tensor) -> Tensor:
        """The sign of the field of one unit of each sample, (B,); its state where the field is zero."""
        field, own = self._at(z, block)
        return _signs(field, own, c["slack"].value.index_select(0, block))

    def sweep(self, z: Tensor, c: Any, held: Tensor | None = None) -> Tensor:
        """Every unit in turn takes the sign of its field, but for those that are ``held``, bool (B, N).

        Exactly one unit after the other, yet nearly all of the work is in matrix products: what a block of units feels from outside
        the block does not change while the block is worked through.
        """
        slack, done = c["slack"].value.unbind(0), []
        for first in range(0, self.units, _BLOCK):
            here = slice(first, min(first + _BLOCK, self.units))
            field = torch.addmm(self.bias[here], torch.cat([*done, z[:, first:]], dim=1), self.weight[:, here])
            units = list(z[:, here].unbind(1))
            for j, (own, row) in enumerate(zip(units, self.weight[here, here].unbind(0), strict=True)):
                wanted = _signs(field[:, j], own, slack[first + j])
                units[j] = wanted if held is None else torch.where(held[:, first + j], own, wanted)
                field = torch.addr(field, units[j] - own, row)
            done = [torch.cat([*done, torch.stack(units, dim=1)], dim=1)]
        return done[0]

    def flip(self, z: Tensor, c: Any, block: Tensor) -> Flip:
        """The other sign of one unit of each sample, and the rise of the energy: twice the state times the field."""
        field, own = self._at(z, block)
        return Flip(-own, 2 * own * field)

    def _at(self, z: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """The field and the state of one unit of each sample."""
        rows_of_units = self.weight.index_select(0, block)
        field = torch.bmm(rows_of_units.unsqueeze(1), z.unsqueeze(2)).flatten() + self.bias.index_select(0, block)
        return field, z.gather(1, block[:, None]).flatten()

    def _field(self, z: Tensor) -> Tensor:
        return torch.addmm(self.bias, z, self.weight)

    def _energy(self, z: Tensor, field: Tensor) -> Tensor:
        return -0.5 * (z * (field + self.bias)).sum(1)


class GradedHopfield(Energy):
    r"""The Hopfield network with graded units: internal states u, activities :math:`v = \tanh(\beta u)`.

    .. math:: E(u) = -\tfrac12 v^T W v - b^T v + \sum_i \big[u_i v_i - \tfrac1\beta \log\cosh(\beta u_i)\big],
              \qquad \dot u = W v + b - u

    The declared force is :math:`\dot u`, not minus the gradient: :math:`\partial E / \partial u = -\dot u \odot v'(u)` with
    :math:`v' = \beta (1 - v^2) > 0`, so E falls along it. Steps of size :math:`a \le 1 / (1 + \beta\max(0, -\lambda_{\min}(W)))`
    never raise E either (they are mirror descent on it); for Hebb's store :math:`\lambda_{\min} \ge -P/N`.

    Args:
        weight: (N, N), symmetric; a diagonal is allowed. A parameter stays one; any other tensor becomes a buffer.
        bias: (N,), the input each unit feels from outside; None is zero.
        beta: gain > 0. Below 1 / (largest eigenvalue of W) all activities die out; large values approach binary units.

    Raises:
        ValueError: a weight that is not square, symmetric and finite, a bias of another shape, or a gain not above zero; at
            the call, a query of another shape.

    Example:
        >>> import torch, ebm
        >>> memory = ebm.GradedHopfield.store(torch.tensor([[1.0, 1, 1, -1, -1, -1]]))
        >>> ebm.infer(memory, torch.tensor([[0.5, 0.5, 0.0, -0.5, 0.2, 0.0]])).answer.sign()
        tensor([[ 1.,  1.,  1., -1., -1., -1.]])

    Source: Hopfield (1984), with unit resistances and capacities. Settling starts at u = x and reads out v.
    """

    provides = frozenset({"energy"})
    default_steps = 500
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None, beta: float = 4.0) -> None:
        super().__init__()
        _check_weight("GradedHopfield", weight)
        if not 0 < beta < math.inf:
            raise ValueError(f"`GradedHopfield(beta=...)` must be above zero and finite; got {beta}. Try 4.")
        _hold_couplings(self, "GradedHopfield", weight, bias)
        self.units = weight.shape[0]
        self.beta = float(beta)

    @classmethod
    def store(cls, patterns: Tensor, beta: float = 4.0) -> GradedHopfield:
        """The memory of some patterns by Hebb's rule; see `Hopfield.store`.

        Args:
            patterns: (P, N), +-1, one a row.
            beta: gain > 0.

        Raises:
            ValueError: patterns of another shape or with other numbers, or a gain not above zero.
        """
        return cls(_hebb("GradedHopfield.store(patterns)", patterns), beta=beta)

    def condition(self, x: Tensor) -> Tensor:
        """The query."""
        check_query("GradedHopfield", x, self.units)
        return x

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        """The query, as internal states."""
        return c

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The energy, (B,)."""
        v = self.readout(z, c)
        return self._energy(z, v, self._input(v))

    def point(self, z: Tensor, c: Any) -> Point:
        """Energy and flow from one product."""
        v = self.readout(z, c)
        arriving = self._input(v)
        return Point(z, self._energy(z, v, arriving), arriving - z)

    def readout(self, z: Tensor, c: Any) -> Tensor:
        """The activities v, in [-1, 1]."""
        return (self.beta * z).tanh()

    def default_solver(self) -> Solver:
        """`Descent` half of the way, which never raises the energy where the smallest eigenvalue of W is >= -1 / beta."""
        return Descent(0.5)

    def default_stop(self) -> Stop:
        """At rest to 1e-5."""
        return AtRest(1e-5)

    def _input(self, v: Tensor) -> Tensor:
        return torch.addmm(self.bias, v, self.weight)

    def _energy(self, u: Tensor, v: Tensor, arriving: Tensor) -> Tensor:
        cost = u * v - _log_cosh(self.beta * u) / self.beta
        return (cost - 0.5 * v * (arriving + self.bias)).sum(1)


def _log_cosh(x: Tensor) -> Tensor:
    """log cosh x without overflow, and smooth at zero for autograd; the threshold keeps float64 exact."""
    return x + nn.functional.softplus(-2 * x, threshold=40) - math.log(2)


def _signs(field: Tensor, own: Tensor, slack: Tensor) -> Tensor:
    """The signs of fields; ``own`` where a field is zero to rounding, as two roads to one field may round apart."""
    return torch.where(field.abs() <= slack, own, field.sign().to(own.dtype))


def _hebb(owner: str, patterns: Tensor) -> Tensor:
    patterns = check_patterns(owner, patterns, binary=True)
    weight = (patterns.T @ patterns / patterns.shape[1]).fill_diagonal_(0)
    warn_unless_held(owner, weight, patterns, len(patterns))
    return weight


@torch.no_grad()
def warn_unless_held(owner: str, weight: Tensor, patterns: Tensor, stored: int, least: float = 0.0) -> bool:
    """Warn where most of the patterns just stored are not held by a weight, and say whether that was so; a hundred of them are asked.

    Args:
        owner: who stores, for the message.
        weight: (N, N).
        patterns: (P, N), +-1.
        stored: how many there are by now.
        least: a field that counts as zero, beyond the rounding of the sum.
    """
    units = weight.shape[0]
    asked = patterns.detach()[:: -(-len(patterns) // _ASKED) or 1]
    field, slack = asked @ weight, _slack(weight, weight.new_zeros(units)).clamp_min(least)
    lost = ((asked * field < -slack).double().mean(1) > _LOST).double().mean()
    still = units > 1 and not bool((field.abs() > slack).any())
    if not len(asked) or not (still or bool(lost > 0.5)):
        return False
    what = (
        "no unit feels any other, so every state is at rest"
        if still
        else f"{lost:.0%} of the patterns are no states of rest"
    )
    warnings.warn(
        f"`{owner}` holds {stored} patterns in {units} units, and {what}: the network is loaded beyond its capacity, and recalls none or few of them. "
        f"Hebb's rule holds about {0.138 * units:.0f} random patterns here, and far fewer that are alike, as pictures are. Store fewer, or use "
        "`hebbian.memory.HopfieldMemory(units)`, which holds any below as many as units, or `ebm.DenseMemory(patterns)`.",
        CapacityWarning,
        stacklevel=4,
    )
    return True


def _slack(weight: Tensor, bias: Tensor) -> Tensor:
    """The field that counts as zero for each unit: what a sum of N products may have gained by rounding."""
    size = (weight.square().sum(1) + bias.square()).sqrt()
    return rounding(weight) * math.sqrt(weight.shape[0]) * size


def _check_weight(owner: str, weight: Any) -> None:
    """A weight is a floating matrix, square, finite, and symmetric to rounding."""
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(
            f"`{owner}(weight)` wants a square tensor (N, N); got {got}. From patterns, use `{owner}.store(patterns)`."
        )
    if not weight.is_floating_point():
        raise ValueError(
            f"`{owner}(weight)` wants floating-point numbers; got {weight.dtype}. Convert it with `.float()`."
        )
    fixed = weight.detach()
    if not bool(fixed.isfinite().all()):
        raise ValueError(f"`{owner}(weight)` must be finite; got NaN or infinity. Look at what wrote the weight.")
    uneven = float((fixed - fixed.T).abs().amax()) if fixed.numel() else 0.0
    if uneven > 100 * rounding(fixed) * float(fixed.abs().amax() if fixed.numel() else 0.0):
        raise ValueError(
            f"`{owner}(weight)` must be symmetric; got one that differs from its transpose by {uneven:.3g}. Pass "
            "`(weight + weight.T) / 2`, or settle it as an `ebm.Update`: without symmetry there is no energy."
        )


def _hold_couplings(module: nn.Module, owner: str, weight: Tensor, bias: Tensor | None) -> None:
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    if bias.shape != weight.shape[:1] or bias.dtype != weight.dtype or bias.device != weight.device:
        raise ValueError(
            f"`{owner}(bias=...)` wants one number a unit, {weight.dtype} ({weight.shape[0]},) on {weight.device}; got "
            f"{bias.dtype} {tuple(bias.shape)} on {bias.device}. Reshape or convert it."
        )
    hold(module, "weight", weight)
    hold(module, "bias", bias)
