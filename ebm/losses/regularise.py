"""Penalties on how a model settles, and the sum of losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine import Adjoint, Truncated, infer
from ebm.losses.begins import Begin, Elsewhere, neighbour
from ebm.losses.spans import WITHOUT_GRADIENT, check_range, drawn, never, scalar
from ebm.noise import Draw, draw_keys
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["JacobianPenalty", "PathIndependence", "Rule", "Settled", "Together", "misaligned", "squared_distance"]

Rule = Callable[[Objective, Any, Any, Any], Tensor]
"""``rule(model, x, y, generator)``, a scalar: any loss of this package."""


@dataclass(frozen=True)
class Settled:
    """The loss of the settled answer alone, under any adjoint: whole, truncated or implicit gradients.

    Args:
        loss: ``loss(answer, y)``, a scalar.
        steps: of settling, at least 1, or (least, most) to draw from, both included.
        adjoint: how the settled latent is differentiated: `Truncated(k)` for long settling, `Implicit()` where it comes to rest, `Unroll()`.
        begin: where a batch begins; None, and wherever it says None: the model's own start.
        solver: how the latent moves; None asks the model.

    Raises:
        TypeError: steps that are not whole numbers.
        ValueError: fewer than one step; at the call, no generator, though something is to be drawn.
        InferenceError: at the call, some samples ended NONFINITE.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule = ebm.losses.Settled(torch.nn.functional.cross_entropy, steps=30, adjoint=ebm.Implicit())
        >>> rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long()).backward()

    Source: Bai, Kolter and Koltun (2019), Deep equilibrium models, for implicit gradients.
    """

    loss: Callable[[Any, Any], Tensor]
    steps: int | tuple[int, int] = 32
    adjoint: Adjoint = field(default_factory=lambda: Truncated(8))
    begin: Begin | None = None
    solver: Solver | None = None

    def __post_init__(self) -> None:
        check_range("Settled", "steps", self.steps, 1)

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The loss of one batch, a scalar."""
        if self.begin is not None or not isinstance(self.steps, int):
            _wanted("Settled", "steps and start", generator)
        steps = drawn(self.steps, generator)
        begin = None if self.begin is None or generator is None else self.begin(model, x, generator)
        found = infer(
            model,
            x,
            steps=steps,
            solver=self.solver,
            stop=never(model),
            start=begin,
            keep="last",
            adjoint=self.adjoint,
            generator=generator,
        )
        return scalar("Settled", self.loss(found.raise_for_status().answer, y))


