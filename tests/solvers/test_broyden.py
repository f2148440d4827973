"""Broyden's method against its textbook form, and where it must do better than the plain iteration."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import ebm
from tests.energies import Quadratic, Tanh, Tree, numbers

X = numbers(5, 3, seed=9)


class Turned(ebm.Update):
    """z' = M z + x with a matrix that is not symmetric and turns further than it shrinks."""

    def __init__(self, size: int = 6, radius: float = 0.98) -> None:
        super().__init__()
        self.register_buffer("matrix", radius * torch.linalg.qr(numbers(size, size, seed=3)).Q)

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return z @ self.matrix.T + c


def textbook(model: Turned, x: numpy.ndarray, steps: int, mixing: float) -> numpy.ndarray:
    """Broyden's first method with a dense inverse Jacobian, for one sample."""
    matrix = model.matrix.numpy()

    def force(z: numpy.ndarray) -> numpy.ndarray:
        return matrix @ z + x - z

    z = numpy.zeros_like(x)
    inverse, now = -mixing * numpy.eye(len(x)), force(z)
    for _ in range(steps):
        move = -inverse @ now
        z, then = z + move, force(z + move)
        change = then - now
        inverse = inverse + numpy.outer(move - inverse @ change, move @ inverse) / (move @ inverse @ change)
        now = then
    return z


@pytest.mark.parametrize("mixing", [1.0, 0.4])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_iterates_are_those_of_the_textbook(mixing: float, steps: int):
    model, x = Turned(), numbers(4, 6, seed=5)
    found = ebm.infer(model, x, steps=steps, solver=ebm.Broyden(10, mixing=mixing, growth=1e9), keep="last")
    for row in range(4):
        wanted = textbook(model, x[row].numpy(), steps, mixing)
        torch.testing.assert_close(found.z[row], torch.as_tensor(wanted), rtol=1e-9, atol=1e-9)


def test_a_linear_map_is_solved_in_twice_as_many_steps_as_it_has_numbers():
    """Gay (1979): Broyden's method ends within 2 D steps on a linear problem of D numbers."""
    model, x = Turned(), numbers(4, 6, seed=5)
    found = ebm.infer(model, x, steps=13, solver=ebm.Broyden(20, growth=1e9), stop=ebm.AtRest(1e-9))
    plain = ebm.infer(model, x, steps=500, solver=ebm.Picard(), stop=ebm.AtRest(1e-9))
    assert found.converged.all() and plain.steps.min() > 200
    exact = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - model.matrix, x.T).T
    torch.testing.assert_close(found.z, exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("model", [Quadratic(), Tanh(3), Tree(3)], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("memory", [1, 3, 20])
def test_it_comes_to_rest_however_little_it_remembers(model: ebm.Objective, memory: int):
    found = ebm.infer(model, X, steps=400, solver=ebm.Broyden(memory, mixing=0.5), stop=ebm.AtRest(1e-9))
    assert found.converged.all(), found


def test_a_step_that_fails_is_not_taken_and_the_past_forgotten():
    class Cliff(ebm.Update):
        """Leads off a cliff: beyond one there are no numbers."""

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return torch.where(z > 1, torch.nan, z + 0.3 - 0.01 * z)

    x = torch.zeros(2, 1, dtype=torch.float64)
    found = ebm.infer(Cliff(), x, steps=6, solver=ebm.Broyden(), keep="last")
    assert found.z.isfinite().all() and found.carry.memory["filled"].max() <= 5
    turned_down = ebm.infer(Cliff(), x, steps=2, solver=ebm.Broyden(), keep="last")
    assert turned_down.z.flatten().tolist() == [0.3, 0.3], "the secant step would leave for thirty"
    assert turned_down.carry.memory["filled"].tolist() == [0, 0]


def test_a_plain_step_off_the_cliff_is_a_dead_end():
    class Island(ebm.Update):
        """There are no numbers but at the start."""

        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return torch.where(z == 0, 1.0, torch.nan)

    found = ebm.infer(Island(), torch.zeros(2, 1, dtype=torch.float64), steps=6, solver=ebm.Broyden(), keep="last")
    assert found.status.tolist() == [ebm.Status.STALLED] * 2
    assert found.z.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory": 0}, "memory.*at least 1; got 0"),
        ({"mixing": 0.0}, "mixing.*above zero"),
        ({"growth": 0.5}, "growth.*at least 1"),
    ],
)
def test_settings_outside_their_range(settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ebm.Broyden(**settings)
