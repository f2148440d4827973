"""What a solver asks, counted; and what each kind of question costs, measured once a shape."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.flops import FlopCounter
from ebm.engine.guard import guarded
from ebm.engine.ledger import set_aside
from ebm.noise import Draw
from ebm.objective import Energy, Flip, Lasso, Objective, Point, Product, Update, alias, spared, unwritten, variable

__all__ = ["CountedField", "Meter", "evaluate", "learn_prices", "pullback", "read", "transposed"]


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

    def aside(self, z: Any) -> Point:
        return self(z)

    def start(self, draw: Draw) -> Any:
        self._count("start")
        return self._objective.init_latent(self._c, draw)

    def conditional(self, z: Any, block: Tensor) -> Tensor:
        self._count("conditional")
        return unwritten(self._objective, "conditional", z, z, self._c, block)

    def sweep(self, z: Any) -> Any:
        self._count("sweep")
        return swept(self._objective, z, self._c)

    def flip(self, z: Any, block: Tensor) -> Flip:
        self._count("flip")
        return unwritten(self._objective, "flip", z, z, self._c, block)

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
        return _latent_of(self._objective, "prox", z, z, size, self._c)

    def resolvent(self, z: Any, size: float) -> Any:
        self._count("resolvent")
        return _latent_of(self._objective, "resolvent", z, z, size, self._c)

    def lasso(self) -> Lasso:
        return self._objective.lasso(self._c)

    def bend(self, direction: Any) -> Any:
        self._count("bend")
        return self._objective.bend(direction, self._c)


def swept(objective: Any, z: Any, c: Any) -> Any:
    """Every unit in turn set to what it wants given the others, by the objective's own sweep where it has one."""
    if "sweep" in objective.provides:
        return _latent_of(objective, "sweep", z, z, c)
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
        latent = rows.map_rows(lambda leaf: variable(leaf, keep), guarded(z) if keep else z)
        force = evaluate(objective, latent, c, guard=False).force
    return transposed(latent, force, keep)


def transposed(latent: Any, outcome: Any, keep: bool) -> Product:
    r"""The map :math:`v \mapsto v^T \partial \text{outcome} / \partial \text{latent}` of a graph; ``keep`` makes it differentiable."""
    inputs, outputs = list(rows.leaves(latent)), list(rows.leaves(outcome))
    moved = [leaf.requires_grad for leaf in outputs]

    def product(direction: Any) -> Any:
        along = [_number(v, keep) for v, does in zip(rows.leaves(direction), moved, strict=True) if does]
        found = [torch.zeros_like(leaf) for leaf in inputs]
        if along:
            ends = [leaf for leaf, does in zip(outputs, moved, strict=True) if does]
            found = torch.autograd.grad(
                ends, inputs, along, retain_graph=True, create_graph=keep, allow_unused=True, materialize_grads=True
            )
        slopes = iter(found)
        return guarded(rows.map_rows(lambda _: next(slopes), latent))

    return product


def _number(leaf: Tensor, keep: bool) -> Tensor:
    """A direction without what is no number: in a graph it would meet a cotangent of zero, and their product is NaN in every parameter."""
    return leaf.nan_to_num(0.0, 0.0, 0.0) if keep else leaf


def gauss_newton(objective: Any, z: Any, c: Any) -> Product:
    r"""Products with :math:`J^T J`, J the Jacobian of the objective's residuals at ``z``; differentiable as `pullback` is.

    Eagerly J is applied by differentiating :math:`u \mapsto J^T u`, which is linear: both halves of a product then go over
    graphs that are made once, where a forward mode would evaluate the residuals again at every product.
    """

    def residuals(latent: Any) -> Tensor:
        return unwritten(objective, "residuals", latent, latent, c).to(rows.first_leaf(z).dtype)

    if torch.compiler.is_compiling():
        pull = torch.func.vjp(residuals, z)[1]
        return lambda direction: pull(torch.func.jvp(residuals, (z,), (direction,))[1])[0]
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        latent = rows.map_rows(lambda leaf: variable(leaf, keep), guarded(z) if keep else z)
        inputs, found = list(rows.leaves(latent)), residuals(latent)
        if not found.requires_grad:  # no residual depends on anything that is differentiated
            return lambda direction: rows.map_rows(torch.zeros_like, direction)
        along = torch.zeros_like(found, requires_grad=True)
        back = torch.autograd.grad(found, inputs, along, create_graph=True, materialize_grads=True)
    moved = [leaf.requires_grad for leaf in back]

    def product(direction: Any) -> Any:
        ends = [leaf for leaf, does in zip(back, moved, strict=True) if does]
        ahead = [_number(v, keep) for v, does in zip(rows.leaves(direction), moved, strict=True) if does]
        tilt = torch.autograd.grad(ends, along, ahead, retain_graph=True, create_graph=keep, materialize_grads=True)[0]
        slopes = iter(
            torch.autograd.grad(found, inputs, tilt, retain_graph=True, create_graph=keep, materialize_grads=True)
        )
        return guarded(rows.map_rows(lambda _: next(slopes), latent))

    return product


