"""A weight-tied attention block: every step is the same transformer layer, with the observation injected again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm.models.starts import Start, Zeros
from ebm.noise import Draw
from ebm.objective import Update
from ebm.solvers import Picard
from ebm.solvers.base import Solver

__all__ = ["AttentionCell"]


class AttentionCell(Update):
    r"""An iterated transformer block on tokens.

    .. math:: u = N\bigl(s + A(s)\bigr), \quad f(z; x) = N\bigl(u + M(u)\bigr), \quad s = z + I(x)

    with A multi-head self-attention, M a gated two-layer network :math:`W_2(\mathrm{silu}(W_1 u) \odot W_3 u)`, and
    :math:`N(v) = v / \mathrm{rms}(v)` over the width of a token, so latents stay bounded for any number of steps. Tokens have no
    order but what the injection tells of it. A little of the move can be held back, :math:`z + \lambda (f(z) - z)`, by settling with
    `Picard(damping)`.

    Args:
        inject: maps the observation to tokens (B, L, ``width``), positions included.
        width: numbers a token, at least 1, a multiple of ``heads``.
        heads: of the attention, at least 1.
        hidden: width of the two-layer network; None: twice ``width``.
        head: maps the latent (B, L, width) to the answer; None reads out the latent itself.
        start: where settling starts.

    Raises:
        TypeError: an injection or a head that is no module.
        ValueError: a setting outside its range; at the call, an injection of another shape.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.AttentionCell(torch.nn.Linear(3, 8), width=8, heads=2, head=torch.nn.Linear(8, 5))
        >>> ebm.infer(cell.eval(), torch.ones(2, 6, 3), steps=4).answer.shape
        torch.Size([2, 6, 5])

    Source: Dehghani et al. (2019), Universal transformers; the block of Jolicoeur-Martineau (2025), Less is more: recursive reasoning
    with tiny networks, here with one latent.
    """

    def __init__(
        self,
        inject: nn.Module,
        width: int,
        heads: int = 4,
        hidden: int | None = None,
        head: nn.Module | None = None,
        start: Start = Zeros(),
    ) -> None:
        super().__init__()
        for name, module in (("inject", inject), ("head", head)):
            if not isinstance(module, nn.Module) and not (module is None and name == "head"):
                raise TypeError(
                    f"`AttentionCell({name}=...)` is a module; got {type(module).__name__}. Pass nn.Linear(inputs, width), say."
                )
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(
                f"`AttentionCell(width, heads)` wants a width that is a multiple of the heads; got {width} and {heads}. Try 64 and 4."
            )
        if hidden is not None and hidden < 1:
            raise ValueError(f"`AttentionCell(hidden=...)` must be at least 1; got {hidden}. Try {2 * width}.")
        hidden = 2 * width if hidden is None else hidden
        self.width, self.heads = width, heads
        self.inject = inject
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 2 * hidden, bias=False)
        self.narrow = nn.Linear(hidden, width, bias=False)
        self.head = head
        self.start = start

    def condition(self, x: Any) -> Tensor:
        """The injected tokens, (B, L, width)."""
        tokens = self.inject(x)
        if tokens.ndim != 3 or tokens.shape[2] != self.width:
            raise ValueError(
                f"`inject` must return tokens (B, L, {self.width}); got {tuple(tokens.shape)}. Change its last layer."
            )
        return tokens

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        """The start, a latent a token."""
        return self.start(c, draw)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """The next latent."""
        s = z + c
        u = _normed(s + self._attended(s))
        gate, value = self.widen(u).chunk(2, -1)
        return _normed(u + self.narrow(functional.silu(gate) * value))

    def readout(self, z: Tensor, c: Tensor) -> Any:
        """The head's answer."""
        return z if self.head is None else self.head(z)

    def default_solver(self) -> Solver:
        """`Picard`: the cell's own step."""
        return Picard()

    def _attended(self, s: Tensor) -> Tensor:
        asked = self.ask(s).unflatten(-1, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        return self.join(functional.scaled_dot_product_attention(*asked).transpose(1, 2).flatten(2))


def _normed(v: Tensor) -> Tensor:
    """Each token over its root mean square."""
    return v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6)
