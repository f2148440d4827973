"""The message-passing cell: sums against dense products, symmetries, and a cell whose weights are a known algorithm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ebm
from ebm.models.members import others
from ebm.models.neighbours import gather, neighbour_lists
from ebm.tasks import Mazes, PlanningGrid, ShortestPath, Sudoku
from tests.contracts.members import seeded
from tests.energies import numbers


def links(batch: int = 3, nodes: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, nodes, nodes, generator=torch.Generator().manual_seed(seed)) < 0.35


def both_lists(linked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return neighbour_lists(linked), neighbour_lists(linked.transpose(1, 2))


@pytest.mark.parametrize("extra", [(), (4,)])
def test_sums_and_means_are_products_with_the_links(extra: tuple[int, ...]) -> None:
    linked, z = links(), numbers(3, 6, *extra, 5)
    expected = (linked.double() @ z.flatten(2)).view_as(z)
    assert torch.allclose(gather(z, *both_lists(linked), ebm.Aggregate.SUM), expected, atol=1e-12)
    degree = linked.sum(2).clamp_min(1).view(3, 6, *(1,) * (z.ndim - 2))
    assert torch.allclose(gather(z, *both_lists(linked), ebm.Aggregate.MEAN), expected / degree, atol=1e-12)


RANKS = {ebm.Aggregate.MAX: 0, ebm.Aggregate.SECOND: 1}


@pytest.mark.parametrize("aggregate", RANKS)
def test_the_largest_are_over_those_heard_and_zero_where_there_are_too_few(aggregate: ebm.Aggregate) -> None:
    linked, z, rank = links(), numbers(3, 6, 2), RANKS[aggregate]
    z[0] = z[0].round()  # among equals the second largest is as large
    linked[1, 2] = False
    linked[1, 3] = torch.arange(6) == 4
    found = gather(z, *both_lists(linked), aggregate)
    for sample in range(3):
        for node in range(6):
            heard = z[sample, linked[sample, node]].sort(0, descending=True).values
            expected = heard[rank] if len(heard) > rank else torch.zeros(2, dtype=z.dtype)
            assert found[sample, node].equal(expected)


@pytest.mark.parametrize("aggregate", list(ebm.Aggregate))
def test_gradients_and_their_gradients_by_finite_differences(aggregate: ebm.Aggregate) -> None:
    linked = links(2, 4)
    into, back = both_lists(linked)
    z = numbers(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: gather(z, into, back, aggregate), z)
    assert torch.autograd.gradgradcheck(lambda z: gather(z, into, back, aggregate).sin(), z)


@pytest.mark.parametrize("aggregate", list(ebm.Aggregate))
def test_gradients_of_what_other_members_say(aggregate: ebm.Aggregate) -> None:
    z = numbers(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: others(z, 1, aggregate), z)
    assert torch.autograd.gradgradcheck(lambda z: others(z, 1, aggregate).sin(), z)


def test_members_that_say_the_same_share_the_gradient() -> None:
    z = torch.tensor([1.0, 1.0, 0.0, 0.0], requires_grad=True)
    others(z, 0, ebm.Aggregate.MAX).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize(("aggregate", "size"), [(ebm.Aggregate.MAX, 1), (ebm.Aggregate.SECOND, 2)])
def test_too_few_others_say_nothing(aggregate: ebm.Aggregate, size: int) -> None:
    assert not others(torch.ones(size), 0, aggregate).any()


def cell(wiring: ebm.Wiring, scores: int = 1, **settings: object) -> ebm.MessageCell:
    return seeded(lambda: ebm.MessageCell(wiring, 5, nn.Linear(5, scores), **settings))  # type: ignore[arg-type]


AGGREGATES = [ebm.Aggregate.SUM, ebm.Aggregate.MEAN, ebm.Aggregate.MAX, (ebm.Aggregate.SUM, ebm.Aggregate.MAX)]


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("hidden", [None, 7])
def test_numbering_the_nodes_otherwise_numbers_the_answer_otherwise(
    aggregate: ebm.Aggregate, hidden: int | None
) -> None:
    x = ShortestPath(nodes=7, links=(2, 3)).sample(4, torch.Generator().manual_seed(0)).x.double()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    model = cell(ebm.Nodes(), aggregate=aggregate, hidden=hidden)
    answer = ebm.infer(model, x, steps=5).answer
    shuffled = ebm.infer(model, x[:, :, order][..., order], steps=5).answer
    # the one-hot rows of start and goal lie along the rows alone
    assert torch.allclose(shuffled, answer[:, order], atol=1e-10)
    assert not torch.allclose(shuffled, answer, atol=1e-3)


@pytest.mark.parametrize("hidden", [None, 7])
def test_links_of_a_directed_graph_are_told_apart(hidden: int | None) -> None:
    x = ShortestPath(nodes=7, links=(2, 3)).sample(4, torch.Generator().manual_seed(0)).x.double()
    turned = x.clone()
    turned[:, 0] = x[:, 0].transpose(1, 2)
    model = cell(ebm.Nodes(), hidden=hidden)
    assert not torch.allclose(ebm.infer(model, x, steps=3).answer, ebm.infer(model, turned, steps=3).answer, atol=1e-3)


def test_a_grid_is_a_convolution_with_a_cross() -> None:
    x = numbers(2, 3, 4, 6)  # no wall: no square is zero in all channels
    model = cell(ebm.Grid(3, directions=True), scores=2)
    convolution = nn.Conv2d(5, 10, 3, padding=1, bias=False).double()
    with torch.no_grad():
        convolution.weight.zero_()
        places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # itself, up, down, left, right
        for place, weight in zip(places, model.mix.weight.split(5, 1), strict=True):
            convolution.weight[:, :, place[0], place[1]] = weight
    squares = nn.Conv2d(3, 10, 1).double()
    squares.load_state_dict({"weight": model.inject.weight[..., None, None], "bias": model.inject.bias})
    head = nn.Conv2d(5, 2, 1).double()
    assert isinstance(model.head, nn.Linear)
    head.load_state_dict({"weight": model.head.weight[..., None, None], "bias": model.head.bias})
    twin = ebm.GatedCell(squares, 5, head).double()
    twin.cell = convolution
    assert torch.allclose(ebm.infer(model, x, steps=6).answer, ebm.infer(twin, x, steps=6).answer, atol=1e-10)


def test_hidden_units_hear_a_node_and_all_its_messages_together() -> None:
    x = numbers(2, 3, 4, 6)  # no wall: no square is zero in all channels
    model = cell(ebm.Grid(3, directions=True), scores=2, hidden=7)
    assert model.hear is not None
    c, z = model.condition(x), numbers(2, 24, 5)
    padded = nn.functional.pad(z.unflatten(1, (4, 6)), (0, 0, 1, 1, 1, 1))
    crossed = (
        padded[:, 1:-1, 1:-1],
        padded[:, :-2, 1:-1],
        padded[:, 2:, 1:-1],
        padded[:, 1:-1, :-2],
        padded[:, 1:-1, 2:],
    )
    weights = zip(crossed, model.hear.weight.split(5, 1), strict=True)
    hidden = sum((heard @ weight.T for heard, weight in weights), model.hear.bias).clamp_min(0)
    wanted = hidden.flatten(1, 2) @ model.mix.weight.T + c["injected"]
    assert torch.allclose(torch.cat(model.drive(z, c), -1), wanted, atol=1e-12)


def test_a_grid_without_directions_turns_with_its_picture() -> None:
    x = PlanningGrid(size=6).sample(3, torch.Generator().manual_seed(0)).x.double()
    model = cell(ebm.Grid(2, walls=0), scores=2)
    answer = ebm.infer(model, x, steps=5).answer
    turned = ebm.infer(model, x.rot90(1, (2, 3)), steps=5).answer
    assert torch.allclose(turned, answer.rot90(1, (2, 3)), atol=1e-10)


def test_walls_are_not_heard() -> None:
    x = PlanningGrid(size=6).sample(3, torch.Generator().manual_seed(0)).x.double()
    model = cell(ebm.Grid(2, walls=0))
    changed = x.clone()
    changed[:, 1] += 0.7 * x[:, 0]  # what walls are shown
    free = x[:, :1] == 0
    before, after = ebm.infer(model, x, steps=5).answer, ebm.infer(model, changed, steps=5).answer
    assert before[free].equal(after[free]) and not before.equal(after)


def test_rooms_give_the_answer_of_the_whole_grid() -> None:
    x = Mazes(size=7).sample(3, torch.Generator().manual_seed(0)).x.double()
    every, rooms = cell(ebm.Grid(3), scores=2), cell(ebm.Grid(3, rooms=True), scores=2)
    opened = (x.sum(1, keepdim=True) > 0).expand(-1, 2, -1, -1)
    whole, part = ebm.infer(every, x, steps=9), ebm.infer(rooms, x, steps=9)
    assert torch.allclose(whole.answer[opened], part.answer[opened], atol=1e-10)
    assert part.flops < 0.6 * whole.flops


def dead_end_filler() -> ebm.MessageCell:
    """Two units a square, by hand: unit 0 says closed, unit 1 says that it is there; closed if at most one neighbour is open."""
    model = ebm.MessageCell(ebm.Grid(3, rooms=True), 2, nn.Linear(2, 2)).double()
    assert isinstance(model.head, nn.Linear)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # inputs of mix: own closed, own there, neighbours closed, neighbours there; outputs: gates, then targets
        sure = 40.0
        model.mix.weight[0] = sure * torch.tensor([8.0, 20.0, 1.0, -1.0])
        model.inject.weight[0] = -sure * torch.tensor([-4.0, -4.0, -4.0])  # start and goal lack a channel...
        model.inject.bias[0] = sure * (1.5 - 20.0 - 12.0)  # ... so only they stay shut
        model.inject.bias[1] = sure
        model.inject.bias[2] = model.inject.bias[3] = sure
        model.head.weight[0, 0], model.head.weight[1, 0] = 1.0, -1.0
        model.head.bias[1] = 1.0
    return model


@pytest.mark.parametrize("size", [5, 9, 21])
def test_two_units_a_square_solve_mazes_of_any_size(size: int) -> None:
    task = Mazes(size=size)
    x, y = task.sample(20, torch.Generator().manual_seed(size))
    solution = ebm.infer(dead_end_filler(), x.double(), steps=size * size, stop=ebm.AtRest(1e-6))
    assert bool(solution.converged.all())
    assert float(task.score(solution.answer, y).mean()) == 1.0


@pytest.mark.parametrize("size", [8, pytest.param(24, marks=pytest.mark.slow)])
def test_five_units_a_square_plan_grids_of_any_size(size: int) -> None:
    # a wave from the goal: a square is reached once a neighbour is, and keeps whom the word came from
    reached, moves = 0, slice(1, 5)
    model = ebm.MessageCell(ebm.Grid(2, walls=0, directions=True), 5, nn.Linear(5, 4), hidden=5).double()
    assert model.hear is not None and isinstance(model.head, nn.Linear)
    with torch.no_grad():
        for each in model.parameters():
            each.zero_()
        for heard in range(5):  # whether it is reached itself, and whether the neighbour up, down, left, right is
            model.hear.weight[heard, 5 * heard + reached] = 1.0
        gate, aim = model.mix.weight[:5], model.mix.weight[5:]
        gate[:, 1:], gate[:, 0] = 40.0, -400.0  # opens for any neighbour, and never again
        aim[moves, 1:] = 40 * torch.eye(4, dtype=torch.float64)
        model.inject.bias[:5], model.inject.bias[5], model.inject.bias[6:] = -20.0, 20.0, -20.0
        model.inject.weight[:5, 1] = 400.0
        model.head.weight[:, moves] = torch.eye(4, dtype=torch.float64)
    task = PlanningGrid(size)
    x, y = task.sample(20, torch.Generator().manual_seed(0))
    scores = [task.score(ebm.infer(model, x.double(), steps=steps).answer, y).mean() for steps in (4, size * size)]
    assert scores[0] < 0.5
    assert scores[1] == 1.0


def loops_over_houses(z: torch.Tensor, box: tuple[int, int], aggregate: ebm.Aggregate) -> list[torch.Tensor]:
    """Messages of cell, row, column and box, member by member."""
    digits = box[0] * box[1]
    found = [torch.zeros_like(z) for _ in range(4)]
    for d in range(digits):
        for r in range(digits):
            for c in range(digits):
                top, left = r // box[0] * box[0], c // box[1] * box[1]
                inside = [(d, top + i, left + j) for i in range(box[0]) for j in range(box[1])]
                houses = (
                    [(e, r, c) for e in range(digits)],
                    [(d, r, e) for e in range(digits)],
                    [(d, e, c) for e in range(digits)],
                    inside,
                )
                for message, house in zip(found, houses, strict=True):
                    heard = torch.stack([z[:, e, i, j] for e, i, j in house if (e, i, j) != (d, r, c)])
                    if aggregate in RANKS:
                        message[:, d, r, c] = heard.sort(0, descending=True).values[RANKS[aggregate]]
                    else:
                        message[:, d, r, c] = heard.sum(0) if aggregate is ebm.Aggregate.SUM else heard.mean(0)
    return found


@pytest.mark.parametrize("aggregate", list(ebm.Aggregate))
@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 2)])
def test_houses_are_those_of_the_rules(box: tuple[int, int], aggregate: ebm.Aggregate) -> None:
    digits = box[0] * box[1]
    z = numbers(2, digits, digits, digits, 2)
    found = ebm.Houses(box).gather(z, None, aggregate)
    for message, expected in zip(found, loops_over_houses(z, box, aggregate), strict=True):
        assert torch.allclose(message, expected, atol=1e-12)


def test_one_cell_reads_boards_of_any_box_and_names_of_digits_do_not_matter() -> None:
    model, told = cell(ebm.Houses(), hidden=7), cell(ebm.Houses((2, 3)), hidden=7)
    small = Sudoku(box=(2, 2)).sample(3, torch.Generator().manual_seed(0)).x.double()
    assert ebm.infer(model, small, steps=2).answer.shape == small.shape
    x = Sudoku(box=(2, 3)).sample(3, torch.Generator().manual_seed(0)).x.double()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    answer = ebm.infer(model, x, steps=4).answer
    assert torch.equal(ebm.infer(told, x, steps=4).answer, answer)
    assert torch.allclose(ebm.infer(model, x[:, order], steps=4).answer, answer[:, order], atol=1e-10)


BAD = [
    (lambda: ebm.MessageCell(3, 4), TypeError, r"is a `Wiring`; got 3. Pass `ebm.Grid\(\)`"),  # type: ignore[arg-type]
    (lambda: ebm.MessageCell(ebm.Pairs(), 0), ValueError, "width=.*at least 1; got 0. Pass 24"),
    (lambda: ebm.MessageCell(ebm.Pairs(), 4, hidden=0), ValueError, "hidden=.*at least 1; got 0"),
    (lambda: ebm.MessageCell(ebm.Pairs(), 4, aggregate="sum"), TypeError, "got 'sum'. Pass `ebm.Aggregate.SUM`"),  # type: ignore[arg-type]
    (lambda: ebm.MessageCell(ebm.Pairs(), 4, aggregate=()), TypeError, "a tuple of them; got"),
    (lambda: ebm.MessageCell(ebm.Pairs(), 4, torch.relu), TypeError, "is a module or None"),  # type: ignore[arg-type]
    (lambda: ebm.Grid(0), ValueError, "at least 1; got 0. Try 3"),
    (lambda: ebm.Grid(2, walls=2), ValueError, "one of the 2 channels, or None; got 2"),
    (lambda: ebm.Houses((0, 3)), ValueError, r"at least 1; got \(0, 3\). Try \(3, 3\)"),
    (lambda: ebm.EnergyTwin(nn.Linear(2, 2)), TypeError, "is a gated cell; got Linear"),  # type: ignore[arg-type]
    (lambda: ebm.infer(cell(ebm.Pairs()), numbers(2, 3, 3), steps=1), ValueError, r"\(B, 1, n, n\); got \(2, 3, 3\)"),
    (lambda: ebm.infer(cell(ebm.Grid(3)), numbers(2, 1, 3, 3), steps=1), ValueError, r"got \(2, 1, 3, 3\). Reshape"),
    (lambda: ebm.infer(cell(ebm.Grid(1, rooms=True)), numbers(2, 1, 5, 5), steps=1), ValueError, "Pass `rooms=False`"),
    (
        lambda: ebm.infer(cell(ebm.Houses((3, 3))), numbers(2, 4, 4, 4), steps=1),
        ValueError,
        r"\(B, 9, 9, 9\), digits along axis 1; got \(2, 4, 4, 4\). Pass the box of these boards",
    ),
    (lambda: ebm.infer(cell(ebm.Houses()), numbers(2, 4, 4, 9), steps=1), ValueError, r"\(B, N, N, N\)"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