@dataclass(frozen=True)
class JacobianPenalty:
    r"""How strongly an update's map stretches latents where it has settled:

    .. math:: L = \frac1B \sum_{\text{samples}} \frac1D \|J\|_F^2, \qquad J = \frac{\partial f}{\partial z}(z^*), \qquad
        \|J\|_F^2 = \mathbb E\, \|\epsilon^T J\|^2, \quad \epsilon \sim N(0, I),

    by drawn :math:`\epsilon`, so the estimate is unbiased. A smaller Jacobian settles in fewer steps and for longer runs, at the price of
    what the map can express.

    Args:
        steps: settled for without a gradient before it is measured, at least 0.
        draws: of :math:`\epsilon`, at least 1.
        solver: how the latent moves; None asks the model.

    Raises:
        ValueError: a setting outside its range; at the call, no generator.
        TypeError: at the call, an energy.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> ebm.losses.JacobianPenalty(steps=5)(cell, torch.randn(3, 1, 6), None, torch.Generator().manual_seed(0)).backward()

    Source: Bai, Koltun and Kolter (2021), Stabilizing equilibrium models by Jacobian regularization, eq. 6.
    """

    steps: int = 16
    draws: int = 1
    solver: Solver | None = None

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("draws", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`JacobianPenalty({name}=...)` is a whole number of at least {least}; got {value!r}. Try {least + 1}."
                )

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of one batch, a scalar; ``y`` is not looked at."""
        if "energy" in model.provides:
            raise TypeError(
                f"`JacobianPenalty` measures an `Update`; got {type(model).__name__}, an energy. Pass the map itself."
            )
        generator = _wanted("JacobianPenalty", "directions", generator)
        options: dict[str, Any] = {"solver": self.solver, "stop": never(model), "generator": generator}
        options["adjoint"] = WITHOUT_GRADIENT
        settled = infer(model, x, steps=self.steps, keep="last", **options).raise_for_status().z
        z = rows.map_rows(lambda leaf: leaf.detach().requires_grad_(), settled)
        moved = rows.add(model.point(z, model.condition(x)).force, z)  # f(z), of a wrapped update as well
        ends, inputs = list(rows.leaves(moved)), list(rows.leaves(z))
        keys = draw_keys(rows.count(z), inputs[0].device, generator)
        draw, parts = Draw(keys, torch.zeros_like(keys)), []
        for _ in range(self.draws):
            noise = list(rows.leaves(draw.normal(moved)))
            pulled = torch.autograd.grad(ends, inputs, noise, create_graph=True, materialize_grads=True)
            parts.append(rows.rms(list(pulled)).square().mean())
        return torch.stack(parts).mean()


def misaligned(a: Any, b: Any) -> Tensor:
    r"""One minus the cosine of two row trees, (B,).

    Example:
        >>> import torch
        >>> from ebm.losses import misaligned
        >>> misaligned(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
        tensor([0., 1.])
    """
    return 1 - torch.cosine_similarity(rows.flatten(a), rows.flatten(b), dim=1)


def squared_distance(a: Any, b: Any) -> Tensor:
    """The mean squared difference of two row trees, (B,).

    Example:
        >>> import torch
        >>> from ebm.losses import squared_distance
        >>> squared_distance(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([2.])
    """
    return (rows.flatten(a) - rows.flatten(b)).square().mean(1)


@dataclass(frozen=True)
class PathIndependence:
    r"""How far apart latents end that began in different places:

    .. math:: L = 1 - \frac1B \sum_{\text{samples}} \frac{\langle z^*, \tilde z^* \rangle}{\|z^*\|\,\|\tilde z^*\|}

    with :math:`z^*` settled from the model's own start and :math:`\tilde z^*` from another, both for the same steps and the last few of them differentiated.

    Args:
        steps: of settling, at least 1.
        last: of them differentiated, at least 1.
        begin: the other start: `Elsewhere(...)` or `Noisy(...)`, with odds of one.
        apart: ``apart(a, b)`` of two row trees, (B,): `misaligned`, as above, or `squared_distance`.
        answers: compare the answers, not the latents.
        solver: how the latent moves; None asks the model.

    Raises:
        ValueError: a setting outside its range; at the call, no generator.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> ebm.losses.PathIndependence(steps=8)(cell, torch.randn(3, 1, 6), None, torch.Generator().manual_seed(0)).backward()

    Source: the alignment score of Anil et al. (2022), Path independent equilibrium models can better exploit test-time computation, there a measure.
    """

    steps: int = 32
    last: int = 4
    begin: Begin = field(default_factory=lambda: Elsewhere(neighbour, (32, 32), odds=1.0))
    apart: Callable[[Any, Any], Tensor] = misaligned
    answers: bool = False
    solver: Solver | None = None

    def __post_init__(self) -> None:
        if not (type(self.steps) is int and type(self.last) is int and 1 <= self.last <= self.steps):
            raise ValueError(
                f"`PathIndependence` wants 1 <= last <= steps, whole numbers; got {self.last!r} and {self.steps!r}. Try 4 and 32."
            )

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of one batch, a scalar; ``y`` is not looked at."""
        generator = _wanted("PathIndependence", "other start", generator)
        ends = []
        for start in (None, self.begin(model, x, generator)):
            found = infer(
                model,
                x,
                steps=self.steps,
                solver=self.solver,
                start=start,
                keep="last",
                stop=never(model),
                adjoint=Truncated(self.last),
                generator=generator,
            ).raise_for_status()
            ends.append(found.answer if self.answers else found.z)
        return self.apart(*ends).mean()


@dataclass(frozen=True)
class Together:
    r"""The weighted sum of losses, :math:`\sum_i w_i L_i`, each with its own draws from the generator, in order.

    Args:
        parts: pairs of a weight and a loss, at least one.

    Raises:
        ValueError: no part.
        TypeError: a part that is no pair of a number and a loss.

    Example:
        >>> import torch, ebm
        >>> from ebm.losses import PathIndependence, Progressive, Together
        >>> rule = Together((1.0, Progressive(torch.nn.functional.cross_entropy)), (0.1, PathIndependence(steps=8)))
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> rule(cell, torch.randn(3, 1, 6), torch.zeros(3, 6).long(), torch.Generator().manual_seed(0)).backward()
    """

    parts: tuple[tuple[float, Rule], ...]

    def __init__(self, *parts: tuple[float, Rule]) -> None:
        if not parts:
            raise ValueError("`Together` adds at least one loss; got none. Pass (1.0, Progressive(...)), say.")
        for part in parts:
            if not isinstance(part, tuple) or len(part) != 2 or isinstance(part[0], str) or not callable(part[1]):
                raise TypeError(
                    f"`Together` adds pairs of a weight and a loss; got {type(part).__name__}. Pass (1.0, Progressive(...)), say."
                )
        object.__setattr__(self, "parts", parts)

    def __call__(self, model: Objective, x: Any, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """The sum for one batch, a scalar."""
        return torch.stack([weight * rule(model, x, y, generator) for weight, rule in self.parts]).sum()


def _wanted(owner: str, what: str, generator: torch.Generator | None) -> torch.Generator:
    if generator is None:
        raise ValueError(
            f"`{owner}` draws its {what} from a generator; got none. Pass `generator=torch.Generator().manual_seed(0)`, the same "
            "one to every call."
        )
    return generator
