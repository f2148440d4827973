"""Is an objective what the engine takes it for? One energy a sample, rows that do not mix, a force that is the slope."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.modules import refusal, survey
from ebm.noise import Draw
from ebm.objective import Energy, Objective, Point, Update
from ebm.testing.case import check, close, same

__all__ = ["check_objective"]


def check_objective(model: Objective, x: Any, start: Any = None) -> None:
    """Check that an objective keeps its side of the contract; works on a copy, so nothing of ``model`` changes.

    Every sample must get the same condition, start, energy, force and read-out alone as in company; energies must have
    the shape (B,) and the force that of the latent, part by part; a closed-form ``point`` must agree with ``forward`` and its
    gradient, and give the same force with a graph, whatever latent and condition were computed from. Nothing may be written in
    place, no buffer may move, and no module may be in a mode in which it mixes samples or draws.

    Args:
        model: the objective.
        x: an observation of at least two samples, a row tree.
        start: latents to check at; None perturbs those of ``init_latent``.

    Raises:
        AssertionError: a promise is broken; the words say which.

    Example:
        >>> import torch, ebm
        >>> from ebm.testing import check_objective
        >>> check_objective(ebm.ModernHopfield(torch.eye(3)), torch.eye(3)[:2])

    Source: the promises of `Objective`; rows that mix are the commonest way to break an anytime call.
    """
    batch, x = rows.count(x), rows.map_rows(torch.clone, x)
    check(batch >= 2, f"An observation of at least two samples is needed; got {batch}. Pass a larger batch.")
    for part in survey(model).unsteady:
        raise AssertionError(str(refusal(model, part)))
    model = copy.deepcopy(model)  # it may change its own buffers
    held = {name: tensor.clone() for name, tensor in model.named_buffers()}
    with torch.no_grad():
        c = _unwritten(model, "condition", {"the observation": x}, lambda: _condition(model, x))
        drawn = _unwritten(model, "init_latent", {"the condition": c}, lambda: _latent(model, x, c))
        z = drawn if start is None else rows.map_rows(torch.clone, start)
        point = _unwritten(model, "point", {"the latent": z, "the condition": c}, lambda: model.point(z, c))
        point = _check_shapes(model, point, z, batch)
        _check_alone(model, x, z, point)
        _check_split(model, z, _condition(model, x), point)
        _unwritten(model, "readout", {"the latent": z, "the condition": c}, lambda: model.readout(z, c))
        _check_readout(model, z, c)
        _check_starts(model, x)
    _check_closed_form(model, z, c, point)
    _check_partial(model, z, c, point)
    for name, tensor in model.named_buffers():
        check(
            same(tensor, held[name]),
            f"{_name(model)} moves its buffer `{name}`. Inference leaves no trace: keep it as it is.",
        )


def _name(model: Objective) -> str:
    return type(model).__name__


def _unwritten(model: Objective, what: str, given: dict[str, Any], call: Callable[[], Any]) -> Any:
    """What a method returns, once it is known that it left what it was given as it was."""
    before = {name: rows.map_rows(torch.clone, tree) for name, tree in given.items()}
    found = call()
    for name, tree in given.items():
        check(
            same(tree, before[name]),
            f"`{_name(model)}.{what}` writes into {name}. Make a new tensor, `z = 0.5 * z` in the place of `z *= 0.5`, and leave "
            "out `inplace=True` in modules such as `torch.nn.ReLU`.",
        )
    return found


def _condition(model: Objective, x: Any) -> Any:
    c, batch = model.condition(x), rows.count(x)
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in rows.leaves(c)}
    check(
        sizes <= {batch},
        f"`{_name(model)}.condition` returns leaves of {sorted(sizes)} rows for {batch} samples. "
        "Give each leaf one row a sample, or wrap what belongs to no sample in `Shared`.",
    )
    return c


def _keys(batch: int) -> Tensor:
    return torch.arange(batch, dtype=torch.int64)


def _start(model: Objective, c: Any, keys: Tensor) -> Any:
    return model.init_latent(c, Draw(keys, torch.full_like(keys, -1)))


def _latent(model: Objective, x: Any, c: Any) -> Any:
    """The model's start, and off it where latents are continuous: a start may be a special point."""
    batch = rows.count(x)
    keys = _keys(batch)
    z = _start(model, c, keys)
    check(rows.count(z) == batch, f"`{_name(model)}.init_latent` returns {rows.count(z)} latents for {batch} samples.")
    if "conditional" in model.provides:
        return z
    return rows.add(z, Draw(keys, torch.zeros_like(keys)).normal(z), 0.1)


def _check_starts(model: Objective, x: Any) -> None:
    """The start of a sample, alone and in company."""
    keys = _keys(rows.count(x))
    whole = _start(model, _condition(model, x), keys)
    for row in range(min(len(keys), 3)):
        index = keys[row : row + 1]
        _check_row(
            model, "start", row, rows.take(whole, index), _start(model, _condition(model, rows.take(x, index)), index)
        )


