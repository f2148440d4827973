"""What a diagnosis says: the numbers for each sample, and the advice that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

__all__ = ["NEAR", "Diagnosis", "Outlook"]

NEAR = 0.01  # a latent that would still go further than this share of its size does not rest
_SHARE = 0.1  # what concerns fewer samples than this is counted, but not advised on
_SLOW = 0.9


class Outlook(IntEnum):
    """What more steps would do for a sample.

    ``INERT``: it was at rest before the first step. ``AT_REST``: it came to rest, and would go no further. ``DESCENDING``: it is on its way, at a known rate.
    ``CYCLES``: it comes back to where it was. ``CHAOTIC``: near starts separate and nothing settles. ``DIVERGES``: it runs away, or
    is no longer finite. ``UNSETTLED``: none of these within the steps taken.
    """

    INERT = 0
    AT_REST = 1
    DESCENDING = 2
    CYCLES = 3
    CHAOTIC = 4
    DIVERGES = 5
    UNSETTLED = 6


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Whether more steps would help, and what would; made by `ebm.diagnose`, read by printing it.

    S is the number of steps, B of samples. Everything is of the running latent (``keep="last"``).

    Attributes:
        model, solver: in words.
        steps: S.
        tolerance: the residual that counts as rest.
        residual: (S + 1, B), root mean square of the force before the first step and after each.
        moves: (S, B), root mean square of the change of the latent.
        energy: (S + 1, B), or None for an update.
        quality: (S + 1, B), or None without ``target`` and ``quality``.
        outlook: int64 (B,), an `Outlook` each.
        rate: (B,), factor of the residual a step, over the last steps; NaN where too few were left to tell.
        move_rate: (B,), the same of the moves.
        remaining: (B,), how far as many steps again would go, at that rate, as a share of the latent's size.
        rest_at: int64 (B,), the step from which on the residual is within the tolerance; S + 1 if it never is.
        descent: (B,), by how much the energy fell a step over the second half; None for an update.
        raised: (B,), share of steps that raised the energy beyond rounding; None for an update.
        period: int64 (B,), steps after which a latent comes back; 0 if it does not.
        lyapunov: (B,), rate at which a start a little beside separates, a step; negative where it falls in. None for a discrete latent.
        apart: (S + 1, B), the distance of that start from the first; None for a discrete latent.
        starts: how many other starts were tried.
        alignment: (B,), mean cosine of the settled latents from all starts; None with no other start.
        answer_alignment: (B,), the same of the answers.
        depends: bool (B,), at rest from every start, but with different answers (a tenth of their size apart); None with no other start.
        changed: bool (B,), whether the answer ever differs from that of step 0.
        over_steps: (B,), rank correlation over the steps of energy (residual for an update) and quality: -1 where the lower the better;
            NaN where one of them is constant. None without quality.
        across: the same across samples after the last step; None without quality.
        flops: executed by the whole diagnosis.

    Example:
        >>> import torch, ebm
        >>> report = ebm.diagnose(ebm.ModernHopfield(torch.eye(4)), torch.eye(4) + 0.2, steps=8)
        >>> report.main.name, report.steps_to(0.5)
        ('AT_REST', tensor([0., 0., 0., 0.], dtype=torch.float64))
    """

    model: str
    solver: str
    steps: int
    tolerance: float
    residual: Tensor = field(repr=False)
    moves: Tensor = field(repr=False)
    energy: Tensor | None = field(repr=False)
    quality: Tensor | None = field(repr=False)
    outlook: Tensor = field(repr=False)
    rate: Tensor = field(repr=False)
    move_rate: Tensor = field(repr=False)
    remaining: Tensor = field(repr=False)
    rest_at: Tensor = field(repr=False)
    descent: Tensor | None = field(repr=False)
    raised: Tensor | None = field(repr=False)
    period: Tensor = field(repr=False)
    lyapunov: Tensor | None = field(repr=False)
    apart: Tensor | None = field(repr=False)
    starts: int
    alignment: Tensor | None = field(repr=False)
    answer_alignment: Tensor | None = field(repr=False)
    depends: Tensor | None = field(repr=False)
    changed: Tensor = field(repr=False)
    over_steps: Tensor | None = field(repr=False)
    across: float | None
    flops: int

    def __len__(self) -> int:
        return self.residual.shape[1]

    def share(self, outlook: Outlook) -> float:
        """The share of samples with this outlook."""
        return (self.outlook == outlook).double().mean().item()

    @property
    def main(self) -> Outlook:
        """The outlook of most samples."""
        return Outlook(int(self.outlook.bincount(minlength=len(Outlook)).argmax()))

    def steps_to(self, residual: float) -> Tensor:
        """How many further steps each sample needs at its rate, (B,) floats: 0 where it is there, infinite where it does not get nearer.

        Args:
            residual: the residual to reach, > 0.

        Raises:
            ValueError: a residual not above zero.
        """
        if not residual > 0:
            raise ValueError(f"`steps_to` wants a residual above zero; got {residual}. Pass 1e-4, say.")
        last = self.residual[-1].double()
        needed = ((residual / last).log() / self.rate.log()).ceil()
        needed = torch.where((self.rate < 1) & last.isfinite(), needed, torch.inf)
        return torch.where(last <= residual, 0.0, needed)

    # Quality along the way

    @property
    def best_step(self) -> int | None:
        """The step with the best mean quality; the first of several. None without quality."""
        return None if self.quality is None else int(self.quality.mean(1).argmax())

    @property
    def overthinking(self) -> float | None:
        """Mean quality of each sample's best step minus that of the last; None without quality."""
        return None if self.quality is None else (self.quality.amax(0) - self.quality[-1]).mean().item()

    @property
    def lost(self) -> float | None:
        """Share of samples right early and wrong late (quality down by a half or more from its best); None without quality."""
        return None if self.quality is None else (self.quality.amax(0) - self.quality[-1] >= 0.5).double().mean().item()

    @property
    def overthinks(self) -> bool:
        """Whether the best common step beats the last one by half a point and by two standard errors."""
        if self.quality is None:
            return False
        lead = self.quality[self.best_step] - self.quality[-1]
        error = lead.std().item() / len(lead) ** 0.5 if len(lead) > 1 else 0.0
        return lead.mean().item() > max(0.005, 2 * error)

    # In words

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, most common outlook first; then what else stands in the way."""
        kinds = sorted(Outlook, key=lambda kind: -self.share(kind))
        lines = [self._of(kind) for kind in kinds if kind == self.main or self.share(kind) >= _SHARE]
        return tuple(lines + [line for line in (self._frozen(), self._dependence(), self._overthought()) if line])

    def _of(self, kind: Outlook) -> str:
        which = self.outlook == kind
        text = getattr(self, f"_{kind.name.lower()}")(which)
        return text if bool(which.all()) else f"{_percent(which)} of samples: {text}"

    def _inert(self, which: Tensor) -> str:
        return (
            "inference cannot change the answer: at rest before the first step. Start elsewhere, or leave more of the latent free (a "
            "predictive-coding net with a feed-forward start and a free output has no error to reduce)."
        )

    def _at_rest(self, which: Tensor) -> str:
        at = self.rest_at[which]
        at = at[at <= self.steps]
        when = (
            f"at rest after about {_tall(at.double())} steps"
            if len(at)
            else "the solver can go no lower at this precision"
        )
        return f"{when}: more change nothing. Save work with `ebm.AtRest({self.tolerance:g})`."

    def _descending(self, which: Tensor) -> str:
        factor, needed = _median(self.rate[which]), self.steps_to(self.tolerance)[which]
        if _median(needed) > 0:
            more = f"still descending at rate {factor:.3g}: about {_tall(needed)} more steps to {self.tolerance:g}"
        else:
            far = f"{_median(self.remaining[which]):.1%} of its size"
            more = f"creeps: within the tolerance, but at rate {factor:.4g}, so {self.steps} more steps move the latent by {far}"
        faster = "" if "Anderson" in self.solver or factor < _SLOW else "; `Anderson()` may need far fewer"
        return f"{more}{faster}."

    def _cycles(self, which: Tensor) -> str:
        length, factor = int(self.period[which].mode().values), _median(self.rate[which])
        fate = f"and settles only at rate {factor:.3g}" if factor < 0.999 else "and more steps change nothing"
        return f"cycles with period {length}, {fate}: damp, with `Picard(0.5)` or a smaller step size."

    def _chaotic(self, which: Tensor) -> str:
        assert self.lyapunov is not None  # it is what made the outlook
        pace = _median(self.lyapunov[which])
        return f"chaotic: near starts separate by a factor {math.exp(pace):.3g} a step and nothing settles; damp, or shrink the map."

    def _diverges(self, which: Tensor) -> str:
        return "diverges: lower the step size, damp, or bound the energy from below; more steps make it worse."

    def _unsettled(self, which: Tensor) -> str:
        return (
            "neither at rest nor nearing it: take more steps and diagnose again, or damp. (A sampler never comes to rest: judge it by its "
            "chains.)"
        )

    def _frozen(self) -> str | None:
        stuck = ~self.changed & (self.outlook != Outlook.INERT) & (self.outlook != Outlook.DIVERGES)
        if stuck.double().mean() < 0.5:
            return None
        return f"the latent moves but the answer of {_percent(stuck)} of samples never changes: steps are spent for nothing there."

    def _dependence(self) -> str | None:
        if self.depends is None or self.depends.double().mean() < _SHARE:
            return None
        how = "use `Restarts` and keep the lowest energy" if self.energy is not None else "choose the start with care"
        return f"answers of {_percent(self.depends)} of samples depend on the start: {how} (unless the start is the query, as in a memory)."

    def _overthought(self) -> str | None:
        if not self.overthinks or self.quality is None or self.best_step is None:
            return None
        lead = (self.quality[self.best_step] - self.quality[-1]).mean().item()
        return (
            f"overthinks: quality is {lead:.3g} higher at step {self.best_step} than after {self.steps}. Stop by step {self.best_step}, "
            "or calibrate a stop rule (`ebm.calibrate`)."
        )

    def __str__(self) -> str:
        counts = self.outlook.bincount(minlength=len(Outlook)).tolist()
        found = ", ".join(f"{n} {kind.name}" for kind, n in zip(Outlook, counts, strict=True) if n)
        lines = [f"{self.model}, {len(self)} samples, {self.steps} steps of {self.solver}: {found}"]
        lines += [f"  {name:<17} {text}" for name, text in self._facts()]
        return "\n".join([*lines, "Advice:", *(f"  - {line}" for line in self.advice)])

    def _facts(self) -> list[tuple[str, str]]:
        first, last = _median(self.residual[0]), _median(self.residual[-1])
        facts = [
            ("residual", f"{first:.3g} -> {last:.3g} (medians), factor {_median(self.rate):.3g} a step at the end")
        ]
        if self.descent is not None and self.raised is not None:
            fall = f"falls {_median(self.descent):.3g} a step over the second half"
            facts.append(("energy", f"{fall}; {_percent(self.raised)} of steps raise it"))
        if self.lyapunov is not None:
            facts.append(
                ("near starts", f"separate at rate {_median(self.lyapunov):.3g} a step (below 0: they fall together)")
            )
        if self.alignment is not None and self.answer_alignment is not None:
            cosines = f"latents {self.alignment.mean():.3f}, answers {self.answer_alignment.mean():.3f}"
            facts.append(("path independence", f"mean cosine over {self.starts + 1} starts: {cosines}"))
        if self.quality is not None:
            mean = self.quality.mean(1)
            text = f"{mean[0]:.4g} -> {mean[-1]:.4g}, best {mean.max():.4g} at step {self.best_step}"
            facts.append(
                (
                    "quality",
                    f"{text}; best step of each sample +{self.overthinking:.3g}; right early, wrong late {self.lost:.1%}",
                )
            )
        if self.over_steps is not None and self.across is not None:
            judge = "residual" if self.energy is None else "energy"
            over, across = _mean_known(self.over_steps), self.across
            facts.append(
                ("rank correlation", f"of {judge} and quality: {over:.2f} over steps, {across:.2f} across samples")
            )
        return [*facts, ("work", f"{self.flops / max(len(self), 1):.4g} FLOPs a sample for this diagnosis")]

    def plot(self, target: Any = None) -> Any:
        """Draw four panels: residual; energy or moves; near starts or cosines; quality or outlooks.

        Args:
            target: a path to save a picture at, four matplotlib axes to draw on, or None for a new figure.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: not four axes.
        """
        from ebm.diagnostics.pictures import draw_diagnosis

        return draw_diagnosis(self, target)


def _median(values: Tensor) -> float:
    return values.double().nanmedian().item() if values.numel() else math.nan


def _tall(values: Tensor) -> str:
    """The 0.9 quantile of some step counts, as a whole number."""
    values = values.double().sort().values
    value = values[min(len(values) - 1, math.ceil(0.9 * len(values)) - 1)].item()
    return f"{value:.0f}" if math.isfinite(value) else "unknown"


def _mean_known(values: Tensor) -> float:
    return values.nanmean().item()


def _percent(which: Tensor) -> str:
    return f"{which.double().mean().item():.1%}"
