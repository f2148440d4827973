"""Fast weights, many tokens at once."""

from __future__ import annotations

import torch
from torch import Tensor

from hebbian.checks import widen
from hebbian.plasticity.fast_weights import Rule, Tokens, check_rule

__all__ = ["chunked"]


def chunked(
    tokens: Tokens, rule: Rule = "delta", chunk: int = 64, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""All answers of `FastWeights`, (B, T, V), and the weights after the last token, (B, V, K), by matrix products over chunks.

    Within a chunk that begins with :math:`S_0`, and with :math:`g_t = \prod_{s \le t} a_s`, every state is
    :math:`S_t = g_t S_0 + \sum_{s \le t} \tfrac{g_t}{g_s} u_s k_s^\top`, where what each token really writes solves a triangular system,

    .. math:: u_t + \beta_t \sum_{s < t} \tfrac{g_t}{g_s} (k_s \cdot k_t) \, u_s = \beta_t (v_t - g_t S_0 k_t)

    (for the sum rule :math:`u_t = \beta_t v_t`). A decay of zero forgets all that came before. A chunk costs about :math:`C (C + K)(K + V)` products, and the loop has T / C turns instead
    of T. Gradients flow through everything.

    Args:
        tokens: keys, values, queries, strengths and decays.
        rule: ``"sum"`` or ``"delta"``.
        chunk: tokens a turn, at least 1; 16 to 128 is fast.
        state: weights to begin with, (B, V, K); None is zeros.

    Raises:
        ValueError: another rule, a chunk below 1, no token, or a state of another shape.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import FastWeights, chunked, run, tokens
        >>> generator = torch.Generator().manual_seed(0)
        >>> keys = torch.nn.functional.normalize(torch.randn(1, 10, 4, generator=generator), dim=2)
        >>> some = tokens(keys, torch.randn(1, 10, 3, generator=generator))
        >>> torch.allclose(chunked(some, chunk=4)[0], run(FastWeights(), some)[0], atol=1e-5)
        True

    Source: Yang, Wang, Zhang, Shen and Kim (2024), Parallelizing linear transformers with the delta rule over sequence length (the WY
    representation); decays as in Gated delta networks. Here the ratios of decays are products of those between, so that none overflows and none
    is zero over zero. Half precision is worked out in float32.
    """
    check_rule("chunked", rule)
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"`chunked(chunk=...)` must be a whole number of at least 1; got {chunk!r}. Try 64.")
    batch, length, wide = tokens.keys.shape
    if not length:
        raise ValueError(f"`chunked` wants at least one token; got keys of shape {tuple(tokens.keys.shape)}.")
    shape = (batch, tokens.values.shape[2], wide)
    state = tokens.keys.new_zeros(shape) if state is None else state
    if state.shape != shape:
        raise ValueError(f"`chunked(state=...)` wants weights of shape {shape}; got {tuple(state.shape)}.")
    state, answers = widen(state), []
    for part in zip(*(widen(leaf).split(chunk, dim=1) for leaf in tokens), strict=True):
        answer, state = _turn(Tokens(*part), rule, state)
        answers.append(answer)
    return torch.cat(answers, dim=1).to(tokens.keys.dtype), state.to(tokens.keys.dtype)


def _turn(part: Tokens, rule: Rule, state: Tensor) -> tuple[Tensor, Tensor]:
    """The answers of one chunk, and the weights after it."""
    keys, values, queries, strength, decay = part
    # g_t / g_s for s <= t, else 0; as products of the decays between, for a quotient would be none where a decay is zero
    later = torch.ones(decay.shape[1], decay.shape[1], dtype=torch.bool, device=decay.device).tril(-1)
    since = torch.where(later, decay[:, :, None], 1.0).cumprod(1).tril()
    kept = decay.cumprod(1)[:, :, None]
    written = strength[:, :, None] * values
    if rule == "delta":
        written = written - strength[:, :, None] * kept * (keys @ state.mT)
        among = strength[:, :, None] * since * (keys @ keys.mT)
        written = torch.linalg.solve_triangular(among.tril(-1), written, upper=False, unitriangular=True)
    answers = kept * (queries @ state.mT) + (since * (queries @ keys.mT)) @ written
    last = since[:, -1, :, None]
    return answers, kept[:, -1:] * state + (last * written).mT @ keys
