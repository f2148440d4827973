"""Greedy and joint training, and the read-outs, against plain loops, closed forms and autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hebbian import Falling, Hebb, HebbianLateral, HebbianLinear, KrotovHopfield, Oja, Scheduled, SoftHebb
from hebbian.layers import Relu
from hebbian.train import (
    DeadUnitsWarning,
    dead_units,
    features,
    greedy,
    joint,
    layers_of,
    learning,
    logistic,
    ridge,
)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net_of() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    one = HebbianLinear(5, 4, Oja(0.1), Relu(), generator=generator)
    two = HebbianLinear(4, 3, Oja(0.05), generator=generator)
    return nn.Sequential(one, nn.Identity(), nn.Sequential(two, nn.Tanh())).double()


BATCHES = [numbers(k, 6, 5) for k in range(3)]


def weights(net: nn.Module) -> list[Tensor]:
    return [layer.weight.detach().clone() for layer in layers_of(net)]


def test_greedy_is_one_layer_after_the_other() -> None:
    net, by_hand = net_of(), net_of()
    greedy(net, BATCHES, epochs=[2, 3])
    one, two = layers_of(by_hand)
    for _ in range(2):
        for x in BATCHES:
            one.learn(x)
    for _ in range(3):
        for x in BATCHES:
            two.learn(one(x))
    for found, wanted in zip(weights(net), weights(by_hand), strict=True):
        assert torch.equal(found, wanted)
    assert not any(layer.learning for layer in layers_of(net))


def test_joint_is_all_layers_at_once() -> None:
    net, by_hand = net_of(), net_of()
    joint(net, [(x, "label") for x in BATCHES], epochs=2)
    one, two = layers_of(by_hand)
    for x in 2 * BATCHES:
        two.learn(one.learn(x))
    for found, wanted in zip(weights(net), weights(by_hand), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("train", [joint, greedy])
def test_dead_units_are_reported(train) -> None:
    layer = HebbianLinear(5, 4, Oja(0.0), Relu()).double()
    with torch.no_grad():
        layer.weight.copy_(torch.ones(4, 5))
        layer.weight[1] = layer.weight[3] = -1.0
    net, batches = nn.Sequential(nn.Identity(), layer), [x.abs() for x in BATCHES]
    with pytest.warns(DeadUnitsWarning, match=r"^2 of the 4 units of HebbianLinear\(.*Relu.*`layer.start_from\(x\)`"):
        train(net, batches, epochs=2)
    found = dead_units(net, batches)
    assert list(found) == ["1"] and found["1"].tolist() == [1, 3]
    assert dead_units(net, [*batches, -batches[0]])["1"].tolist() == []


@pytest.mark.parametrize("rule", [SoftHebb(0.02), KrotovHopfield(0.02)], ids=str)
def test_competing_units_of_a_default_layer_tell_classes_apart_better_than_random_ones(rule) -> None:
    """Sixteen classes of noisy prototypes, as many units: behind the default activation and a start among the data."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.rand(16, 40, generator=generator).pow(2)
    labels = torch.arange(16).repeat(40)
    x = (prototypes[labels] + 0.35 * torch.randn(640, 40, generator=generator)).clamp_min(0)
    shuffled = torch.randperm(640, generator=generator)
    x, labels = functional.normalize(x[shuffled], dim=1), labels[shuffled]
    layer = HebbianLinear(40, 16, Scheduled(rule, Falling(200)), generator=generator)
    frozen = Relu()(x @ layer.weight.detach().T)
    layer.start_from(x, generator=generator)
    greedy(layer, x[:320].split(32), epochs=20)
    right = []
    for inputs in (layer(x).detach(), frozen):
        readout = ridge(inputs[:320], labels[:320], 1e-3)
        right.append(float((readout(inputs[320:]).argmax(1) == labels[320:]).double().mean()))
    assert right[0] > right[1] + 0.05
    assert not len(dead_units(layer, [x])[""])


def test_greedy_and_joint_differ_and_both_change_every_layer() -> None:
    first, apart, together = net_of(), net_of(), net_of()
    greedy(apart, BATCHES)
    joint(together, BATCHES)
    for before, one, two in zip(weights(first), weights(apart), weights(together), strict=True):
        assert not torch.equal(before, one) and not torch.equal(before, two)
    assert not torch.equal(weights(apart)[1], weights(together)[1])


def test_what_is_behind_the_learning_layer_is_not_computed() -> None:
    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("computed")

    net = nn.Sequential(HebbianLinear(5, 4, Oja(0.1)).double(), Never())
    greedy(net, BATCHES)
    with pytest.raises(AssertionError, match="computed"):
        joint(net, BATCHES)
    assert not layers_of(net)[0].learning  # the block has ended all the same


def test_backpropagated_and_hebbian_layers_learn_side_by_side() -> None:
    net = nn.Sequential(nn.Linear(5, 4), HebbianLinear(4, 3, Oja(0.05)), nn.Linear(3, 1)).double()
    target = BATCHES[0].sum(1, keepdim=True)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    losses, before = [], weights(net)[0]
    with learning(net):
        for _ in range(150):
            optimiser.zero_grad()
            loss = functional.mse_loss(net(BATCHES[0]), target)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert not torch.equal(before, weights(net)[0])
    assert layers_of(net)[0].weight.grad is None


