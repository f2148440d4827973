"""Contrastive Hebbian learning in a layered net, against backpropagation and a settled state found by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import ebm
from hebbian import LayeredNet, pseudo_gradient


def net_of(sizes: list[int], gamma: float, output=None, seed: int = 0) -> LayeredNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LayeredNet(sizes, gamma, torch.tanh, output).double()


def batch(inputs: int, outputs: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(7, inputs, generator=generator, dtype=torch.float64)
    return x, torch.rand(7, outputs, generator=generator, dtype=torch.float64)


def backpropagated(net: LayeredNet, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Minus the gradient of the loss whose output error is y - x_L, by a plain forward pass."""
    below = x
    for layer in list(net.layers)[:-1]:
        below = net.activation(layer(below))
    drive = net.layers[-1](below)
    if net.output is None:
        loss = 0.5 * (drive - y).square().sum(1).mean()
    else:
        loss = functional.binary_cross_entropy_with_logits(drive, y, reduction="none").sum(1).mean()
    names, parameters = zip(*net.named_parameters(), strict=True)
    return {n: -g for n, g in zip(names, torch.autograd.grad(loss, parameters), strict=True)}


@pytest.mark.parametrize("output", [None, torch.sigmoid], ids=["linear", "logistic"])
@pytest.mark.parametrize("sizes", [[4, 3], [4, 6, 3], [4, 6, 5, 5, 3]], ids=len)
def test_the_change_becomes_that_of_backpropagation_as_feedback_vanishes(sizes: list[int], output) -> None:
    gaps = []
    for gamma in (1e-1, 1e-2, 1e-3):
        net = net_of(sizes, gamma, output)
        x, y = batch(sizes[0], sizes[-1])
        found = net.changes(net.phases(x, y, steps=60))
        wanted = backpropagated(net, x, y)
        assert found.keys() == wanted.keys()
        cosines = [functional.cosine_similarity(found[n].flatten(), wanted[n].flatten(), dim=0) for n in wanted]
        gaps.append(1 - float(torch.stack(cosines).min()))
    assert gaps[-1] < 1e-5
    if len(sizes) > 2:
        assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]  # it vanishes with the feedback, and is not there by chance
        ratio = found["layers.0.weight"].norm() / wanted["layers.0.weight"].norm()
        assert float(ratio) == pytest.approx(1, abs=0.02)  # the size too, not the direction alone


def test_linear_layers_settle_where_a_linear_solve_says() -> None:
    net = net_of([3, 4, 2], 0.3)
    net.activation = lambda drive: drive
    x, y = batch(3, 2)
    phases = net.phases(x, y, steps=400)
    first, second = net.layers
    drive = x @ first.weight.T + first.bias
    # x1 = W1 x + b1 + g W2' x2 and x2 = W2 x1 + b2
    matrix = torch.eye(4, dtype=torch.float64) - 0.3 * second.weight.T @ second.weight
    free = torch.linalg.solve(matrix, (drive + 0.3 * second.bias @ second.weight).T).T
    torch.testing.assert_close(phases.free[1], free, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(phases.free[2], free @ second.weight.T + second.bias, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(phases.clamped[1], drive + 0.3 * y @ second.weight, rtol=1e-10, atol=1e-10)
    assert torch.equal(phases.clamped[2], y)


def test_a_batch_may_hold_both_phases_and_any_solver_settles_it() -> None:
    net = net_of([3, 5, 2], 0.2)
    x, y = batch(3, 2)
    phases = net.phases(x, y, steps=200)
    other = net.phases(x, y, steps=200, solver=ebm.Anderson(4), stop=ebm.AtRest(1e-10))
    for one, two in zip(phases.clamped[1:], other.clamped[1:], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-8, atol=1e-8)
    assert (other.ends[0].steps < 100).all()


def test_at_the_teacher_nothing_changes() -> None:
    net = net_of([3, 5, 2], 0.2)
    x, _ = batch(3, 2)
    answer = ebm.infer(net, x, steps=300).answer
    found = net.changes(net.phases(x, answer, steps=300))
    assert max(float(change.abs().max()) for change in found.values()) < 1e-12


def test_learning_lowers_the_loss_and_an_optimiser_may_take_the_change() -> None:
    x, y = batch(3, 2)
    net, other = net_of([3, 6, 2], 0.1), net_of([3, 6, 2], 0.1)
    before = float((ebm.infer(net, x, steps=30).answer - y).square().mean())
    optimiser = torch.optim.SGD(other.parameters(), lr=0.2)
    for _ in range(100):
        net.learn(x, y, rate=0.2, steps=30)
        changes = other.changes(other.phases(x, y, steps=30))
        for name, parameter in other.named_parameters():
            pseudo_gradient(parameter, changes[name])
        optimiser.step()
    assert float((ebm.infer(net, x, steps=30).answer - y).square().mean()) < 0.2 * before
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayeredNet([3]), r"sizes=\[3\]; at least two whole numbers"),
        (lambda: LayeredNet([3, 0]), r"sizes=\[3, 0\]"),
        (lambda: LayeredNet([3, 2], gamma=0.0), r"gamma=0\.0; a number above 0"),
        (lambda: LayeredNet([3, 2]).phases(torch.ones(4, 3), torch.ones(4, 3), steps=2), r"shape \(4, 3\); .*\(4, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
