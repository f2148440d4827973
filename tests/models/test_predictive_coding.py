"""Predictive coding against linear-Gaussian closed forms, autograd, finite differences and backpropagation."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.models.activations import Activation, activation_of
from ebm.objective import Energy

F64 = torch.float64
SIZES = [5, 7, 6, 3]
ENDS = ["both", "bottom", "top"]
CUBE = Activation(lambda z: z**3, lambda g, z, a: 3 * g * z * z)
ACTIVATIONS: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, torch.tanh),
    "Tanh": (nn.Tanh(), torch.tanh),
    "sigmoid": (torch.sigmoid, torch.sigmoid),
    "relu": (functional.relu, torch.relu),
    "silu": (nn.SiLU(), functional.silu),
    "gelu": (functional.gelu, functional.gelu),
    "gelu by tanh": (nn.GELU("tanh"), lambda z: functional.gelu(z, approximate="tanh")),
    "leaky": (nn.LeakyReLU(0.2), lambda z: functional.leaky_relu(z, 0.2)),
    "identity": (nn.Identity(), lambda z: z),
    "unknown function": (torch.sin, torch.sin),
    "unknown module": (nn.Softplus(beta=2.0), lambda z: functional.softplus(z, beta=2.0)),
    "given": (CUBE, lambda z: z**3),
}


def normal(seed: int, *shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(sizes: list[int] = SIZES, scale: float = 1.0, **settings: Any) -> ebm.PredictiveCoding:
    """A network with weights from a fixed seed, in float64."""
    settings.setdefault("start", ebm.Noise())
    model = ebm.PredictiveCoding(sizes, **settings).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(scale * normal(seed, *parameter.shape) / sizes[0] ** 0.5)
    return model


def ends(which: str, batch: int = 4, sizes: list[int] = SIZES) -> Any:
    x, y = normal(100, batch, sizes[0]), normal(101, batch, sizes[-1])
    return {"both": (x, y), "bottom": (x, None), "top": (None, y), "plain": x}[which]


def latent(model: ebm.PredictiveCoding, x: Any) -> tuple[Tensor, ...]:
    shapes = [tuple(layer.shape) for layer in ebm.infer(model, x, steps=0).z]
    return tuple(normal(200 + k, *shape) for k, shape in enumerate(shapes))


def energy_by_hand(
    model: ebm.PredictiveCoding, phi: Callable[[Tensor], Tensor], layers: list[Tensor], precision: list[Any]
) -> Tensor:
    total = 0.5 * model.prior * layers[0].square().sum(1)
    for k, layer in enumerate(model.layers):
        below = layers[k] if k == 0 else phi(layers[k])
        missed = layers[k + 1] - below @ layer.weight.T - layer.bias
        total = total + 0.5 * (precision[k] * missed.square()).sum(1)
    return total


def whole(z: tuple[Tensor, ...], x: Any) -> list[Tensor]:
    return [*([] if x[0] is None else [x[0]]), *z, *([] if x[1] is None else [x[1]])]


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_energy_is_the_formula_and_the_force_its_slope(name: str, which: str):
    activation, phi = ACTIVATIONS[name]
    precision = [2.0, normal(7, 6).exp(), 0.5]
    model, x = network(activation=activation, precision=precision, prior=0.3), ends(which)
    z = tuple(layer.requires_grad_() for layer in latent(model, x))
    layers = whole(z, x)
    if which != "top":
        model.prior = 0.0  # a clamped bottom has no prior
    wanted = energy_by_hand(model, phi, layers, precision)
    model.prior = 0.3
    slopes = torch.autograd.grad(wanted.sum(), z)
    with torch.no_grad():
        c = model.condition(x)
        point = model.point(z, c)
        torch.testing.assert_close(model(z, c), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(point.energy, wanted, rtol=1e-12, atol=1e-12)
    for force, slope in zip(point.force, slopes, strict=True):
        torch.testing.assert_close(force, -slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", ENDS)
def test_the_force_against_finite_differences(which: str):
    model, x = network(precision=[0.5, 2.0, 3.0], prior=0.2), ends(which, 1)
    z = latent(model, x)
    with torch.no_grad():
        c = model.condition(x)
        force, step = model.point(z, c).force, 1e-6
        for k, layer in enumerate(z):
            for unit in range(layer.shape[1]):
                nudge = torch.zeros_like(layer)
                nudge[0, unit] = step
                up, down = ([*z[:k], layer + sign * nudge, *z[k + 1 :]] for sign in (1, -1))
                slope = (model(tuple(up), c) - model(tuple(down), c)) / (2 * step)
                assert float(-slope) == pytest.approx(float(force[k][0, unit]), abs=1e-7)


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "relu", "unknown module"])
def test_the_closed_form_is_differentiable(name: str, which: str):
    """With a graph, the slopes of the closed-form force agree with those of autograd's."""
    model, x = network(activation=ACTIVATIONS[name][0], prior=0.1), ends(which)
    z = tuple(layer.requires_grad_() for layer in latent(model, x))
    inputs = [*z, *model.parameters()]
    found = []
    for point in (model.point, lambda z, c: Energy.point(model, z, c)):
        force = point(z, model.condition(x)).force
        total = sum((f * f).sum() for f in force)
        found.append(torch.autograd.grad(total, inputs, materialize_grads=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def equilibrium(model: ebm.PredictiveCoding, x: Any) -> tuple[Tensor, ...]:
    """Where a linear network comes to rest: the energy is quadratic in the free layers, so one solve finds it."""
    weights = [layer.weight.detach() for layer in model.layers]
    biases = [layer.bias.detach() for layer in model.layers]
    free = [k for k in range(len(model.sizes)) if (x[0] is None or k) and (x[1] is None or k < len(model.sizes) - 1)]
    start = {k: sum(model.sizes[j] for j in free if j < k) for k in free}
    size = sum(model.sizes[k] for k in free)
    matrix, right = (
        torch.zeros(size, size, dtype=F64),
        torch.zeros(len(x[0] if x[1] is None else x[1]), size, dtype=F64),
    )
    if x[0] is None:
        matrix[: model.sizes[0], : model.sizes[0]] += model.prior * torch.eye(model.sizes[0], dtype=F64)
    fixed = {0: x[0], len(model.sizes) - 1: x[1]}
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        precision = model._scales[k]
        known = -bias.expand(len(right), -1)
        blocks = []
        for layer, factor in ((k + 1, torch.eye(len(bias), dtype=F64)), (k, -weight)):
            if layer in start:
                blocks.append((slice(start[layer], start[layer] + model.sizes[layer]), factor))
            else:
                known = known + fixed[layer] @ factor.T
        for rows, factor in blocks:
            right[:, rows] -= precision * known @ factor
            for columns, other in blocks:
                matrix[rows, columns] += precision * factor.T @ other
    solved = torch.linalg.solve(matrix, right.T).T
    return tuple(solved[:, start[k] : start[k] + model.sizes[k]] for k in free)


@pytest.mark.parametrize("solver", [None, ebm.Descent(0.1, momentum=0.8), ebm.Anderson(mixing=0.1)], ids=repr)
@pytest.mark.parametrize("which", ENDS)
def test_a_linear_network_reaches_its_equilibrium(which: str, solver: ebm.Solver | None):
    model, x = network(activation=nn.Identity(), precision=[0.7, 2.0, 1.3], prior=0.4), ends(which)
    found = ebm.infer(model, x, steps=2000, solver=solver, stop=ebm.AtRest(1e-9))
    for layer, wanted in zip(found.z, equilibrium(model, x), strict=True):
        torch.testing.assert_close(layer, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_the_default_solver_never_raises_the_energy(scale: float):
    model, x = network(scale=scale), ends("both", 16)
    energy = ebm.infer(model, x, steps=60, record="energy", keep="last").trace["energy"]
    assert (energy.diff(dim=0) <= 1e-12 * energy[0]).all()
    assert (energy[-1] < energy[0]).all()


def test_the_answer_is_the_free_end():
    model = network()
    for which, index in (("bottom", -1), ("plain", -1), ("top", 0)):
        solution = ebm.infer(model, ends(which), steps=3)
        assert torch.equal(solution.answer, solution.z[index])
    assert isinstance(ebm.infer(model, ends("both"), steps=3).answer, tuple)


def test_a_plain_tensor_clamps_the_bottom():
    model = network()
    for one, other in zip(
        ebm.infer(model, ends("plain"), steps=5).z, ebm.infer(model, ends("bottom"), steps=5).z, strict=True
    ):
        assert torch.equal(one, other)


def forward_pass(model: ebm.PredictiveCoding, x: Tensor) -> list[Tensor]:
    layers = [x]
    for k, layer in enumerate(model.layers):
        layers.append(layer(layers[-1] if k == 0 else torch.tanh(layers[-1])))
    return layers


def test_the_warning_when_settling_cannot_change_the_answer():
    model = network(start=ebm.FeedForward())
    with pytest.warns(UserWarning, match=re.escape("settling cannot change the answer. To predict, pass `steps=0`")):
        settled = ebm.infer(model, ends("bottom"), steps=20)
    torch.testing.assert_close(settled.answer, forward_pass(model, ends("plain"))[-1].detach())
    assert float(settled.energy.max()) < 1e-25


def test_no_warning_where_no_step_is_asked_for():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = network(start=ebm.FeedForward()).eval()
        settled = ebm.infer(model, ends("bottom"), steps=0)
        begun = ebm.infer(model, ends("bottom"), steps=2, start=tuple(layer + 1 for layer in settled.z))
    torch.testing.assert_close(settled.answer, forward_pass(model, ends("plain"))[-1].detach())
    assert not torch.equal(begun.answer, settled.answer)


def test_no_warning_where_settling_does_change_the_answer():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ebm.DetachedWarning)
        warnings.simplefilter("ignore", ebm.RepeatedNoiseWarning)
        model = network(start=ebm.FeedForward())
        ebm.infer(model, ends("both"), steps=2)
        ebm.infer(model, ends("top"), steps=2)
        start = latent(network(), ends("bottom"))
        ebm.infer(model, ends("bottom"), steps=2, start=start)
        ebm.infer(network(start=ebm.Zeros()).eval(), ends("bottom"), steps=2)
        model.local_gradients(start, ends("bottom"))


def test_starts():
    x = ends("both")
    forward = forward_pass(network(), x[0])
    for layer, wanted in zip(ebm.infer(network(start=ebm.FeedForward()), x, steps=0).z, forward[1:-1], strict=True):
        torch.testing.assert_close(layer, wanted.detach(), rtol=1e-12, atol=1e-12)
    assert all((layer == 0).all() for layer in ebm.infer(network(start=ebm.Zeros()), x, steps=0).z)
    one, other = (
        ebm.infer(network(start=ebm.Noise(2.0)), x, steps=0, generator=torch.Generator().manual_seed(s)).z[0]
        for s in (0, 1)
    )
    assert not torch.equal(one, other)
    below = ebm.infer(network(start=ebm.FeedForward()), ends("top"), steps=0).z
    assert (below[0] == 0).all()
    torch.testing.assert_close(below[1], network().layers[0].bias.detach().expand(4, -1))


class Guess(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(5, 7, dtype=F64), nn.Linear(7, 6, dtype=F64)

    def forward(self, observation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low = self.low(observation[0])
        return low, self.high(low)


def test_an_amortised_start_learns_through_the_steps():
    guess = Guess()
    model, x = network(start=ebm.Amortised(guess)), ends("both")
    solution = ebm.infer(model, x, steps=3, solver=ebm.Descent(0.1), adjoint=ebm.Unroll())
    solution.energy.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in guess.parameters())
    with pytest.raises(
        ValueError, match=r"must return the free layers, of shapes \[\(4, 7\), \(4, 6\)\]; got \[\(4, 7\)\]"
    ):
        ebm.infer(network(start=ebm.Amortised(nn.Sequential(First(), guess.low))), x, steps=1)


class First(nn.Module):
    def forward(self, observation: tuple[Tensor, Tensor]) -> Tensor:
        return observation[0]


@pytest.mark.parametrize("which", ["both", "top"])
def test_a_sample_does_not_know_its_batch(which: str):
    model, x = network(precision=[1.0, normal(7, 6).exp(), 0.5], prior=0.3, start=ebm.FeedForward()), ends(which, 6)
    together = ebm.infer(model, x, steps=30, stop=ebm.AtRest(1e-2), compact=True)
    for row in range(6):
        alone = ebm.infer(
            model, tuple(end if end is None else end[row : row + 1] for end in x), steps=30, stop=ebm.AtRest(1e-2)
        )
        assert int(alone.steps) == int(together.steps[row])
        for one, other in zip(alone.z, together.z, strict=True):
            torch.testing.assert_close(one[0], other[row], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", ENDS)
def test_local_gradients_are_those_of_autograd(which: str):
    model, x = network(precision=[2.0, normal(7, 6).exp(), 0.5], prior=0.3), ends(which)
    z = ebm.infer(model, x, steps=10).z
    model(z, model.condition(x)).mean().backward()
    local = model.local_gradients(z, x)
    assert set(local) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(local[name], parameter.grad, rtol=1e-10, atol=1e-12)
        assert not local[name].requires_grad
    prepared = model.local_gradients(z, model.condition(x))
    assert all(torch.equal(prepared[name], local[name]) for name in local)


@pytest.mark.parametrize("eps", [1e-2, 1e-3])
def test_near_the_forward_pass_learning_is_backpropagation(eps: float):
    """With hidden layers 1 / eps times as precise as the output, and a target eps from it, both gradients agree to 2 eps."""
    x, toward = normal(1, 8, 5), normal(2, 8, 3)
    model = network(start=ebm.FeedForward(), precision=[1 / eps, 1 / eps, 1.0])
    target = forward_pass(model, x)[-1].detach() + eps * toward
    loss = 0.5 * (forward_pass(model, x)[-1] - target).square().sum(1).mean()
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    solver = ebm.Anderson(mixing=0.1 * eps, every=1, spare=0.0)  # stiff: a plain step gains nothing
    settled = ebm.infer(model, (x, target), steps=500, solver=solver, stop=ebm.AtRest(1e-12))
    assert bool(settled.converged.all())
    found = model.local_gradients(settled.z, (x, target))
    for (name, _), true in zip(model.named_parameters(), wanted, strict=True):
        assert float((found[name] - true).norm()) < 2 * eps * float(true.norm())


def test_at_rest_the_errors_obey_the_recursion_of_backpropagation():
    """At rest e_l = phi'(z_l) W^T e_{l+1}, whatever the target."""
    model, x = network(), ends("both")
    z = ebm.infer(model, x, steps=3000, stop=ebm.AtRest(1e-11), solver=ebm.Descent(0.1, momentum=0.5)).z
    layers = whole(z, x)
    with torch.no_grad():
        errors = [
            layers[k + 1] - (layers[k] if k == 0 else torch.tanh(layers[k])) @ layer.weight.T - layer.bias
            for k, layer in enumerate(model.layers)
        ]
        for k in range(len(z)):
            slope = 1 - torch.tanh(z[k]).square()
            torch.testing.assert_close(
                errors[k], slope * (errors[k + 1] @ model.layers[k + 1].weight), atol=1e-9, rtol=0
            )


def test_unrolled_steps_are_differentiated_exactly():
    model, x = network([3, 4, 2], start=ebm.FeedForward()), (normal(1, 2, 3), normal(2, 2, 2))

    def settled(weight: Tensor) -> Tensor:
        with torch.no_grad():
            model.layers[1].weight.copy_(weight)
        return ebm.infer(model, x, steps=5, solver=ebm.Descent(0.1), adjoint=ebm.Unroll()).z[0].square().sum()

    weight = model.layers[1].weight.detach().clone()
    (slope,) = torch.autograd.grad(settled(weight), model.layers[1].weight)
    for row, column in ((0, 0), (1, 3)):
        nudge = torch.zeros_like(weight)
        nudge[row, column] = 1e-6
        difference = (settled(weight + nudge) - settled(weight - nudge)).item() / 2e-6
        assert difference == pytest.approx(float(slope[row, column]), rel=1e-5)


@pytest.mark.parametrize(
    "activation",
    [
        torch.tanh,
        pytest.param(functional.gelu, marks=pytest.mark.slow),
        pytest.param(torch.sin, marks=pytest.mark.slow),
    ],
    ids=["tanh", "gelu", "unknown"],
)
def test_compiled_steps_are_those_of_eager_mode(activation: Any):
    torch.manual_seed(0)
    model = ebm.PredictiveCoding(SIZES, activation=activation, precision=[2.0, torch.rand(6) + 0.5, 1.0])
    x = (normal(1, 4, 5, dtype=torch.float32), normal(2, 4, 3, dtype=torch.float32))
    eager, compiled = (ebm.infer(model, x, steps=4, solver=ebm.Descent(0.1), compile=c) for c in (False, True))
    for one, other in zip(eager.z, compiled.z, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_products_keep_float32_latents_and_energies():
    torch.manual_seed(0)
    model = ebm.PredictiveCoding([64, 48, 32, 10])
    x = (normal(1, 16, 64, dtype=torch.float32), normal(2, 16, 10, dtype=torch.float32))
    exact = ebm.infer(model, x, steps=20, solver=ebm.Descent(0.1))
    for compile in (False, True):
        low = ebm.infer(model, x, steps=20, solver=ebm.Descent(0.1), precision=torch.bfloat16, compile=compile)
        assert {layer.dtype for layer in low.z} == {low.energy.dtype, torch.float32} == {torch.float32}
        torch.testing.assert_close(low.z[0], exact.z[0], rtol=0.05, atol=0.05)
        assert not torch.equal(low.z[0], exact.z[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        c = model.condition(x)
        assert {s.value.weight.dtype for s in c.synapses[1:]} == {torch.bfloat16}
        model(exact.z, c).mean().backward()
        local = model.local_gradients(exact.z, c)
    plain = model.local_gradients(exact.z, x)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == local[name].dtype == torch.float32
        scale = plain[name].abs().max()
        torch.testing.assert_close(parameter.grad / scale, plain[name] / scale, rtol=0.1, atol=0.05)
        torch.testing.assert_close(local[name] / scale, plain[name] / scale, rtol=0.1, atol=0.05)


def test_the_clamped_input_is_multiplied_once_a_call():
    model, x = network(SIZES, start=ebm.FeedForward()), ends("both")
    once, more = (ebm.infer(model, x, steps=s, solver=ebm.Descent(0.1)) for s in (0, 10))
    per_step = 2 * (7 * 6 + 6 * 3) * 2
    assert int(more.flops) - int(once.flops) == 10 * 4 * per_step
    assert once.fixed_flops == 4 * 2 * (5 * 7 + 7 * 6)  # the condition, and the start


def test_a_condition_made_once_serves_many_calls():
    model, x = network(start=ebm.FeedForward()), ends("both")
    one, other = ebm.infer(model, x, steps=5), ebm.infer(model, model.condition(x), steps=5)
    assert all(torch.equal(a, b) for a, b in zip(one.z, other.z, strict=True))


def test_a_copy_of_the_model_is_a_model_of_its_own():
    model = network(activation=nn.PReLU(dtype=F64), precision=[1.0, normal(7, 6).exp(), 1.0])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.activation.weight.fill_(0.9)  # pyright: ignore
    x = ends("both")
    z = latent(model, x)
    assert not torch.allclose(model.point(z, model.condition(x)).force[0], other.point(z, other.condition(x)).force[0])
    assert {name for name, _ in model.named_buffers()} == {"precision_2"}


def test_tanh_by_the_logistic_function_is_tanh_to_rounding():
    for dtype, bound in ((torch.float32, 3e-7), (F64, 6e-16)):
        z = torch.linspace(-30, 30, 4001, dtype=dtype)
        value = activation_of(torch.tanh).value(z)
        assert float((value.double() - torch.tanh(z.double())).abs().max()) < bound


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [3]}, "at least two layers of at least one unit; got [3]"),
        ({"sizes": [3, 0]}, "got [3, 0]. Pass [784, 256, 10], say."),
        ({"precision": [1.0]}, "is one for each of the 3 predicted layers; got 1. Layer 0 is not predicted"),
        (
            {"precision": [1.0, -1.0, 1.0]},
            "must be above zero and finite, a number or a tensor (6,) for layer 2; got -1.0",
        ),
        ({"precision": [1.0, torch.ones(5), 1.0]}, "a tensor (6,) for layer 2; got tensor"),
        ({"precision": float("nan")}, "must be above zero and finite"),
        ({"prior": -0.1}, "must be finite and not negative; got -0.1. Zero is no prior."),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        ebm.PredictiveCoding(**({"sizes": SIZES} | settings))


def test_types_that_are_refused():
    with pytest.raises(
        TypeError, match=re.escape("`PredictiveCoding(start=...)` must be callable; got 'zeros'. Pass `ebm.Zeros()`")
    ):
        ebm.PredictiveCoding(SIZES, start="zeros")  # pyright: ignore
    with pytest.raises(
        TypeError,
        match=re.escape("`PredictiveCoding(activation=...)` must be callable; got 'tanh'. Pass a function of a tensor"),
    ):
        ebm.PredictiveCoding(SIZES, activation="tanh")  # pyright: ignore
    with pytest.raises(TypeError, match=re.escape("`Amortised` wants a `torch.nn.Module`; got function")):
        ebm.Amortised(lambda ends: ends)  # pyright: ignore


def test_observations_that_are_refused():
    model = network()
    for x, message in (
        ((None, None), "needs at least one clamped end; got (None, None). Pass x, (x, y) or (None, y)."),
        (normal(0, 4, 6), "The bottom must have shape (B, 5); got (4, 6). Flatten it, or change `sizes`."),
        ((normal(0, 4, 5), normal(0, 4)), "The top must have shape (B, 3); got (4,). Flatten it, or change `sizes`."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            model.condition(x)


@pytest.mark.parametrize("solver", [None, ebm.Descent(0.1), ebm.GaussNewton(), ebm.LBFGS()], ids=repr)
def test_no_hidden_layer_is_the_delta_rule(solver: ebm.Solver | None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ebm.PredictiveCoding([4, 3]).double()
        x, y = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    error = y - model.layers[0](x)
    for adjoint in (ebm.Detached(), ebm.Unroll(), ebm.Implicit()):
        found = ebm.infer(model, (x, y), steps=3, solver=solver, stop=ebm.AtRest(1e-6), adjoint=adjoint)
        assert found.converged.all() and [leaf.shape for leaf in found.z] == [(5, 0)]
        torch.testing.assert_close(found.energy, 0.5 * error.square().sum(1))
        gradients = model.local_gradients(found.z, (x, y))
        torch.testing.assert_close(gradients["layers.0.weight"], -error.T @ x / 5)
        torch.testing.assert_close(gradients["layers.0.bias"], -error.mean(0))
