"""Promises about gradients: what a loss sends back through a settled latent is finite, right, and a sample's own business."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.adjoint import Adjoint, Truncated, Unroll
from ebm.engine.implicit import Implicit
from ebm.engine.linear import LinearSolveWarning
from ebm.objective import Objective
from ebm.solution import Solution
from ebm.solvers.base import Solver
from ebm.testing.case import Case, check, close, same
from ebm.testing.neighbours import FAILS, FINE, RUNS_AWAY, Troubled, settled_by, troubled

__all__ = ["GRADIENT_PROMISES", "check_gradients"]

Gradients = list[Tensor]
"""One for each floating-point parameter of the model, then one for each floating-point leaf of the observation."""


class _Run:
    """A settled case with the gradients of a loss: a fixed weighting of its latents, summed over some samples."""

    def __init__(self, case: Case, adjoint: Adjoint, samples: Sequence[int] | None = None, **given: Any) -> None:
        model, x = case.model, rows.map_rows(_leaf, given.pop("x", case.x))
        self.solution: Solution = case._infer(x=x, adjoint=adjoint, keep="last", **given)
        inputs = [p for p in model.parameters() if p.is_floating_point() and p.requires_grad]
        inputs += [leaf for leaf in rows.leaves(x) if leaf.requires_grad]
        value = loss(self.solution.z, samples)
        if value.requires_grad and inputs:
            found = torch.autograd.grad(value, inputs, allow_unused=True)
        else:
            found = [None] * len(inputs)
        self.gradients: Gradients = [
            torch.zeros_like(p) if g is None else g for p, g in zip(inputs, found, strict=True)
        ]


def loss(z: Any, samples: Sequence[int] | None = None) -> Tensor:
    """A weighting of the latents that vanishes nowhere, so that a latent of zero sends a gradient, too."""
    total = torch.zeros((), dtype=torch.float64)
    for leaf in rows.leaves(z):
        chosen = leaf if samples is None else leaf[list(samples)]
        size = leaf[0].numel() if len(leaf) else 1
        weight = torch.cos(1.0 + torch.arange(size, dtype=torch.float64)).to(leaf.dtype).view(leaf.shape[1:])
        total = total + (chosen * weight).sum().double()
    return total


def _leaf(leaf: Tensor) -> Tensor:
    return leaf.detach().clone().requires_grad_() if leaf.is_floating_point() else leaf


def _norm(gradients: Gradients) -> float:
    return float(sum(g.double().square().sum() for g in gradients)) ** 0.5


def _apart(one: Gradients, other: Gradients) -> float:
    return _norm([a.double() - b.double() for a, b in zip(one, other, strict=True)])


def _finite(gradients: Gradients) -> bool:
    return all(bool(g.isfinite().all()) for g in gradients)


# The promises


def latents_do_not_depend_on_the_gradient(case: Case, adjoint: Adjoint, steps: int) -> None:
    """A differentiated call settles to the bits of one that is not; samples leave as they end in both, since products round by their shape.

    `Truncated` settles in two runs, which need not hold samples together as one does: its latents are the same to rounding.
    """
    with torch.no_grad():
        plain = case._infer(steps=steps, keep="last", compact=True)
    found = case._infer(steps=steps, keep="last", compact=True, adjoint=adjoint)
    if isinstance(adjoint, Truncated):
        check(
            close(rows.map_rows(torch.detach, found.z), plain.z, 1e4),
            f"After {steps} steps `z` is another with {adjoint!r}.",
        )
        return
    for name in ("z", "steps", "status"):
        one, other = (rows.map_rows(torch.detach, getattr(each, name)) for each in (plain, found))
        check(same(one, other), f"After {steps} steps `{name}` is another with {adjoint!r}: {_described(one, other)}.")
    if found.energy is not None:
        check(
            close(found.energy.detach(), plain.energy), f"After {steps} steps the energy is another with {adjoint!r}."
        )


def _described(one: Any, other: Any) -> str:
    worst = max(
        (
            float((a.double() - b.double()).abs().max())
            for a, b in zip(rows.leaves(one), rows.leaves(other), strict=True)
        ),
        default=0.0,
    )
    return f"they differ by up to {worst:.3g}"


def gradients_are_finite(case: Case, adjoint: Adjoint, steps: int) -> None:
    """Every gradient is a finite number, and so is everything on its way (anomaly mode looks)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")
        with torch.autograd.set_detect_anomaly(steps <= 5):
            run = _Run(case, adjoint, steps=steps)
    check(_finite(run.gradients), f"After {steps} steps a gradient through {adjoint!r} is not finite.")


