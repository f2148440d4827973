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
    Covariance,
    Dense,
    Falling,
    Gated,
    Hebb,
    HebbianConv2d,
    HebbianLateral,
    HebbianLayer,
    HebbianLinear,
    KrotovHopfield,
    Lateral,
    Normalise,
    NormalisedDelta,
    Oja,
    OjaSubspace,
    PairSTDP,
    RewardModulated,
    Sanger,
    Scheduled,
    SoftCompetition,
    SoftHebb,
    ThreeFactor,
    WinnerTakeAll,
    step,
)
from hebbian.layers import Identity, KWinners, Recurrent, Relu, Softmax, Triangle, learn
from hebbian.rules import ICA, NonlinearPCA
from hebbian.testing import Case, check_rule
from hebbian.train import greedy, joint


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(rule, activation=Identity(), inputs: int = 4, units: int = 3, **settings) -> HebbianLinear:  # noqa: B008
    generator = torch.Generator().manual_seed(0)
    return HebbianLinear(inputs, units, rule, activation, generator=generator, **settings).double()


# --- what a layer asks of its rule


@pytest.mark.parametrize("p", [2.0, 3.0])
@pytest.mark.parametrize(
    "wrap", [lambda rule: rule, lambda rule: Chain(Scheduled(rule, Falling(1e9)), Normalise(1.0, p=3.0))]
)
def test_every_door_shows_krotov_and_hopfield_the_currents(p: float, wrap) -> None:
    rule, x = KrotovHopfield(0.3, p=p, k=2), numbers(1, 7, 4)
    layer = linear(wrap(rule))
    weight, state = layer.weight.detach().clone(), layer.state
    powered = weight.sign() * weight.abs() ** (p - 1)  # written out
    wanted, _ = step(layer.rule, layer.synapse, weight, x, x @ powered.T, state)
    train_by = {
        "learn": lambda one: one.learn(x),
        "joint": lambda one: joint(one, [x]),
        "greedy": lambda one: greedy(one, [x]),
    }
    for name, train in train_by.items():
        one = copy.deepcopy(layer)
        train(one)
        torch.testing.assert_close(one.weight.data, wanted, rtol=1e-12, atol=1e-13, msg=name)
    assert torch.equal(layer(x), x @ weight.T)  # the answer is that of the weights


