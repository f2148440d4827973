"""Any module as an energy: shapes, starts, gradients, and the modules it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import ebm

F64 = torch.float64


class Quadratic(nn.Module):
    """(z - A x)^2 / 2 in any shape."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * (z.flatten(1) - x @ self.weight.T).square().sum(1)


class Body(nn.Module):
    """A small net over latent and observation, with a part to try in the middle."""

    def __init__(self, middle: nn.Module, squeeze: bool = True) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), middle, nn.Tanh(), nn.Linear(8, 1))
        self.squeeze = squeeze

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        out = self.net(torch.cat([z, x], 1)) + 0.5 * z.square().sum(1, keepdim=True)
        return out.squeeze(1) if self.squeeze else out


def normal(seed: int, *shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [6, (6,), (2, 3)])
def test_a_quadratic_settles_where_algebra_says(shape):
    weight, x = normal(0, 6, 4), normal(1, 5, 4)
    solution = ebm.infer(ebm.EnergyNet(Quadratic(weight), shape), x, steps=50)
    assert solution.z.shape == (5, 6) if shape != (2, 3) else (5, 2, 3)
    torch.testing.assert_close(solution.z.flatten(1), x @ weight.T, rtol=1e-6, atol=1e-6)
    assert bool((solution.energy < 1e-10).all())


def test_the_force_is_minus_the_gradient_by_finite_differences():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ebm.EnergyNet(Body(nn.Identity()).double(), 3)
    z, x = normal(0, 4, 3), normal(1, 4, 2)
    point = model.point(z, model.condition(x))
    for column in range(3):
        shift = torch.zeros(3, dtype=F64).index_fill_(0, torch.tensor(column), 1e-6)
        slope = (model(z + shift, x) - model(z - shift, x)) / 2e-6
        torch.testing.assert_close(point.force[:, column], -slope.detach(), rtol=1e-6, atol=1e-8)


def test_starts_are_objects():
    weight, x = normal(0, 6, 4), normal(1, 3, 4)
    assert not bool(ebm.infer(ebm.EnergyNet(Quadratic(weight), 6), x, steps=0).z.any())
    noisy = ebm.EnergyNet(Quadratic(weight), (2, 3), start=ebm.Noise(0.5))
    first = ebm.infer(noisy, x, steps=0, generator=torch.Generator().manual_seed(1)).z
    other = ebm.infer(noisy, x, steps=0, generator=torch.Generator().manual_seed(2)).z
    assert first.shape == (3, 2, 3) and not torch.equal(first, other)
    assert 0.1 < float(first.std()) < 1.0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_latent_has_the_dtype_of_the_model(dtype: torch.dtype):
    model = ebm.EnergyNet(Quadratic(normal(0, 6, 4).to(dtype)), 6)
    assert ebm.infer(model, normal(1, 3, 4).to(dtype), steps=2).z.dtype == dtype


def test_a_whole_numbered_observation_and_a_module_without_parameters():
    class Match(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return (z - x).square().sum(1)

    solution = ebm.infer(ebm.EnergyNet(Match(), 2), torch.tensor([[1, 2]]), steps=30)
    torch.testing.assert_close(solution.z, torch.tensor([[1.0, 2.0]]), rtol=1e-4, atol=1e-4)


def test_the_encoder_runs_once_a_call():
    calls: list[int] = []

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return 2 * x

    weight, x = normal(0, 6, 4), normal(1, 5, 4)
    solution = ebm.infer(ebm.EnergyNet(Quadratic(weight), 6, encoder=Double()), x, steps=50)
    torch.testing.assert_close(solution.z, 2 * x @ weight.T, rtol=1e-6, atol=1e-6)
    assert calls == [5]


def test_the_parameters_learn_through_the_settled_latent():
    weight, x = normal(0, 6, 4), normal(1, 5, 4)
    module = Quadratic(weight)
    solution = ebm.infer(ebm.EnergyNet(module, 6), x, steps=3, adjoint=ebm.Unroll())
    solution.answer.sum().backward()
    # one adaptive step of size one ends at A x, so the gradient of its sum is the sum of x in every row
    torch.testing.assert_close(module.weight.grad, x.sum(0).expand(6, 4), rtol=1e-6, atol=1e-8)


def test_energies_of_another_shape_are_refused_with_the_cure():
    x = normal(0, 4, 2, dtype=torch.float32)
    words = "`Body` in `EnergyNet` must return one energy a sample, shape (4,); got (4, 1). End it with `.squeeze(1)`."
    with pytest.raises(ValueError, match=re.escape(words)):
        ebm.infer(ebm.EnergyNet(Body(nn.Identity(), squeeze=False), 3), x, steps=1)

    class Mean(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return z.square().mean()

    with pytest.raises(ValueError, match=re.escape("shape (4,); got (). Sum over every axis but the first.")):
        ebm.infer(ebm.EnergyNet(Mean(), 3), x, steps=1)

    class Pair(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return z, x

    with pytest.raises(ValueError, match=re.escape("shape (4,); got tuple.")):
        ebm.infer(ebm.EnergyNet(Pair(), 3), x, steps=1)


def test_batch_normalisation_is_refused_until_it_stands_still():
    x = normal(0, 4, 2, dtype=torch.float32)
    model = ebm.EnergyNet(Body(nn.BatchNorm1d(8)), 3)
    words = "`EnergyNet` holds `module.net.1`, a BatchNorm1d, which takes its mean over the batch: what a sample gets would depend on its"
    with pytest.raises(ValueError, match=re.escape(words)):
        ebm.infer(model, x, steps=1)
    with pytest.raises(ValueError, match=re.escape("Call `.eval()` on it, or use LayerNorm or GroupNorm.")):
        ebm.infer(model, x, steps=1)
    ebm.infer(model.eval(), x, steps=1)
    always = ebm.EnergyNet(Body(nn.BatchNorm1d(8, track_running_stats=False)), 3).eval()
    with pytest.raises(ValueError, match="takes its mean over the batch"):
        ebm.infer(always, x, steps=1)
    ebm.infer(ebm.EnergyNet(Body(nn.LayerNorm(8)), 3), x, steps=1)


@pytest.mark.parametrize(("shape", "kind", "words"), [
    ("3", TypeError, "`EnergyNet(shape=...)` is the shape of one latent in whole numbers; got '3'. Pass 64 or (3, 8, 8), say."),
    (2.0, TypeError, "in whole numbers; got 2.0."),
    ((2, True), TypeError, "in whole numbers; got (2, True)."),
    ((2, 0), ValueError, "`EnergyNet(shape=...)` has no empty axes; got (2, 0). Leave the sample axis out."),
    (-1, ValueError, "has no empty axes; got -1."),
])  # fmt: skip
def test_shapes_that_are_none_are_refused(shape, kind, words: str):
    with pytest.raises(kind, match=re.escape(words)):
        ebm.EnergyNet(nn.Identity(), shape)


def test_what_is_no_module_is_refused():
    with pytest.raises(
        TypeError,
        match=re.escape("`EnergyNet(module)` is a module or a function of a latent and an observation; got <class"),
    ):
        ebm.EnergyNet(nn.Linear, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=re.escape("`EnergyNet(encoder)` is a module or a function")):
        ebm.EnergyNet(nn.Identity(), 3, encoder=3)  # type: ignore[arg-type]
