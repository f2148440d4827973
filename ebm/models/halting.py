"""A head that says when a latent's answer is good enough."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm.noise import Draw
from ebm.objective import Objective, Point
from ebm.solvers.base import Solver

__all__ = ["Halted", "Halting", "PooledLogit"]


class Halted(NamedTuple):
    """What a model with a halting head answers.

    Attributes:
        answer: the model's own answer.
        halt: the logit of halting now, (B,).
    """

    answer: Any
    halt: Tensor


class Halting(Objective):
    r"""A model with a halting head: its read-out is a `Halted` pair of its answer and one logit a sample.

    The latent moves exactly as that of the model. The losses `ACT`, `PonderNet` and `QHead` teach the head, and the stop rules `Halts`,
    `HaltsBySum` and `HaltsByChance` ask it.

    Args:
        model: an energy or an update whose latent is one tensor.
        head: maps the latent to one logit a sample, (B,) or (B, 1): `PooledLogit(width)`, say.

    Raises:
        TypeError: a model or a head of another type.
        ValueError: at the call, a head that gives anything but one number a sample.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> model = ebm.Halting(cell, ebm.PooledLogit(4, axis=1))
        >>> solution = ebm.infer(model, torch.ones(3, 1, 6), steps=5, stop=ebm.Halts(0.9))
        >>> solution.answer.answer.shape, solution.answer.halt.shape
        (torch.Size([3, 2, 6]), torch.Size([3]))

    Source: the halting unit of Graves (2016), Adaptive computation time for recurrent neural networks.
    """

    def __init__(self, model: Objective, head: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, Objective) or not isinstance(head, nn.Module):
            raise TypeError(
                f"`Halting(model, head)` is an objective and a module; got {type(model).__name__} and {type(head).__name__}. "
                "Pass a cell and `ebm.PooledLogit(width)`, say."
            )
        self.model = model
        self.halt = head
        self.provides = model.provides & {"energy", "gradient"}
        self.default_steps = model.default_steps

    def condition(self, x: Any) -> Any:
        """The model's."""
        return self.model.condition(x)

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """The model's."""
        return self.model.init_latent(c, draw)

    def point(self, z: Any, c: Any) -> Point:
        """The model's."""
        return self.model.point(z, c)

    def residual(self, point: Point, c: Any) -> Tensor:
        """The model's."""
        return self.model.residual(point, c)

    def readout(self, z: Any, c: Any) -> Halted:
        """The model's answer, and the logit of halting."""
        logit = self.halt(z)
        logit = logit[:, 0] if logit.ndim == 2 and logit.shape[1] == 1 else logit
        if logit.ndim != 1:
            raise ValueError(
                f"The head of `Halting` gives one logit a sample, (B,) or (B, 1); got {tuple(logit.shape)}. Pool over positions, as "
                "`PooledLogit` does."
            )
        return Halted(self.model.readout(z, c), logit)

    def default_solver(self) -> Solver | None:
        """The model's."""
        return self.model.default_solver()


class PooledLogit(nn.Module):
    """Mean and least over all positions of a latent, then a linear map to one logit.

    The least is there because an answer is finished only when its slowest part is.

    Args:
        width: channels of the latent, at least 1.
        axis: the axis of the channels: 1 for `GatedCell`, -1 for `MessageCell` and `AttentionCell`.
        bias: the first logit; negative ones begin by going on.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> import torch, ebm
        >>> ebm.PooledLogit(4)(torch.zeros(2, 5, 4)).shape
        torch.Size([2])
    """

    def __init__(self, width: int, axis: int = -1, bias: float = -2.0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"`PooledLogit(width)` must be at least 1; got {width}. Pass the channels of the latent.")
        self.axis = axis
        self.linear = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, z: Tensor) -> Tensor:
        """One logit a sample, (B,)."""
        flat = z.movedim(self.axis, -1).flatten(1, -2)
        return self.linear(torch.cat([flat.mean(1), flat.amin(1)], 1))[:, 0]
