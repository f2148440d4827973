"""Anderson acceleration of a fixed-point iteration, per sample and safeguarded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ebm import rows
from ebm.noise import Draw
from ebm.objective import Point
from ebm.solvers.armijo import extent, teaches
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import positive
from ebm.solvers.trial import all_known, evaluate_trial, pick

__all__ = ["Anderson"]

Latents = tuple[Tensor, ...]
_GAIN = 0.9999  # a force that shrinks by less has not shrunk: where it is constant, rounding alone would lead away from rest
_FAR = 3.0  # weights whose sizes add up to more leave the neighbourhood of the latents they mix
_MOST = 300.0  # ... and to more than this, leave it for a place of which they know nothing


@dataclass(frozen=True)
class Anderson(Solver):
    r"""Anderson acceleration: the next latent mixes the last ``window`` ones so that their forces nearly cancel.

    With past latents :math:`z_i` and forces :math:`g_i`:

    .. math:: \min_\alpha \|\textstyle\sum_i \alpha_i g_i\|^2 + \rho\,\overline{\|g\|^2}\,\|\alpha\|^2,\quad
              \textstyle\sum_i \alpha_i = 1,\qquad z' = \textstyle\sum_i \alpha_i (z_i + \beta g_i)

    The ridge is relative to the mean squared force of the window, so the method keeps its speed at small residuals. A
    step costs one evaluation, and every ``every`` steps ``window`` inner products and as many additions of latents. If the
    mixed latent fails the safeguard, the sample stays, forgets its past, and its next step is a plain one. So is the step of
    a sample whose forces promise nothing, or whose weights would lead too far beyond the latents they mix. Weights that add
    up to more than 3 must lower the residual. At rest, where the force is all rounding, steps are plain and the past is kept;
    there a gradient is that of a step mixed as the past was, with its weights fixed.

    Args:
        window: how many past latents are mixed, at least 2; memory is 2 x window latents a sample.
        ridge: rho >= 0, relative. Where past forces are nearly parallel, as in a corner of a box, rounding of the model's own
            products grows by up to 1 / rho; raise it where answers must agree to the last digits between batches of other sizes.
        mixing: beta > 0, the step size of the underlying iteration; for an energy choose it as for `Descent`.
        safeguard: what may not get worse: ``"residual"`` (by more than ``growth``), ``"energy"``, or None.
        growth: the most by which the residual may grow in a mixed step.
        every: >= 1; a mixed step is followed by ``every - 1`` plain ones, which saves most of the mixing's cost and often
            steps as well. One mixes always, for maps that are very dear, or whose plain step diverges fast.
        spare: in [0, 1); a sample whose last step shrank the force to less than ``spare`` times its size moves plainly:
            it has no need of mixing. Zero mixes always.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> import ebm
        >>> ebm.Anderson(window=5, mixing=0.5).window
        5

    Source: Anderson (1965); Walker and Ni (2011), algorithm AA, in the constrained form; Pratapa, Suryanarayana
    and Pask (2016) for ``every``, the alternating Anderson-Jacobi method. The relative ridge, the safeguard and the
    restarts are ours.
    """

    window: int = 5
    ridge: float = 1e-10
    mixing: float = 1.0
    safeguard: Literal["residual", "energy"] | None = "residual"
    growth: float = 2.0
    every: int = 3
    spare: float = 0.6

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"`Anderson(window=...)` must be at least 2; got {self.window}. Try 5.")
        if self.ridge < 0:
            raise ValueError(f"`Anderson(ridge=...)` may not be negative; got {self.ridge}. Try 1e-10.")
        if self.safeguard not in ("residual", "energy", None):
            raise ValueError(
                f'`Anderson(safeguard=...)` is "residual", "energy" or None; got {self.safeguard!r}. Leave it out.'
            )
        if self.every < 1:
            raise ValueError(f"`Anderson(every=...)` must be at least 1; got {self.every}. Try 3.")
        if not 0 <= self.spare < 1:
            raise ValueError(f"`Anderson(spare=...)` must lie in [0, 1); got {self.spare}. Try 0.5.")
        positive("Anderson", "mixing", self.mixing)
        positive("Anderson", "growth", self.growth)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """An energy, where that is the safeguard."""
        return frozenset({"energy"}) if self.safeguard == "energy" else frozenset()

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation, and one more where a proposal that is not finite must not reach a graph."""
        return {"point": 2 if differentiated else 1}

    @property
    def learns(self) -> bool:
        """Past forces say where the next latent lies."""
        return True

    def init(self, point: Point) -> Any:
        """Past forces and plain moves, oldest first; inner products of the forces; and two counts (B,): the points in the
        window, the running one included, and the plain steps since the last mixed one."""
        force = rows.flatten(point.force)
        forces, moved = (  # a tensor each: compiled steps tell twins apart
            tuple(torch.zeros_like(force) for _ in range(self.window - 1)) for _ in range(2)
        )
        wide = torch.float32 if force.device.type == "mps" else torch.float64  # Apple's devices have no other
        gram = torch.zeros(len(force), self.window - 1, self.window - 1, dtype=wide, device=force.device)
        none = torch.zeros(len(force), dtype=torch.int64, device=force.device)
        return {"force": forces, "moved": moved, "gram": gram, "filled": none + 1, "plain": none}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """One evaluation, at the mixed latent or at the plain move."""
        # the running point is not in the memory: where a graph begins anew, its force has one and a remembered force has none
        here, force = rows.flatten(point.z), rows.flatten(point.force)
        forces = (*memory["force"], force)
        moved = (*memory["moved"], torch.add(here, force, alpha=self.mixing))
        # a force that is all rounding says nothing of where rest lies: there the step is plain, and the past is kept as it is
        length, past = rows.rms(force), memory
        live = teaches(length, extent(here))
        if all_known(~live):
            z = rows.unflatten(self._target(past, force, moved[-1], live), point.z)
            return Step(field(z), past, Info(torch.ones_like(live)))
        due = (memory["filled"] > 1) & (memory["plain"] >= self.every - 1) & live
        if self.spare and self._worth(due):
            quick = due & (length < self.spare * rows.rms(forces[-2]))
            due = due & ~quick
            # moving plainly out of turn, a sample has no products of its past: it begins anew
            memory = memory | {
                "filled": torch.where(quick, 0, memory["filled"]),
                "plain": torch.where(quick, -1, memory["plain"]),
            }
        target = self._target(past, force, moved[-1], live)
        if self._worth(due):
            step = self._mixing(field, point, memory, forces, moved, due, target, length)
            return step._replace(memory=pick(live, step.memory, past))
        memory = {
            "force": forces[1:],
            "moved": moved[1:],
            "gram": _shifted(memory["gram"]),
            "filled": (memory["filled"] + 1).clamp_max(self.window),
            "plain": memory["plain"] + 1,
        }
        return Step(field(rows.unflatten(target, point.z)), pick(live, memory, past), Info(torch.ones_like(due)))

    def _worth(self, due: Tensor) -> bool:
        """Whether any sample may mix: it costs as much as evaluating a small model, so this is worth a look."""
        return self.every == 1 or torch.compiler.is_compiling() or bool(due.any())

    def _target(self, past: Any, force: Tensor, plain: Tensor, live: Tensor) -> Tensor:
        """Where a plain step leads. At rest it has the slope of a step that is mixed as the past was before, its weights fixed:
        the plain step's own would grow from step to step where the plain iteration does not settle."""
        if not torch.is_grad_enabled() or all_known(live):
            return plain
        forces, moved = (torch.stack(past[name], 1).detach() for name in ("force", "moved"))
        used = torch.arange(self.window - 1, 0, -1, device=live.device) < past["filled"][:, None]
        change = torch.where((used & ~live[:, None])[:, :, None], forces - force.detach()[:, None], 0.0)
        length = torch.linalg.vector_norm(change, dim=2, keepdim=True)
        length = torch.where(length > 0, length, 1.0)
        change, shift = change / length, (moved - plain.detach()[:, None]) / length
        # roundings are up to a tenth of the least of these forces: what only they tell apart is left to the plain step
        system = change @ change.mT + torch.finfo(force.dtype).eps ** 0.25 * torch.eye(change.shape[1]).to(change)
        weights = torch.linalg.solve(system, (change @ force[:, :, None]))
        corrected = plain - (weights * shift).sum(1)
        sloped = plain.detach() + (corrected - corrected.detach())
        return torch.where(live[:, None], plain, sloped)

    def _mixing(
        self,
        field: Field,
        point: Point,
        memory: Any,
        forces: Latents,
        moved: Latents,
        due: Tensor,
        target: Tensor,
        length: Tensor,
    ) -> Step:
        """A step of which the samples that are ``due`` may mix; the others move to their ``target``."""
        gram = _gram(memory["gram"], forces, min(self.every, self.window))
        # products that overflow, or that nobody asked for, must stay out of a graph
        known = torch.where((due & rows.finite(gram))[:, None, None], gram, 0.0) if torch.is_grad_enabled() else gram
        weights, sound, far = self._weights(known, memory["filled"], target.dtype)
        mixed = due & sound
        z = rows.unflatten(_combined(weights, (*moved[:-1], target), mixed), point.z)
        trial = evaluate_trial(field, z, point, mixed)
        accepted = trial.finite & (~mixed | self._no_worse(trial.point, point, far, length))
        filled = torch.where(due & ~sound, 1, memory["filled"]) + 1
        kept = gram[:, 1:, 1:].contiguous()
        memory = {
            "force": forces[1:],
            "moved": moved[1:],
            # products are kept from a sample's own mixing alone, so that its memory does not depend on its company
            "gram": kept if self.every == 1 else torch.where(due[:, None, None], kept, _shifted(memory["gram"])),
            "filled": torch.where(accepted, filled, 1).clamp_max(self.window),
            "plain": torch.where(due, 0, memory["plain"] + 1).clamp_max(self.every - 1),
        }
        return Step(Point(*pick(accepted, tuple(trial.point), tuple(point))), memory, Info(accepted))

    def _weights(self, gram: Tensor, filled: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The mixing weights (B, window), which samples have a sound system, and which are led far beyond what they know.

        In float64 where there is one: the Gram matrix squares the spread of the forces.
        """
        used = torch.arange(self.window - 1, -1, -1, device=gram.device) < filled[:, None]
        mean = (gram.diagonal(dim1=1, dim2=2) * used).sum(1) / filled.clamp_min(1)
        mean = torch.where(mean > 0, mean, 1.0)
        floor = max(self.ridge, torch.finfo(gram.dtype).eps)  # what keeps an exactly singular system solvable
        eye = torch.eye(self.window, dtype=gram.dtype, device=gram.device)
        system = torch.where(used[:, :, None] & used[:, None, :], gram / mean[:, None, None] + floor * eye, eye)
        raw, _ = torch.linalg.solve_ex(system, used.to(gram.dtype))
        total = raw.sum(1)
        # larger weights would cancel half of the digits of the latents they mix; a comparison with nan is false
        size, whole = raw.detach().abs().sum(1), total.detach().abs()
        sound = size < whole * min(torch.finfo(dtype).eps ** -0.5, _MOST)
        # the mixed forces have the mean square over the total; where that is no less than the newest has, nothing is to be gained
        sound = sound & (mean < _GAIN * total * gram[:, -1, -1]).detach()
        weights = raw / torch.where(sound, total, 1.0)[:, None]
        return weights.to(dtype), sound, size > _FAR * whole

    def _no_worse(self, new: Point, old: Point, far: Tensor, before: Tensor) -> Tensor:
        if self.safeguard == "energy":
            assert new.energy is not None and old.energy is not None  # `needs` says so at the door
            return new.energy <= old.energy
        if self.safeguard is None:
            return torch.ones(rows.count(new.z), dtype=torch.bool, device=rows.first_leaf(new.z).device)
        after = rows.rms(rows.flatten(new.force))
        return (after <= self.growth * before) & (~far | (after < _GAIN * before))


def _gram(past: Tensor, forces: Latents, fresh: int) -> Tensor:
    """The inner products of the forces, (B, window, window); only those with the last ``fresh`` ones are computed."""
    old = len(forces) - fresh
    stack = torch.stack(forces, 1)
    with torch.autocast(stack.device.type, enabled=False):  # half precision is for the model's products
        new = torch.bmm(stack[:, old:], stack.mT).to(past.dtype)
    known = torch.cat([past[:, :old, :old], new[:, :, :old].mT], 2)
    return torch.cat([known, new], 1)


def _shifted(gram: Tensor) -> Tensor:
    """The products of the past with its oldest point gone; those with the newest one are not known yet."""
    return torch.nn.functional.pad(gram[:, 1:, 1:], (0, 1, 0, 1))


def _combined(weights: Tensor, latents: Latents, mixed: Tensor) -> Tensor:
    """The weighted sum where ``mixed``, the newest latent elsewhere."""
    newest = [0.0] * (len(latents) - 1) + [1.0]
    weights = torch.where(mixed[:, None], weights, torch.tensor(newest, dtype=weights.dtype, device=weights.device))
    columns = weights.unsqueeze(2).unbind(1)
    total = columns[0] * latents[0]
    for column, latent in zip(columns[1:], latents[1:], strict=True):
        total = torch.addcmul(total, column, latent)
    return total
