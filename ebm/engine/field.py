"""What a solver asks, counted; and what each kind of question costs, measured once a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.account import set_aside
from ebm.engine.flops import FlopCounter
from ebm.noise import Draw
from ebm.objective import Flip, Lasso, Objective, Point, Product, variable

__all__ = ["CountedField", "Meter", "evaluate", "learn_prices", "pullback", "transposed"]


class CountedField:
    """The field of one step: evaluates the objective, in the latent's dtype, and counts the questions.

    Attributes:
        asked: how many questions of each kind were asked; a number for all samples, or one a sample (B,).
        ran: how many rows were computed for them; more than were asked for, where rows that need nothing ride along.
    """

    def __init__(self, objective: Any, c: Any, batch: int) -> None:
        self._objective = objective
        self._c = c
        self._batch = batch
        self._samples: Tensor | None = None
        self.asked: dict[str, int | Tensor] = {"point": 0}
        self.ran: dict[str, int] = {}

    def _count(self, kind: str, needed: Tensor | None = None) -> None:
        """One question of every row, or of those that need it (bool, one a row); all rows are computed."""
        times: int | Tensor = 1 if needed is None else needed.to(torch.int64)
        if self._samples is not None:
            none = torch.zeros(self._batch, dtype=torch.int64, device=self._samples.device)
            times = none.index_add(0, self._samples, torch.ones_like(self._samples) * times)
        self.asked[kind] = self.asked.get(kind, 0) + times
        computed = self._batch if self._samples is None else self._samples.shape[0]
        self.ran[kind] = self.ran.get(kind, 0) + computed

    def of(self, samples: Tensor) -> CountedField:
        """The field of rows that belong to the given samples; what is asked of it is charged to those."""
        part = CountedField(self._objective, rows.take(self._c, samples), self._batch)
        part._samples = samples if self._samples is None else self._samples[samples]
        part.asked, part.ran = self.asked, self.ran
        return part

    def __call__(self, z: Any) -> Point:
        self._count("point")
        return evaluate(self._objective, z, self._c)

    def start(self, draw: Draw) -> Any:
        self._count("start")
        return self._objective.init_latent(self._c, draw)

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        self._count("conditional")
        return self._objective.conditional(z, self._c, block)

    def sweep(self, z: Any) -> Any:
        self._count("sweep")
        return swept(self._objective, z, self._c)

    def flip(self, z: Any, block: Tensor) -> Flip:
        self._count("flip")
        return self._objective.flip(z, self._c, block)

    def curvature(self, z: Any) -> Product:
        self._count("point")
        return self._counted("curvature", curvature(self._objective, z, self._c))

    def gauss_newton(self, z: Any) -> Product:
        self._count("residuals")
        return self._counted("gauss_newton", gauss_newton(self._objective, z, self._c))

    def _counted(self, kind: str, product: Product) -> Product:
        def asked(direction: Any, needed: Tensor | None = None) -> Any:
            self._count(kind, needed)
            return product(direction)

        return asked

    def prox(self, z: Any, size: float | Tensor) -> Any:
        self._count("prox")
        return self._objective.prox(z, size, self._c)

    def resolvent(self, z: Any, size: float) -> Any:
        self._count("resolvent")
        return self._objective.resolvent(z, size, self._c)

    def lasso(self) -> Lasso:
        return self._objective.lasso(self._c)

    def bend(self, direction: Any) -> Any:
        self._count("bend")
        return self._objective.bend(direction, self._c)


def swept(objective: Any, z: Any, c: Any) -> Any:
    """Every unit in turn set to what it wants given the others, by the objective's own sweep where it has one."""
    if "sweep" in objective.provides:
        return objective.sweep(z, c)
    state = rows.flatten(z)
    for unit in torch.arange(state.shape[1], device=state.device).expand(state.shape[0], -1).unbind(1):
        wanted = objective.conditional(rows.unflatten(state, z), c, unit)
        state = state.scatter(1, unit[:, None], wanted[:, None])
    return rows.unflatten(state, z)


def curvature(objective: Objective, z: Any, c: Any) -> Product:
    """Products with the Hessian of the energy at ``z``: the pullback of the force, whose Jacobian is symmetric."""
    product = pullback(objective, z, c)
    return lambda direction: product(rows.map_rows(torch.neg, direction))


def pullback(objective: Objective, z: Any, c: Any) -> Product:
    r"""The map :math:`v \mapsto v^T \partial F / \partial z` at ``z``; differentiable where the grad mode asks for it."""
    if torch.compiler.is_compiling():
        pull = torch.func.vjp(lambda latent: evaluate(objective, latent, c).force, z)[1]
        return lambda direction: pull(direction)[0]
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        latent = rows.map_rows(lambda leaf: variable(leaf, keep), z)
        force = evaluate(objective, latent, c).force
    return transposed(latent, force, keep)


def transposed(latent: Any, outcome: Any, keep: bool) -> Product:
    r"""The map :math:`v \mapsto v^T \partial \text{outcome} / \partial \text{latent}` of a graph; ``keep`` makes it differentiable."""
    inputs, outputs = list(rows.leaves(latent)), list(rows.leaves(outcome))
    moved = [leaf.requires_grad for leaf in outputs]

    def product(direction: Any) -> Any:
        along = [v for v, does in zip(rows.leaves(direction), moved, strict=True) if does]
        found = [torch.zeros_like(leaf) for leaf in inputs]
        if along:
            ends = [leaf for leaf, does in zip(outputs, moved, strict=True) if does]
            found = torch.autograd.grad(
                ends, inputs, along, retain_graph=True, create_graph=keep, allow_unused=True, materialize_grads=True
            )
        slopes = iter(found)
        return rows.map_rows(lambda _: next(slopes), latent)

    return product


