"""Losses that teach a model when to stop, over a stretch of answers with halting logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ebm.losses.stretch import Stretch
from ebm.models.halting import Halted
from ebm.objective import Objective

__all__ = ["ACT", "PonderNet", "QHead"]


@dataclass(frozen=True)
class ACT:
    r"""Adaptive computation time: the loss of the answers mixed by their halting probabilities, and a price for steps.

    With :math:`h_t = \sigma(\text{halt}_t)`, N the first t at which :math:`\sum_{s \le t} h_s \ge 1 - \epsilon` (the last of the stretch if there is none), and the
    remainder :math:`R = 1 - \sum_{t < N} h_t`, the weights are :math:`p_t = h_t` before N and :math:`p_N = R`, and

    .. math:: L = \frac1B \sum_{\text{samples}} \Bigl( \sum_{t \le N} p_t\, \ell(\text{answer}_t, y) + \tau (N + R) \Bigr).

    N has no slope; R has.

    Args:
        loss: ``loss(answer, y)``, one number a sample, (B,).
        stretch: which answers.
        price: :math:`\tau` of a step, at least 0, in units of the loss.
        epsilon: in [0, 1).

    Raises:
        ValueError: a setting outside its range; at the call, a loss of another shape.
        TypeError: at the call, a model without a halting head.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import ACT, Stretch
        >>> cell = ebm.Halting(ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1), ebm.PooledLogit(4, axis=1))
        >>> def each(answer, y):
        ...     return torch.nn.functional.cross_entropy(answer, y, reduction="none").mean(1)
        >>> loss = ACT(each, Stretch(steps=5))(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long())
        >>> loss.backward()

    Source: Graves (2016), Adaptive computation time for recurrent neural networks, eq. 5-13. There states and answers are mixed; here the losses of the answers are, so
    that any loss will do.
    """

    loss: Callable[[Any, Any], Tensor]
    stretch: Stretch = field(default_factory=Stretch)
    price: float = 0.01
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not self.price >= 0:
            raise ValueError(f"`ACT(price=...)` may not be negative; got {self.price}. Try 0.01.")
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"`ACT(epsilon=...)` lies in [0, 1); got {self.epsilon}. Try 0.01.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar."""
        losses, logits = _looked(self.loss, self.stretch, model, x, y, generator)
        chance = logits.sigmoid()
        total = chance.detach().cumsum(0)
        reached = total >= 1 - self.epsilon
        reached[-1] = True
        last = reached.int().argmax(0)  # N - 1
        before = torch.arange(len(chance), device=chance.device)[:, None] < last
        remainder = 1 - (chance * before).sum(0)
        answered = (chance * before * losses).sum(0) + remainder * losses.gather(0, last[None])[0]
        return (answered + self.price * (last + 1 + remainder)).mean()


