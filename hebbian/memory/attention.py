"""Attention as recall: one update by default, and more where they are asked for."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm.engine.adjoint import Adjoint, Unroll
from ebm.engine.budget import Budget
from ebm.engine.driver import infer
from ebm.engine.stop import AtRest, Stop
from ebm.noise import Draw
from ebm.objective import Update
from ebm.rows import Shared
from ebm.solvers.base import Solver
from hebbian.memory.lazy import LazyPicard

__all__ = ["Barred", "HopfieldAttention"]

_UNROLL = Unroll()


class Barred(NamedTuple):
    """Which keys a query may not recall, and by how much it prefers others: what the masks of attention amount to.

    Attributes:
        of_all: (L, S) masks, the same for every sample: a bool one (true: barred) and one to add; either may be None.
        of_each: (B, H or 1, L or 1, S) masks of the samples, the same.
    """

    of_all: Shared
    of_each: tuple[Tensor | None, Tensor | None]

    def apply(self, scores: Tensor) -> Tensor:
        """The scores (B, H, L, S) with masks."""
        for barred, bias in (self.of_all.value, self.of_each):
            scores = scores if bias is None else scores + bias
            scores = scores if barred is None else scores.masked_fill(barred, -torch.inf)
        return scores


class _Recall(Update):
    """Queries of all heads, (B, H, L, d), each moving to the mixture of the keys it attends to."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        weight = _weight(z, c["keys"], c["barred"], self.beta)
        # a query that may recall nothing stays
        return torch.where(weight.detach().sum(-1, keepdim=True) > 0, weight @ c["keys"], z)

    def default_solver(self) -> Solver:
        return LazyPicard()

    def default_stop(self) -> Stop:
        return AtRest(1e-5)