def test_krotov_hopfield_draws_a_layer_to_its_norm() -> None:
    x = torch.rand(32, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = HebbianLinear(10, 4, Scheduled(KrotovHopfield(0.02, p=3.0, anti=0.0), Falling(1500))).double()
    layer.start_from(x, generator=torch.Generator().manual_seed(1))
    for _ in range(1500):
        layer.learn(x)
    won = (x @ layer.rule.weighed(layer.weight).T).argmax(1).unique()
    torch.testing.assert_close(
        (layer.weight.abs() ** 3).sum(1)[won], torch.ones(len(won), dtype=torch.float64), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("by", ["copy_", "data", "chain"])
def test_the_nearest_row_wins_whoever_wrote_the_weight(by: str) -> None:
    x, prototypes = numbers(2, 40, 4), 3 * numbers(3, 3, 4)
    rule = WinnerTakeAll(0.5)
    layer = linear(Chain(rule, Normalise(2.0)) if by == "chain" else rule)
    if by == "chain":
        layer.learn(x)  # another rule changes the weight after this one
    else:
        with torch.no_grad():
            (layer.weight if by == "copy_" else layer.weight.data).copy_(prototypes)
    won = torch.cdist(x, layer.weight.data).argmin(1)
    gate = layer.statistics(x).sums["0.gate" if by == "chain" else "gate"]
    assert torch.equal(gate, torch.bincount(won, minlength=3).double())


def test_units_that_compete_answer_by_how_far_they_are_above_the_others() -> None:
    for rule in (SoftHebb(0.1), KrotovHopfield(), WinnerTakeAll(0.1), Scheduled(SoftCompetition(0.1), Falling(9))):
        assert HebbianLinear(4, 3, rule).activation == HebbianConv2d(1, 3, 2, rule).activation == Triangle()
    for rule in (Oja(0.1), Chain(Hebb(0.1), Normalise())):
        assert HebbianLinear(4, 3, rule).activation == Identity()


@pytest.mark.parametrize("signed", [False, True])
def test_layers_begin_among_the_data(signed: bool) -> None:
    x = numbers(0, 9, 4) if signed else numbers(0, 9, 4).abs()
    x[3] = 0
    layer = linear(SoftHebb(0.1), units=20)
    layer.start_from(x, length=1.5, generator=torch.Generator().manual_seed(0))
    rows = layer.weight / 1.5
    cosines = rows @ nn.functional.normalize(x, dim=1).T
    torch.testing.assert_close(cosines.amax(1), torch.ones(20, dtype=torch.float64))
    assert sorted(cosines.argmax(1).unique().tolist()) == [0, 1, 2, 4, 5, 6, 7, 8]  # all but the silent one
    conv = HebbianConv2d(1, 5, 2, SoftHebb(0.1))
    pictures = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    conv.start_from(pictures)
    patches = nn.functional.normalize(nn.functional.unfold(pictures, 2).transpose(1, 2).flatten(0, 1), dim=1)
    torch.testing.assert_close((conv.weight.flatten(1) / 2 @ patches.T).amax(1), torch.ones(5))
    with pytest.raises(ValueError, match="inputs that are all zero; others are wanted"):
        layer.start_from(torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="cannot say what one unit sees"):
        HebbianLateral(3, Hebb(0.1)).start_from(torch.ones(2, 3))


def test_arrays_are_taken_in_the_weights_dtype() -> None:
    x = numbers(0, 6, 4)
    one, other = linear(Oja(0.1)).float(), linear(Oja(0.1)).float()
    assert torch.equal(one.learn(x.numpy()), other.learn(x.float()))  # type: ignore[arg-type]
    assert torch.equal(one.weight, other.weight)
    joint(one, [x.numpy()]), joint(other, [x.float()])
    assert torch.equal(one.weight, other.weight)


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
        (
            lambda: HebbianLinear(3, 2, SoftHebb),
            TypeError,
            r"the class SoftHebb as its rule; .* Call it .*, `SoftHebb\(\.\.\.\)`",
        ),
        (lambda: HebbianLinear(3, 2, Oja(0.1), Relu), TypeError, r"activation=<class .*Relu.*; a function"),
        (lambda: Chain(Hebb), TypeError, "the class Hebb as its rule"),
        (lambda: Scheduled(Oja, Falling(3)), TypeError, "the class Oja as its rule"),
        (lambda: Gated(Oja), TypeError, "the class Oja as its rule"),
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


@pytest.mark.parametrize(
    "rule",
    [OjaSubspace(0.1), Sanger(0.1), NonlinearPCA(0.1), ICA(0.1), Covariance(0.1), Oja(0.1)],
    ids=lambda rule: type(rule).__name__,
)
def test_no_rule_reads_or_writes_a_diagonal_that_is_not_there(rule) -> None:
    synapse, y = Lateral(4), numbers(0, 12, 4)
    bare = synapse.others(numbers(1, 4, 4))
    filled = bare + torch.diag(torch.tensor([3.0, -2.0, 1.0, 5.0], dtype=torch.float64))
    state = rule.init_state(synapse, bare)
    new, other = step(rule, synapse, bare, y, y, state)[0], step(rule, synapse, filled, y, y, state)[0]
    assert not new.diagonal().any() and torch.equal(other.diagonal(), filled.diagonal())
    torch.testing.assert_close(synapse.others(other), new)
    statistics = rule.statistics(synapse, y[:5], y[:5], state) + rule.statistics(synapse, y[5:], y[5:], state)
    change = rule.delta(statistics, filled, state)[0]
    torch.testing.assert_close(filled + change, other)
    for _ in range(20):
        new, state = step(rule, synapse, new, y, y, state)
    assert not new.diagonal().any()


def test_lateral_units_see_the_others_and_their_means() -> None:
    synapse, y = Lateral(3), numbers(0, 8, 3)
    change = step(
        Covariance(1.0),
        synapse,
        torch.zeros(3, 3).double(),
        y,
        y,
        Covariance(1.0).init_state(synapse, torch.zeros(3, 3).double()),
    )[0]
    torch.testing.assert_close(change, synapse.others(torch.cov(y.T, correction=0)))
    target = numbers(1, 8, 3)
    wanted = torch.zeros(3, 3, dtype=torch.float64)
    for x, t in zip(y, target, strict=True):
        for i in range(3):
            others = x.clone()
            others[i] = 0
            wanted[i] += t[i] * others / others.square().sum() / 8
    found = step(NormalisedDelta(1.0), synapse, torch.zeros(3, 3).double(), y, 0 * y, None, target)[0]
    torch.testing.assert_close(found, wanted)


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