def gradients_are_right(case: Case, adjoint: Adjoint, steps: int) -> None:
    """The derivative along a random direction of all parameters and observations equals a central difference, in float64.

    For `Implicit`, of the point at rest, where there is one; for `Truncated`, the gradient equals that of the last steps unrolled.
    """
    if isinstance(adjoint, Truncated) and adjoint.last < steps:
        return _tail_is_unrolled(case, adjoint, steps)
    count = steps
    if isinstance(adjoint, Implicit):
        count = _steps_to_rest(case, steps)
        if not count:
            return None
    run = _Run(case, adjoint, steps=count)
    generator = torch.Generator().manual_seed(13)
    directions = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in run.gradients]
    if _x_is_discrete(case, directions):
        directions = [d if place < _parameters(case) else 0 * d for place, d in enumerate(directions)]
    slope = float(sum((g.double() * d).sum() for g, d in zip(run.gradients, directions, strict=True)))
    scale = sum(float((g.double() * d).abs().sum()) for g, d in zip(run.gradients, directions, strict=True))
    errors = []
    for nudge in (1e-5, 1e-6, 1e-7):
        ends = [_moved(case, directions, sign * nudge, count) for sign in (1.0, -1.0)]
        finite = float(ends[0] - ends[1]) / (2 * nudge)
        errors.append((abs(finite - slope) / max(scale, abs(finite), 1e-6), finite))
        if errors[-1][0] <= 1e-5:
            return None
    error, finite = min(errors)
    check(
        error <= 1e-4,
        f"After {count} steps the derivative through {adjoint!r} along a direction is {slope:.8g}; differences give {finite:.8g}.",
    )
    return None


def _parameters(case: Case) -> int:
    return sum(1 for p in case.model.parameters() if p.is_floating_point() and p.requires_grad)


def _x_is_discrete(case: Case, directions: list[Tensor]) -> bool:
    """Whether the model refuses an observation that is moved a little, such as one of signs."""
    try:
        _moved(case, directions, 1e-7, 0)
    except ValueError:
        return True
    return False


def _moved(case: Case, directions: list[Tensor], nudge: float, steps: int) -> Tensor:
    """The loss with parameters and observation moved along a direction."""
    model = copy.deepcopy(case.model)
    moves = iter(directions)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point() and p.requires_grad:
                p.add_(next(moves), alpha=nudge)
        x = rows.map_rows(
            lambda leaf: leaf.detach() + nudge * next(moves) if leaf.is_floating_point() else leaf, case.x
        )
        return loss(case._replace(model=model)._infer(x=x, steps=steps, keep="last").z)


def _tail_is_unrolled(case: Case, adjoint: Truncated, steps: int) -> None:
    before = case._infer(steps=steps - adjoint.last, keep="last")
    if not bool((before.steps == steps - adjoint.last).all()):
        return
    tail = _Run(case, Unroll(), steps=adjoint.last, resume=before)
    cut = _Run(case, adjoint, steps=steps)
    error = _apart(cut.gradients, tail.gradients)
    check(
        error <= 1e-8 * (1 + _norm(tail.gradients)),
        f"Of {steps} steps the gradient of the last {adjoint.last} differs by {error:.3g} from that of these steps unrolled.",
    )


def _steps_to_rest(case: Case, steps: int) -> int:
    """How many steps bring every sample to rest; zero where so many do not."""
    if steps < 50:
        return 0
    with torch.no_grad():
        found = case._infer(steps=max(steps, 500), keep="last")
    return max(steps, 500) if bool((found.residual <= 1e-9).all()) else 0


def gradients_do_not_know_their_batch(case: Case, adjoint: Adjoint, steps: int) -> None:
    """The gradient of one sample's loss is what it would be alone."""
    before = case._infer(steps=0, keep="last")
    for row in (0, len(before) - 1):
        index = torch.tensor([row])
        company = _Run(case, adjoint, [row], steps=steps, resume=before)
        alone = _Run(case, adjoint, steps=steps, x=rows.take(case.x, index), resume=before.take(index))
        _agree(company, alone, case, row, steps, f"Sample {row} alone, after {steps} steps through {adjoint!r}")


def neighbours_harm_no_gradient(case: Case, adjoint: Adjoint, steps: int) -> None:
    """Beside a sample at rest, one that fails and one that runs away, a gradient is what it would be among others."""
    with torch.no_grad():
        start = case._infer(steps=0, keep="last").carry.point.z
        rest = case._infer(steps=200, keep="last").z
    batch = rows.count(start)
    if batch < 4 or not bool(rows.finite(rest).all()):
        return
    kind = torch.tensor([FINE, FINE, FAILS, RUNS_AWAY] + [FINE] * (batch - 4))
    resting = torch.arange(batch) == 1
    start = rows.where(resting, rest, start)
    whole = case._replace(model=Troubled(case.model), solver=settled_by(case), start=start)
    quiet = _Run(whole, adjoint, [0, 1], steps=steps, x=troubled(case.x, torch.zeros_like(kind), start))
    loud = _Run(whole, adjoint, [0, 1], steps=steps, x=troubled(case.x, kind, start))
    check(
        _finite(loud.gradients),
        f"Beside a sample that fails or runs away a gradient through {adjoint!r} is not finite after {steps} steps.",
    )
    _agree(
        loud, quiet, case, 0, steps, f"Beside a sample that fails or runs away, after {steps} steps through {adjoint!r}"
    )


