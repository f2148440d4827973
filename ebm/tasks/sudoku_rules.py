"""The rules of Sudoku on whole batches: propagation, search, and counting solutions."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Board"]


@dataclass(frozen=True)
class Board:
    """A board whose boxes are ``rows`` high and ``columns`` wide: N = rows x columns digits, N x N cells.

    A state is candidates, bool (B, N, N * N): which digits each cell may still take, cells numbered row by row.
    """

    rows: int
    columns: int

    @property
    def digits(self) -> int:
        """N."""
        return self.rows * self.columns

    def candidates(self, given: Tensor) -> Tensor:
        """Every digit where ``given`` (B, N * N) is -1, the given one elsewhere."""
        every = torch.arange(self.digits, device=given.device)[:, None]
        return (given[:, None] == every) | (given[:, None] < 0)

    def unseen(self, state: Tensor) -> Tensor:
        """The candidates that no peer with a single one shows."""
        known = state & (state.sum(1, keepdim=True) == 1)
        return state & ((known.float() @ _peers(self, state.device)) == 0)

    def complete(self, digits: Tensor) -> Tensor:
        """Whether every house of ``digits`` (B, N * N) holds every digit once, (B,)."""
        each = digits[:, None] == torch.arange(self.digits, device=digits.device)[:, None]
        return (each.float() @ _members(self, digits.device).T == 1).flatten(1).all(1)

    def forced(self, given: Tensor, cells: Tensor, answer: Tensor) -> Tensor:
        """Whether one look at the givens forces ``answer`` in a cell of each board, (B,).

        Either its peers show every other digit, or it is the only place of a house where its digit may go.
        """
        members = _members(self, given.device)
        row = torch.arange(len(given), device=given.device)
        state = self.candidates(given)
        shown = (state & (given[:, None] >= 0)).float() @ _peers(self, given.device)
        free = (shown == 0) & (given[:, None] < 0)
        naked = free[row, :, cells].sum(1) == 1
        mine = free[row, answer]  # where the digit may still go
        hidden = ((mine.float() @ members.T == 1) & (members.T[cells] > 0)).any(1)
        return naked | hidden

    def propagate(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Naked and hidden singles until nothing changes; the candidates left, and whether they contradict, (B,)."""
        members = _members(self, state.device)
        while True:
            left = self.unseen(state)
            lonely = ((left.float() @ members.T) == 1).float() @ members > 0
            hidden = lonely & left
            left = torch.where(hidden.any(1, keepdim=True), hidden, left)
            if bool((left == state).all()):
                break
            state = left
        homeless = ((state.float() @ members.T) == 0).any(2).any(1)
        return state, homeless | ~state.any(1).all(1)

    def solve(self, state: Tensor, generator: torch.Generator, most: int = 1) -> tuple[Tensor, Tensor]:
        """Depth-first search on every board at once, branching in random order.

        Args:
            state: candidates, (B, N, N * N).
            generator: orders the branches.
            most: stop looking when a board has so many solutions.

        Returns:
            how many solutions were found, at most ``most``, (B,); the first of them, digits from 0, (B, N * N), -1
            where there is none.
        """
        boards = len(state)
        found = torch.zeros(boards, dtype=torch.long, device=state.device)
        first = torch.full((boards, state.shape[2]), -1, device=state.device)
        owner = torch.arange(boards, device=state.device)
        while len(state):
            top = _last_of_each(owner, boards)
            now, mine = state[top], owner[top]
            stay = torch.ones(len(state), dtype=torch.bool, device=state.device)
            stay[top] = False
            now, wrong = self.propagate(now)
            now, mine = now[~wrong], mine[~wrong]
            solved = (now.sum(1) == 1).all(1)
            fresh = mine[solved][found[mine[solved]] == 0]
            first[fresh] = now[solved][found[mine[solved]] == 0].int().argmax(1)
            found[mine[solved]] += 1
            children, whose = self._branch(now[~solved], mine[~solved], generator)
            state, owner = torch.cat([state[stay], children]), torch.cat([owner[stay], whose])
            open_ = found[owner] < most
            state, owner = state[open_], owner[open_]
        return found, first

    def _branch(self, state: Tensor, owner: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Each candidate of the cell with the fewest, in random order, as boards of their own."""
        count = state.sum(1)
        keys = torch.rand(count.shape, generator=generator, device=state.device)
        cell = (count + keys).masked_fill(count == 1, float("inf")).argmin(1)
        row = torch.arange(len(state), device=state.device)
        options = state[row, :, cell]
        order = torch.rand(options.shape, generator=generator, device=state.device).argsort(1)
        children, whose = [], []
        for rank in range(self.digits):
            digit = order[:, rank]
            usable = options[row, digit]
            child = state[usable].clone()
            one = torch.arange(len(child), device=state.device)
            child[one, :, cell[usable]] = False
            child[one, digit[usable], cell[usable]] = True
            children.append(child)
            whose.append(owner[usable])
        return torch.cat(children), torch.cat(whose)


def _last_of_each(owner: Tensor, boards: int) -> Tensor:
    """For each board that is still there, the row that came last."""
    last = torch.full((boards,), -1, device=owner.device)
    last.scatter_reduce_(0, owner, torch.arange(len(owner), device=owner.device), "amax")
    return last[last >= 0]


@functools.cache
def _members(board: Board, device: torch.device) -> Tensor:
    """Which cells each house holds, (3 N, N * N): rows, columns, boxes."""
    digits = board.digits
    cell = torch.arange(digits * digits, device=device)
    row, column = cell // digits, cell % digits
    box = row // board.rows * board.rows + column // board.columns
    every = torch.arange(digits, device=device)[:, None]
    return torch.cat([row == every, column == every, box == every]).float()


@functools.cache
def _peers(board: Board, device: torch.device) -> Tensor:
    """Which cells may not hold the same digit, (N * N, N * N)."""
    members = _members(board, device)
    return ((members.T @ members) > 0).float().fill_diagonal_(0)