class HopfieldAttention(nn.Module):
    r"""Multi-head attention whose queries may look again: a drop-in for `torch.nn.MultiheadAttention`.

    Per head, with the projected queries Q, keys K and values V:

    .. math:: Q \leftarrow \text{softmax}(\beta Q K^T) K \quad (\text{steps} - 1 \text{ times}), \qquad
              \text{out} = \text{softmax}(\beta Q K^T) V

    With ``steps=1`` that is softmax attention, without any engine. With more, the queries settle among the keys first, through
    `ebm.infer`: a sample whose queries are all at rest leaves the computation, a budget may be passed, and gradients go through the
    adjoint of your choice. Parameters have the names and shapes of `torch.nn.MultiheadAttention`, so state dicts can be exchanged.

    Args:
        embed_dim: of queries and answers.
        num_heads: must divide ``embed_dim``.
        dropout: on the weights of the last step, while training.
        bias: whether the projections have biases.
        kdim: of the keys; None takes ``embed_dim``.
        vdim: of the values; None takes ``embed_dim``.
        batch_first: whether the batch is the first axis, or the second.
        steps: at least 1, where a call gives no limit.
        beta: inverse temperature > 0; None takes 1 / sqrt of a head's width.
        stop: when queries are at rest; None takes `AtRest(1e-5)`.
        adjoint: how a loss differentiates the settled queries; `Unroll()`, `Truncated(k)`, `Implicit()` (at rest only), `Detached()`
            (the keys then learn from the last step alone).
        device, dtype: of the parameters.

    Raises:
        ValueError: a setting outside its range; at the call, ``steps`` below 1, or inputs that do not fit.

    Example:
        >>> import torch
        >>> from hebbian.memory import HopfieldAttention
        >>> layer = HopfieldAttention(16, 4, batch_first=True)
        >>> x = torch.randn(2, 5, 16)
        >>> once, weights = layer(x, x, x)
        >>> settled, _ = layer(x, x, x, steps=8, need_weights=False)
        >>> once.shape, weights.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 5, 5]))

    Source: Ramsauer et al. (2021), Hopfield networks is all you need, section 3; Vaswani et al. (2017) for the heads.
    """

    # torch's transformer layers would otherwise pass by `forward` in a fast path of their own
    _qkv_same_embed_dim = False
    in_proj_weight: Tensor | None
    q_proj_weight: Tensor
    k_proj_weight: Tensor
    v_proj_weight: Tensor
    in_proj_bias: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        steps: int = 1,
        beta: float | None = None,
        stop: Stop | None = None,
        adjoint: Adjoint = _UNROLL,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_settings(embed_dim, num_heads, dropout, beta)
        _check_steps(steps)
        # torch's own layer makes, names and initialises the parameters, so that they stay exchangeable
        model = nn.MultiheadAttention(
            embed_dim, num_heads, dropout, bias, kdim=kdim, vdim=vdim, device=device, dtype=dtype
        )
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"):
            self.register_parameter(name, getattr(model, name))
        self.out_proj = model.out_proj
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.steps, self.stop, self.adjoint = steps, stop, adjoint
        self.beta = (embed_dim // num_heads) ** -0.5 if beta is None else float(beta)
        self._recall = _Recall(self.beta)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        steps: int | Tensor | None = None,
        seconds: float | None = None,
        budget: Budget | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Answers and, if asked for, the weights of the last step (after dropout), as `torch.nn.MultiheadAttention` gives them.

        A query that may attend to nothing is answered by the bias of the output projection.

        Args:
            query: (L, B, E), (B, L, E) with ``batch_first``, or (L, E).
            key: the same with S and ``kdim``.
            value: the same with S and ``vdim``.
            key_padding_mask: (B, S) or (S,); true, or minus infinity, bars a key.
            need_weights: whether to return weights.
            attn_mask: (L, S) or (B * num_heads, L, S); true, or minus infinity, bars; other numbers are added to the scores.
            average_attn_weights: whether weights are averaged over heads.
            is_causal: bars later keys where no ``attn_mask`` is given.
            steps: Hopfield steps in all, at least 1; one number, or one a sample (B,). None takes the layer's, or the limits below.
            seconds: for the steps before the last.
            budget: of which the steps before the last take.
        """
        alone = query.ndim == 2
        if alone:
            query, key, value = (part[None] for part in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        q, k, v = (self._heads(part) for part in self._projected(query, key, value))
        if is_causal and attn_mask is None:
            attn_mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
        barred = _barred(attn_mask, key_padding_mask, q)
        q = self._settled(q, k, barred, steps, seconds, budget)
        weight = _weight(q, k, barred, self.beta)
        weight = functional.dropout(weight, self.dropout, self.training)
        found = weight @ v
        answer = self.out_proj(found.transpose(1, 2).flatten(2))
        shown = (weight.mean(1) if average_attn_weights else weight) if need_weights else None
        if alone:
            return answer[0], None if shown is None else shown[0]
        return answer if self.batch_first else answer.transpose(0, 1), shown

    def _settled(
        self, q: Tensor, k: Tensor, barred: Barred, steps: Any, seconds: float | None, budget: Budget | None
    ) -> Tensor:
        """The queries after all steps but the last."""
        if steps is None and seconds is None and budget is None:
            steps = self.steps
        if steps is not None:
            _check_steps(steps)
        if isinstance(steps, int) and steps == 1:
            return q
        more = None if steps is None else steps - 1
        # the recall has no parameter of its own, so it settles in whatever dtype the projections gave
        with torch.autocast(q.device.type, enabled=False):
            x = {"query": q, "keys": k, "barred": barred}
            return infer(
                self._recall, x, steps=more, seconds=seconds, budget=budget, stop=self.stop, adjoint=self.adjoint
            ).z

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        one, bias = self.in_proj_weight, self.in_proj_bias
        weights = one.chunk(3) if one is not None else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        return [functional.linear(*parts) for parts in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, part: Tensor) -> Tensor:
        """(B, L, E) cut into (B, H, L, d)."""
        return part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def _weight(q: Tensor, k: Tensor, barred: Barred, beta: float) -> Tensor:
    """Softmax weights (B, H, L, S); none at all where everything is barred."""
    scores = barred.apply((beta * q) @ k.mT)
    if all(mask is None for mask in (*barred.of_all.value, *barred.of_each)):
        return scores.softmax(-1)
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)


def _barred(attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor) -> Barred:
    """Both masks, those of all samples and those of each apart."""
    whole, each, pads = (None, None), (None, None), (None, None)
    if attn_mask is not None:
        parts = _parts(attn_mask, q.dtype)
        if attn_mask.ndim == 2:
            whole = parts
        else:
            each = tuple(None if part is None else part.unflatten(0, (q.shape[0], q.shape[1])) for part in parts)
    if key_padding_mask is not None:
        pads = tuple(None if part is None else part[:, None, None] for part in _parts(key_padding_mask, q.dtype))
    barred = pads[0] if each[0] is None else each[0] if pads[0] is None else each[0] | pads[0]
    bias = pads[1] if each[1] is None else each[1] if pads[1] is None else _finite(each[1] + pads[1])
    return Barred(Shared(whole), (barred, bias))


def _parts(mask: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """Where a mask bars, and what it adds elsewhere: a mask that is kept with the samples must be finite."""
    if mask.dtype == torch.bool:
        return mask, None
    barred = mask == -torch.inf
    # a mask of a wider dtype may hold its own lowest number, which is minus infinity here
    return barred, mask.masked_fill(barred, 0.0).clamp_min(torch.finfo(dtype).min).to(dtype)


def _finite(bias: Tensor) -> Tensor:
    """Two masks that each add the lowest number there is add it once."""
    return bias.clamp_min(torch.finfo(bias.dtype).min)


def _check_settings(embed_dim: int, num_heads: int, dropout: float, beta: float | None) -> None:
    if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
        raise ValueError(
            f"`HopfieldAttention(embed_dim, num_heads)` wants heads that divide the width; got {embed_dim} and {num_heads}. Try {embed_dim} and 1."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"`HopfieldAttention(dropout=...)` must lie in [0, 1); got {dropout}. Try 0.1.")
    if beta is not None and not 0 < beta < math.inf:
        raise ValueError(
            f"`HopfieldAttention(beta=...)` must be above zero and finite; got {beta}. Leave it out for 1 / sqrt of a head's width."
        )


def _check_steps(steps: int | Tensor) -> None:
    if int(steps.min()) < 1 if isinstance(steps, Tensor) else steps < 1:
        raise ValueError(
            f"`HopfieldAttention` makes at least one step, which reads the values; got steps={steps}. One is attention."
        )
