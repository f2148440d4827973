"""What memories with states +-1 share: their door, their solver and when they are at rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm.engine.stop import AtRest, Stop
from ebm.noise import Draw
from ebm.objective import Energy, Flip
from ebm.solvers import Asynchronous
from ebm.solvers.base import Solver

__all__ = ["BinaryMemory", "check_patterns", "check_query", "hold"]


class BinaryMemory(Energy):
    """An energy of states +-1 (B, N), settled one unit at a time; derive from it, never use it alone.

    A subclass defines ``forward(z, c)``, ``point(z, c)`` with the force f(z) - z, where f sets every unit at once to what it
    wants given the others, and ``conditional(z, c, block)``. At rest no single flip lowers the energy.

    Attributes:
        units: N.
    """

    provides = frozenset({"energy", "discrete", "conditional", "flip"})
    default_steps = 100
    units: int

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself, which must be +-1."""
        query = c["query"]
        if bool((query.abs() == 1).all()):
            return query
        raise ValueError(
            f"`{type(self).__name__}` settles states of +-1; got other numbers in `x`. Map 0 and 1 by `2 * x - 1`, and give "
            "unknown units either sign."
        )

    def conditional(self, z: Tensor, c: Any, block: Tensor) -> Tensor:
        """What one unit of each sample wants given the others, (B,); ``block`` (B,) holds the number of that unit."""
        raise NotImplementedError

    def flip(self, z: Tensor, c: Any, block: Tensor) -> Flip:
        """The other sign of one unit of each sample, and by how much the energy rises with it; what `Gibbs` asks for."""
        raise NotImplementedError

    def default_solver(self) -> Solver:
        """`Asynchronous`, in random order."""
        return Asynchronous()

    def default_stop(self) -> Stop:
        """At rest exactly: no unit wants to flip."""
        return AtRest(0.0)


def hold(module: nn.Module, name: str, value: Tensor) -> None:
    """Keep a tensor on a module: a parameter stays one, so that it can be learned; anything else becomes a buffer."""
    if isinstance(value, nn.Parameter):
        setattr(module, name, value)
    else:
        module.register_buffer(name, value)


def check_patterns(owner: str, patterns: Any, binary: bool) -> Tensor:
    """Patterns are a floating tensor (P, N), and +-1 where the memory is binary; an array of numpy becomes one."""
    if not isinstance(patterns, Tensor) and hasattr(patterns, "__array__"):
        patterns = torch.tensor(patterns)
    if (
        not isinstance(patterns, Tensor)
        or patterns.ndim != 2
        or not patterns.is_floating_point()
        or not patterns.numel()
    ):
        got = f"{patterns.dtype} {tuple(patterns.shape)}" if isinstance(patterns, Tensor) else type(patterns).__name__
        whole = isinstance(patterns, Tensor) and not patterns.is_floating_point()
        convert = ", and convert whole numbers with `.float()`" if whole else ""
        raise ValueError(
            f"`{owner}` wants a floating tensor (P, N) of patterns; got {got}. Put one pattern in each row{convert}."
        )
    if binary and not bool((patterns.detach().abs() == 1).all()):
        raise ValueError(
            f"`{owner}` wants patterns of +-1; got other numbers. Map 0 and 1 by `2 * patterns - 1`; for patterns of real "
            "numbers use `ModernHopfield`."
        )
    return patterns


def check_query(owner: str, x: Any, units: int) -> None:
    """A query is a floating tensor (B, N)."""
    if isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == units and x.is_floating_point():
        return
    got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    raise ValueError(
        f"`{owner}` wants a floating query `x` of shape (B, {units}), one row a sample; got {got}. Reshape or convert it."
    )


def rounding(like: Tensor) -> float:
    """The relative rounding of a tensor's numbers."""
    return torch.finfo(like.dtype).eps
