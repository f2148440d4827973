"""The locally competitive algorithm: sparse codes by a circuit of leaky units that inhibit one another."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import ebm
from ebm.objective import Gap
from hebbian.sparse.coding import SparseCoding
from hebbian.sparse.gap import duality_gap

__all__ = ["LCA"]


class LCA(ebm.Update):
    r"""The dynamics of leaky units u that settle to a sparse code, :math:`a = T(u)`.

    .. math:: \tau \dot u = \Phi^T s - u - (\Phi^T \Phi - I)\, a, \qquad a = T(u) = \operatorname{prox}_g(u)

    A unit is driven by how well its atom fits, leaks, and is inhibited by active units whose atoms are like its own. The map
    is :math:`f(u) = a + \Phi^T(s - \Phi a)`; at rest :math:`u - a` is the force on the code and the threshold says that it
    balances the penalty: the rest points are exactly the codes at which `SparseCoding` rests. ``Picard(1 - h)`` is Euler's method
    with step :math:`h = dt / \tau`, stable where h times the largest eigenvalue of the active atoms' products is below 2.

    The latent is u; the answer is the code. With a soft threshold this is the circuit of the lasso; with `L0` it is Rozell's hard
    threshold. Take `ActiveSet` to have the code soon, this to study the circuit, or for units that must be simple.

    Args:
        model: the energy whose codes are wanted; any penalty.
        rate: h of the default solver, in (0, 1].

    Raises:
        TypeError: no `SparseCoding`.
        ValueError: a rate outside (0, 1].

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import LCA, SparseCoding
        >>> circuit = LCA(SparseCoding(torch.eye(3), ebm.L1(0.5)), rate=0.5)
        >>> ebm.infer(circuit.eval(), torch.tensor([[2.0, 0.1, -1.0]]), steps=60).answer.round(decimals=3)
        tensor([[ 1.5000,  0.0000, -0.5000]])

    Source: Rozell, Johnson, Baraniuk and Olshausen (2008), Sparse coding via thresholding and local competition in neural
    circuits. Thresholds are proximal maps of the penalty; their family of soft-to-hard thresholds is not here.
    """

    def __init__(self, model: SparseCoding, rate: float = 0.1) -> None:
        super().__init__()
        if not isinstance(model, SparseCoding):
            raise TypeError(
                f"`LCA(model)` wants a `SparseCoding` energy; got {type(model).__name__}. Pass `SparseCoding(dictionary, ebm.L1(0.1))`."
            )
        if not 0 < rate <= 1:
            raise ValueError(f"`LCA(rate=...)` must lie in (0, 1]; got {rate}. Try 0.1.")
        self.model = model
        self.rate = rate
        self.default_steps = model.default_steps

    @property
    def provides(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """``"gap"`` where the energy has one."""
        return self.model.provides & {"gap"}

    def condition(self, x: Tensor) -> Any:
        """The signal."""
        return self.model.smooth.condition(x) | {"gram": None, "narrow": None}

    def init_latent(self, c: Any, draw: ebm.Draw) -> Tensor:
        """Where the energy starts."""
        return self.model.init_latent(c, draw)

    def code(self, u: Tensor) -> Tensor:
        """The thresholded latent."""
        return self.model.term.prox(u, 1.0)

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The code plus the force on it."""
        code = self.code(z)
        return code + self.model.smooth.point(code, c).force

    def readout(self, z: Tensor, c: Any) -> Tensor:
        """The code."""
        return self.code(z)

    def gap(self, point: ebm.Point, c: Any) -> Gap:
        """The duality gap of the code."""
        code = self.code(point.z)
        energy = self.model.smooth(code, c) + self.model.term(code)
        return duality_gap(self.model.term, code, energy, point.force + point.z - code)

    def default_solver(self) -> ebm.Solver:
        """Euler's method."""
        return ebm.Picard(1 - self.rate)

    def default_stop(self) -> ebm.Stop | None:
        """That of the energy."""
        return self.model.default_stop()
