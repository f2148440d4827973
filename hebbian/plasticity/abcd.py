"""The ABCD rule: random weights, and a learned rule that makes something of them within a lifetime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hebbian.plasticity.through_time import Plastic
from hebbian.plasticity.traces import _check_sizes, _check_tokens

__all__ = ["ABCD"]


class ABCD(Plastic):
    r"""Every connection changes by four learned numbers, from weights that are drawn anew for every lifetime.

    .. math:: y_t = s(W_{t-1} x_t), \qquad \Delta W_{ij} = \eta_{ij} \, (A_{ij} \, y_i x_j + B_{ij} \, x_j + C_{ij} \, y_i + D_{ij})

    The rule is what is learned (by gradients or by evolution), never the weights. With B = C = D = 0 it is a Hebb rule with a rate for each
    connection. With ``bounded`` the layer's weights are divided by the largest of them after every step, :math:`W \leftarrow W / \max_{ij} |W_{ij}|`, so that a lifetime
    may last for ever.

    Args:
        inputs: numbers in a token.
        units: numbers in an answer.
        spread: the first weights are uniform from minus to plus this, at least 0.
        bounded: whether the layer's largest weight is one after every step; as published for all tasks but the simulated robots.
        nonlinearity: s.
        seed: of the first weights; the same for all samples, until `redraw`.

    Raises:
        ValueError: sizes below 1, or a negative spread.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import ABCD, run
        >>> answers, weight = run(ABCD(3, 2), torch.ones(4, 5, 3))
        >>> weight.shape
        torch.Size([4, 2, 3])

    Source: Najarro and Risi (2020), Meta-learning through Hebbian plasticity in random networks; the division as in their code
    (enajx/HebbianMetaLearning), after every step and whatever the largest weight is.
    """

    first: Tensor

    def __init__(
        self,
        inputs: int,
        units: int,
        spread: float = 0.1,
        bounded: bool = True,
        nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_sizes("ABCD", inputs, units)
        if not 0 <= spread < float("inf"):
            raise ValueError(f"`ABCD(spread=...)` must be at least 0 and finite; got {spread}. Try 0.1.")
        self.spread, self.bounded, self.nonlinearity = float(spread), bounded, nonlinearity
        self.coefficients = nn.Parameter(0.1 * torch.randn(4, units, inputs))
        self.rates = nn.Parameter(torch.full((units, inputs), 0.1))
        self.register_buffer("first", torch.empty(units, inputs))
        self.redraw(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Draw the weights that lifetimes begin with."""
        drawn = torch.rand(self.first.shape, generator=generator) * 2 - 1
        self.first.copy_(self.spread * drawn)

    def begin(self, tokens: Any) -> Tensor:
        """The drawn weights, (B, units, inputs)."""
        _check_tokens("ABCD", tokens, self.first.shape[1])
        return self.first.to(tokens.dtype).expand(len(tokens), *self.first.shape)

    def advance(self, state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with the weights so far, then change them."""
        y = self.nonlinearity(torch.einsum("bui,bi->bu", state, token))
        post, pre = y[:, :, None], token[:, None]
        a, b, c, d = self.coefficients.unbind(0)
        weight = state + self.rates * (a * post * pre + b * pre + c * post + d)
        if self.bounded:
            largest = weight.abs().amax((1, 2), keepdim=True)
            weight = weight / torch.where(largest > 0, largest, 1.0)
        return weight, y
