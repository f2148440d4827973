"""Hopfield attention: one step is torch's attention, more steps are more of the same, and gradients are right."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import ebm
from hebbian.memory import HopfieldAttention

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def pair(**settings) -> tuple[HopfieldAttention, nn.MultiheadAttention]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = nn.MultiheadAttention(12, 3, dtype=F64, **settings).eval()
        if theirs.out_proj.bias is not None:
            nn.init.normal_(theirs.out_proj.bias)
        ours = HopfieldAttention(12, 3, dtype=F64, **settings).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def padding() -> Tensor:
    mask = torch.zeros(4, 7, dtype=torch.bool)
    mask[1, 5:] = True
    mask[2, 0] = True
    return mask


def masks() -> dict[str, dict]:
    barred = normal(5, 5, 7) > 0.8
    return {
        "none": {},
        "padding": {"key_padding_mask": padding()},
        "float padding": {"key_padding_mask": torch.zeros(4, 7, dtype=F64).masked_fill(padding(), -torch.inf)},
        "barred": {"attn_mask": barred},
        "bias": {"attn_mask": normal(6, 5, 7).masked_fill(barred, -torch.inf)},
        "of each head": {"attn_mask": normal(7, 12, 5, 7) > 0.8},
        "all": {
            "attn_mask": normal(8, 12, 5, 7).masked_fill(barred, -torch.inf),
            "key_padding_mask": torch.zeros(4, 7, dtype=F64).masked_fill(padding(), -torch.inf),
        },
        "of each and padding": {"attn_mask": normal(7, 12, 5, 7) > 0.8, "key_padding_mask": padding()},
    }


@pytest.mark.parametrize("which", masks())
@pytest.mark.parametrize("average", [True, False])
def test_one_step_is_torchs_attention(which: str, average: bool):
    ours, theirs = pair(batch_first=True)
    q, k, v = normal(1, 4, 5, 12), normal(2, 4, 7, 12), normal(3, 4, 7, 12)
    found, wanted = (layer(q, k, v, average_attn_weights=average, **masks()[which]) for layer in (ours, theirs))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"kdim": 6, "vdim": 5}])
def test_the_layouts_of_torchs_attention(settings: dict):
    ours, theirs = pair(**settings)
    k, v = normal(2, 7, 4, settings.get("kdim", 12)), normal(3, 7, 4, settings.get("vdim", 12))
    q = normal(1, 5, 4, 12)
    for found, wanted in zip(ours(q, k, v), theirs(q, k, v), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    for found, wanted in zip(ours(q[:, 0], k[:, 0], v[:, 0]), theirs(q[:, 0], k[:, 0], v[:, 0]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_in_float32_the_difference_is_below_a_millionth():
    ours, theirs = (layer.float() for layer in pair(batch_first=True))
    q, k = normal(1, 4, 5, 12).float(), normal(2, 4, 7, 12).float()
    for found, wanted in zip(ours(q, k, k), theirs(q, k, k), strict=True):
        assert float((found - wanted).detach().abs().max()) < 1e-6


def by_hand(layer: HopfieldAttention, q: Tensor, k: Tensor, steps: int, blocked: Tensor | None = None) -> Tensor:
    heads, width = layer.num_heads, layer.embed_dim // layer.num_heads
    wq, wk, wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        state, keys, values = q @ wq[part].T + bq[part], k @ wk[part].T + bk[part], k @ wv[part].T + bv[part]
        for step in range(steps):
            scores = layer.beta * state @ keys.mT
            if blocked is not None:
                scores = scores.masked_fill(blocked[:, None], -torch.inf)
            state = scores.softmax(-1) @ (values if step + 1 == steps else keys)
        out.append(state)
    return torch.cat(out, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_more_steps_are_more_updates_before_the_values_are_read(steps: int):
    layer, _ = pair(batch_first=True)
    layer.stop = ebm.AtRest(0.0)
    q, k = normal(1, 4, 5, 12), normal(2, 4, 7, 12)
    found, _ = layer(q, k, k, key_padding_mask=padding(), steps=steps)
    torch.testing.assert_close(found, by_hand(layer, q, k, steps, padding()), rtol=1e-9, atol=1e-9)
    each, _ = layer(q, k, k, steps=torch.tensor([1, 2, 4, 3]))
    for row, taken in enumerate((1, 2, 4, 3)):
        torch.testing.assert_close(each[row : row + 1], by_hand(layer, q[row : row + 1], k[row : row + 1], taken))


def test_steps_can_be_a_setting_of_the_layer_and_a_budget_an_argument_of_the_call():
    layer, _ = pair(batch_first=True)
    q, k = normal(1, 4, 5, 12), normal(2, 4, 7, 12)
    layer.steps, layer.stop = 3, ebm.AtRest(0.0)
    torch.testing.assert_close(layer(q, k, k)[0], by_hand(layer, q, k, 3), rtol=1e-9, atol=1e-9)
    pot = ebm.Budget(steps=4)
    torch.testing.assert_close(layer(q, k, k, budget=pot)[0], by_hand(layer, q, k, 2), rtol=1e-9, atol=1e-9)
    assert pot.steps == 0
    torch.testing.assert_close(layer(q, k, k, budget=pot)[0], by_hand(layer, q, k, 1), rtol=1e-9, atol=1e-9)


def test_causal_queries_do_not_see_later_keys():
    layer, _ = pair(batch_first=True)
    x = normal(1, 2, 6, 12)
    whole, _ = layer(x, x, x, is_causal=True, steps=3)
    front, _ = layer(x[:, :4], x[:, :4], x[:, :4], is_causal=True, steps=3)
    torch.testing.assert_close(whole[:, :4], front, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_query_that_may_recall_nothing_is_answered_by_the_bias(steps: int):
    layer, _ = pair(batch_first=True)
    x = normal(1, 2, 4, 12)
    barred = torch.zeros(4, 4, dtype=torch.bool)
    barred[2] = True
    found, _ = layer(x, x, x, attn_mask=barred, steps=steps)
    torch.testing.assert_close(found[:, 2], layer.out_proj.bias.expand(2, -1))
    assert bool(torch.isfinite(found).all())


def test_unrolled_gradients_are_those_of_the_updates():
    layer, _ = pair(batch_first=True)
    layer.stop = ebm.AtRest(0.0)
    q, k = normal(1, 4, 5, 12).requires_grad_(), normal(2, 4, 7, 12).requires_grad_()
    inputs = [q, k, layer.in_proj_weight, layer.in_proj_bias]
    found = torch.autograd.grad(layer(q, k, k, steps=3)[0].square().sum(), inputs)
    wanted = torch.autograd.grad(by_hand(layer, q, k, 3).square().sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_implicit_gradients_are_those_of_many_steps():
    layer, _ = pair(batch_first=True)
    layer.stop, layer.adjoint = ebm.AtRest(1e-12), ebm.Implicit(ebm.GMRES())
    q, k = normal(1, 4, 5, 12), normal(2, 4, 7, 12).requires_grad_()
    (found,) = torch.autograd.grad(layer(q, k, k, steps=200)[0].square().sum(), k)
    (wanted,) = torch.autograd.grad(by_hand(layer, q, k, 200).square().sum(), k)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_inside_torchs_transformer_layer_it_is_called_and_not_passed_by():
    layer, theirs = pair(batch_first=True)
    outer = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, dtype=F64).eval()
    x = normal(1, 2, 4, 12)
    outer.self_attn = theirs
    with torch.no_grad():
        wanted = outer(x)
        outer.self_attn = layer
        torch.testing.assert_close(outer(x), wanted, rtol=1e-8, atol=1e-8)
        layer.steps = 4
        assert not torch.allclose(outer(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 3])
def test_two_masks_that_add_the_lowest_number_bar_as_infinite_ones_do(steps: int, dtype: torch.dtype):
    layer, x = pair(batch_first=True)[0].to(dtype), normal(1, 4, 7, 12).to(dtype)
    barred = torch.zeros(12, 7, 7, dtype=torch.bool)
    barred[:, :, 3] = True
    pads = padding() | (torch.arange(7) == 3)
    low = torch.finfo(torch.float32).min
    soft = layer(x, x, x, pads * low, attn_mask=barred * low, steps=steps)[0]
    hard = layer(x, x, x, pads, attn_mask=barred, steps=steps)[0]
    torch.testing.assert_close(soft, hard)


def test_weights_are_returned_after_dropout_as_torchs_are():
    x, found = normal(1, 2, 4, 12), []
    for layer in pair(batch_first=True, dropout=0.5):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.append(layer.train()(x, x, x, average_attn_weights=False)[1])
    torch.testing.assert_close(*found)
    assert bool((found[0] == 0).any())


def test_dropout_is_for_training():
    layer = HopfieldAttention(12, 3, dropout=0.5, batch_first=True, dtype=F64)
    x = normal(1, 2, 4, 12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])
        layer.eval()
        assert torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: HopfieldAttention(10, 3), "wants heads that divide the width; got 10 and 3."),
        (
            lambda: HopfieldAttention(12, 3, dropout=1.0),
            "`HopfieldAttention(dropout=...)` must lie in [0, 1); got 1.0.",
        ),
        (
            lambda: HopfieldAttention(12, 3, beta=0.0),
            "`HopfieldAttention(beta=...)` must be above zero and finite; got 0.",
        ),
        (lambda: HopfieldAttention(12, 3, steps=0), "makes at least one step, which reads the values; got steps=0."),
        (
            lambda: HopfieldAttention(4, 1)(*[torch.ones(2, 3, 4)] * 3, steps=torch.tensor([1, 0, 2])),
            "makes at least one step",
        ),
    ],
)
def test_wrong_settings_are_refused(call, words: str):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
