"""Is a solver pure settings? It moves every row, writes nothing in place, and remembers by sample."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.field import CountedField
from ebm.noise import Draw
from ebm.objective import Energy, Flip, Objective
from ebm.solvers.base import Solver, Step
from ebm.testing.case import check, close, same

__all__ = ["check_solver"]


class _Bowl(Energy):
    """A bowl a sample, uneven by feature, its floor at the observation; units may also be set one by one."""

    provides = frozenset({"energy", "gradient", "conditional", "flip", "residuals", "prox", "resolvent"})

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return -c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        scale = torch.linspace(0.5, 1.5, c.shape[1], dtype=c.dtype)
        return (0.5 * scale * (z - c).square()).sum(1)

    def residuals(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.linspace(0.5, 1.5, c.shape[1], dtype=c.dtype).sqrt() * (z - c)

    def conditional(self, z: Tensor, c: Tensor, block: Tensor) -> Tensor:
        return c.gather(1, block[:, None])[:, 0].sign()

    def prox(self, z: Tensor, size: float | Tensor, c: Tensor) -> Tensor:
        return z  # the simple term is zero

    def resolvent(self, z: Tensor, size: float, c: Tensor) -> Tensor:
        return z + size * (c - z) / (1 + size)

    def flip(self, z: Tensor, c: Tensor, block: Tensor) -> Flip:
        own = z.gather(1, block[:, None])
        return Flip(-own[:, 0], self(z.scatter(1, block[:, None], -own), c) - self(z, c))


def check_solver(solver: Solver, model: Objective | None = None, x: Any = None, steps: int = 4) -> None:
    """Check that a solver keeps its side of the contract, on a small bowl or on a model of your own.

    It must be a frozen dataclass; ``init`` and ``step`` may write nothing in place, and must return memories whose every leaf
    has one row a sample and keeps its shape; every row must move; a row must move alone as it does in company; a step may
    ask no more than ``most`` says, and draw noise only if ``noisy``.

    Args:
        solver: the solver.
        model: an objective that provides what the solver needs; None takes a bowl.
        x: an observation of at least two samples, away from rest; needed with ``model``.
        steps: how many steps are watched, at least 1.

    Raises:
        AssertionError: a promise is broken; the words say which.

    Example:
        >>> import ebm
        >>> from ebm.testing import check_solver
        >>> check_solver(ebm.Adam(0.1))

    Source: the promises of `Solver`.
    """
    name = type(solver).__name__
    check(isinstance(solver, Solver), f"{name} does not derive from `Solver`.")
    parameters = getattr(type(solver), "__dataclass_params__", None)
    check(
        parameters is not None and parameters.frozen, f"{name} must be a frozen dataclass: `@dataclass(frozen=True)`."
    )
    settings = _settings(solver)
    model, x = (model, x) if model is not None else (_Bowl(), _observation())
    with torch.no_grad():
        c = model.condition(x)
        keys = torch.arange(rows.count(x), dtype=torch.int64)
        z = solver.start(model.init_latent(c, Draw(keys, torch.full_like(keys, -1))))
        _walk(solver, model, c, z, keys, steps)
    check(_settings(solver) == settings, f"{name} changed its own settings: what evolves belongs in the memory.")


def _observation() -> Tensor:
    return torch.tensor([[0.5, -0.3, 0.8], [1.5, 0.2, -0.7], [-0.4, 0.9, 0.1]], dtype=torch.float64)


def _settings(solver: Solver) -> str:
    return repr([getattr(solver, field.name) for field in dataclasses.fields(solver)]) + repr(vars(solver))  # type: ignore[arg-type]


def _walk(solver: Solver, model: Objective, c: Any, z: Any, keys: Tensor, steps: int) -> None:
    name, batch = type(solver).__name__, len(keys)
    first = point = model.point(z, c)
    kept = rows.map_rows(torch.clone, tuple(point))
    memory = solver.init(point)
    check(same(kept, tuple(point)), f"`{name}.init` writes into the point in place.")
    _check_memory(name, memory, batch, None)
    state = torch.get_rng_state()
    for step in range(steps):
        before = rows.map_rows(torch.clone, (tuple(point), memory))
        outcome = _one(solver, model, c, point, memory, keys, step)
        check(
            same(before[0], tuple(point)),
            f"`{name}.step` writes into the point in place; a yielded answer would change.",
        )
        check(
            same(before[1], memory),
            f"`{name}.step` writes into its memory in place; a yielded answer could not be resumed.",
        )
        _check_memory(name, outcome.memory, batch, memory)
        for what, flag in zip(outcome.info._fields, outcome.info, strict=True):
            check(
                flag is None or (flag.shape == (batch,) and flag.dtype == torch.bool),
                f"`Info.{what}` of {name} must be bool ({batch},).",
            )
        again = _one(solver, model, c, point, memory, keys, step)
        check(
            same(_all(again), _all(outcome)),
            f"`{name}.step` gives another outcome when asked again: it holds state or draws noise of its own.",
        )
        _check_alone(solver, model, c, point, memory, keys, step, outcome)
        point, memory = outcome.point, outcome.memory
    check(
        torch.equal(torch.get_rng_state(), state),
        f"{name} draws from the global generator; `draw` is the only source of noise.",
    )
    moved = rows.rms(rows.map_rows(torch.sub, point.z, first.z)) > 0
    check(
        moved.all(),
        f"{name} did not move samples {(~moved).nonzero().flatten().tolist()} in {steps} steps: a solver moves every row.",
    )


def _all(step: Step) -> Any:
    return tuple(step.point), step.memory, tuple(step.info)


def _one(solver: Solver, model: Objective, c: Any, point: Any, memory: Any, keys: Tensor, step: int) -> Step:
    field = CountedField(model, c, len(keys))
    draw: Any = Draw(keys, torch.full_like(keys, step)) if solver.noisy else None
    outcome = solver.step(field, point, memory, draw)
    name = type(solver).__name__
    most = solver.most(point.z)
    for kind, times in field.asked.items():
        asked, allowed = int(torch.as_tensor(times).max()), most.get(kind, 0)
        check(
            asked <= allowed,
            f"A step of {name} asked for {asked} of `{kind}`; `most` says {allowed}. A FLOP budget is planned with it.",
        )
    return outcome


def _check_memory(name: str, memory: Any, batch: int, before: Any) -> None:
    try:
        sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in rows.leaves(rows.map_rows(lambda leaf: leaf, memory))}
    except TypeError as error:
        raise AssertionError(f"The memory of {name} is no row tree: {error}") from error
    check(
        sizes <= {batch},
        f"The memory of {name} holds leaves of {sorted(sizes)} rows for {batch} samples: nothing per batch sits in a memory. "
        f"Give each leaf one row a sample, a counter too: shape ({batch},).",
    )
    if before is not None:
        shapes = [[tuple(leaf.shape) for leaf in rows.leaves(tree)] for tree in (before, memory)]
        check(
            shapes[0] == shapes[1], f"The memory of {name} changes its shape from {shapes[0]} to {shapes[1]} in a step."
        )


def _check_alone(
    solver: Solver, model: Objective, c: Any, point: Any, memory: Any, keys: Tensor, step: int, outcome: Step
) -> None:
    index = torch.tensor([len(keys) - 1])
    part = type(point)(*rows.take(tuple(point), index))
    alone = _one(solver, model, rows.take(c, index), part, rows.take(memory, index), keys[index], step)
    check(
        close(_all(alone), rows.take(_all(outcome), index)),
        f"`{type(solver).__name__}.step` mixes samples: the last one moves otherwise alone than in company.",
    )
