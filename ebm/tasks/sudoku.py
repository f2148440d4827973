"""Sudoku of any box: puzzles with one solution, dug out of random grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, span
from ebm.tasks.sudoku_rules import Board

__all__ = ["Sudoku", "rules_kept"]

_TRIES = 100  # batches before giving up on boards of a kind


@dataclass(frozen=True)
class Sudoku(Task):
    r"""A Sudoku with exactly one solution.

    With boxes r high and c wide there are N = r c digits on N x N cells: ``box=(2, 2)`` is the small one, ``(2, 3)``
    the middle one, ``(3, 3)`` the usual one. ``x`` is (B, N, N, N), the givens one-hot along axis 1 and zeros
    in empty cells; ``y`` is (B, N, N), int64 digits from 0; an answer is (B, N, N, N), scores of the digits along axis
    1. A board counts only if every cell is right.

    A random grid is completed by search and its cells are emptied in random order as long as a solver confirms that the
    solution stays the only one, until :math:`g \sim U\{\text{least}, \ldots, \text{most}\}` givens are left. Where
    that cannot be reached a board keeps more: random digging of the usual board rarely goes below 22. With ``singles`` set, boards of the other
    kind are thrown away, so the share of boards with few givens is not uniform any more.

    Args:
        box: height and width of a box, each from 1 to 4.
        givens: (least, most) cells left filled; None: from 3/8 to 1/2 of them, (31, 40) on the usual board.
        singles: True: only boards that naked and hidden singles solve (a cell with one candidate left, a digit with one place left in a
            row, column or box). False: only boards that they do not solve. None: both.

    Raises:
        TypeError: a setting that is no pair of whole numbers; ``singles`` that is neither True, False nor None.
        ValueError: a setting outside its range; at the call, givens that hardly ever leave a board of the wanted kind.

    Example:
        >>> import torch
        >>> from ebm.tasks import Sudoku
        >>> x, y = Sudoku(box=(2, 2), givens=(6, 6)).sample(1, torch.Generator().manual_seed(0))
        >>> puzzle = torch.where(x[0].sum(0) > 0, x[0].argmax(0) + 1, 0)
        >>> int((puzzle > 0).sum()), bool((y[0] + 1)[puzzle > 0].equal(puzzle[puzzle > 0]))
        (6, True)

    Source: the puzzles of Wang et al. (2019), SATNet (31 to 42 givens), and Palm et al. (2018), Recurrent relational
    networks (17 to 34), are files; these are drawn, so that the figures stand beside the published ones and are not theirs.
    """

    metric: ClassVar[str] = "boards with every cell right"

    box: tuple[int, int] = (3, 3)
    givens: tuple[int, int] | None = None
    singles: bool | None = None

    def __post_init__(self) -> None:
        _check_box(self)
        if self.givens is not None:
            span(self, "givens", 0, self.board.digits**2)
        if not (self.singles is None or type(self.singles) is bool):
            raise TypeError(
                f"`Sudoku(singles=...)` is True, False or None; got {self.singles!r}. Pass False for boards that singles do not solve."
            )

    @property
    def board(self) -> Board:
        """The geometry and the rules."""
        return Board(*self.box)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Puzzles and solutions."""
        if self.singles is None:
            return self._drawn(count, generator)
        found: list[Problems] = []
        missing = count
        for _ in range(_TRIES):
            problems = self._drawn(2 * missing, generator)
            right = (self._candidates(problems.x, True).sum(1) == 1).flatten(1).all(1) == self.singles
            rows = right.nonzero()[:missing, 0]
            found.append(Problems(problems.x[rows], problems.y[rows]))
            missing -= len(rows)
            if not missing:
                return Problems(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        kind = "singles solve" if self.singles else "singles do not solve"
        raise ValueError(
            f"{self}: of {_TRIES} batches too few boards are of the kind that {kind}. Choose {'more' if self.singles else 'fewer'} givens, or `singles=None`."
        )

    def _drawn(self, count: int, generator: torch.Generator) -> Problems:
        """Boards of either kind."""
        board, digits = self.board, self.board.digits
        solution = _complete(board, count, generator)
        cells = digits * digits
        least, most = self.givens or (cells * 3 // 8 + 1, cells // 2)
        target = torch.randint(least, most + 1, (count,), generator=generator, device=generator.device)
        given = _dig(board, solution, target, generator)
        x = board.candidates(given) & (given[:, None] >= 0)
        return Problems(x.float().unflatten(2, (digits, digits)), solution.unflatten(1, (digits, digits)))

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, the mean over cells."""
        return functional.cross_entropy(answer, y)

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One for a board whose every cell is right, else zero."""
        return (answer.argmax(1) == y).flatten(1).all(1).to(answer.dtype)

    def baselines(self) -> tuple[Baseline, ...]:
        """Any digit that no peer shows; naked and hidden singles until nothing changes."""

        def unlearned(propagated: bool) -> Callable[[Problems], Callable[[Tensor], Tensor]]:
            return lambda train: lambda x: self._candidates(x, propagated)

        return (
            Baseline("a digit no peer shows", unlearned(False)),
            Baseline("naked and hidden singles", unlearned(True)),
        )

    def _candidates(self, x: Tensor, propagated: bool) -> Tensor:
        given = torch.where(x.sum(1) > 0, x.argmax(1), -1).flatten(1)
        state = self.board.candidates(given)
        state = self.board.propagate(state)[0] if propagated else self.board.unseen(state)
        return state.to(x.dtype).reshape_as(x)


def rules_kept(answer: Tensor, box: tuple[int, int]) -> Tensor:
    """Whether every row, column and box holds every digit once, bool (B,); the givens are not looked at.

    Args:
        answer: scores, (B, N, N, N), digits along axis 1.
        box: height and width of a box.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> from ebm.tasks import Sudoku, rules_kept
        >>> x, y = Sudoku(box=(2, 2)).sample(3, torch.Generator().manual_seed(0))
        >>> rules_kept(functional.one_hot(y, 4).movedim(3, 1), (2, 2))
        tensor([True, True, True])
    """
    board = Board(*box)
    return board.complete(answer.argmax(1).flatten(1))


def _complete(board: Board, count: int, generator: torch.Generator) -> Tensor:
    """Random full grids: a random first row, and a search that branches at random."""
    digits = board.digits
    given = torch.full((count, digits * digits), -1, device=generator.device)
    given[:, :digits] = torch.rand(count, digits, generator=generator, device=generator.device).argsort(1)
    return board.solve(board.candidates(given), generator)[1]


def _dig(board: Board, solution: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Empty cells in random order, as long as the solution stays the only one; -1 is an empty cell."""
    given = solution.clone()
    row = torch.arange(len(solution), device=solution.device)
    for cell in torch.rand(solution.shape, generator=generator, device=solution.device).argsort(1).T:
        trial = given.clone()
        trial[row, cell] = -1
        digit = solution[row, cell]
        wanted = (given >= 0).sum(1) > target
        may = board.forced(trial, cell, digit)
        unsure = (wanted & ~may).nonzero()[:, 0]
        if len(unsure):  # is there a solution with another digit there?
            state = board.candidates(trial[unsure])
            state[torch.arange(len(unsure), device=state.device), digit[unsure], cell[unsure]] = False
            may[unsure] = board.solve(state, generator)[0] == 0
        given = torch.where((wanted & may)[:, None], trial, given)
    return given


def _check_box(task: Sudoku) -> None:
    span_ = task.box
    if not (isinstance(span_, tuple) and len(span_) == 2 and all(type(end) is int for end in span_)):
        raise TypeError(f"`Sudoku(box=...)` is the height and width of a box; got {span_!r}. Try (3, 3).")
    if not all(1 <= end <= 4 for end in span_):
        raise ValueError(f"`Sudoku(box=...)` wants sides from 1 to 4; got {span_}. Try (3, 3).")
