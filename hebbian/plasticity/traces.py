"""Weights with a fixed and a plastic part: differentiable plasticity, and plasticity that a network switches on itself."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hebbian.plasticity.through_time import Plastic

__all__ = ["DifferentiablePlasticity", "Neuromodulated"]


class DifferentiablePlasticity(Plastic):
    r"""Every connection has a weight, a Hebbian trace of its own past, and a learned number that says how much the trace counts.

    .. math:: y_t = s\big((w + \alpha \odot H_{t-1}) \, x_t + t\big), \qquad H_t = \begin{cases}
              (1 - \eta) H_{t-1} + \eta \, y_t x_t^\top & \text{"hebb"} \\ H_{t-1} + \eta \, y_t \odot (x_t - y_t \odot H_{t-1}) & \text{"oja"}
              \end{cases}

    w, :math:`\alpha`, :math:`\eta` are learned by gradient descent over lifetimes; H is a sample's own and begins at zero. With a teacher,
    :math:`t` clamps the answer: tokens are a pair (x, t) then, and t is added before the nonlinearity.

    Args:
        inputs: numbers in a token.
        units: numbers in an answer.
        rule: ``"hebb"``, a fading mean, or ``"oja"``, which does not fade where nothing happens.
        rate: what :math:`\eta` begins at, from 0 to 1; kept there by a sigmoid of what is learned.
        nonlinearity: s, a module or function, entry by entry or along the last axis.

    Raises:
        ValueError: sizes below 1, another rule, or a rate out of its range.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import DifferentiablePlasticity, run
        >>> model = DifferentiablePlasticity(3, 2, rate=0.1)
        >>> answers, trace = run(model, torch.ones(1, 5, 3))
        >>> trace.shape, answers.requires_grad
        (torch.Size([1, 2, 3]), True)

    Source: Miconi, Clune and Stanley (2018), Differentiable plasticity, equations 1 to 3.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        rule: Literal["hebb", "oja"] = "hebb",
        rate: float = 0.01,
        nonlinearity: Any = torch.tanh,
    ) -> None:
        super().__init__()
        _check_sizes("DifferentiablePlasticity", inputs, units)
        if rule not in ("hebb", "oja"):
            raise ValueError(f'`DifferentiablePlasticity(rule=...)` is "hebb" or "oja"; got {rule!r}.')
        if not 0 < rate < 1:
            raise ValueError(f"`DifferentiablePlasticity(rate=...)` must be above 0 and below 1; got {rate}. Try 0.01.")
        self.rule, self.nonlinearity = rule, nonlinearity
        self.weight = nn.Parameter(torch.randn(units, inputs) / inputs**0.5)
        self.alpha = nn.Parameter(0.01 * torch.randn(units, inputs))
        self.logit_rate = nn.Parameter(torch.logit(torch.tensor(float(rate))))

    @property
    def rate(self) -> Tensor:
        r""":math:`\eta`, from 0 to 1."""
        return torch.sigmoid(self.logit_rate)

    def begin(self, tokens: Any) -> Tensor:
        """No trace, (B, units, inputs)."""
        x = tokens[0] if isinstance(tokens, (tuple, list)) else tokens
        _check_tokens("DifferentiablePlasticity", x, self.weight.shape[1])
        return x.new_zeros(len(x), *self.weight.shape)

    def advance(self, state: Tensor, token: Any) -> tuple[Tensor, Tensor]:
        """Answer with the trace so far, then let it follow."""
        x, teacher = token if isinstance(token, (tuple, list)) else (token, None)
        drive = nn.functional.linear(x, self.weight) + torch.einsum("bui,bi->bu", self.alpha * state, x)
        y = self.nonlinearity(drive if teacher is None else drive + teacher)
        rate = self.rate
        if self.rule == "hebb":
            return torch.lerp(state, y[:, :, None] * x[:, None], rate), y
        return state + rate * y[:, :, None] * (x[:, None] - y[:, :, None] * state), y


