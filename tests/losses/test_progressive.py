"""The progressive loss against a loop written by hand; its randomness, its doors, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.losses import Every, Last, Progressive
from ebm.noise import Draw, draw_keys

cross_entropy = functional.cross_entropy


def cell_of(start: Any = None) -> ebm.GatedCell:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ebm.GatedCell(1, 3, nn.Conv1d(3, 2, 1), dims=1, start=start or ebm.Zeros()).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    bits = torch.randint(0, 2, (4, 6), generator=generator)
    return (bits - 0.5).double().unsqueeze(1), bits.cumsum(1) % 2


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True))


def by_hand(
    cell: ebm.GatedCell, x: Tensor, y: Tensor, burn_in: int, weights: Sequence[float], z: Tensor | None = None
) -> Tensor:
    c = cell.inject(x)
    z = torch.zeros_like(c[:, : cell.width]) if z is None else z
    for _ in range(burn_in):
        z = cell(z, c).detach()
    loss = torch.zeros((), dtype=torch.float64)
    for weight in weights:
        z = cell(z, c)
        loss = loss + weight * cross_entropy(cell.readout(z, c), y)
    return loss


@pytest.mark.parametrize("burn_in", [0, 1, 5])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("over", [Every(), Last()])
def test_loss_and_gradients_are_those_of_a_loop(burn_in: int, steps: int, over: Any):
    cell, (x, y) = cell_of(), batch()
    ours = Progressive(cross_entropy, burn_in=burn_in, steps=steps, over=over)(cell, x, y)
    theirs = by_hand(cell, x, y, burn_in, [1 / steps] * steps if over == Every() else [0] * (steps - 1) + [1])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(cell, ours), gradients(cell, theirs))
    assert any(float(g.abs().sum()) > 0 for g in gradients(cell, by_hand(cell, x, y, burn_in, [1.0])))


def test_the_burn_in_has_no_gradient():
    """A gradient through all steps is another one; the loss has that of the tail."""
    cell, (x, y) = cell_of(), batch()
    c = cell.inject(x)
    z = torch.zeros_like(c[:, :3])
    for _ in range(4):
        z = cell(z, c)
    through_all = gradients(cell, cross_entropy(cell.readout(cell(z, c), c), y))
    ours = gradients(cell, Progressive(cross_entropy, burn_in=4, steps=1)(cell, x, y))
    assert not all(torch.allclose(a, b) for a, b in zip(ours, through_all, strict=True))
    torch.testing.assert_close(ours, gradients(cell, by_hand(cell, x, y, 4, [1.0])))


def test_gradients_are_those_of_finite_differences():
    cell, (x, y) = cell_of(), batch()
    rule = Progressive(cross_entropy, burn_in=0, steps=3)
    gradient = gradients(cell, rule(cell, x, y))
    for parameter, slope in zip(cell.parameters(), gradient, strict=True):
        flat, step = parameter.data.view(-1), 1e-6
        before = float(flat[0])
        ends = []
        for sign in (1, -1):
            flat[0] = before + sign * step
            ends.append(rule(cell, x, y).item())
        flat[0] = before
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(slope.reshape(-1)[0]), abs=1e-8, rel=1e-5)


def test_a_noisy_batch_starts_from_the_samples_own_noise():
    cell, (x, y) = cell_of(), batch()
    ours = Progressive(cross_entropy, burn_in=2, steps=2, noise_start=1.0, noise_scale=0.3)(cell, x, y, _seeded(3))
    generator = _seeded(3)
    torch.rand((), generator=generator)
    keys = draw_keys(4, x.device, generator)
    noise = 0.3 * Draw(keys, torch.full_like(keys, -1)).normal(torch.empty(4, 3, 6, dtype=torch.float64))
    theirs = by_hand(cell, x, y, 2, [0.5, 0.5], noise)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(cell, ours), gradients(cell, theirs))


@pytest.mark.parametrize("burn_in", [0, 3])
def test_the_model_may_start_from_its_own_noise(burn_in: int):
    """The burn-in and the tail are one path: the noise of the start is drawn once."""
    cell, (x, y) = cell_of(ebm.Noise(1.0)), batch()
    ours = Progressive(cross_entropy, burn_in=burn_in, steps=1)(cell, x, y, _seeded(1))
    start = ebm.infer(cell, x, steps=0, generator=_seeded(1)).z
    torch.testing.assert_close(ours, by_hand(cell, x, y, burn_in, [1.0], start))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


RANDOM = Progressive(cross_entropy, burn_in=(0, 6), steps=(1, 4), noise_start=0.5)


def test_the_generator_decides_and_nothing_else():
    cell, (x, y) = cell_of(), batch()
    before = torch.random.get_rng_state()
    first = [RANDOM(cell, x, y, _seeded(s)).item() for s in range(6)]
    assert first == [RANDOM(cell, x, y, _seeded(s)).item() for s in range(6)]
    assert len(set(first)) > 3
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_generator_draws_on():
    cell, (x, y) = cell_of(), batch()
    generator = _seeded(0)
    assert len({RANDOM(cell, x, y, generator).item() for _ in range(8)}) > 4


def test_ranges_reach_both_ends_and_no_further(monkeypatch: pytest.MonkeyPatch):
    module = __import__("ebm.losses.stretch", fromlist=["infer"])
    seen: list[tuple[str, int]] = []
    for name in ("infer", "stream"):
        real = getattr(ebm, name)

        def spy(*args: Any, _real: Any = real, _name: str = name, **given: Any) -> Any:
            seen.append((_name, given["steps"]))
            return _real(*args, **given)

        monkeypatch.setattr(module, name, spy)
    cell, (x, y) = cell_of(), batch()
    rule, generator = Progressive(cross_entropy, burn_in=(0, 2), steps=(1, 3)), _seeded(0)
    for _ in range(40):
        rule(cell, x, y, generator)
    assert {steps for name, steps in seen if name == "infer"} == {1, 2}  # zero steps need no call
    assert {steps for name, steps in seen if name == "stream"} == {1, 2, 3}
    assert sum(name == "infer" for name, _ in seen) < 40


def test_noise_starts_come_as_often_as_asked():
    class Counting(ebm.GatedCell):
        starts = 0

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            type(self).starts += 1
            return super().init_latent(c, draw)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell = Counting(1, 2, nn.Conv1d(2, 2, 1), dims=1).double()
    x, y = batch()
    seen: list[bool] = []

    def loss(answer: Tensor, target: Tensor) -> Tensor:
        seen.append(bool(answer.detach().std(0).max() > 2))
        return cross_entropy(answer, target)

    rule, generator = Progressive(loss, burn_in=0, steps=1, noise_start=0.25, noise_scale=1e3), _seeded(0)
    for _ in range(100):
        rule(cell, x, y, generator)
    assert 0.13 < sum(seen) / 100 < 0.38  # three standard errors


def test_an_energy_trains_like_a_loop_of_descent():
    class Bowl(ebm.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.eye(3, dtype=torch.float64) * 0.5)

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.5 * (z - c @ self.matrix).square().sum(1) + 0.1 * z.pow(4).sum(1)

    model = Bowl()
    x = torch.randn(5, 3, generator=_seeded(0), dtype=torch.float64)
    rule = Progressive(functional.mse_loss, burn_in=2, steps=3, solver=ebm.Descent(0.3, momentum=0.5))
    z, speed = torch.zeros_like(x), torch.zeros_like(x)
    loss = torch.zeros((), dtype=torch.float64)
    for step in range(5):
        speed = 0.5 * speed - (z - x @ model.matrix + 0.4 * z**3)
        z = z + 0.3 * speed
        if step < 2:
            z, speed = z.detach(), speed.detach()
        else:
            loss = loss + functional.mse_loss(z, x) / 3
    ours = rule(model, x, x)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(gradients(model, ours), gradients(model, loss))


@pytest.mark.parametrize("burn_in", [0, 2])
def test_the_models_own_stop_rule_does_not_end_training_early(burn_in: int):
    class Hasty(ebm.GatedCell):
        def default_stop(self) -> ebm.Stop:
            return ebm.AtRest(1e3)

    (x, y), cell = batch(), cell_of()
    hasty = Hasty(1, 3, nn.Conv1d(3, 2, 1), dims=1).double()
    hasty.load_state_dict(cell.state_dict())
    assert int(ebm.infer(hasty, x, steps=5).steps.max()) == 0
    ours = Progressive(cross_entropy, burn_in=burn_in, steps=2)(hasty, x, y)
    torch.testing.assert_close(ours, by_hand(cell, x, y, burn_in, [0.5, 0.5]))


def test_only_the_answers_that_count_are_looked_at():
    @dataclass(frozen=True)
    class Middle:
        def weights(self, count: int) -> list[float]:
            return [0.0, 2.0, 0.0]

    cell, (x, y) = cell_of(), batch()
    calls = []

    def loss(answer: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return cross_entropy(answer, target)

    ours = Progressive(loss, burn_in=1, steps=3, over=Middle())(cell, x, y)
    assert len(calls) == 1
    torch.testing.assert_close(ours, by_hand(cell, x, y, 1, [0.0, 2.0, 0.0]))


@pytest.mark.parametrize("burn_in", [0, 2])
def test_a_failed_sample_is_not_hidden(burn_in: int):
    class Runaway(ebm.Update):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return z * 1e200

    x = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    with pytest.raises(ebm.InferenceError, match=r"1 of 2 samples ended NONFINITE \(rows 0\)"):
        Progressive(functional.mse_loss, burn_in=burn_in, steps=3)(Runaway(), x, x)


def test_training_leaves_no_trace_but_the_gradient():
    cell, (x, y) = cell_of(), batch()
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    loss = RANDOM(cell, x, y, _seeded(0))
    assert all(p.grad is None for p in cell.parameters())
    loss.backward()
    assert all(p.grad is not None for p in cell.parameters())
    assert all(torch.equal(before[name], value) for name, value in cell.state_dict().items())
    assert cell.training


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"loss": "mse"}, TypeError, r"must be callable as loss\(answer, y\); got str. Pass `torch.nn"),
        ({"burn_in": (3, 2)}, ValueError, r"wants 0 <= least <= most; got \(3, 2\). Try \(0, 8\)"),
        ({"burn_in": -1}, ValueError, r"`Progressive\(burn_in=...\)` wants 0 <= least <= most; got -1"),
        ({"burn_in": (0, 2.5)}, TypeError, r"whole number of steps, or \(least, most\); got \(0, 2.5\). Try \(0, 8\)"),
        ({"steps": 0}, ValueError, r"`Progressive\(steps=...\)` wants 1 <= least <= most; got 0. Try \(1, 8\)"),
        ({"steps": "all"}, TypeError, r"got 'all'. Try \(1, 8\)"),
        ({"noise_start": 1.5}, ValueError, r"is a probability; got 1.5. Pass a number from 0 to 1"),
        ({"noise_start": float("nan")}, ValueError, r"is a probability; got nan"),
        ({"noise_scale": -1.0}, ValueError, r"may not be negative; got -1.0. Try 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        Progressive(**{"loss": cross_entropy, **settings})


@pytest.mark.parametrize("rule", [RANDOM, Progressive(cross_entropy, burn_in=0, steps=2, noise_start=0.1)])
def test_something_to_draw_asks_for_a_generator(rule: Progressive):
    cell, (x, y) = cell_of(), batch()
    with pytest.raises(
        ValueError, match=r"draws its burn-in, steps and start from a generator; got none. Pass `generator="
    ):
        rule(cell, x, y)
