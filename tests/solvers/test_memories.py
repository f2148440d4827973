"""What solvers carry from step to step: each number against the rule that it follows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from tests.energies import numbers


class Bent(ebm.Energy):
    """z^2 / 2 - z + k z^4: from zero a Newton step of one promises 1 / 2 and lowers the energy by 1 / 2 - k."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (0.5 * z.square() - z + c * z.square().square()).sum(1)


@pytest.mark.parametrize(("k", "radius"), [(0.0, 10.0), (0.3, 10.0), (0.45, 0.5)])
def test_a_trust_region_shrinks_to_half_a_step_that_was_poor_but_taken(k: float, radius: float):
    """Nocedal and Wright (2006), algorithm 4.1: below a quarter of what was promised, and not below."""
    x = torch.full((1, 1), k, dtype=torch.float64)
    found = ebm.infer(Bent(), x, steps=1, solver=ebm.NewtonCG(radius=10.0), keep="last")
    torch.testing.assert_close(found.z, torch.ones_like(x))
    torch.testing.assert_close(found.carry.memory["radius"], torch.tensor([radius], dtype=torch.float64))


def test_an_adaptive_flow_remembers_the_error_of_the_steps_it_took():
    """Gustafsson (1991): a try that is turned down has no part in the controller's memory."""

    class Stiff(ebm.Update):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return c

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return -49 * z

    x, solver = torch.ones(1, 1, dtype=torch.float64), ebm.AdaptiveFlow(first=1.0)
    error = [float(ebm.infer(Stiff(), x, steps=steps, solver=solver).carry.memory["error"]) for steps in range(9)]
    moved = [float(ebm.infer(Stiff(), x, steps=steps, solver=solver).carry.memory["t"]) for steps in range(9)]
    rejected = [steps for steps in range(1, 9) if moved[steps] == moved[steps - 1]]
    assert 1 in rejected and len(rejected) < 8
    assert all(error[steps] == error[steps - 1] for steps in rejected)
    assert all(error[steps] <= 1 for steps in range(1, 9))


def test_broyden_forgets_what_is_full():
    """A memory of three: the fourth secant begins anew, and the step after it is plain."""

    class Turn(ebm.Update):
        def init_latent(self, c: Tensor, draw: Any) -> Tensor:
            return torch.zeros_like(c)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0.9 * z @ torch.linalg.qr(numbers(6, 6, seed=3)).Q + c

    x, solver = numbers(1, 6, seed=5), ebm.Broyden(3, growth=1e9)
    found = [ebm.infer(Turn(), x, steps=steps, solver=solver, keep="last").carry for steps in range(1, 10)]
    assert [int(carry.memory["filled"]) for carry in found] == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    before, after = found[3].point, found[4].point
    torch.testing.assert_close(after.z, before.z + before.force)