def _check_shapes(model: Objective, point: Point, z: Any, batch: int) -> Point:
    """The point, with its force in the order of the latent."""
    owns = "energy" in model.provides
    check(
        (point.energy is not None) == owns,
        f"{_name(model)} {'says' if owns else 'does not say'} in `provides` that points carry an energy; they {'do not' if owns else 'do'}.",
    )
    if point.energy is not None:
        got = tuple(point.energy.shape)
        check(
            got == (batch,),
            f"`{_name(model)}.point` must give one energy a sample, shape ({batch},); got {got}. Sum over every axis but the first.",
        )
    try:
        point = point._replace(force=rows.matched(point.force, z, model, "point(...).force"))
    except ValueError as error:
        raise AssertionError(str(error)) from error
    got = tuple(model.residual(point, None).shape) if type(model).residual is Objective.residual else (batch,)
    check(got == (batch,), f"`{_name(model)}.residual` must give one number a sample; got {got}.")
    return point


def _check_alone(model: Objective, x: Any, z: Any, point: Point) -> None:
    """Condition and point of a sample, alone and in company."""
    for row in range(min(rows.count(x), 3)):
        index = torch.tensor([row])
        alone = _point(model, rows.take(z, index), _condition(model, rows.take(x, index)))
        for what in ("energy", "force"):
            _check_row(model, what, row, rows.take(getattr(point, what), index), getattr(alone, what))


def _check_row(model: Objective, what: str, row: int, together: Any, alone: Any) -> None:
    if close(together, alone, 100.0):
        return
    shown = [", ".join(f"{v:.6g}" for v in rows.flatten(tree).flatten()[:3].tolist()) for tree in (together, alone)]
    raise AssertionError(
        f"Rows mix in {_name(model)}: the {what} of sample {row} is {shown[0]} in company and {shown[1]} alone. "
        "Look for a mean, a maximum or a norm over the batch axis, or for noise that is not drawn from `draw`."
    )


def _point(model: Objective, z: Any, c: Any) -> Point:
    point = model.point(z, c)
    return point._replace(force=rows.matched(point.force, z, model, "point(...).force"))


def _check_split(model: Objective, z: Any, c: Any, point: Point) -> None:
    """The engine packs the samples that still run: the condition must follow them."""
    index = torch.arange(rows.count(z) - 1, -1, -1)[: max(rows.count(z) - 1, 1)]
    try:
        part = _point(model, rows.take(z, index), rows.take(c, index))
    except Exception as error:
        raise AssertionError(
            f"The condition of {_name(model)} cannot be split by samples ({error}). Wrap what belongs to no sample in `Shared`, "
            "and keep per-sample tensors in the condition, not on the model."
        ) from error
    wanted = rows.take(tuple(point), index)
    check(
        close(tuple(part), wanted, 100.0),
        f"The condition of {_name(model)} does not follow its samples: with rows taken out and turned round the points are others. "
        "Keep per-sample tensors in the condition, and wrap only what belongs to no sample in `Shared`.",
    )


def _check_readout(model: Objective, z: Any, c: Any) -> None:
    whole = model.readout(z, c)
    for row in range(min(rows.count(z), 3)):
        index = torch.tensor([row])
        alone = model.readout(rows.take(z, index), rows.take(c, index))
        _check_row(model, "read-out", row, rows.take(whole, index), alone)


def _check_closed_form(model: Objective, z: Any, c: Any, point: Point) -> None:
    """`point` against `forward`, and against its gradient by automatic differentiation."""
    if isinstance(model, Energy):
        with torch.no_grad():
            energy = model(z, c)
        check(close(point.energy, energy, 100.0), f"`{_name(model)}.point` gives other energies than `forward`.")
        if "gradient" in model.provides and any(leaf.numel() for leaf in rows.leaves(z)):
            with torch.enable_grad():
                slope = Energy.point(model, z, c).force
            slope = rows.map_rows(torch.detach, slope)
            check(
                close(point.force, slope, 100.0),
                f"The force of `{_name(model)}.point` is not minus the gradient of `forward`. Correct the closed form, "
                'or take "gradient" out of `provides` if the force is a declared descent direction.',
            )
    elif isinstance(model, Update):
        with torch.no_grad():
            moved = Update.point(model, z, c).force
        check(close(point.force, moved, 100.0), f"The force of `{_name(model)}.point` is not `forward(z, c) - z`.")


def _check_partial(model: Objective, z: Any, c: Any, point: Point) -> None:
    """The force at latents that a graph ties to each other and to the condition: each is moved by zero, computed from those before."""
    ahead = torch.zeros_like(rows.rms(z), requires_grad=True)

    def tied(leaf: Tensor) -> Tensor:
        nonlocal ahead
        if not leaf.is_floating_point():
            return leaf
        leaf = rows.add(leaf, torch.ones_like(leaf), ahead.to(leaf.dtype))
        own = leaf - leaf.detach()
        ahead = ahead + (own if own.ndim == 1 else own.flatten(1).sum(1)).to(ahead.dtype)
        return leaf

    with torch.enable_grad():
        latent, given = rows.map_rows(tied, z), rows.map_rows(tied, c)
        force = _point(model, latent, given).force
    check(
        close(rows.map_rows(torch.detach, force), point.force, 100.0),
        f"The force of `{_name(model)}.point` is another where latent and condition have a graph: it is differentiated through what the "
        "latent was computed from. A force holds everything else: differentiate in a view, `z.view_as(z)`, or by `torch.func.grad`.",
    )