def gauss_newton(objective: Any, z: Any, c: Any) -> Product:
    r"""Products with :math:`J^T J`, J the Jacobian of the objective's residuals at ``z``; differentiable as `pullback` is.

    Eagerly J is applied by differentiating :math:`u \mapsto J^T u`, which is linear: both halves of a product then go over
    graphs that are made once, where a forward mode would evaluate the residuals again at every product.
    """

    def residuals(latent: Any) -> Tensor:
        return objective.residuals(latent, c).to(rows.first_leaf(z).dtype)

    if torch.compiler.is_compiling():
        pull = torch.func.vjp(residuals, z)[1]
        return lambda direction: pull(torch.func.jvp(residuals, (z,), (direction,))[1])[0]
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        latent = rows.map_rows(lambda leaf: variable(leaf, keep), z)
        inputs, found = list(rows.leaves(latent)), residuals(latent)
        along = torch.zeros_like(found, requires_grad=True)
        back = torch.autograd.grad(found, inputs, along, create_graph=True, materialize_grads=True)
    moved = [leaf.requires_grad for leaf in back]

    def product(direction: Any) -> Any:
        ends = [leaf for leaf, does in zip(back, moved, strict=True) if does]
        ahead = [v for v, does in zip(rows.leaves(direction), moved, strict=True) if does]
        tilt = torch.autograd.grad(ends, along, ahead, retain_graph=True, create_graph=keep)[0]
        slopes = iter(
            torch.autograd.grad(found, inputs, tilt, retain_graph=True, create_graph=keep, materialize_grads=True)
        )
        return rows.map_rows(lambda _: next(slopes), latent)

    return product


def learn_prices(meter: Meter, objective: Any, kinds: Iterable[str], z: Any, c: Any) -> None:
    """Price each kind of question at a latent, ahead of the first step."""
    kinds = [kind for kind in kinds if not meter.knows(kind, z)]
    if not kinds:
        return
    one = torch.ones(rows.count(z), dtype=rows.first_leaf(z).dtype, device=rows.first_leaf(z).device)
    keys = torch.zeros_like(one, dtype=torch.int64)
    ask: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "point": lambda: lambda latent: objective.point(latent, c),
        "start": lambda: lambda latent: objective.init_latent(c, Draw(keys, keys)),
        "conditional": lambda: (
            lambda latent: objective.conditional(latent, c, torch.zeros_like(one, dtype=torch.int64))
        ),
        "sweep": lambda: lambda latent: swept(objective, latent, c),
        "flip": lambda: lambda latent: objective.flip(latent, c, torch.zeros_like(one, dtype=torch.int64)),
        "curvature": lambda: curvature(objective, z, c),
        "residuals": lambda: lambda latent: gauss_newton(objective, latent, c),
        "gauss_newton": lambda: gauss_newton(objective, z, c),
        "prox": lambda: lambda latent: objective.prox(latent, one, c),
        "resolvent": lambda: lambda latent: objective.resolvent(latent, 1.0, c),
        "bend": lambda: lambda latent: objective.bend(latent, c),
    }
    with torch.no_grad():
        for kind in kinds:
            meter.learn(kind, ask[kind](), z)


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


_PRICES: WeakKeyDictionary[Objective, dict[Any, dict[Any, Price]]] = WeakKeyDictionary()


class Meter:
    """Prices of an objective: counted when something first runs for a shape, then remembered with the model.

    Args:
        objective: whose work is priced.
        identity: names the model's class and parameter shapes; a changed model is priced anew.
    """

    def __init__(self, objective: Objective, identity: str) -> None:
        self._books = _PRICES.setdefault(objective, {})
        self._identity = identity
        self._known = self._books.setdefault((identity, ()), {})
        self._last: tuple[Any, Any] = (None, None)
        self.uncounted: dict[str, int] = {}

    def given(self, c: Any) -> None:
        """From now on work is priced for conditions shaped like ``c``."""
        self._known = self._books.setdefault((self._identity, _shapes(c)), {})

    def knows(self, kind: str, tree: Any) -> bool:
        """Whether a price is known."""
        return self._key(kind, tree) in self._known

    def learn(self, kind: str, fn: Callable[..., Any], tree: Any, *rest: Any) -> None:
        """Price ``fn(tree, *rest)`` ahead of its first run; nothing happens if the price is known."""
        if not self.knows(kind, tree):
            self.run(kind, fn, tree, *rest)
            set_aside(self.price(kind, tree) * rows.count(tree))

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
        if tree is not self._last[0]:
            self._last = tree, _shapes(tree)
        return kind, self._last[1]


def _shapes(tree: Any) -> Any:
    """What the price of a sample may depend on: the shapes of its leaves, and of those that belong to no sample."""
    if isinstance(tree, Tensor):
        return tree.shape[1:], tree.dtype
    if isinstance(tree, rows.Shared):
        return getattr(tree.value, "shape", None)
    if isinstance(tree, dict):
        return tuple(map(_shapes, tree.values()))
    return None if tree is None else tuple(map(_shapes, tree))