@dataclass(frozen=True)
class PonderNet:
    r"""The expected loss of a model that halts by lot, and a pull towards a geometric number of steps.

    With :math:`\lambda_t = \sigma(\text{halt}_t)` and :math:`p_t = \lambda_t \prod_{s < t} (1 - \lambda_s)`, the last of the k answers taking what is left,

    .. math:: L = \frac1B \sum_{\text{samples}} \Bigl( \sum_{t=1}^k p_t\, \ell(\text{answer}_t, y) + \beta\, \mathrm{KL}\bigl(p \,\|\, p^G\bigr) \Bigr)

    with :math:`p^G_t \propto \lambda (1 - \lambda)^{t-1}` on 1..k.

    Args:
        loss: ``loss(answer, y)``, one number a sample, (B,).
        stretch: which answers.
        prior: :math:`\lambda` in (0, 1), one over the steps it wishes for.
        beta: weight of the pull, at least 0.

    Raises:
        ValueError: a setting outside its range; at the call, a loss of another shape.
        TypeError: at the call, a model without a halting head.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import PonderNet, Stretch
        >>> cell = ebm.Halting(ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1), ebm.PooledLogit(4, axis=1))
        >>> def each(answer, y):
        ...     return torch.nn.functional.cross_entropy(answer, y, reduction="none").mean(1)
        >>> loss = PonderNet(each, Stretch(steps=5), prior=0.2)(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long())
        >>> loss.backward()

    Source: Banino et al. (2021), PonderNet: learning to ponder, section 2.
    """

    loss: Callable[[Any, Any], Tensor]
    stretch: Stretch = field(default_factory=Stretch)
    prior: float = 0.2
    beta: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise ValueError(f"`PonderNet(prior=...)` lies in (0, 1); got {self.prior}. Try 0.2, for five steps.")
        if not self.beta >= 0:
            raise ValueError(f"`PonderNet(beta=...)` may not be negative; got {self.beta}. Try 0.01.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar."""
        losses, logits = _looked(self.loss, self.stretch, model, x, y, generator)
        log_chance = halting_log_chances(logits)
        chance = log_chance.exp()
        time = torch.arange(len(losses), device=losses.device, dtype=losses.dtype)
        prior = (time * torch.log1p(torch.tensor(-self.prior, dtype=losses.dtype))).log_softmax(0)
        pull = (chance * (log_chance - prior[:, None])).sum(0)
        return ((chance * losses).sum(0) + self.beta * pull).mean()


def halting_log_chances(logits: Tensor) -> Tensor:
    """The log probability of halting at each of k steps, (k, B), the last taking what is left."""
    on = functional.logsigmoid(-logits).cumsum(0)
    survived = torch.cat([torch.zeros_like(on[:1]), on[:-1]])  # all steps before
    halts = torch.cat([functional.logsigmoid(logits[:-1]), torch.zeros_like(logits[:1])])
    return survived + halts


@dataclass(frozen=True)
class QHead:
    r"""The loss of every answer, and a halting head that learns whether the answer is right:

    .. math:: L = \frac1k \sum_{t=1}^k \Bigl( \ell(\text{answer}_t, y) + w\, \mathrm{BCE}\bigl(\text{halt}_t,\, [\text{answer}_t \text{ is right}]\bigr) \Bigr).

    So :math:`\sigma(\text{halt})` is the chance that the present answer is right, which `Halts` asks for and breadth can be ranked by.

    Args:
        loss: ``loss(answer, y)``, a scalar.
        right: ``right(answer, y)``, whether each sample's answer is right, (B,), bool or 0 and 1: the ``score`` of most tasks.
        stretch: which answers.
        weight: w, at least 0.

    Raises:
        ValueError: a negative weight; at the call, a ``right`` of another shape.
        TypeError: at the call, a model without a halting head.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import QHead, Stretch
        >>> task = ebm.tasks.PrefixSums(6)
        >>> cell = ebm.Halting(ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1), ebm.PooledLogit(4, axis=1))
        >>> problems = task.sample(3, torch.Generator().manual_seed(0))
        >>> loss = QHead(task.loss, task.score, Stretch(steps=5))(cell, *problems)
        >>> loss.backward()

    Source: Wang et al. (2025), Hierarchical reasoning model, and Jolicoeur-Martineau (2025), Less is more, whose halting value is trained on being right.
    """

    loss: Callable[[Any, Any], Tensor]
    right: Callable[[Any, Any], Tensor]
    stretch: Stretch = field(default_factory=Stretch)
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"`QHead(weight=...)` may not be negative; got {self.weight}. Try 0.5.")

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar."""
        count, items = self.stretch.answers(model, x, generator)
        parts = []
        for item in items:
            answer, halt = _halted(item.answer)
            with torch.no_grad():
                right = _each("right", self.right(answer, y), halt).to(halt.dtype)
            parts.append(self.loss(answer, y) + self.weight * functional.binary_cross_entropy_with_logits(halt, right))
        return torch.stack(parts).sum() / count


def _looked(
    loss: Callable[[Any, Any], Tensor],
    stretch: Stretch,
    model: Objective,
    x: Any,
    y: Any,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Losses and halting logits of the answers, each (k, B)."""
    losses, logits = [], []
    for item in stretch.answers(model, x, generator)[1]:
        answer, halt = _halted(item.answer)
        losses.append(_each("loss", loss(answer, y), halt))
        logits.append(halt)
    return torch.stack(losses), torch.stack(logits)


def _halted(answer: Any) -> Halted:
    if isinstance(answer, Halted):
        return answer
    raise TypeError(
        f"This loss teaches the halting head of `ebm.Halting(model, head)`; got a model whose answer is {type(answer).__name__}. Wrap the model."
    )


def _each(name: str, values: Tensor, halt: Tensor) -> Tensor:
    if values.shape == halt.shape:
        return values
    raise ValueError(
        f"`{name}(answer, y)` gives one number a sample here, ({len(halt)},); got {tuple(values.shape)}. Average over every axis but the first."
    )
