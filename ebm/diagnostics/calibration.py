"""A calibrated stop rule: what it keeps, what it saves, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ebm.engine import Stop

__all__ = ["Calibration", "Curve", "upper_bound"]


class Curve(NamedTuple):
    """What each candidate threshold would have done; float64, one entry a candidate, strictest first.

    Attributes:
        threshold: the candidates.
        quality: mean quality.
        steps: mean steps taken.
        drop: mean quality lost against all the steps.
        bound: what was held to ``max_drop``: the drop, or its upper bound.
    """

    threshold: Tensor
    quality: Tensor
    steps: Tensor
    drop: Tensor
    bound: Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """A stop rule with its threshold set on held-out data; made by `ebm.calibrate`.

    Attributes:
        stop: the rule, ready to pass to `ebm.infer`.
        max_drop: the loss of quality that was allowed.
        confidence: with what probability new samples keep to it; None: it holds for the held-out ones.
        bound: the upper bound of the drop at that confidence; None without.
        samples: how many held-out samples there were.
        limit: the full budget in steps.
        full_quality, quality: mean, of the full budget and of the rule.
        standard_error: of the mean drop, from the paired differences.
        full_steps, steps: mean steps a sample took.
        full_flops, flops: executed, of all samples; looking at answers included.
        curve: what each candidate would have done.
        chosen: which of them was chosen.

    Example:
        >>> import torch, ebm
        >>> memory, y = ebm.ModernHopfield(torch.eye(4), beta=8.0), torch.arange(4)
        >>> found = ebm.calibrate(ebm.AtRest(), memory, [(torch.eye(4) + 0.2, y)], 0.0, steps=10, thresholds=[1e-6, 0.01])
        >>> found.stop, found.quality, found.steps
        (AtRest(atol=0.01, rtol=0.0), 1.0, 1.0)
    """

    stop: Stop
    max_drop: float
    confidence: float | None
    bound: float | None
    samples: int
    limit: int
    full_quality: float
    quality: float
    standard_error: float
    full_steps: float
    steps: float
    full_flops: int
    flops: int
    curve: Curve = field(repr=False)
    chosen: int

    @property
    def threshold(self) -> float:
        """The threshold chosen."""
        return self.curve.threshold[self.chosen].item()

    @property
    def drop(self) -> float:
        """The quality lost on the held-out samples; negative where stopping early is better."""
        return self.full_quality - self.quality

    @property
    def saved(self) -> float:
        """The share of FLOPs not executed; negative where looking costs more than it spares."""
        return 1 - self.flops / self.full_flops if self.full_flops else math.nan

    def __str__(self) -> str:
        lines = [
            f"{self.stop}, set on {self.samples} samples within {self.limit} steps",
            f"  quality  {self.full_quality:.4g} -> {self.quality:.4g}: drop {self.drop:.3g} +- {self.standard_error:.2g}, "
            f"allowed {self.max_drop:g}",
            f"  steps    {self.full_steps:.4g} -> {self.steps:.4g}",
            f"  FLOPs    {self.full_flops / self.samples:.4g} -> {self.flops / self.samples:.4g} a sample, {self.saved:.1%} saved",
        ]
        return "\n".join([*lines, f"  {self._note()}"])

    def _note(self) -> str:
        if self.bound is not None:
            return f"With confidence {self.confidence:g} the drop on new samples is at most {self.bound:.3g} (from the same source)."
        return "The drop is that of these samples; new ones scatter about it. Pass `confidence=0.95` to bound theirs."

    def plot(self, target: Any = None) -> Any:
        """Draw two panels: quality over the threshold, and quality over the mean number of steps.

        Args:
            target: a path to save a picture at, two matplotlib axes to draw on, or None for a new figure.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: not two axes.
        """
        from ebm.diagnostics.pictures import draw_calibration

        return draw_calibration(self, target)


def upper_bound(losses: Tensor, confidence: float) -> float:
    """The empirical Bernstein bound of Maurer and Pontil (2009), theorem 4, for the mean of differences in [-1, 1]."""
    count = len(losses)
    if count < 2:
        return math.inf
    weight = math.log(2 / (1 - confidence))
    spread = math.sqrt(2 * losses.var().item() * weight / count)
    return losses.mean().item() + spread + 14 * weight / (3 * (count - 1))
