"""The gated cell: its formula, its gradients, its doors, and prefix sums learned by iterating."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm


def cell_of(
    dims: int, width: int = 3, channels: int = 2, head: nn.Module | None = None, **settings: Any
) -> ebm.GatedCell:
    with torch.random.fork_rng():
        torch.manual_seed(dims)
        return ebm.GatedCell(channels, width, head, dims=dims, **settings).double()


def observation(dims: int, batch: int = 3) -> Tensor:
    shape = (batch, 2, *(5, 4)[:dims])
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def one_number(cell: ebm.GatedCell, z: Tensor, c: Tensor, where: tuple[int, ...]) -> Tensor:
    """The next value of one number of the latent, by loops over its neighbourhood."""
    sample, channel, *position = where
    sums = [c[(sample, row, *position)].clone() for row in (channel, channel + cell.width)]
    size = cell.cell.weight.shape[2]
    for offset in torch.cartesian_prod(*[torch.arange(size)] * len(position)).reshape(-1, len(position)).tolist():
        seen = [p + o - size // 2 for p, o in zip(position, offset, strict=True)]
        if any(s < 0 or s >= n for s, n in zip(seen, z.shape[2:], strict=True)):
            continue
        for k, row in enumerate((channel, channel + cell.width)):
            for other in range(cell.width):
                sums[k] += cell.cell.weight[(row, other, *offset)] * z[(sample, other, *seen)]
    old = z[where]
    return old + sums[0].sigmoid() * (sums[1].tanh() - old)


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_one_step_is_the_formula(dims: int, kernel: int):
    cell, x = cell_of(dims, kernel=kernel), observation(dims)
    c = cell.condition(x)
    z = torch.randn(c[:, :3].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = ebm.infer(cell, x, steps=1, start=z, keep="last").z
    for where in [(0, 0, *(0, 0)[:dims]), (2, 1, *(4, 3)[:dims]), (1, 2, *(2, 1)[:dims])]:
        torch.testing.assert_close(step[where], one_number(cell, z, c, where))


@pytest.mark.parametrize("dims", [1, 2])
def test_the_move_is_the_update_minus_the_latent(dims: int):
    cell, x = cell_of(dims), observation(dims)
    c = cell.condition(x)
    z = torch.randn(c[:, :3].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    point = cell.point(z, c)
    assert point.energy is None
    torch.testing.assert_close(point.force, cell(z, c) - z)


@pytest.mark.parametrize("dims", [1, 2])
def test_gradients_are_those_of_finite_differences(dims: int):
    cell = cell_of(dims, width=2, channels=1)
    x = torch.randn((1, 1, *(3, 2)[:dims]), generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def settled(weight: Tensor, seen: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.zeros_like(cell.condition(x)[:, :2])
        c = cell.condition(seen)
        for _ in range(2):
            z = z + torch.func.functional_call(cell, {"cell.weight": weight}, (z, c)) - z
        return z

    weight = cell.cell.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(settled, (weight, x.requires_grad_()))


def test_wide_cells_settle_like_narrow_code_would():
    """From 20 channels on the weights are laid out channels-last; numbers and the layout of latents must not change."""
    cell = cell_of(2, width=24, channels=1)
    assert cell.cell.weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(4, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c, z = cell.condition(x), torch.zeros(4, 24, 6, 5, dtype=torch.float64)
    for _ in range(3):
        a, b = (functional.conv2d(z, cell.cell.weight.contiguous(), padding=1) + c).chunk(2, 1)
        z = z + a.sigmoid() * (b.tanh() - z)
    solution = ebm.infer(cell, x, steps=3, keep="last")
    torch.testing.assert_close(solution.z, z)
    assert solution.z.is_contiguous()
    assert solution.carry.point.force.is_contiguous()


def test_the_latent_stays_within_one_however_long_it_runs():
    cell = cell_of(1, start=ebm.Noise(0.2))
    with torch.no_grad():
        cell.cell.weight.mul_(30)
    z = ebm.infer(cell, observation(1), steps=200, keep="last", generator=torch.Generator().manual_seed(0)).z
    assert float(z.abs().max()) <= 1 + 1e-12


def test_the_injection_is_computed_once_a_call():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            return x.repeat(1, 2, 1)

    ebm.infer(ebm.GatedCell(Counting(), 2, dims=1), torch.ones(3, 2, 5), steps=9)
    assert Counting.calls == 1


def test_noise_starts_belong_to_the_sample():
    cell, x = cell_of(2, start=ebm.Noise(0.5)), observation(2, batch=4)
    whole = ebm.infer(cell, x, steps=0, generator=torch.Generator().manual_seed(0)).z
    other = ebm.infer(cell, x, steps=0, generator=torch.Generator().manual_seed(1)).z
    assert float(whole.std()) == pytest.approx(0.5, rel=0.2)
    assert not torch.equal(whole, other)


def test_a_sample_does_not_know_its_batch():
    cell, x = cell_of(2, head=nn.Conv2d(3, 2, 1)), observation(2, batch=5)
    stop = ebm.AtRest(1e-3)
    together = ebm.infer(cell, x, steps=60, stop=stop, compact=True)
    alone = ebm.cat([ebm.infer(cell, x[i : i + 1], steps=60, stop=stop) for i in range(5)])
    torch.testing.assert_close(together.z, alone.z, rtol=1e-10, atol=1e-10)
    assert together.steps.tolist() == alone.steps.tolist()


def test_flops_of_an_evaluation_are_those_of_the_convolution():
    cell, x = cell_of(2, width=3, channels=2), observation(2)
    solution = ebm.infer(cell, x, steps=4)
    once = 2 * (5 * 4) * 6 * (3 * 9)
    assert solution.flops_per_sample.tolist() == [5 * once] * 3
    assert solution.fixed_flops == 3 * 2 * (5 * 4) * 6 * (2 * 9)
    assert not solution.uncounted


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"dims": 3}, ValueError, r"`GatedCell\(dims=...\)` is 1 .* or 2 .*; got 3. Choose one"),
        ({"kernel": 4}, ValueError, r"must be odd, .* got 4. Try 3"),
        ({"width": 0}, ValueError, r"must be at least 1; got 0. Pass the channels"),
        ({"inject": "grey"}, TypeError, r"is a module, or the number of channels .* got str. Pass 1"),
        ({"head": torch.relu}, TypeError, r"is a module or None; got builtin_function_or_method. Pass nn."),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        ebm.GatedCell(**{"inject": 1, "width": 4, **settings})


def test_an_injection_with_other_channels_is_refused():
    cell = ebm.GatedCell(nn.Conv2d(1, 7, 3), 4)
    with pytest.raises(
        ValueError, match=r"must return 2 x width = 8 channels .* got \(2, 7, 4, 4\). Change its last layer"
    ):
        ebm.infer(cell, torch.ones(2, 1, 6, 6), steps=1)


def prefix_sums(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    bits = torch.randint(0, 2, (count, length), generator=generator)
    return (bits - 0.5).float().unsqueeze(1), bits.cumsum(1) % 2


@pytest.mark.slow
def test_it_learns_prefix_sums_and_needs_its_steps():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell = ebm.GatedCell(1, width=16, head=nn.Conv1d(16, 2, 1), dims=1)
    rule = ebm.Progressive(functional.cross_entropy, burn_in=(0, 8), steps=18, noise_start=0.5, over=ebm.losses.Last())
    optimizer = torch.optim.Adam(cell.parameters(), lr=1e-2)
    for _ in range(120):
        x, y = prefix_sums(64, 16, generator)
        optimizer.zero_grad()
        rule(cell, x, y, generator).backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.step()
    x, y = prefix_sums(500, 16, torch.Generator().manual_seed(99))

    def right(steps: int) -> float:
        return float((ebm.infer(cell, x, steps=steps, keep="last").answer.argmax(1) == y).float().mean())

    assert right(4) < 0.8
    assert right(24) > 0.97
    assert right(96) > 0.8
