"""A head that says when a latent's answer is good enough."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm import rows
from ebm.engine.stop import Stop
from ebm.noise import Draw
from ebm.objective import Flip, Objective, Point, Update
from ebm.solvers import Picard
from ebm.solvers.base import Solver

__all__ = ["Halted", "Halting", "PooledLogit"]

_PASSED_ON = frozenset({"energy", "gradient", "discrete", "conditional", "sweep", "flip", "residuals"})


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
    `HaltsBySum` and `HaltsByChance` ask it. Solver, stop rule and step limit are those of the model.

    Args:
        model: an energy or an update.
        head: maps the latent to one logit a sample, (B,) or (B, 1): `PooledLogit(width)`, say.

    Raises:
        TypeError: a model or a head of another type.
        ValueError: a ladder or a composite; at the call, a head that gives anything but one number a sample.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> model = ebm.Halting(cell, ebm.PooledLogit(4, axis=1))
        >>> solution = ebm.infer(model.eval(), torch.ones(3, 1, 6), steps=5, stop=ebm.Halts(0.9))
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
        if model.provides & {"levels", "prox"}:
            raise ValueError(
                f"`Halting` wraps models of one landscape without a term beside it; got {type(model).__name__}. Wrap the model inside it."
            )
        self.model = model
        self.halt = head
        self.provides = model.provides & _PASSED_ON
        self.default_steps = model.default_steps

    def condition(self, x: Any) -> Any:
        """The model's."""
        return self.model.condition(x)

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """The model's."""
        return self.model.init_latent(c, draw)

    def forward(self, z: Any, c: Any) -> Any:
        """The model's: an energy a sample, (B,), or the next latent."""
        return self.model(z, c)

    def point(self, z: Any, c: Any) -> Point:
        """The model's."""
        return self.model.point(z, c)

    def conditional(self, z: Any, c: Any, block: Tensor) -> Tensor:
        """The model's."""
        return self.model.conditional(z, c, block)  # pyright: ignore[reportCallIssue]

    def sweep(self, z: Any, c: Any, held: Any = None) -> Any:
        """The model's."""
        inner: Any = self.model
        return inner.sweep(z, c) if held is None else inner.sweep(z, c, held)

    def flip(self, z: Any, c: Any, block: Tensor) -> Flip:
        """The model's."""
        return self.model.flip(z, c, block)  # pyright: ignore[reportCallIssue]

    def residuals(self, z: Any, c: Any) -> Tensor:
        """The model's."""
        return self.model.residuals(z, c)  # pyright: ignore[reportCallIssue]

    def residual(self, point: Point, c: Any) -> Tensor:
        """The model's."""
        return self.model.residual(point, c)

    def move(self, point: Point, c: Any) -> Any:
        """The model's."""
        return self.model.move(point, c)

    @property
    def tells_rest(self) -> bool:
        """Whether the model's does."""
        return super().tells_rest and self.model.tells_rest

    def readout(self, z: Any, c: Any) -> Halted:
        """The model's answer, and the logit of halting."""
        logit, batch = self.halt(z), rows.count(z)
        if not isinstance(logit, Tensor) or logit.shape not in ((batch,), (batch, 1)):
            got = tuple(logit.shape) if isinstance(logit, Tensor) else type(logit).__name__
            raise ValueError(
                f"The head of `Halting` gives one logit for each of B = {batch} samples, (B,) or (B, 1); got {got}. Pool over positions, as "
                "`PooledLogit` does."
            )
        return Halted(self.model.readout(z, c), logit.reshape(batch))

    def default_solver(self) -> Solver | None:
        """The model's, if what it needs is passed on."""
        solver = self.model.default_solver() or (Picard() if isinstance(self.model, Update) else None)
        return solver if solver is not None and solver.needs <= self.provides else None

    def default_stop(self) -> Stop | None:
        """The model's, unless it asks for what is not passed on or reads an answer, which is now a pair."""
        stop = self.model.default_stop()
        return None if stop is None or stop.reads or not stop.needs <= self.provides else stop


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
