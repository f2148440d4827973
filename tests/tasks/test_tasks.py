"""Every task: problems that are what they say, scores that tell right from wrong, and baselines that run."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from ebm import rows
from ebm.tasks import (
    WALL,
    Addition,
    Completion,
    Connectivity,
    Inverse,
    Mazes,
    Parity,
    PlanningGrid,
    PrefixSums,
    Problems,
    ShortestPath,
    Sudoku,
    Task,
    balanced_accuracy,
    fill_dead_ends,
    newton_schulz,
    rules_kept,
    trivial,
)
from ebm.tasks.sudoku_rules import Board

TASKS = [
    PrefixSums(16),
    PrefixSums(8, distinct=True),
    Parity(12),
    Mazes(9),
    Sudoku((2, 2)),
    Sudoku((2, 3)),
    Connectivity(),
    ShortestPath(),
    Addition(4),
    Completion(6, rank=2, mask_shown=True),
    Inverse(5),
    PlanningGrid(6),
]
every_task = pytest.mark.parametrize("task", TASKS, ids=repr)


def drawn(task: Task, count: int = 64, seed: int = 0) -> Problems:
    return task.sample(count, torch.Generator().manual_seed(seed))


def truth(task: Task, problems: Problems) -> torch.Tensor:
    """An answer that is right everywhere, made from the target."""
    y = problems.y
    if isinstance(task, (PrefixSums, Parity)):
        return torch.nn.functional.one_hot(y, 2).movedim(-1, 1).float()
    if isinstance(task, Mazes):
        return torch.stack([(y == 0).float(), (y == 1).float()], dim=1)
    if isinstance(task, Sudoku):
        return torch.nn.functional.one_hot(y, task.board.digits).movedim(-1, 1).float()
    return y


@every_task
def test_the_same_generator_draws_the_same_problems(task: Task) -> None:
    one, same, other = drawn(task), drawn(task), drawn(task, seed=1)
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.y, same.y)
    assert not torch.equal(one.x, other.x)
    assert rows.count(one.x) == rows.count(one.y) == 64


@every_task
def test_no_global_generator_is_touched(task: Task) -> None:
    before = torch.get_rng_state()
    drawn(task)
    assert torch.equal(before, torch.get_rng_state())


@every_task
def test_the_truth_scores_best_and_its_loss_is_low(task: Task) -> None:
    problems = drawn(task)
    answer = truth(task, problems)
    best = 0.0 if task.lower_is_better else 1.0
    assert torch.equal(task.score(answer, problems.y), torch.full((64,), best))
    wrong = -answer if not task.lower_is_better else answer + 1
    assert float(task.score(wrong, problems.y).mean()) != best
    assert float(task.loss(20 * answer if not task.lower_is_better else answer, problems.y)) < 1e-3
    assert float(task.loss(wrong, problems.y)) > 1e-2


@every_task
def test_the_loss_has_a_finite_gradient(task: Task) -> None:
    problems = drawn(task)
    answer = truth(task, problems).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(answer - 0.5, problems.y), answer)
    assert gradient.isfinite().all()


@every_task
def test_a_score_belongs_to_its_sample_alone(task: Task) -> None:
    problems = drawn(task)
    answer = task.baselines()[-1].fit(problems)(problems.x)
    whole = task.score(answer, problems.y)
    alone = torch.cat([task.score(answer[b : b + 1], problems.y[b : b + 1]) for b in range(64)])
    assert whole.shape == (64,)
    assert torch.allclose(whole, alone)


@every_task
def test_trivial_baselines_answer(task: Task) -> None:
    scores = trivial(task, drawn(task), drawn(task, seed=1))
    assert len(scores) == len(task.baselines()) >= 2
    assert all(score == score for score in scores.values())


@every_task
def test_wrong_calls_say_what_is_wanted(task: Task) -> None:
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        task.sample(3, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        drawn(task, 0)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: PrefixSums(0), ValueError, "at least 1"),
        (lambda: PrefixSums(2.5), TypeError, "whole number"),  # type: ignore[arg-type]
        (lambda: drawn(PrefixSums(3, distinct=True), 9), ValueError, "has 8 strings"),
        (lambda: Parity(4, least=5), ValueError, "at most 4"),
        (lambda: Mazes(10), ValueError, "odd"),
        (lambda: Sudoku((3, 5)), ValueError, "from 1 to 4"),
        (lambda: Sudoku((2, 2), givens=(5, 3)), ValueError, "least <= most"),
        (lambda: Sudoku(3), TypeError, "height and width"),  # type: ignore[arg-type]
        (lambda: Connectivity(share=2.0), ValueError, "from 0 to 1"),
        (lambda: Connectivity(share="0.2"), TypeError, "number"),  # type: ignore[arg-type]
        (lambda: ShortestPath(nodes=4, links=(2, 5)), ValueError, "most <= 3"),
        (lambda: drawn(ShortestPath(nodes=12, share=1.0, links=(11, 11)), 2), ValueError, "hardly a graph"),
        (lambda: Inverse(delta=0.0), ValueError, "lies from"),
        (lambda: PlanningGrid(share=1.0), ValueError, "from 0 to 0.9"),
    ],
)
def test_wrong_settings_say_what_is_wanted(build, error, words) -> None:
    with pytest.raises(error, match=words):
        build()


def test_prefix_sums_count_by_hand() -> None:
    x, y = drawn(PrefixSums(20))
    for bits, parities in zip((x[:, 0] + 0.5).int().tolist(), y.tolist(), strict=True):
        assert parities == [total % 2 for total in itertools.accumulate(bits)]


def test_distinct_strings_do_not_repeat_and_can_be_all() -> None:
    x, _ = drawn(PrefixSums(6, distinct=True), 64)
    assert len(torch.unique(x[:, 0], dim=0)) == 64


def test_parity_counts_plus_ones_and_keeps_to_its_range() -> None:
    x, y = drawn(Parity(16, least=3, most=5), 500)
    assert torch.equal((x[:, 0] > 0).sum(1) % 2, y)
    assert set((x[:, 0] != 0).sum(1).tolist()) == {3, 4, 5}


@pytest.mark.parametrize("size", [3, 9, 17])
def test_mazes_are_trees_with_one_path(size: int) -> None:
    x, y = drawn(Mazes(size), 100)
    cells = (size + 1) // 2
    assert x.shape == (100, 3, 2 * cells + 1, 2 * cells + 1)
    # a spanning tree: every cell open, one passage fewer than cells
    assert ((y != WALL).flatten(1).sum(1) == 2 * cells * cells - 1).all()
    assert torch.equal(fill_dead_ends(x), y == 1)
    # green is the start, red the goal, and both are on the path
    for colour in (1, 0):
        end = (x[:, colour] == 1) & (x.sum(1) == 1)
        assert (end.flatten(1).sum(1) == 1).all()
        assert (y[end] == 1).all()


def test_a_path_of_a_maze_is_a_chain() -> None:
    _, y = drawn(Mazes(13), 50)
    path = (y == 1).float()[:, None]
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None]
    degree = torch.nn.functional.conv2d(path, cross, padding=1)[path > 0]
    assert set(degree.tolist()) <= {1.0, 2.0}
    assert (degree == 1).sum() == 2 * 50


def test_every_small_sudoku_grid_can_be_drawn_and_is_the_only_solution() -> None:
    task = Sudoku((2, 2), givens=(4, 7))
    problems = drawn(task, 2000)
    grids = {tuple(y.flatten().tolist()) for y in problems.y}
    assert 270 < len(grids) <= 288
    grids_all = torch.tensor(sorted(grids))
    given = torch.where(problems.x.sum(1) > 0, problems.x.argmax(1), -1).flatten(1)
    fits = ((given[:, None] == grids_all) | (given[:, None] < 0)).all(2)
    assert (fits.sum(1) == 1).all()


@pytest.mark.parametrize("task", [Sudoku((2, 3), givens=(9, 20)), Sudoku((3, 3), givens=(26, 40))], ids=repr)
def test_sudoku_has_one_solution_by_plain_backtracking(task: Sudoku) -> None:
    problems = drawn(task, 6)
    for x, y in zip(problems.x, problems.y, strict=True):
        given = torch.where(x.sum(0) > 0, x.argmax(0), -1)
        assert list(solutions(given.tolist(), task.box)) == [y.tolist()]


def solutions(grid: list[list[int]], box: tuple[int, int]):
    """Every solution, by trying digits in the cell with the fewest candidates."""
    size = len(grid)

    def options(r: int, c: int) -> list[int]:
        top, left = r // box[0] * box[0], c // box[1] * box[1]
        seen = set(grid[r]) | {grid[k][c] for k in range(size)}
        seen |= {grid[top + i][left + j] for i in range(box[0]) for j in range(box[1])}
        return [digit for digit in range(size) if digit not in seen]

    empty = [(len(options(r, c)), r, c) for r in range(size) for c in range(size) if grid[r][c] < 0]
    if not empty:
        yield [list(row) for row in grid]
        return
    _, r, c = min(empty)
    for digit in options(r, c):
        grid[r][c] = digit
        yield from solutions(grid, box)
    grid[r][c] = -1


@pytest.mark.parametrize("singles", [True, False])
def test_sudoku_draws_the_boards_that_singles_solve_or_do_not(singles: bool) -> None:
    task = Sudoku((2, 3), givens=(8, 10), singles=singles)
    problems = drawn(task, 5)
    assert len(problems.x) == 5 and drawn(task, 5).x.equal(problems.x)
    for x, y in zip(problems.x, problems.y, strict=True):
        given = [[int(x[:, r, c].argmax()) if x[:, r, c].any() else None for c in range(6)] for r in range(6)]
        solved = by_singles(given, 2, 3)
        assert all(
            here in (None, int(right))
            for row, wanted in zip(solved, y, strict=True)
            for here, right in zip(row, wanted, strict=True)
        )
        assert all(here is not None for row in solved for here in row) == singles
    with pytest.raises(ValueError, match="Choose fewer givens"):
        drawn(Sudoku((2, 2), givens=(16, 16), singles=False), 1)
    with pytest.raises(TypeError, match="True, False or None"):
        Sudoku(singles="no")  # type: ignore[arg-type]


def by_singles(board: list[list[int | None]], rows: int, columns: int) -> list[list[int | None]]:
    """Naked and hidden singles, cell by cell with sets, until nothing changes."""
    size = rows * columns
    cells = [(r, c) for r in range(size) for c in range(size)]
    block = lambda r, c: (r // rows, c // columns)  # noqa: E731
    houses = [[cell for cell in cells if cell[axis] == k] for axis in (0, 1) for k in range(size)]
    houses += [[cell for cell in cells if block(*cell) == b] for b in {block(*cell) for cell in cells}]

    def candidates(cell: tuple[int, int]) -> set[int]:
        if board[cell[0]][cell[1]] is not None:
            return set()
        return set(range(size)) - {board[r][c] for house in houses if cell in house for r, c in house}  # type: ignore[misc]

    changed = True
    while changed:
        changed = False
        for house in houses:
            left = {cell: candidates(cell) for cell in house}
            for cell, some in left.items():
                alone = [d for d in some if len(some) == 1 or sum(d in other for other in left.values()) == 1]
                if alone and board[cell[0]][cell[1]] is None:
                    board[cell[0]][cell[1]] = alone[0]
                    changed = True
                    break
    return board


def test_sudoku_keeps_to_its_givens_and_shows_no_wrong_one() -> None:
    problems = drawn(Sudoku((3, 3), givens=(31, 42)), 100)
    shown = problems.x.sum(1) > 0
    counts = shown.flatten(1).sum(1)
    assert int(counts.min()) >= 31
    assert int(counts.max()) <= 42
    assert (problems.x.argmax(1)[shown] == problems.y[shown]).all()


def test_counting_solutions_stops_at_the_most() -> None:
    board = Board(2, 2)
    empty = board.candidates(torch.full((3, 16), -1))
    found, first = board.solve(empty, torch.Generator().manual_seed(0), most=5)
    assert found.tolist() == [5, 5, 5]
    assert board.complete(first).all()
    found, _ = board.solve(empty[:1], torch.Generator().manual_seed(0), most=1000)
    assert found.tolist() == [288]


def test_a_board_that_contradicts_itself_has_no_solution() -> None:
    board = Board(2, 2)
    given = torch.full((1, 16), -1)
    given[0, :2] = 3
    found, first = board.solve(board.candidates(given), torch.Generator().manual_seed(0))
    assert found.tolist() == [0]
    assert (first == -1).all()


def test_rules_kept_is_more_than_sums() -> None:
    ones_and_others = torch.tensor([[[1, 1, 2, 2]] * 4])  # every row sums as 0 + 1 + 2 + 3 does
    assert rules_kept(torch.nn.functional.one_hot(ones_and_others, 4).movedim(3, 1), (2, 2)).tolist() == [False]


@pytest.mark.parametrize("task", [Connectivity(), Connectivity(30, 0.05)], ids=repr)
def test_connectivity_is_the_closure_of_its_links(task: Connectivity) -> None:
    x, y = drawn(task, 40)
    links = ((x[:, 0] > 0) | torch.eye(task.nodes, dtype=torch.bool)).double()
    reach = torch.linalg.matrix_power(links, task.nodes) > 0
    assert torch.equal(y > 0, reach)
    assert torch.equal(x, x.transpose(2, 3))
    assert (x.diagonal(dim1=2, dim2=3) == -1).all()


def test_balanced_accuracy_by_hand() -> None:
    y = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]])
    answer = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    assert float(balanced_accuracy(answer, y)) == pytest.approx((2 / 3 + 1) / 2)
    assert float(balanced_accuracy(y.abs(), y.abs())) == 1.0


def test_first_steps_of_shortest_paths_by_breadth_first_search() -> None:
    task = ShortestPath(nodes=14, share=0.3, links=(3, 5))
    x, y = drawn(task, 60)
    for picture, right in zip(x > 0, y.tolist(), strict=True):
        links, start, goal = (
            picture[0].tolist(),
            int(picture[1, :, 0].int().argmax()),
            int(picture[3, :, 0].int().argmax()),
        )
        far = {goal: 0}
        frontier = [goal]
        while frontier:
            frontier = [
                a for b in frontier for a in range(14) if links[a][b] and far.setdefault(a, far[b] + 1) == far[b] + 1
            ]
            frontier = list(dict.fromkeys(frontier))
            if start in far:
                break
        assert 3 <= far[start] <= 5
        assert right == [float(links[start][k] and far.get(k, 99) == far[start] - 1) for k in range(14)]


def test_matrices_are_what_they_say() -> None:
    x, y = drawn(Inverse(6, delta=0.5))
    assert torch.allclose(x[:, 0] @ y, torch.eye(6).expand(64, 6, 6), atol=1e-4)
    x, y = drawn(Addition(3, scale=2.5))
    assert float(x.abs().max()) <= 2.5
    assert torch.equal(x[:, 0] + x[:, 1], y)
    x, y = drawn(Completion(20, rank=2, noise=0.0, mask_shown=True))
    assert torch.equal(x[:, 0], y * x[:, 1])
    assert (torch.linalg.matrix_rank(y, rtol=1e-4) == 2).all()


def test_the_published_variance_and_condition() -> None:
    _, y = drawn(Completion(), 2000)
    assert float(y.var()) == pytest.approx(0.035, rel=0.03)
    _, y = drawn(Completion(scale=5.0), 2000)
    assert float(y.var()) == pytest.approx(0.41, rel=0.03)
    x, _ = drawn(Inverse(delta=0.5), 2000)
    assert float(torch.linalg.cond(x[:, 0].double()).median()) == pytest.approx(87, rel=0.06)


def test_newton_schulz_inverts() -> None:
    x, y = drawn(Inverse(8))
    assert torch.allclose(newton_schulz(x[:, 0], 25), y, atol=1e-4)
    assert float(Inverse(8).score(newton_schulz(x[:, 0], 3), y).mean()) > 1e-3


def test_policies_of_a_grid_lead_to_the_goal() -> None:
    task = PlanningGrid(7, share=0.35)
    x, y = drawn(task, 40)
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))
    for (blocked, goal), policy in zip(x.bool().tolist(), y.tolist(), strict=True):
        far = {(r, c): 0 for r in range(7) for c in range(7) if goal[r][c]}
        frontier = list(far)
        while frontier:
            following = []
            for r, c in frontier:
                for dr, dc in moves:
                    to = (r + dr, c + dc)
                    if 0 <= to[0] < 7 and 0 <= to[1] < 7 and not blocked[to[0]][to[1]] and to not in far:
                        far[to] = far[r, c] + 1
                        following.append(to)
            frontier = following
        for r, c in itertools.product(range(7), repeat=2):
            wanted = [far.get((r + dr, c + dc), 99) == far.get((r, c), -9) - 1 for dr, dc in moves]
            assert [bool(policy[k][r][c]) for k in range(4)] == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [PrefixSums(512), Parity(96), Mazes(59), Sudoku((2, 2)), Sudoku((2, 3)), Connectivity(100, 0.02), ShortestPath(25),
     Inverse(), Completion(), Addition(), PlanningGrid(16)],
    ids=repr,
)  # fmt: skip
def test_a_thousand_problems_a_second(task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    task.sample(10, generator)
    seconds = []
    for _ in range(3):
        began = time.process_time()  # of the processor: a busy machine has less of it for us, and is no fault of ours
        task.sample(1000, generator)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1
