"""Layers that learn by a rule: what they compute, what they change, what they keep, and what they settle to."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm.rows import Shared
from hebbian import (
    Chain,
    Conv2d,
    Dense,
    Falling,
    Hebb,
    HebbianLateral,
    HebbianLayer,
    HebbianLinear,
    Lateral,
    Normalise,
    Oja,
    PairSTDP,
    RewardModulated,
    Scheduled,
    ThreeFactor,
    step,
)
from hebbian.layers import Identity, KWinners, Recurrent, Relu, Softmax, Triangle, learn
from hebbian.testing import Case, check_rule


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(rule, activation=Identity(), inputs: int = 4, units: int = 3, **settings) -> HebbianLinear:  # noqa: B008
    generator = torch.Generator().manual_seed(0)
    return HebbianLinear(inputs, units, rule, activation, generator=generator, **settings).double()


# --- activations


def test_activations_compete_among_units_at_each_place() -> None:
    drive = numbers(0, 2, 5, 3, 4)
    soft = Softmax(0.5)(drive)
    torch.testing.assert_close(soft.sum(1), torch.ones(2, 3, 4, dtype=torch.float64))
    torch.testing.assert_close((soft[:, 0] / soft[:, 1]).log(), 2 * (drive[:, 0] - drive[:, 1]), rtol=1e-9, atol=1e-9)
    triangle = Triangle(0.7)(drive)
    for b, i, j in ((0, 0, 0), (1, 2, 3)):
        units = drive[b, :, i, j]
        wanted = [max(float(u - units.mean()), 0.0) ** 0.7 for u in units]
        assert triangle[b, :, i, j].tolist() == pytest.approx(wanted, rel=1e-12)
    winners = KWinners(2)(drive)
    assert ((winners != 0).sum(1) == 2).all()
    assert torch.equal(winners.sum(1), drive.topk(2, dim=1).values.sum(1))
    assert torch.equal(KWinners(9)(drive), drive)
    assert torch.equal(Relu(0.3)(drive), (drive - 0.3).clamp_min(0))
    assert Identity()(drive) is drive


def test_the_mean_of_a_triangle_has_no_gradient() -> None:
    drive = numbers(1, 1, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(Triangle()(drive).sum(), drive)
    assert torch.equal(gradient, (drive > drive.mean()).double())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Softmax(0.0), ValueError, r"temperature=0\.0; a number above 0"),
        (lambda: Triangle(-1.0), ValueError, r"power=-1\.0"),
        (lambda: Relu("0"), TypeError, "threshold='0'"),
        (lambda: KWinners(0), ValueError, "k=0; a whole number of at least 1"),
        (lambda: HebbianLinear(3, 2, "oja"), TypeError, "a str as its rule; a local rule"),
        (lambda: HebbianLayer(None, Oja(0.1)), TypeError, "a NoneType as its synapse"),
        (lambda: HebbianLinear(3, 2, Oja(0.1), 3.0), TypeError, r"activation=3\.0; a function"),
        (lambda: HebbianLinear(3, 2, Oja(0.1), sees="input"), ValueError, 'sees=\'input\'; "drive" or "activity"'),
        (lambda: HebbianLateral(3, Oja(0.1), feed=nn.Linear(2, 3)), TypeError, "a Linear as its feed"),
        (lambda: HebbianLateral(3, Oja(0.1), feed=HebbianLinear(2, 4, Oja(0.1))), ValueError, "3 units and its feed 4"),
        (lambda: learn(nn.Linear(2, 3), torch.ones(1, 2)), TypeError, "a Linear; a Hebbian layer"),
        (lambda: Lateral(0), ValueError, "units=0; a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# --- learning


@pytest.mark.parametrize("sees", ["drive", "activity"])
def test_a_step_of_a_layer_is_a_step_of_its_rule(sees) -> None:
    layer, x = linear(Oja(0.2), Relu(), sees=sees), numbers(2, 8, 4)
    weight = layer.weight.detach().clone()
    drive = x @ weight.T
    post = drive if sees == "drive" else drive.clamp_min(0)
    wanted, _ = step(Oja(0.2), Dense(4, 3), weight, x, post, None)
    answer = layer.learn(x)
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(answer, drive.clamp_min(0))  # of the weights before the step
    assert not answer.requires_grad


def test_calling_a_layer_changes_nothing() -> None:
    layer, x = linear(Oja(0.2)), numbers(2, 8, 4)
    before = copy.deepcopy(layer.state_dict())
    layer(x)
    layer.statistics(x)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_statistics_of_two_batches_make_the_step_of_both() -> None:
    one, two, x = linear(Oja(0.2)), linear(Oja(0.2)), numbers(3, 8, 4)
    one.learn(x)
    two.apply_statistics(two.statistics(x[:3]) + two.statistics(x[3:]))
    torch.testing.assert_close(two.weight, one.weight, rtol=1e-12, atol=1e-13)


def test_an_optimiser_may_take_the_change() -> None:
    one, two, x = linear(Oja(0.2)), linear(Oja(0.2)), numbers(3, 8, 4)
    optimiser = torch.optim.SGD(two.parameters(), lr=1.0)
    for _ in range(5):
        one.learn(x)
        two.suggest(two.statistics(x))
        optimiser.step()
    torch.testing.assert_close(two.weight, one.weight, rtol=1e-12, atol=1e-13)


def test_rule_and_backpropagation_may_both_move_a_weight() -> None:
    layer, x = linear(Oja(0.2), backprop=True), numbers(3, 8, 4)
    before = layer.weight.detach().clone()
    layer(x).square().mean().backward()
    assert layer.weight.grad is not None
    slope = layer.weight.grad.clone()
    layer.suggest(layer.statistics(x))
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    alone = linear(Oja(0.2))
    alone.learn(x)
    torch.testing.assert_close(layer.weight.detach(), alone.weight - slope, rtol=1e-12, atol=1e-13)
    assert (slope.abs().max() > 1e-3) and not torch.equal(before, layer.weight)


@pytest.mark.parametrize("transparent", [True, False])
def test_a_gradient_passes_through_and_none_reaches_the_weight(transparent: bool) -> None:
    layer = linear(Oja(0.2), Relu(), transparent=transparent)
    x = numbers(4, 8, 4).requires_grad_()
    answer = layer(x)
    assert answer.requires_grad == transparent
    if transparent:
        (found,) = torch.autograd.grad(answer.sum(), x)
        wanted = (x @ layer.weight.T > 0).double() @ layer.weight
        torch.testing.assert_close(found, wanted)
    assert layer.weight.grad is None


def test_a_layer_may_learn_within_a_graph() -> None:
    """The step comes after the answer, and the backward pass uses the weights that gave it."""
    first, second = nn.Linear(4, 4).double(), linear(Oja(0.2))
    x = numbers(5, 8, 4)
    still = copy.deepcopy(first)
    (still(x) @ second.weight.detach().T).square().sum().backward()
    second.learning = True
    second(first(x)).square().sum().backward()
    torch.testing.assert_close(first.weight.grad, still.weight.grad, rtol=1e-12, atol=1e-13)
    alone = linear(Oja(0.2))
    alone.learn(still(x).detach())
    torch.testing.assert_close(second.weight, alone.weight, rtol=1e-12, atol=1e-13)


def test_any_geometry_makes_a_layer() -> None:
    layer = HebbianLayer(
        Conv2d(2, 3, 3, padding=1), Chain(Oja(0.2), Normalise()), Triangle(), generator=torch.Generator()
    ).double()
    net = nn.Sequential(layer, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 4, 2).double())
    assert net(numbers(6, 5, 2, 4, 4)).shape == (5, 2)
    layer.learn(numbers(6, 5, 2, 4, 4))
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_first_weights_come_from_the_generator_and_have_rows_of_length_one_on_average() -> None:
    before = torch.get_rng_state()
    one, two = (HebbianLinear(400, 300, Oja(0.1), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    HebbianLateral(5, Oja(0.1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.weight, two.weight)
    assert float(one.weight.square().sum(1).mean()) == pytest.approx(1, abs=0.02)


# --- what is remembered


def rule_with_memory():
    return Chain(Scheduled(Oja(0.2), Falling(10)), PairSTDP(0.1))


def test_a_saved_layer_goes_on_where_it_was() -> None:
    x = numbers(7, 8, 4)
    layer, other = linear(rule_with_memory()), linear(rule_with_memory())
    for _ in range(4):
        layer.learn(x)
    saved = copy.deepcopy(layer.state_dict())
    assert set(saved) == {"weight", "state_0"}
    assert saved["state_0"] == 4
    other.load_state_dict(saved)
    layer.forget()
    for _ in range(2):
        layer.learn(x)
        other.learn(x)
    assert torch.equal(layer.weight, other.weight)
    assert int(other.state[0].step) == 6


def test_traces_live_from_call_to_call_and_are_forgotten_when_asked() -> None:
    x = numbers(7, 8, 4)
    layer = linear(PairSTDP(0.1))
    weight, state = layer.weight.detach().clone(), layer.state
    for _ in range(3):
        weight, state = step(PairSTDP(0.1), Dense(4, 3), weight, x, x @ weight.T, state)
        layer.learn(x)
    torch.testing.assert_close(layer.weight, weight, rtol=1e-12, atol=1e-13, check_stride=False)
    with pytest.raises(ValueError, match="forget"):
        layer.learn(x[:3])
    layer.forget()
    assert layer.learn(x[:3]).shape == (3, 3)


def test_the_state_moves_with_the_module_and_can_be_set() -> None:
    layer = linear(RewardModulated(0.1, decay=0.5, centred=True))
    x, reward = numbers(8, 6, 4), numbers(9, 6)
    layer.learn(x, reward)
    state = layer.state
    assert state.samples["eligibility"].shape == (6, 3, 4)
    twin = linear(RewardModulated(0.1, decay=0.5, centred=True))
    twin.load_state_dict(layer.state_dict())
    twin.state = state
    layer.learn(x, reward)
    twin.learn(x, reward)
    assert torch.equal(layer.weight, twin.weight)
    assert layer.float().state.shared["reward"].dtype == torch.float32


def test_a_rule_that_wants_a_signal_says_so() -> None:
    with pytest.raises(ValueError, match="the third factor"):
        linear(ThreeFactor(0.1)).learn(numbers(8, 6, 4))


# --- lateral


def test_a_lateral_synapse_keeps_the_contract_and_has_no_diagonal() -> None:
    synapse, activity = Lateral(4), numbers(10, 6, 4)
    weight = numbers(11, 4, 4)
    others = weight - torch.diag(weight.diagonal())
    torch.testing.assert_close(synapse.forward(weight, activity), activity @ others.T)
    outer = synapse.outer(activity, activity)
    assert (outer.diagonal() == 0).all()
    torch.testing.assert_close(outer + torch.diag((activity**2).sum(0)), activity.T @ activity)
    torch.testing.assert_close(synapse.outer_each(activity, activity).sum(0), outer)
    for rule in (Hebb(-0.1), Oja(0.1)):
        check_rule(rule, Case(synapse, weight, activity, activity + 1))


def test_linear_units_settle_where_a_linear_solve_says() -> None:
    layer, x = HebbianLateral(4, Hebb(-0.1), steps=500, stop=ebm.AtRest(1e-13)).double(), numbers(12, 6, 4)
    with torch.no_grad():
        layer.weight.copy_(0.2 * numbers(13, 4, 4))  # its diagonal is not read
    others = layer.weight.detach() - torch.diag(layer.weight.detach().diagonal())
    wanted = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - others, x.T).T
    torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-10)
    assert layer.solution is not None and bool(layer.solution.converged.all())


def test_the_gradient_is_that_of_the_state_at_rest() -> None:
    layer = HebbianLateral(4, Hebb(-0.1), torch.tanh, steps=500, stop=ebm.AtRest(1e-14), backprop=True).double()
    with torch.no_grad():
        layer.weight.copy_(0.3 * numbers(13, 4, 4))
    x = numbers(12, 3, 4).requires_grad_()
    found = torch.autograd.grad(layer(x).pow(3).sum(), [x, layer.weight])
    weight = layer.weight.detach().clone().requires_grad_()
    y = torch.tanh(x)
    for _ in range(200):  # differentiated step by step
        y = torch.tanh(x + layer.synapse.forward(weight, y))
    wanted = torch.autograd.grad(y.pow(3).sum(), [x, weight])
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
    assert not layer(x.detach())[0].isnan().any()


def test_anti_hebbian_weights_decorrelate() -> None:
    mixing = torch.eye(4, dtype=torch.float64) + 0.5 * numbers(14, 4, 4)
    x = numbers(15, 400, 4) @ mixing
    layer = HebbianLateral(4, Hebb(-0.1), steps=300, solver=ebm.Anderson(5)).double()
    for _ in range(250):
        y = layer.learn(x)

    def correlation(z: Tensor) -> float:
        c = z.T @ z
        c = c / (c.diagonal()[:, None] * c.diagonal()).sqrt()
        return float((c - torch.eye(4)).abs().max())

    assert correlation(x) > 0.5
    assert correlation(y) < 1e-3
    assert (layer.weight.diagonal() == 0).all()


def test_a_rule_with_a_diagonal_of_its_own_leaves_none() -> None:
    layer = HebbianLateral(4, Chain(Hebb(-0.1), Normalise())).double()
    layer.weight.data.copy_(numbers(16, 4, 4))
    layer.weight.data.fill_diagonal_(0)
    layer.learn(0.1 * numbers(17, 6, 4))
    assert (layer.weight.diagonal() == 0).all()


def test_a_feed_learns_from_the_settled_activity() -> None:
    feed = linear(Oja(0.1), inputs=5, units=3)
    layer = HebbianLateral(3, Hebb(-0.1), torch.tanh, feed=feed, steps=300, stop=ebm.AtRest(1e-12)).double()
    with torch.no_grad():
        layer.weight.copy_(0.3 * numbers(18, 3, 3).fill_diagonal_(0))
    before, lateral, x = feed.weight.detach().clone(), layer.weight.detach().clone(), numbers(19, 6, 5)
    y = layer.learn(x)
    torch.testing.assert_close(y, torch.tanh(x @ before.T + y @ lateral.T), rtol=1e-9, atol=1e-9)
    wanted, _ = step(Oja(0.1), Dense(5, 3), before, x, y, None)
    torch.testing.assert_close(feed.weight.detach(), wanted, rtol=1e-12, atol=1e-13)
    wanted, _ = step(Hebb(-0.1), Lateral(3), lateral, y, y, None)
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-12, atol=1e-13)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "feed.weight"]


def test_settling_obeys_the_call_as_any_model() -> None:
    weight = Shared(torch.tensor([[0.0, -0.5], [-0.5, 0.0]], dtype=torch.float64))
    solution = ebm.infer(
        Recurrent(Lateral(2), Relu()), (torch.tensor([[1.0, 0.7]], dtype=torch.float64), weight), steps=60
    )
    torch.testing.assert_close(solution.z, torch.tensor([[13 / 15, 4 / 15]], dtype=torch.float64), rtol=1e-8, atol=1e-8)