def _agree(found: _Run, wanted: _Run, case: Case, row: int, steps: int, who: str) -> None:
    """Gradients of one loss agree to rounding, which near rest decides over steps; those of the observation, by sample."""
    count = _parameters(case)
    pairs = list(zip(found.gradients[:count], wanted.gradients[:count], strict=True))
    for one, other in zip(found.gradients[count:], wanted.gradients[count:], strict=True):
        chosen = one[[row]] if len(one) != len(other) else one
        pairs.append((chosen, other))
    size = _norm([other for _, other in pairs])
    error = _apart([one for one, _ in pairs], [other for _, other in pairs])
    slack = 1e-7 if steps <= 5 else 1e-4
    check(error <= slack * (1e-3 + size), f"{who} the gradient differs by {error:.3g} of {size:.3g}.")


def float32_is_as_right_as_it_can_be(case: Case, adjoint: Adjoint, steps: int) -> None:
    """In float32 a gradient is finite, and near that of float64 where the latents are."""
    single = case._replace(model=copy.deepcopy(case.model).float(), x=_single(case.x), start=_single(case.start))
    latents_do_not_depend_on_the_gradient(single, adjoint, steps)
    low, high = _Run(single, adjoint, steps=steps), _Run(case, adjoint, steps=steps)
    check(_finite(low.gradients), f"In float32 a gradient through {adjoint!r} is not finite after {steps} steps.")
    distance = rows.rms(rows.map_rows(lambda a, b: a.double() - b, low.solution.z, high.solution.z))
    near = bool((distance <= 1e-4 * (1e-2 + rows.rms(high.solution.z))).all())
    error, size = _apart(low.gradients, high.gradients), _norm(high.gradients)
    check(
        error <= (0.02 if near else 10.0) * (0.01 + size),
        f"In float32 the gradient through {adjoint!r} after {steps} steps differs by {error:.3g} of {size:.3g} from float64, the latents by {float(distance.detach().max()):.3g}.",
    )


def _single(tree: Any) -> Any:
    return rows.map_rows(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, tree)


GRADIENT_PROMISES: dict[str, Callable[[Case, Adjoint, int], None]] = {
    promise.__name__: promise
    for promise in (
        latents_do_not_depend_on_the_gradient,
        gradients_are_finite,
        gradients_are_right,
        gradients_do_not_know_their_batch,
        neighbours_harm_no_gradient,
        float32_is_as_right_as_it_can_be,
    )
}


def check_gradients(
    model: Objective,
    x: Any,
    *,
    solver: Solver | None = None,
    adjoint: Adjoint = Unroll(),  # noqa: B008
    start: Any = None,
    steps: Sequence[int] = (1, 5, 50),
) -> None:
    """Check that a loss may be sent back through a settled latent, for one model, solver and adjoint.

    Latents equal those of a call without gradients to the bit; gradients are finite, equal to central differences in float64, the
    same alone and in company, unharmed by a neighbour that rests, fails or runs away, and right in float32 as far as it reaches.

    Args:
        model: the objective, in eval mode, in float64.
        x: an observation of at least four samples, a row tree, in float64.
        solver: None asks the model.
        adjoint: how the latent is differentiated.
        start: latents to begin at; None asks the model.
        steps: after how many steps each promise is checked; the last should lie past rest.

    Raises:
        AssertionError: a promise is broken; the words begin with its name. Single promises are in `GRADIENT_PROMISES`.

    Example:
        >>> import torch, ebm
        >>> from ebm.testing import check_gradients
        >>> memory = ebm.ModernHopfield(torch.eye(4).double(), beta=2.0)
        >>> check_gradients(memory, torch.eye(4).double() + 0.3, steps=(1, 5))

    Source: the convergence of derivatives of fixed-point iterations, Gilbert (1992).
    """
    case = Case(model, x, solver, None, start)
    for name, promise in GRADIENT_PROMISES.items():
        for count in steps:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", LinearSolveWarning)
                    promise(case, adjoint, count)
            except AssertionError as error:
                raise AssertionError(f"{name.replace('_', ' ')}: {error}") from error
