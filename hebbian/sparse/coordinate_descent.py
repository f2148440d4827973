"""Coordinate descent for a lasso: one atom after the other, on few of them, with those left out that are proven silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm.noise import Draw
from ebm.objective import Lasso, Point
from ebm.solvers.base import Field, Info, Solver, Step
from hebbian.sparse.descent import descend
from hebbian.sparse.faces import cut, pull, sizes
from hebbian.sparse.screening import silent

__all__ = ["CoordinateDescent"]


@dataclass(frozen=True)
class CoordinateDescent(Solver):
    r"""Every atom in turn goes to its own minimum, the others held, in sweeps over the atoms that matter.

    .. math:: a_i \leftarrow T_{w_i / G_{ii}}\!\left( a_i + F_i / G_{ii} \right), \qquad F \leftarrow F - G_i \, \Delta a_i

    A step chooses the atoms that are active or pulled beyond their weight, sweeps over those of each sample, and evaluates. With
    ``screen`` every evaluation's duality gap also rules out atoms for good that cannot be active at the minimum
    (`silent`); with ``active=False`` the sweeps are over all the others.

    The energy never rises but by rounding: a step that would raise it is turned down, and if the next one would be the same the sample
    has stalled. Sweeps run atom by atom, over all samples at once: on wide batches of sparse codes `ActiveSet` is several times
    as fast, and at small weights or with atoms that are alike many times; this one needs no linear systems.

    Args:
        sweeps: over the chosen atoms in a step, at least 1.
        active: whether to leave out atoms at zero that are not pulled beyond their weight, too, until the next step.
        screen: whether to rule out atoms by the gap.

    Raises:
        ValueError: fewer than one sweep.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import CoordinateDescent, SparseCoding
        >>> model = SparseCoding(torch.eye(3), ebm.L1(0.5))
        >>> ebm.infer(model.eval(), torch.tensor([[2.0, 0.1, -1.0]]), steps=3, solver=CoordinateDescent()).answer
        tensor([[ 1.5000,  0.0000, -0.5000]])

    Source: Friedman, Hastie and Tibshirani (2010), cyclic coordinate descent with active sets; screening as in `silent`.
    """

    sweeps: int = 5
    active: bool = True
    screen: bool = True
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "lasso"})
    # energies rise by rounding alone, and the last force is the best
    keep: ClassVar[str] = "last"
    compiles: ClassVar[bool] = False  # sweeps are as long as the data want

    def __post_init__(self) -> None:
        if not isinstance(self.sweeps, int) or isinstance(self.sweeps, bool) or self.sweeps < 1:
            raise ValueError(
                f"`CoordinateDescent(sweeps=...)` is a whole number of at least 1; got {self.sweeps}. Try 5."
            )

    def init(self, point: Point) -> Any:
        """Which atoms may still be active, bool (B, K)."""
        return torch.ones_like(point.z, dtype=torch.bool)

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a proposal that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """Screen, choose, sweep, evaluate."""
        lasso, z, force = field.lasso(), point.z, point.force
        with torch.no_grad():
            alive = memory & ~silent(lasso, point) if self.screen else memory
        awake = z != 0
        # an atom that was ruled out while it had a number loses it in the sweeps, and is not looked at again
        wanted = awake | (pull(lasso.weight, force, awake, lasso.signed) > 0) if self.active else torch.ones_like(alive)
        chosen = wanted & (alive | awake)
        new = z
        for some in sizes(chosen):
            if some is None:
                new = _swept(lasso, z, force, chosen, self.sweeps)
            else:
                new = new.index_copy(0, some, _swept(lasso, z[some], force[some], chosen[some], self.sweeps))
        end = descend(field, new, point)
        stuck = ~end.good & (alive == memory).all(1)  # the next step would be this one
        return Step(end.point, alive, Info(accepted=end.good, stalled=stuck))


def _swept(lasso: Lasso, z: Tensor, force: Tensor, chosen: Tensor, sweeps: int) -> Tensor:
    """The latents after some sweeps over the chosen atoms."""
    face = cut(lasso, chosen)
    start = torch.where(face.on, z.gather(1, face.index), 0.0)
    force = force.gather(1, face.index)
    height = face.gram.diagonal(dim1=1, dim2=2)
    moves = face.on & (height > 0)
    height = torch.where(height > 0, height, 1.0)
    numbers = list(start.unbind(1))
    for _ in range(sweeps):
        for atom in range(len(numbers)):
            aim = numbers[atom] * height[:, atom] + force[:, atom]
            weight = face.weight[:, atom]
            target = (aim - weight).clamp_min(0.0)
            if lasso.signed:
                target = target - (-aim - weight).clamp_min(0.0)
            target = torch.where(moves[:, atom], target / height[:, atom], 0.0)
            force = torch.addcmul(force, face.gram[:, atom], (target - numbers[atom])[:, None], value=-1)
            numbers[atom] = target
    swept = torch.where(face.on, torch.stack(numbers, 1) - start, 0.0)
    return z.scatter_add(1, face.index, swept)
