"""The rivals of the reasoning tasks, how they are tuned, and the interval that stands beside each score."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

import ebm
from ebm.tasks import PrefixSums, Sudoku
from ebm.training import Pool, Recipe, Supervised
from tests.examples.test_reasoning import TASK, experiment


def test_intervals_are_wilsons_for_shares_and_normal_otherwise() -> None:
    from support.answering import interval

    right = torch.tensor([1.0] * 81 + [0.0] * 19, dtype=torch.float64)
    low, high = interval(right)
    p, n, z2 = 0.81, 100, 1.959964**2
    for end in (low, high):  # Wilson: the ends solve (p - end)^2 = z^2 end (1 - end) / n
        assert (p - end) ** 2 == pytest.approx(z2 * end * (1 - end) / n, rel=1e-6)
    assert low < p < high and interval(torch.ones(10))[1] == pytest.approx(1.0)
    assert interval(torch.ones(10))[0] == pytest.approx(10 / (10 + z2))
    some = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
    assert interval(some)[1] - 0.4 == pytest.approx(1.959964 * 0.2 / 3**0.5)


def test_the_flops_of_an_answer_are_those_of_the_call() -> None:
    from support.answering import answered

    torch.manual_seed(0)
    model, trial = ebm.GatedCell(1, 3, torch.nn.Conv1d(3, 2, 1), dims=1), replace(experiment().trials[0], steps=(5,))
    x, _ = trial.problems()
    parts = [
        ebm.infer(model, part, steps=5, keep="last", adjoint=ebm.Detached()).flops for part in x.split(trial.batch)
    ]
    assert answered(model, trial).flops == sum(parts) / trial.count


def test_the_best_variant_is_taken_and_all_are_reported() -> None:
    from support.reasoning import Contender, Variant, tuned
    from support.rivals import GRU

    recipe = Recipe(updates=1, batch=4, every=1, learning_rate=1e-9)
    good = Recipe(updates=150, batch=64, every=150, learning_rate=0.03)
    loss = Supervised(TASK.loss)
    tries = tuple(Variant(name, partial(GRU, 8), each) for name, each in (("idle", recipe), ("long", good)))
    tried = replace(experiment(), contenders=(Contender("GRU", partial(GRU, 8), loss, recipe, variants=tries),))
    found, record = tuned(tried, 1)
    assert found.contenders[0].recipe == good
    assert [(one["variant"], one.get("chosen", False)) for one in record["GRU"]] == [("idle", False), ("long", True)]
    assert record["GRU"][1]["score"] > record["GRU"][0]["score"]


def test_a_contender_is_shown_only_what_it_can_take() -> None:
    from support.reasoning import Contender, learned

    other = PrefixSums(5)
    whole = experiment()
    cell = replace(whole.contenders[0], takes=lambda task: task == TASK)
    (found,) = learned(replace(whole, tasks=(other, Pool(TASK, 8)), contenders=(cell,), choice="6"), [0], 1)
    assert list(found.scores) == ["6 bits"] and list(found.apart) == ["last", "6"]
    assert isinstance(cell, Contender)


def test_a_gru_is_causal_and_of_the_size_it_is_known_for() -> None:
    from support.rivals import GRU

    torch.manual_seed(0)
    net, x = GRU(8), torch.randn(2, 1, 9)
    assert sum(p.numel() for p in net.parameters()) == 282
    other = x.clone()
    other[..., 6:] = 0
    assert torch.equal(net(x)[..., :6], net(other)[..., :6]) and not torch.equal(net(x)[..., 6:], net(other)[..., 6:])
    at_end = GRU(8, at_the_end=True)
    at_end.load_state_dict(net.state_dict())
    assert torch.equal(at_end(x[:, 0]), net(x)[..., -1])


def test_a_unet_answers_pictures_of_any_size() -> None:
    from support.rivals import UNet

    torch.manual_seed(0)
    net = UNet(3, 2, 4)
    for size in (8, 11, 19):
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 2, size, size)
    x = torch.randn(1, 3, 16, 16)  # a picture that needs no padding is answered as a part of a padded one
    assert torch.allclose(net(x[..., :15]), net(torch.cat([x[..., :15], torch.zeros(1, 3, 16, 1)], -1))[..., :15])


def test_value_iteration_finds_the_nearest_way() -> None:
    from support.rivals import VIN

    net = VIN(1, 4, 1, actions=4, iterations=1.0)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net.reward[0].weight[0, 0, 1, 1] = net.reward[2].weight[0, 0] = 1.0  # type: ignore[index, union-attr]
        for action, (row, column) in enumerate([(0, 1), (2, 1), (1, 0), (1, 2)]):
            net.of_reward.weight[action, 0, row, column] = net.of_value.weight[action, 0, row, column] = 0.9
            net.head.weight[action, action] = 1.0
    x = torch.zeros(1, 1, 7, 7)
    x[..., 3, 6] = 1.0  # the goal
    assert net(x)[0, :, 3, 0].argmax() == 3  # to the right


def test_a_recurrent_relational_network_hears_its_peers_alone() -> None:
    from support.rivals import RRN, every_step

    torch.manual_seed(0)
    task = Sudoku((2, 2), (6, 8))
    x, y = task.sample(3, torch.Generator().manual_seed(0))
    net = RRN(8, steps=3, box=(2, 2))
    assert net.peers.shape == (16, 7) and set(net.peers[0].tolist()) == {1, 2, 3, 4, 5, 8, 12}
    answers = net.train()(x)
    assert len(answers) == 3 and torch.equal(net.eval()(x), answers[-1])
    mean = sum(float(task.loss(each, y).detach()) for each in answers) / 3
    assert float(every_step(task.loss)(answers, y).detach()) == pytest.approx(mean)
    once = RRN(8, steps=1, box=(2, 2)).eval()
    other = x.clone()
    other[0, :, 3, 3] = torch.tensor([1.0, 0, 0, 0]) if bool(x[0, 1, 3, 3]) else torch.tensor([0, 1.0, 0, 0])
    changed = once(x).ne(once(other))[0].any(0)
    assert not changed[0, 0] and changed[3, 3] and changed[0, 3]
