"""The bidirectional associative memory: pairs of patterns, each of which recalls the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import check_patterns, hold
from ebm.noise import Draw
from ebm.objective import Energy, Point
from ebm.solvers import Picard, Sweep
from ebm.solvers.base import Solver
from hebbian.memory.universal import signs

__all__ = ["BidirectionalMemory"]


class BidirectionalMemory(Energy):
    r"""Two layers of units +-1 that recall one another's patterns, back and forth.

    .. math:: E(x, y) = -x^T W y, \qquad x \leftarrow \text{sgn}(W y), \quad y \leftarrow \text{sgn}(W^T x), \qquad
              W = \sum_\mu x^\mu (y^\mu)^T

    A layer has no connections within, so all its units may move at once; the layers move in turn (`Sweep`), and no move
    raises E, for any W. A unit whose field is zero (to rounding) keeps its state. The observation is the pair (x, y); an end that is not known
    is zeros, and the other end fills it in.

    Args:
        weight: (N, M). A parameter stays one; any other tensor becomes a buffer. `store` makes it from pairs.

    Raises:
        ValueError: a weight of another shape; at the call, ends of other shapes, or with numbers other than +-1 and 0.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import BidirectionalMemory
        >>> x = torch.tensor([[1.0, -1, 1, -1, 1, -1], [1.0, 1, 1, -1, -1, -1]])
        >>> y = torch.tensor([[1.0, 1, -1, -1], [1.0, -1, 1, -1]])
        >>> memory = BidirectionalMemory.store(x, y)
        >>> ebm.infer(memory, (x, torch.zeros(2, 4))).z[1]
        tensor([[ 1.,  1., -1., -1.],
                [ 1., -1.,  1., -1.]])

    Source: Kosko (1988), Bidirectional associative memories.
    """

    provides = frozenset({"energy", "discrete"})
    default_steps = 100
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        weight = check_patterns("BidirectionalMemory(weight)", weight, binary=False)
        hold(self, "weight", weight)

    @classmethod
    def store(cls, x: Tensor, y: Tensor) -> BidirectionalMemory:
        """The memory of pairs of patterns, by Hebb's rule.

        Args:
            x: (P, N), +-1.
            y: (P, M), +-1, the partners.

        Raises:
            ValueError: patterns of another shape, with other numbers, or not as many on both sides.
        """
        x = check_patterns("BidirectionalMemory.store(x)", x, binary=True)
        y = check_patterns("BidirectionalMemory.store(y)", y, binary=True)
        if len(x) != len(y):
            raise ValueError(
                f"`BidirectionalMemory.store(x, y)` wants pairs; got {len(x)} patterns and {len(y)} partners. Give each pattern one partner."
            )
        return cls(x.T @ y)

    def condition(self, x: Any) -> Any:
        """The two ends."""
        shape = tuple(self.weight.shape)
        fits = isinstance(x, (tuple, list)) and len(x) == 2 and all(isinstance(end, Tensor) for end in x)
        if not fits or any(
            end.ndim != 2 or end.shape[1] != units or not end.is_floating_point()
            for end, units in zip(x, shape, strict=True)
        ):
            raise ValueError(
                f"`BidirectionalMemory` wants a pair (x, y) of floating tensors, (B, {shape[0]}) and (B, {shape[1]}); got "
                f"{[tuple(end.shape) if isinstance(end, Tensor) else type(end).__name__ for end in x]}. Pass zeros for an end that is not known."
            )
        return {"ends": tuple(x)}

    def init_latent(self, c: Any, draw: Draw) -> tuple[Tensor, Tensor]:
        """The ends as they are known."""
        x, y = c["ends"]
        if all(bool(((end.abs() == 1) | (end == 0)).all()) for end in (x, y)):
            return x, y
        raise ValueError(
            "`BidirectionalMemory` settles states of +-1; got other numbers. Map 0 and 1 by `2 * x - 1`, and leave zeros only where an end is "
            "not known."
        )

    def forward(self, z: Any, c: Any) -> Tensor:
        """The energy, (B,)."""
        x, y = z
        return -((x @ self.weight) * y).sum(1)

    def point(self, z: Any, c: Any) -> Point:
        """The energy, and where each layer wants to go given the other; two products."""
        x, y = z
        up, down = x @ self.weight, y @ self.weight.T
        size = self.weight.detach().abs()
        force = (signs(down, x, size.sum(1)) - x, signs(up, y, size.sum(0)) - y)
        return Point(z, -(up * y).sum(1), force)

    def default_solver(self) -> Solver:
        """The layers in turn, all units of a layer at once."""
        return Sweep(Picard())

    def default_stop(self) -> Stop:
        """At rest exactly: no unit wants to flip."""
        return AtRest(0.0)