def test_a_layer_inside_a_layer_is_its_own() -> None:
    feed = HebbianLinear(5, 4, Oja(0.1))
    net = nn.Sequential(HebbianLateral(4, Hebb(-0.01), feed=feed)).double()
    assert layers_of(net) == [net[0]]
    before = feed.weight.clone()
    joint(net, BATCHES)
    assert not torch.equal(before, feed.weight)


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    greedy(net_of(), BATCHES, progress=True)
    assert "layer 2 of 2, epoch 1 of 1" in capsys.readouterr().err
    joint(net_of(), BATCHES)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint(nn.Linear(3, 2), BATCHES), "`Linear` holds no Hebbian layer"),
        (lambda: greedy(net_of(), BATCHES, epochs=[1]), "epochs for 1 layers; the module has 2"),
        (lambda: joint(net_of(), BATCHES, epochs=-1), "-1 epochs were asked for"),
        (lambda: joint(net_of(), iter(BATCHES), epochs=2), "gave no batch in epoch 2"),
        (lambda: ridge(BATCHES[0], torch.ones(5)), r"\(6, 5\) and the targets \(5,\)"),
        (lambda: ridge(BATCHES[0], torch.ones(6, 1), penalty=0.0), r"`penalty` is 0\.0"),
        (lambda: ridge(BATCHES[0] / 0, torch.ones(6, 1)), "inputs hold NaN or infinity"),
        (lambda: logistic(BATCHES[0], torch.ones(6, 1)), r"`labels` has shape \(6, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_layer_that_is_not_called_is_found_out() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = HebbianLinear(5, 4, Oja(0.1))

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ValueError, match="The model did not call layer 1 of 1"):
        greedy(Skips(), BATCHES)


def test_features_are_the_answers_in_order_and_nothing_learns() -> None:
    net = net_of()
    before = copy.deepcopy(net.state_dict())
    found = features(net, BATCHES)
    torch.testing.assert_close(found, net(torch.cat(BATCHES)))
    assert not found.requires_grad
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


# --- read-outs


@pytest.mark.parametrize("count", [40, 4], ids=["tall", "wide"])
def test_ridge_is_at_the_minimum_of_its_objective(count: int) -> None:
    x, t = 3 + 5 * numbers(1, count, 7), numbers(2, count, 2)
    readout = ridge(x, t, penalty=0.3)
    centred = x - x.mean(0)
    scale = centred.square().mean().sqrt()
    weight = (readout.weight.detach() * scale).requires_grad_()
    bias = (readout(x).detach() - centred @ readout.weight.detach().T)[0].requires_grad_()
    objective = (centred / scale @ weight.T + bias - t).square().sum(1).mean() + 0.3 * weight.square().sum()
    for gradient in torch.autograd.grad(objective, [weight, bias]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_ridge_is_exact_in_float64_for_float32_inputs_on_a_large_offset() -> None:
    x = (1000 + numbers(3, 50, 4)).float()
    t = x.double() @ numbers(4, 4, 1) + 2
    readout = ridge(x, t, penalty=1e-12)
    assert readout.weight.dtype == torch.float32
    torch.testing.assert_close(readout.weight.double(), numbers(4, 4, 1).T, rtol=1e-5, atol=1e-5)


def test_ridge_of_classes_is_ridge_of_one_hot_rows_and_a_scale_makes_no_difference() -> None:
    x, labels = numbers(5, 30, 6), torch.arange(30) % 3
    by_rows, by_class = ridge(x, functional.one_hot(labels, 4)), ridge(x, labels, classes=4)
    assert torch.equal(by_rows.weight, by_class.weight)
    scaled = ridge(100 * x, labels, classes=4)
    torch.testing.assert_close(scaled(100 * x), by_class(x), rtol=1e-9, atol=1e-11)


def test_logistic_is_at_the_minimum_of_its_objective() -> None:
    x, labels = 2 + 3 * numbers(6, 40, 5), torch.arange(40) % 3
    before = torch.get_rng_state()
    readout = logistic(x, labels, penalty=0.05)
    assert torch.equal(before, torch.get_rng_state())
    centred = x - x.mean(0)
    scale = centred.square().mean().sqrt()
    weight = (readout.weight.detach() * scale).requires_grad_()
    bias = (readout(x).detach() - centred @ readout.weight.detach().T)[0].requires_grad_()
    loss = functional.cross_entropy(centred / scale @ weight.T + bias, labels) + 0.025 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, [weight, bias]):
        assert gradient.abs().max() < 1e-6


def test_logistic_learns_under_no_grad_and_from_float32() -> None:
    x, labels = numbers(7, 30, 5).float(), torch.arange(30) % 2
    x[:, 0] += 4 * labels
    with torch.no_grad():
        readout = logistic(x, labels)
    assert (readout(x).argmax(1) == labels).all()
