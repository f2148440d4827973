"""Cells of products and of attention: a known iteration held in the weights, symmetries, and torch's own layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import ebm
from ebm.tasks import Inverse, newton_schulz
from tests.contracts.members import seeded
from tests.energies import numbers


def schulz() -> ebm.MatrixCell:
    """Z (2 I - X Z), by hand: P = X Z, Q = Z P, f = 2 Z - Q."""
    cell = ebm.MatrixCell(width=1, products=1).double()  # the stack is I, X, X^T, Z, Z^T
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.first[0, 0, 1] = cell.first[1, 0, 3] = 1.0
        cell.second[0, 0, 3] = cell.second[1, 0, 5] = 1.0
        cell.out[0, 3], cell.out[0, 6] = 2.0, -1.0
    return cell


def test_the_iteration_of_newton_and_schulz_is_one_of_its_settings() -> None:
    x = Inverse(size=7).sample(3, torch.Generator().manual_seed(0)).x.double()
    for steps in (1, 5, 20):
        assert torch.allclose(
            ebm.infer(schulz(), x, steps=steps, keep="last").answer, newton_schulz(x[:, 0], steps), atol=1e-9
        )
    assert torch.allclose(ebm.infer(schulz(), x, steps=30).answer, torch.linalg.inv(x[:, 0]), atol=1e-8)


def test_weights_that_would_run_away_stay_within_the_bound() -> None:
    cell = seeded(lambda: ebm.MatrixCell(2, 2, bound=50.0))
    with torch.no_grad():
        cell.out.mul_(40.0)
    x = Inverse(size=5).sample(3, torch.Generator().manual_seed(0)).x.double()
    found = ebm.infer(cell, x, steps=40, keep="last").raise_for_status()
    assert torch.allclose(found.z.flatten(1).norm(dim=1), torch.full((3,), 50.0, dtype=x.dtype))


def test_another_basis_gives_the_answer_in_that_basis() -> None:
    cell, x = seeded(lambda: ebm.MatrixCell(2, 3)), numbers(3, 1, 5, 5)
    c = {"scaled": 0.1 * x, "size": torch.ones(3, 1, 1, 1, dtype=x.dtype)}  # the scale itself depends on the basis
    turn = torch.linalg.qr(numbers(5, 5, seed=4)).Q
    turned = {"scaled": turn @ c["scaled"] @ turn.T, "size": c["size"]}
    z = numbers(3, 2, 5, 5, seed=2)
    assert torch.allclose(cell(turn @ z @ turn.T, turned), turn @ cell(z, c) @ turn.T, atol=1e-10)


def test_the_answer_scales_as_its_power_says() -> None:
    cell, x = seeded(lambda: ebm.MatrixCell(2, 3)), numbers(3, 1, 5, 5)
    assert torch.allclose(ebm.infer(cell, 4 * x, steps=3).answer, ebm.infer(cell, x, steps=3).answer / 4, atol=1e-10)


def attention() -> ebm.AttentionCell:
    return seeded(lambda: ebm.AttentionCell(nn.Linear(3, 8), 8, heads=2, hidden=5, head=nn.Linear(8, 4)))


def test_a_step_is_torchs_attention_between_the_norms() -> None:
    cell, x = attention(), numbers(2, 6, 3)
    z, c = numbers(2, 6, 8, seed=2), cell.condition(x)
    theirs = nn.MultiheadAttention(8, 2, bias=False, batch_first=True).double()
    theirs.load_state_dict({"in_proj_weight": cell.ask.weight, "out_proj.weight": cell.join.weight})
    s = z + c
    u = functional.rms_norm(s + theirs(s, s, s, need_weights=False)[0], (8,), eps=1e-6)
    first, second = cell.widen.weight.split(5)
    expected = functional.rms_norm(
        u + (functional.silu(u @ first.T) * (u @ second.T)) @ cell.narrow.weight.T, (8,), eps=1e-6
    )
    assert torch.allclose(cell(z, c), expected, atol=1e-12)


def test_tokens_in_another_order_are_answered_in_that_order_and_stay_bounded() -> None:
    cell, x, order = attention(), numbers(2, 6, 3), torch.tensor([3, 1, 5, 0, 2, 4])
    long = ebm.infer(cell, x, steps=300, keep="last")
    assert torch.allclose(long.z.square().mean(-1), torch.ones(2, 6, dtype=x.dtype), atol=1e-4)
    answer = ebm.infer(cell, x, steps=9).answer
    assert torch.allclose(ebm.infer(cell, x[:, order], steps=9).answer, answer[:, order], atol=1e-9)


BAD = [
    (lambda: ebm.MatrixCell(0), ValueError, "width=.*at least 1; got 0"),
    (lambda: ebm.MatrixCell(bound=0.0), ValueError, "bound=.*above 0; got 0.0. Try 1e5"),
    (lambda: ebm.infer(ebm.MatrixCell(), torch.ones(2, 3, 3), steps=1), ValueError, r"\(B, 1, n, n\); got \(2, 3, 3\)"),
    (lambda: ebm.AttentionCell(nn.Linear(3, 8), 8, heads=3), ValueError, "multiple of the heads; got 8 and 3"),
    (lambda: ebm.AttentionCell(nn.Linear(3, 8), 8, hidden=0), ValueError, "at least 1; got 0. Try 16"),
    (lambda: ebm.AttentionCell(torch.relu, 8), TypeError, "inject=.*is a module; got builtin"),  # type: ignore[arg-type]
    (
        lambda: ebm.infer(ebm.AttentionCell(nn.Linear(3, 4), 8), torch.ones(2, 6, 3), steps=1),
        ValueError,
        r"\(B, L, 8\); got",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
