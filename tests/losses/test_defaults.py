"""Every loss that settles, with its default settings, on every model: gradients of random batches are finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm import rows
from ebm.losses import Progressive, Settled, TwoPhase
from tests.contracts.members import MODELS


def distance(answer: Any, y: Any) -> Tensor:
    """The squared distance to the target, (B,)."""
    pairs = zip(rows.leaves(answer), rows.leaves(y), strict=True)
    return sum((rows.flatten(a - b).square().sum(1) for a, b in pairs), torch.zeros(()))


def mean_distance(answer: Any, y: Any) -> Tensor:
    return distance(answer, y).mean()


LOSSES = {
    "progressive": Progressive(mean_distance),
    "settled": Settled(mean_distance),
    "two phases": TwoPhase(distance),
}
SCALES = (0.1, 1.0, 3.0)


def like(x: Any, scale: float, generator: torch.Generator) -> Any:
    """A random observation with the shapes of one that is known: signs and masks stay what they are."""

    def leaf(known: Tensor) -> Tensor:
        values = known.unique()
        if len(values) <= 2:
            return values[torch.randint(len(values), known.shape, generator=generator)]
        return scale * torch.randn(known.shape, generator=generator, dtype=known.dtype)

    return rows.map_rows(leaf, x)


def asked(leaf: Tensor) -> Tensor:
    return leaf.clone().requires_grad_() if leaf.is_floating_point() else leaf


def gradients(loss: Any, model: ebm.Objective, x: Any, generator: torch.Generator) -> list[Tensor]:
    """Of one batch, with a random target: of all parameters and observations that the loss depends on."""
    with torch.no_grad():
        answer = ebm.infer(model, x, steps=1, generator=generator).answer
    y = rows.map_rows(lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype), answer)
    x = rows.map_rows(asked, x)
    wanted = [each for each in (*model.parameters(), *rows.leaves(x)) if each.requires_grad]
    value = loss(model, x, y, generator)
    assert bool(value.isfinite())
    if not value.requires_grad:  # a memory without parameters forgets its query on the way
        assert not list(model.parameters())
        return []
    return [g for g in torch.autograd.grad(value, wanted, allow_unused=True) if g is not None]


def learns_by(name: str, model: ebm.Objective) -> bool:
    return name != "two phases" or ("energy" in model.provides and "discrete" not in model.provides)


CASES = [(name, model) for model in MODELS for name in LOSSES if learns_by(name, MODELS[model]().model)]


def hold(name: str, model: str, batches: int, dtype: torch.dtype) -> None:
    case, generator = MODELS[model](), torch.Generator().manual_seed(1)
    known = rows.map_rows(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, case.x)
    for batch in range(batches):
        x = like(known, SCALES[batch % len(SCALES)], generator)
        found = gradients(LOSSES[name], case.model.to(dtype), x, generator)
        assert all(bool(g.isfinite().all()) for g in found), f"batch {batch}"


@pytest.mark.parametrize(("name", "model"), CASES)
def test_gradients_of_a_batch_are_finite(name: str, model: str):
    hold(name, model, 1, torch.float32)


@pytest.mark.product
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "model"), CASES)
def test_gradients_of_a_hundred_batches_are_finite(name: str, model: str, dtype: torch.dtype):
    hold(name, model, 100, dtype)


@pytest.mark.parametrize("model", ["hopfield", "dense memory", "bidirectional memory"])
def test_two_phases_refuse_latents_that_no_gradient_moves(model: str):
    case = MODELS[model]()
    with pytest.raises(ValueError, match="continuous latents"):
        TwoPhase(distance)(case.model, case.x, case.x)


def test_two_phases_take_fifty_steps_where_nobody_says():
    case = MODELS["wells"]()
    x, y = case.x, torch.zeros(5, 3, dtype=torch.float64)
    default, told = (rule(case.model, x, y) for rule in (TwoPhase(distance), TwoPhase(distance, steps=50)))
    other = TwoPhase(distance, steps=3)(case.model, x, y)
    assert default.item() == told.item() != other.item()