class Neuromodulated(Plastic):
    r"""A network that decides for itself when its connections change, by a signal it computes from its own answer.

    .. math:: y_t = s\big((w + \alpha \odot H_{t-1}) x_t\big), \qquad M_t = \tanh(m \cdot y_t + m_0), \qquad
              H_t = \text{clip}\big(H_{t-1} + M_t \, y_t x_t^\top, -1, 1\big)

    and where ``retroactive``, the signal turns a fading memory of what happened into plasticity:
    :math:`H_t = \text{clip}(H_{t-1} + M_t E_{t-1}, -1, 1)`, :math:`E_t = (1 - \eta) E_{t-1} + \eta \, y_t x_t^\top`. With M = 0 nothing is ever learned.

    Args:
        inputs: numbers in a token.
        units: numbers in an answer.
        retroactive: whether the signal acts on the eligibility.
        rate: what :math:`\eta` begins at, above 0 and below 1.
        nonlinearity: s.

    Raises:
        ValueError: sizes below 1, or a rate out of its range.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import Neuromodulated, run
        >>> answers, state = run(Neuromodulated(3, 2, retroactive=True), torch.ones(1, 5, 3))
        >>> sorted(state)
        ['eligibility', 'trace']

    Source: Miconi, Rawal, Clune and Stanley (2019), Backpropamine: training self-modifying neural networks with differentiable neuromodulated
    plasticity.
    """

    def __init__(
        self, inputs: int, units: int, retroactive: bool = False, rate: float = 0.1, nonlinearity: Any = torch.tanh
    ) -> None:
        super().__init__()
        _check_sizes("Neuromodulated", inputs, units)
        if not 0 < rate < 1:
            raise ValueError(f"`Neuromodulated(rate=...)` must be above 0 and below 1; got {rate}. Try 0.1.")
        self.retroactive, self.nonlinearity = retroactive, nonlinearity
        self.weight = nn.Parameter(torch.randn(units, inputs) / inputs**0.5)
        self.alpha = nn.Parameter(0.01 * torch.randn(units, inputs))
        self.modulator = nn.Linear(units, 1)
        self.logit_rate = nn.Parameter(torch.logit(torch.tensor(float(rate))))

    def begin(self, tokens: Any) -> dict[str, Tensor]:
        """Neither trace nor eligibility, (B, units, inputs) each."""
        _check_tokens("Neuromodulated", tokens, self.weight.shape[1])
        none = tokens.new_zeros(len(tokens), *self.weight.shape)
        return {"trace": none, "eligibility": none} if self.retroactive else {"trace": none}

    def advance(self, state: dict[str, Tensor], token: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Answer, then change as far as the signal says."""
        trace = state["trace"]
        drive = nn.functional.linear(token, self.weight) + torch.einsum("bui,bi->bu", self.alpha * trace, token)
        y = self.nonlinearity(drive)
        signal = torch.tanh(self.modulator(y))[:, :, None]
        both = y[:, :, None] * token[:, None]
        if not self.retroactive:
            return {"trace": (trace + signal * both).clamp(-1, 1)}, y
        past = state["eligibility"]
        return {
            "trace": (trace + signal * past).clamp(-1, 1),
            "eligibility": torch.lerp(past, both, torch.sigmoid(self.logit_rate)),
        }, y


def _check_sizes(owner: str, inputs: int, units: int) -> None:
    for name, value in (("inputs", inputs), ("units", units)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{owner}({name}=...)` must be a whole number of at least 1; got {value!r}.")


def _check_tokens(owner: str, x: Any, inputs: int) -> None:
    if isinstance(x, Tensor) and x.ndim == 3 and x.shape[2] == inputs and x.is_floating_point():
        return
    got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    raise ValueError(
        f"`{owner}` reads floating tokens of shape (B, T, {inputs}): samples, time, numbers; got {got}. Reshape or convert them."
    )
