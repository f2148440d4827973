"""What a check is tried on, and how its outcome is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.adjoint import Detached
from ebm.engine.driver import infer, stream
from ebm.engine.stop import Stop
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver

__all__ = ["Case", "check", "close", "evaluations", "same"]

SAID = ("z", "answer", "energy", "residual", "status", "steps", "evals", "flops_per_sample")


class Case(NamedTuple):
    """A model, what it observes, and how it is settled.

    Attributes:
        model: in eval mode, where it has modes.
        x: the observation, a row tree of at least three samples.
        solver: None asks the model.
        stop: None asks the model.
        start: a latent to begin at; None asks the model.
        steps: how many steps a check may take, at least 2.

    Example:
        >>> import torch, ebm
        >>> from ebm.testing import Case
        >>> Case(ebm.ModernHopfield(torch.eye(3)), torch.eye(3)).steps
        6
    """

    model: Objective
    x: Any
    solver: Solver | None = None
    stop: Stop | None = None
    start: Any = None
    steps: int = 6

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        anew = {} if "resume" in given else {"start": self.start, "generator": torch.Generator().manual_seed(0)}
        return {"solver": self.solver, "stop": self.stop, "adjoint": Detached(), **anew, **given}

    def _infer(self, **given: Any) -> Solution:
        return infer(self.model, given.pop("x", self.x), **self._options(given))

    def _stream(self, **given: Any) -> Iterator[Solution]:
        return stream(self.model, given.pop("x", self.x), **self._options(given))


def check(holds: bool | Tensor, words: str) -> None:
    """Raise AssertionError with ``words`` unless something holds."""
    if not bool(holds):
        raise AssertionError(words)


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same bits; what is not a number equals itself."""
    ones, others = list(rows.leaves(one)), list(rows.leaves(other))
    return len(ones) == len(others) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        for a, b in zip(ones, others, strict=True)
    )


def close(one: Any, other: Any, slack: float = 1.0) -> bool:
    """Whether two trees agree to rounding: 1e-10 in float64, 1e-5 in float32, times ``slack``."""
    ones, others = list(rows.leaves(one)), list(rows.leaves(other))
    return len(ones) == len(others) and all(
        a.shape == b.shape
        and torch.allclose(a, b, rtol=_rounding(a) * slack, atol=_rounding(a) * slack, equal_nan=True)
        for a, b in zip(ones, others, strict=True)
    )


def _rounding(leaf: Tensor) -> float:
    return 1e-10 if leaf.dtype in (torch.float64, torch.complex128) else 1e-5 if leaf.is_floating_point() else 0.0


@contextmanager
def evaluations(model: Objective) -> Iterator[list[int]]:
    """Fills a list with the number of rows of every evaluation of ``model`` inside."""
    sizes: list[int] = []
    original = model.point

    def counted(z: Any, c: Any) -> Any:
        sizes.append(rows.count(z))
        return original(z, c)

    model.point = counted  # type: ignore[method-assign]
    try:
        yield sizes
    finally:
        del model.point
