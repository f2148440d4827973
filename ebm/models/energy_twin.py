"""The energy that wants what a gated cell wants, with the same parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ebm.models.gated import Gated
from ebm.noise import Draw
from ebm.objective import Energy
from ebm.solvers import Descent
from ebm.solvers.base import Solver

__all__ = ["EnergyTwin"]


class EnergyTwin(Energy):
    r"""The gated squared distance of a latent from the target of a cell:

    .. math:: E(z; x) = \tfrac12 \sum_i \sigma(a_i)\, (\tanh(b_i) - z_i)^2,

    with a and b the cell's own drives at z. It is zero exactly where the cell is at rest. Its force is the move of the cell plus what an energy
    must add: how each unit's latent changes the gates and targets of others,

    .. math:: -\nabla_z E = \sigma(a) \odot (\tanh(b) - z) - \bigl(\ldots\bigr)^T \frac{\partial (a, b)}{\partial z},

    so influence runs both ways along every connection, where the cell's runs one way. Cell and twin have the same parameters; trained
    apart, they tell what an energy costs or brings.

    Args:
        cell: a gated cell; its parameters are the twin's.
        step_size: of the gradient descent that the twin settles by, above 0.

    Raises:
        TypeError: a cell of another type.

    Example:
        >>> import torch, ebm
        >>> twin = ebm.EnergyTwin(ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1))
        >>> solution = ebm.infer(twin.eval(), torch.ones(3, 1, 16), steps=8)
        >>> solution.answer.shape, bool((solution.energy >= 0).all())
        (torch.Size([3, 2, 16]), True)

    Source: ours; a least-squares energy of an equilibrium condition.
    """

    def __init__(self, cell: Gated, step_size: float = 1.0) -> None:
        super().__init__()
        if not isinstance(cell, Gated):
            raise TypeError(
                f"`EnergyTwin(cell)` is a gated cell; got {type(cell).__name__}. Pass `ebm.GatedCell(...)`, say."
            )
        self.cell = cell
        self.step_size = step_size

    def condition(self, x: Any) -> Any:
        """The cell's."""
        return self.cell.condition(x)

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The cell's."""
        return self.cell.init_latent(c, draw)

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """One energy a sample, (B,)."""
        gate, target = self.cell.gate_and_target(z, c)
        return 0.5 * (gate * (target - z).square()).flatten(1).sum(1)

    def readout(self, z: Tensor, c: Any) -> Any:
        """The cell's answer."""
        return self.cell.readout(z, c)

    def default_solver(self) -> Solver:
        """Plain descent: the steps whose first term is the cell's own."""
        return Descent(self.step_size)
