"""A plain function as an update: its rest, its implicit gradient, and the layer that the page shows, trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_linear_map_rests_at_its_closed_form_and_so_does_its_gradient() -> None:
    """z = z W + x A: z = x A (I - W)^-1, by a plain function; the gradient reaches what the function uses."""
    weight, inputs, x = (0.2 * normal(4, 4)).requires_grad_(), normal(3, 4, seed=1), normal(5, 3, seed=2)
    layer = ebm.FixedPoint(lambda z, c: z @ weight + c, 4, encoder=lambda x: x @ inputs)
    found = ebm.infer(layer, x, steps=200, stop=ebm.AtRest(1e-12), adjoint=ebm.Implicit())
    right = torch.linalg.solve(torch.eye(4).double() - weight, x @ inputs, left=False)
    torch.testing.assert_close(found.z, right)
    slope = torch.autograd.grad(found.z.square().sum(), weight)[0]
    torch.testing.assert_close(slope, torch.autograd.grad(right.square().sum(), weight)[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("shape", "wanted"), [(None, (2, 3, 5)), ((4, 5), (2, 4, 5)), (7, (2, 7))])
def test_the_start_is_zero_in_the_shape_asked_for(shape: Any, wanted: tuple[int, ...]) -> None:
    layer = ebm.FixedPoint(lambda z, x: z, shape)
    found = ebm.infer(layer, normal(2, 3, 5), steps=0)
    assert found.z.shape == wanted and found.z.dtype == torch.float64 and not found.z.any()
    assert ebm.infer(layer, torch.ones(2, 3, 5, dtype=torch.int64), steps=0).z.dtype == torch.float32


def test_what_is_no_function_is_refused() -> None:
    for module in (3, nn.Linear):
        with pytest.raises(TypeError, match=r"`FixedPoint\(module\)` is a module or a function"):
            ebm.FixedPoint(module)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`FixedPoint\(shape=...\)` has no empty axes"):
        ebm.FixedPoint(lambda z, x: z, 0)
    with pytest.raises(TypeError, match=r"`FixedPoint\(shape=None\)` starts with a latent like the observation"):
        ebm.infer(ebm.FixedPoint(lambda z, x: z), {"a": normal(2, 3)}, steps=1)
    with pytest.raises(ValueError, match=r"`FixedPoint\.forward` must give a row tree like the latent `z`"):
        ebm.infer(ebm.FixedPoint(lambda z, x: z[:, :2]), normal(2, 3), steps=1)


def test_an_energy_may_be_a_plain_function() -> None:
    x = normal(3, 2)
    found = ebm.infer(ebm.EnergyNet(lambda z, x: (z - x).square().sum(1), 2), x, steps=20)
    torch.testing.assert_close(found.z, x)


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(40, 40), nn.Linear(64, 40)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(z) + self.outer(x))


@pytest.mark.slow
def test_the_layer_of_the_page_learns_digits() -> None:
    """Of the last digits, which other people wrote, the layer knows 85 % after sixty updates; chance is 10 %."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, head = ebm.FixedPoint(Cell(), 40), nn.Linear(40, 10)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 0.01)
    draw = torch.Generator().manual_seed(0)
    for _ in range(60):
        part = torch.randint(1400, (100,), generator=draw)
        z = ebm.infer(layer, x[part], steps=12, adjoint=ebm.Implicit()).z
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(z), y[part]).backward()
        optimizer.step()
    with torch.no_grad():
        right = head(ebm.infer(layer, x[1400:], steps=12).z).argmax(1) == y[1400:]
    assert float(right.float().mean()) > 0.8
