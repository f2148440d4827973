"""The supervised loss that teaches a model to keep its answer: progressive training over the stream of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine import Unroll, infer, stream
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["Progressive"]


@dataclass(frozen=True)
class Progressive:
    r"""A supervised loss over a stretch of answers that begins anywhere along the way.

    Settle for n random steps without a gradient, then for k with one, and average the loss over the answers:

    .. math:: L = \frac1k \sum_{t=1}^{k} \ell(\text{answer}(z_{n+t}), y), \qquad n \sim U\{n_0, \ldots, n_1\}

    The start is the model's own or, with probability ``noise_start``, normal noise. A model trained so gives a good
    answer early (every step is supervised), improves it, and keeps it for more steps than training ever took.

    Args:
        loss: ``loss(answer, y)``, a scalar.
        burn_in: (least, most) steps without a gradient, 0 <= least <= most.
        steps: k >= 1 steps with a gradient.
        noise_start: probability in [0, 1] that a batch starts from noise.
        noise_scale: standard deviation of that noise, >= 0.
        last_only: supervise the last of the k answers alone, as in the paper.
        solver: how the latent moves; None asks the model.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule = ebm.Progressive(torch.nn.functional.cross_entropy, burn_in=(0, 5), steps=3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> loss = rule(cell, torch.randn(3, 1, 16), torch.zeros(3, 16, dtype=torch.int64), generator)
        >>> loss.backward()

    Source: Bansal et al. (2022), section 3.2, the progressive loss. There the start is always the model's own and only the last
    answer is supervised; random starts and the mean over all k answers are ours.
    """

    loss: Callable[[Any, Any], Tensor]
    burn_in: tuple[int, int] = (0, 8)
    steps: int = 4
    noise_start: float = 0.0
    noise_scale: float = 1.0
    last_only: bool = False
    solver: Solver | None = None

    def __post_init__(self) -> None:
        least, most = self.burn_in
        if not 0 <= least <= most:
            raise ValueError(
                f"`Progressive(burn_in=...)` is (least, most) with 0 <= least <= most; got {self.burn_in}. Try (0, 8)."
            )
        if self.steps < 1:
            raise ValueError(f"`Progressive(steps=...)` must be at least 1; got {self.steps}. Try 4.")
        if not 0 <= self.noise_start <= 1:
            raise ValueError(f"`Progressive(noise_start=...)` is a probability; got {self.noise_start}. Pass 0 to 1.")
        if not self.noise_scale >= 0:
            raise ValueError(f"`Progressive(noise_scale=...)` may not be negative; got {self.noise_scale}. Try 1.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator) -> Tensor:
        """The loss of one batch, a scalar; ``backward()`` on it writes the gradient.

        Args:
            model: an energy or an update whose answers ``loss`` understands.
            x: the observation, a row tree of B samples.
            y: the target, as ``loss`` wants it.
            generator: draws the burn-in, the start and the noise.
        """
        start = self._burned_in(model, x, generator)
        options: dict[str, Any] = {
            "steps": self.steps,
            "solver": self.solver,
            "generator": generator,
            "adjoint": Unroll(),
            "stop": None,
        }
        items = list(stream(model, x, start=start, **options))[1:]
        if self.last_only:
            return self.loss(items[-1].answer, y)
        return torch.stack([self.loss(item.answer, y) for item in items]).mean()

    def _burned_in(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        """The latent to begin at: after the burn-in, or None for the model's own start."""
        least, most = self.burn_in
        count = int(torch.randint(least, most + 1, (), generator=generator))
        noisy = bool(torch.rand((), generator=generator) < self.noise_start)
        if count == 0 and not noisy:
            return None
        with torch.no_grad():
            start = self._noise(model, x, generator) if noisy else None
            return (
                start
                if count == 0
                else infer(model, x, steps=count, solver=self.solver, start=start, keep="last", generator=generator).z
            )

    def _noise(self, model: Objective, x: Any, generator: torch.Generator) -> Any:
        keys = draw_keys(rows.count(x), next(rows.leaves(x)).device, generator)
        draw = Draw(keys, torch.full_like(keys, -1))
        like = model.init_latent(model.condition(x), draw)
        return rows.scale(draw.normal(like), self.noise_scale)