def learn_prices(meter: Meter, objective: Any, kinds: Iterable[str], z: Any, c: Any) -> None:
    """Price each kind of question at a latent, ahead of the first step."""
    kinds = [kind for kind in kinds if not meter.knows(kind, z)]
    if not kinds:
        return
    one = torch.ones(rows.count(z), dtype=rows.first_leaf(z).dtype, device=rows.first_leaf(z).device)
    keys = unit = torch.zeros_like(one, dtype=torch.int64)
    field = CountedField(objective, c, rows.count(z))
    ask: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "point": lambda: field,
        "start": lambda: lambda _: field.start(Draw(keys, keys)),
        "conditional": lambda: lambda latent: field.conditional(latent, unit),
        "sweep": lambda: field.sweep,
        "flip": lambda: lambda latent: field.flip(latent, unit),
        "curvature": lambda: curvature(objective, z, c),
        "residuals": lambda: lambda latent: gauss_newton(objective, latent, c),
        "gauss_newton": lambda: gauss_newton(objective, z, c),
        "prox": lambda: lambda latent: field.prox(latent, one),
        "resolvent": lambda: lambda latent: field.resolvent(latent, 1.0),
        "bend": lambda: field.bend,
    }
    with torch.no_grad():
        for kind in kinds:
            meter.learn(kind, ask[kind](), z)


def evaluate(objective: Objective, z: Any, c: Any, guard: bool = True) -> Point:
    """The point at ``z``; the force in the order of the latent, and force and energy in its dtype, whatever dtype the products ran in.

    With ``guard`` a derivative that overflows stays in its sample (`ebm.engine.guard`); without, it is seen by who differentiates here.
    """
    graph = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    latent = (guarded(z) if guard else rows.map_rows(_own, z)) if graph else z
    if type(objective).point in _KEPT:
        point = objective.point(latent, c)
    else:
        point = _ordered(unwritten(objective, "point", latent, latent, c), latent, objective)
    if graph and point.z is latent:
        point = point._replace(z=z)
    dtype = rows.first_leaf(z).dtype
    if rows.first_leaf(point.force).dtype != dtype:
        point = point._replace(force=rows.map_rows(lambda f, latent: f.to(latent.dtype), point.force, z))
    if point.energy is not None and point.energy.dtype != dtype:
        point = point._replace(energy=point.energy.to(dtype))
    return Point(point.z, guarded(point.energy), guarded(point.force)) if graph and guard else point


def _own(leaf: Tensor) -> Tensor:
    """A latent whose derivatives are partial ones, in whatever way the model takes them."""
    return alias(leaf) if leaf.requires_grad else leaf


_KEPT = (Energy.point, Update.point)  # they do by themselves what a closed form is held to


def _ordered(point: Point, z: Any, objective: Objective) -> Point:
    """The point with its parts in the order of the latent."""
    latent = point.z if point.z is z else rows.matched(point.z, z, objective, "point(...).z")
    force = rows.matched(point.force, z, objective, "point(...).force")
    return point if latent is point.z and force is point.force else Point(latent, point.energy, force)


def read(objective: Objective, z: Any, c: Any) -> Any:
    """The answer read off a latent."""
    return spared(objective, "readout", z, c)


def _latent_of(objective: Any, name: str, z: Any, *given: Any) -> Any:
    """What a method of the objective makes of a latent ``z``, in the order of that."""
    return rows.matched(unwritten(objective, name, z, *given), z, objective, name)


class Price(NamedTuple):
    """FLOPs a sample, and the operations that had no formula."""

    flops: int
    uncounted: dict[str, int]


_PRICES: WeakKeyDictionary[Objective, dict[Any, dict[Any, Any]]] = WeakKeyDictionary()


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

    def took(self, clock: Any, tree: Any, seconds: float) -> None:
        """Remember how long the read-out of a batch of these shapes took on a clock, for as long as the clock is there."""
        with contextlib.suppress(TypeError):  # not every callable can be referred to weakly
            self._known["seconds", rows.count(tree), _shapes(tree)] = weakref.ref(clock), seconds

    def takes(self, clock: Any, tree: Any) -> float:
        """How long it took last; zero if it never ran on this clock."""
        known, seconds = self._known.get(("seconds", rows.count(tree), _shapes(tree)), (lambda: clock, 0.0))
        return seconds if known() is clock else 0.0

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
