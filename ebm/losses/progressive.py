"""The supervised loss that teaches a model to keep its answer: progressive training over the stream of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ebm.losses.begins import Begin
from ebm.losses.spans import scalar
from ebm.losses.stretch import Stretch, check_stretch
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["Every", "Last", "Over", "Progressive"]


class Over(Protocol):
    """Says how much each of the streamed answers counts in a loss."""

    def weights(self, count: int) -> Sequence[float]:
        """One weight for each of ``count`` answers, first to last; an answer of weight zero is not looked at."""
        ...


@dataclass(frozen=True)
class Every:
    """Every answer counts the same, so that each is worth stopping at.

    Example:
        >>> from ebm.losses import Every
        >>> Every().weights(4)
        [0.25, 0.25, 0.25, 0.25]
    """

    def weights(self, count: int) -> Sequence[float]:
        """1 / ``count`` each."""
        return [1 / count] * count


@dataclass(frozen=True)
class Last:
    """The last answer alone counts.

    Example:
        >>> from ebm.losses import Last
        >>> Last().weights(3)
        [0.0, 0.0, 1.0]
    """

    def weights(self, count: int) -> Sequence[float]:
        """Zeros, and a one."""
        return [0.0] * (count - 1) + [1.0]


@dataclass(frozen=True)
class Progressive:
    r"""A supervised loss over a stretch of answers that begins anywhere along the way.

    Settle for n random steps without a gradient, then for k with one, and average the loss over the answers:

    .. math:: L = \sum_{t=1}^{k} w_t\, \ell(\text{answer}(z_{n+t}), y), \qquad n \sim U\{n_0, \ldots, n_1\}

    The start is the model's own or, with probability ``noise_start``, normal noise. A model trained so gives a good
    answer early (every step is supervised), improves it, and keeps it for more steps than training ever took. The
    burn-in, the number of steps and the kind of start are drawn once a batch, so that no step is taken for one sample
    alone; noise is each sample's own. Stop rules are left aside: every sample takes all its steps.

    One call evaluates the model n + k + 2 times, against n + k in a loop by hand: the engine also judges the points at
    the two ends.

    Args:
        loss: ``loss(answer, y)``, a scalar: ``torch.nn.functional.cross_entropy``, say.
        burn_in: steps without a gradient: n >= 0, or (least, most) to draw n from, both included.
        steps: steps with a gradient: k >= 1, or (least, most) to draw k from, both included.
        noise_start: probability in [0, 1] that a batch starts from noise.
        noise_scale: standard deviation of that noise, >= 0, in units of the latent.
        over: which of the k answers count: `Every()`, `Last()`, or an object with ``weights(k)``.
        solver: how the latent moves; None asks the model.
        begin: where a batch begins, `Elsewhere(...)` or an object of your own; None, and wherever it says None: as above.

    Raises:
        TypeError: ``loss`` cannot be called, or steps that are not whole numbers.
        ValueError: a setting outside its range.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule = ebm.Progressive(torch.nn.functional.cross_entropy, burn_in=(0, 5), steps=3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> loss = rule(cell, torch.ones(3, 1, 16), torch.zeros(3, 16, dtype=torch.int64), generator)
        >>> loss.backward()

    Source: Bansal et al. (2022), section 3.2, the progressive loss. There n + k never exceeds a fixed number of steps, the
    start is always the model's own, the last answer alone is supervised, and a loss over a whole run from the start may be
    added; here n and k are drawn apart, and random starts and the mean over all k answers are ours.
    """

    loss: Callable[[Any, Any], Tensor]
    burn_in: int | tuple[int, int] = (0, 8)
    steps: int | tuple[int, int] = 4
    noise_start: float = 0.0
    noise_scale: float = 1.0
    over: Over = Every()
    solver: Solver | None = None
    begin: Begin | None = None

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise TypeError(
                f"`Progressive(loss)` must be callable as loss(answer, y); got {type(self.loss).__name__}. "
                "Pass `torch.nn.functional.cross_entropy`, say."
            )
        check_stretch("Progressive", self)

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar; ``backward()`` on it writes the gradient.

        Args:
            model: an energy or an update whose answers ``loss`` understands.
            x: the observation, a row tree of B samples.
            y: the target, as ``loss`` wants it.
            generator: the only source of randomness: it draws the burn-in, the number of steps, the kind of start and
                the samples' noise keys. It may be left out where the settings leave nothing to draw; noise that the
                model or the solver makes for itself is then the same at every call.

        Raises:
            ValueError: no generator, though something is to be drawn; or the engine's own refusals.
            InferenceError: some samples ended NONFINITE; training on the others in silence would hide it.
        """
        count, items = self._stretch().answers(model, x, generator)
        parts = []
        for item, weight in zip(items, self.over.weights(count), strict=True):
            if weight:
                parts.append(scalar("Progressive", self.loss(item.answer, y)) * weight)
        return torch.stack(parts).sum()

    def _stretch(self) -> Stretch:
        return Stretch(self.burn_in, self.steps, self.noise_start, self.noise_scale, self.begin, self.solver)
