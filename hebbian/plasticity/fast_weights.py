"""Fast-weight programmers: a memory of weights that every token writes to and reads from."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hebbian.plasticity.through_time import Plastic

__all__ = ["FastWeights", "Tokens", "tokens"]

Rule = Literal["sum", "delta"]


class Tokens(NamedTuple):
    r"""What a fast-weight memory reads, B samples of T tokens.

    Attributes:
        keys: (B, T, K).
        values: (B, T, V).
        queries: (B, T, K).
        strength: (B, T), :math:`\beta`, how much is written; from 0 to 1 for keys of length one.
        decay: (B, T), :math:`a`, from 0 to 1: what is kept of everything before; at 0 a token begins anew.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor
    strength: Tensor
    decay: Tensor


def tokens(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None = None,
    strength: Tensor | None = None,
    decay: Tensor | None = None,
) -> Tokens:
    """`Tokens` with what is left out filled in: the keys as queries, full strength, no decay.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import tokens
        >>> tokens(torch.ones(2, 5, 3), torch.ones(2, 5, 4)).strength.shape
        torch.Size([2, 5])
    """
    if keys.ndim != 3 or values.ndim != 3 or keys.shape[:2] != values.shape[:2]:
        raise ValueError(
            f"`tokens` wants keys (B, T, K) and values (B, T, V); got {tuple(keys.shape)} and {tuple(values.shape)}."
        )
    queries = keys if queries is None else queries
    ones = keys.new_ones(keys.shape[:2])
    strength, decay = ones if strength is None else strength, ones if decay is None else decay
    for name, part, shape in (
        ("queries", queries, keys.shape),
        ("strength", strength, keys.shape[:2]),
        ("decay", decay, keys.shape[:2]),
    ):
        if part.shape != shape:
            raise ValueError(
                f"`tokens({name}=...)` wants shape {tuple(shape)}, to fit the keys; got {tuple(part.shape)}."
            )
    return Tokens(keys, values, queries, strength, decay)


class FastWeights(Plastic):
    r"""A matrix that tokens write to, read one token a step.

    .. math:: S_t = a_t S_{t-1} + \beta_t v_t k_t^\top \quad \text{("sum")}, \qquad
              S_t = a_t S_{t-1} (I - \beta_t k_t k_t^\top) + \beta_t v_t k_t^\top \quad \text{("delta")}, \qquad y_t = S_t q_t

    The sum rule with a = 1 is linear attention. The delta rule replaces what a key said before: with keys of length one and
    :math:`\beta = 1` the last value written under a key is read back exactly, and d orthonormal keys hold d values. With a decay it is the gated
    delta rule. `chunked` computes the same answers many tokens at once.

    Args:
        rule: ``"sum"`` or ``"delta"``.

    Raises:
        ValueError: another rule.
        TypeError: at the call, an observation that is no `Tokens`.

    Example:
        >>> import torch, ebm
        >>> from hebbian.plasticity import FastWeights, tokens
        >>> key, values = torch.tensor([1.0, 0.0]).expand(1, 2, 2), torch.tensor([[[1.0], [5.0]]])
        >>> ebm.infer(FastWeights("delta"), tokens(key, values), steps=2).answer, ebm.infer(FastWeights("sum"), tokens(key, values), steps=2).answer
        (tensor([[5.]]), tensor([[6.]]))

    Source: Schmidhuber (1992); Schlag, Irie and Schmidhuber (2021), Linear transformers are secretly fast weight programmers, section 4.2; with a
    decay, Yang, Kautz and Hatamizadeh (2024), Gated delta networks.
    """

    def __init__(self, rule: Rule = "delta") -> None:
        super().__init__()
        check_rule("FastWeights", rule)
        self.rule = rule

    def condition(self, x: Any) -> Tokens:
        """The tokens."""
        if not isinstance(x, Tokens):
            raise TypeError(
                f"`FastWeights` reads `Tokens`; got {type(x).__name__}. Make them with `tokens(keys, values)`."
            )
        return x

    def begin(self, tokens: Tokens) -> Tensor:
        """Nothing written, (B, V, K)."""
        return tokens.keys.new_zeros(len(tokens.keys), tokens.values.shape[2], tokens.keys.shape[2])

    def advance(self, state: Tensor, token: Tokens) -> tuple[Tensor, Tensor]:
        """Write one token, then read."""
        key, value, query, strength, decay = token
        kept = decay[:, None, None] * state
        told = torch.einsum("bvk,bk->bv", kept, key) if self.rule == "delta" else 0.0
        state = kept + (strength[:, None] * (value - told))[:, :, None] * key[:, None]
        return state, torch.einsum("bvk,bk->bv", state, query)


def check_rule(owner: str, rule: str) -> None:
    """The two ways to write."""
    if rule not in ("sum", "delta"):
        raise ValueError(
            f'`{owner}(rule=...)` is "sum" or "delta"; got {rule!r}. The gated delta rule is "delta" with a decay.'
        )
