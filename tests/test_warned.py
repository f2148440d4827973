"""Calls that run and are probably not what is meant: who is warned, once, and where; and who is not."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm

X = torch.ones(3, 2)
DETACHED, REPEATED = ebm.DetachedWarning, ebm.RepeatedNoiseWarning


class Bowl(ebm.Energy):
    """Rests at w x; starts at ``start``."""

    def __init__(self, start: Any = torch.zeros_like, learns: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0), requires_grad=learns)
        self.start = start

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Tensor:
        return self.start(c) if self.start is torch.zeros_like else self.start(c, draw)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return 0.5 * (z - self.w * c).square().sum(1)


def told(work: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        work()
    return [each for each in seen if issubclass(each.category, (DETACHED, REPEATED))]


def settle(model: ebm.Objective, **options: Any) -> ebm.Solution:
    return ebm.infer(model, X, steps=2, **options)


def test_a_training_loop_without_an_adjoint_is_warned_once_at_its_own_line() -> None:
    model = Bowl()

    def loop() -> None:
        for _ in range(5):
            with warnings.catch_warnings():  # as torch does inside a loop: it makes Python forget what it has shown
                pass
            settle(model)
            list(ebm.stream(model, X, steps=1))

    seen = told(loop)
    assert [each.category for each in seen] == [DETACHED]
    assert seen[0].filename == __file__
    words = str(seen[0].message)
    assert words.startswith("Bowl has parameters to train, and is settled without a gradient: no `adjoint=` was given")
    assert all(word in words for word in ("`adjoint=ebm.Detached()`", "`model.eval()`", "`torch.no_grad()`"))
    assert [each.category for each in told(lambda: list(ebm.stream(Bowl(), X, steps=1)))] == [DETACHED]


def test_the_line_is_the_users_where_the_compiler_is_loaded() -> None:
    """From then on it stands between `infer` and the call."""
    importlib.import_module("torch._dynamo")
    seen = told(lambda: settle(Bowl()))
    assert [each.filename for each in seen] == [__file__]


def test_who_says_what_is_meant_is_not_warned() -> None:
    for adjoint in (ebm.Detached(), ebm.Unroll(), ebm.Implicit()):
        assert not told(lambda adjoint=adjoint: settle(Bowl(), adjoint=adjoint))
    assert not told(lambda: settle(Bowl().eval()))
    assert not told(lambda: settle(Bowl(learns=False)))
    assert not told(lambda: settle(ebm.Sum(Bowl().eval())))  # the wrapper itself is new, and in training mode
    assert told(lambda: settle(ebm.Sum(Bowl())))
    assert not told(lambda: settle(ebm.ModernHopfield(torch.eye(2))))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert not told(lambda: settle(Bowl()))


def test_the_library_settles_for_itself_in_silence() -> None:
    """Losses, penalties, diagnostics and trainings know whether they want a gradient."""
    draw, y = torch.Generator().manual_seed(0), torch.zeros(3, 2)
    cell = ebm.MonotoneCell(2, 2)

    def mse(answer: Tensor, target: Tensor) -> Tensor:
        return (answer - target).square().mean()

    def work() -> None:
        ebm.Progressive(mse, burn_in=2, steps=2, begin=ebm.losses.Elsewhere(ebm.losses.neighbour, odds=1.0))(
            cell, X, y, draw
        )
        ebm.losses.Settled(mse, steps=3)(cell, X, y, draw)
        ebm.losses.JacobianPenalty(steps=2)(cell, X, y, draw)
        ebm.losses.PathIndependence(last=1, steps=2)(cell, X, y, draw)
        ebm.TwoPhase(lambda answer, target: (answer - target).square().sum(1), 0.1, steps=3)(
            Bowl(ebm.Noise()), X, y, draw
        )
        ebm.diagnose(cell, X, steps=8)

    assert not told(work)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (lambda: Bowl(), {"solver": ebm.Langevin(0.1)}),
        (lambda: Bowl(), {"solver": ebm.MALA(0.1)}),
        (lambda: Bowl(), {"solver": ebm.Restarts(4, ebm.Descent(0.1), spread=1.0)}),
        (lambda: Bowl(), {"solver": ebm.Downhill(ebm.Langevin(0.1))}),
        (lambda: Bowl(ebm.Noise()), {"solver": ebm.Descent(0.1)}),
    ],
    ids=["Langevin", "MALA", "Restarts", "wrapped", "start"],
)
def test_noise_without_a_generator_is_told_once(model: Callable[[], Bowl], options: dict[str, Any]) -> None:
    """Two calls agree to the bit, whatever the global seed: that is what the warning is about. With one generator they differ."""
    bowl = model().eval()
    first: list[ebm.Solution] = []

    def work() -> None:
        for seed in (0, 1):
            torch.manual_seed(seed)
            first.append(settle(bowl, **options))

    state = torch.get_rng_state()
    seen = told(work)
    torch.set_rng_state(state)
    assert [each.category for each in seen] == [REPEATED] and seen[0].filename == __file__
    assert "no `generator=` was given" in str(seen[0].message) and "torch.manual_seed" in str(seen[0].message)
    assert torch.equal(first[0].z, first[1].z)
    generator = torch.Generator().manual_seed(0)
    other: list[ebm.Solution] = []
    assert not told(lambda: other.extend(settle(model().eval(), generator=generator, **options) for _ in range(2)))
    assert not torch.equal(other[0].z, other[1].z)


def test_noise_that_goes_on_and_orders_of_units_are_not_told_of() -> None:
    generator, solver = torch.Generator().manual_seed(0), ebm.Langevin(0.1)
    part = settle(Bowl().eval(), solver=solver, generator=generator)
    assert not told(lambda: settle(Bowl().eval(), solver=solver, resume=part))
    magnet = ebm.Hopfield(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert not told(lambda: settle(magnet)) and [
        each.category for each in told(lambda: settle(magnet, solver=ebm.Gibbs()))
    ] == [REPEATED]


def test_phases_that_are_compared_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[Tensor] = []

    def watching(*args: Any, generator: torch.Generator, **options: Any) -> ebm.Solution:
        states.append(generator.get_state())
        return ebm.infer(*args, generator=generator, **options)

    monkeypatch.setattr("ebm.losses.two_phase.infer", watching)
    rule = ebm.TwoPhase(
        lambda answer, y: (answer - y).square().sum(1), 0.1, steps=4, solver=ebm.Langevin(0.01), centred=True
    )
    rule(Bowl(), X, X, torch.Generator().manual_seed(3))
    assert len(states) == 3 and all(torch.equal(state, states[0]) for state in states)


@pytest.mark.parametrize(
    ("tiles", "precision", "told"), [(False, torch.bfloat16, 1), (True, torch.bfloat16, 0), (False, None, 0)]
)
def test_bfloat16_is_told_of_where_a_processor_has_no_tiles_for_it(
    monkeypatch: pytest.MonkeyPatch, tiles: bool, precision: torch.dtype | None, told: int
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    memory = ebm.ModernHopfield(torch.eye(2), beta=2.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            ebm.infer(memory, torch.ones(2, 2), steps=1, precision=precision)
    found = [each for each in seen if each.category is ebm.SlowPrecisionWarning]
    assert len(found) == told and all(each.filename == __file__ for each in found)
