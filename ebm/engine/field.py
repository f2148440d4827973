"""What a solver asks, counted; and what each kind of question costs, measured once a shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor

from ebm import rows
from ebm.engine.flops import FlopCounter
from ebm.objective import Objective, Point

__all__ = ["CountedField", "Meter"]


class CountedField:
    """The field of one step: evaluates the objective, in the latent's dtype, and counts the questions."""

    def __init__(self, objective: Objective, c: Any) -> None:
        self._objective = objective
        self._c = c
        self.evals = 0
        self.conditionals = 0

    def __call__(self, z: Any) -> Point:
        self.evals += 1
        return evaluate(self._objective, z, self._c)

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        self.conditionals += 1
        return self._objective.conditional(z, self._c, block)  # pyright: ignore[reportCallIssue]


def evaluate(objective: Objective, z: Any, c: Any) -> Point:
    """The point at ``z``; force and energy in the latent's dtype, whatever dtype the products ran in."""
    point = objective.point(z, c)
    dtype = rows.first_leaf(z).dtype
    if rows.first_leaf(point.force).dtype != dtype:
        point = point._replace(force=rows.map_rows(lambda f, latent: f.to(latent.dtype), point.force, z))
    if point.energy is not None and point.energy.dtype != dtype:
        point = point._replace(energy=point.energy.to(dtype))
    return point


class Price(NamedTuple):
    """FLOPs a sample, and the operations that had no formula."""

    flops: int
    uncounted: dict[str, int]


_PRICES: WeakKeyDictionary[Objective, dict[Any, Price]] = WeakKeyDictionary()


class Meter:
    """Prices of an objective: counted when something first runs for a shape, then remembered with the model.

    Args:
        objective: whose work is priced.
        identity: names the model's class and parameter shapes; a changed model is priced anew.
    """

    def __init__(self, objective: Objective, identity: str) -> None:
        self._known = _PRICES.setdefault(objective, {})
        self._identity = identity
        self._setting: Any = ()
        self.uncounted: dict[str, int] = {}

    def given(self, c: Any) -> None:
        """From now on work is priced for conditions shaped like ``c``."""
        self._setting = _shapes(c)

    def learn(self, kind: str, fn: Callable[..., Any], tree: Any, *rest: Any) -> None:
        """Price ``fn(tree, *rest)`` ahead of its first run; nothing happens if the price is known."""
        if self._key(kind, tree) not in self._known:
            self.run(kind, fn, tree, *rest)

    def run(self, kind: str, fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
        """``fn(tree, *rest)``, priced on the way if it never was."""
        key = self._key(kind, tree)
        if key in self._known:
            self.uncounted.update(self._known[key].uncounted)
            return fn(tree, *rest)
        with FlopCounter() as counter:
            result = fn(tree, *rest)
        batch = max(rows.count(tree), 1)
        self._known[key] = Price(-(-counter.flops // batch), dict(counter.uncounted))
        self.uncounted.update(counter.uncounted)
        return result

    def price(self, kind: str, tree: Any) -> int:
        """FLOPs a sample of what ran before as ``kind`` at these shapes; zero if it never ran."""
        known = self._known.get(self._key(kind, tree))
        return known.flops if known else 0

    def _key(self, kind: str, tree: Any) -> Any:
        return kind, self._identity, self._setting, _shapes(tree)


def _shapes(tree: Any) -> Any:
    """What the price of a sample may depend on: the shapes of its leaves, and of those that belong to no sample."""
    if isinstance(tree, Tensor):
        return tree.shape[1:], tree.dtype
    if isinstance(tree, rows.Shared):
        return getattr(tree.value, "shape", None)
    if isinstance(tree, dict):
        return tuple(map(_shapes, tree.values()))
    return None if tree is None else tuple(map(_shapes, tree))
