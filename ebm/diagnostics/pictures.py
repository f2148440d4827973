"""Pictures of a diagnosis and of a calibration; matplotlib is asked for only here."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ebm.diagnostics.calibration import Calibration
from ebm.diagnostics.report import Diagnosis, Outlook
from ebm.files import write_figure

__all__ = ["draw_calibration", "draw_diagnosis"]

_MANY, _ONE, _MARK = "#2a6f97", "#9db4c0", "#c44536"


def draw_diagnosis(report: Diagnosis, target: Any) -> Any:
    """Four panels: residual; energy or moves; near starts or cosines; quality or outlooks."""
    axes, done = _canvas(target, 2, 2, (9.0, 6.2))
    upper, energy, near, last = axes
    _ways(upper, report.residual, "residual (RMS force)", log=True)
    upper.axhline(report.tolerance, color=_MARK, lw=1, ls="--", label=f"rest at {report.tolerance:g}")
    upper.legend(fontsize=8, frameon=False)
    if report.energy is None:
        _ways(energy, report.moves, "change of the latent a step (RMS)", log=True, first=1)
    else:
        _ways(energy, report.energy[:-1] - report.energy[1:], "fall of the energy a step", log=True, first=1)
    _near(near, report)
    _end(last, report)
    return done()


def draw_calibration(found: Calibration, target: Any) -> Any:
    """Two panels: quality and the allowed loss over the threshold, and quality over the mean number of steps."""
    axes, done = _canvas(target, 1, 2, (9.0, 3.4))
    left, right = axes
    curve = found.curve
    _over_thresholds(left, found)
    right.plot(curve.steps, curve.quality, color=_MANY, lw=2)
    right.plot([found.steps], [found.quality], "o", color=_MARK, label=f"chosen: {found.steps:.3g} steps")
    right.set_xlabel("mean steps a sample")
    for axis in axes:
        axis.axhline(found.full_quality, color=_ONE, lw=1, label=f"all {found.limit} steps")
        axis.axhline(found.full_quality - found.max_drop, color=_MARK, lw=1, ls="--", label="least allowed")
        axis.set_ylabel("mean quality")
        if found.max_drop > 0:  # the part of the curve that the choice is about
            margin, top = 0.5 * found.max_drop, max(found.full_quality, curve.quality.max().item())
            low = max(curve.quality.min().item(), found.full_quality - 8 * found.max_drop)
            low = min(low, found.full_quality - found.max_drop)
            axis.set_ylim(low - margin, top + margin)
        axis.legend(fontsize=8, frameon=False)
    return done()


def _over_thresholds(axis: Any, found: Calibration) -> None:
    """Quality over the threshold, where that makes a difference; on a logarithmic axis, of the distance from 1 where it ends there."""
    curve, name = found.curve, found.stop.threshold_name
    idle = int((curve.steps >= curve.steps[0] - 1e-9).sum()) - 1
    first = min(max(idle, 0), found.chosen)
    threshold, quality = curve.threshold[first:], curve.quality[first:]
    from_one = found.stop.larger_is_stricter and bool((threshold <= 1).all())
    logarithmic = from_one or not found.stop.larger_is_stricter
    place = (1 - threshold) if from_one else threshold
    seen = place > 0 if logarithmic else torch.ones_like(place, dtype=torch.bool)
    axis.plot(place[seen], quality[seen], color=_MANY, lw=2)
    if bool(seen[found.chosen - first]):
        x = place[found.chosen - first].item()
        axis.axvline(x, color=_MARK, lw=1, ls=":", label=f"chosen: {found.threshold:.4g}")
    axis.set_xlabel(f"{'1 - ' if from_one else ''}{name} (stricter to the right)")
    if logarithmic:
        axis.set_xscale("log")
        axis.invert_xaxis()


def _ways(axis: Any, values: Tensor, label: str, log: bool = False, first: int = 0) -> None:
    """The median over samples and the band of the middle eight tenths, over steps."""
    values = values.detach().cpu().double()
    values = values.masked_fill(~values.isfinite(), torch.nan)
    values = values.clamp(min=_small(values)) if log else values
    low, middle, high = (values.nanquantile(q, 1) for q in (0.1, 0.5, 0.9))
    steps = torch.arange(first, first + len(values))
    axis.fill_between(steps, low, high, color=_MANY, alpha=0.2, lw=0)
    axis.plot(steps, middle, color=_MANY, lw=2)
    if log and not high.nan_to_num(0.0).max() < 10 * low.nan_to_num(torch.inf).min():  # within a decade ticks crowd
        axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_title(label, fontsize=10)


def _near(axis: Any, report: Diagnosis) -> None:
    if report.apart is not None:
        return _ways(axis, report.apart, "distance of a start a little beside", log=True)
    if report.alignment is not None:
        axis.hist(report.alignment.cpu().double(), bins=20, range=(-1, 1), color=_MANY)
        axis.set_xlabel("cosine")
        axis.set_title(f"latents from {report.starts + 1} starts", fontsize=10)
    return None


def _end(axis: Any, report: Diagnosis) -> None:
    if report.quality is None:
        kinds = [kind for kind in Outlook if report.share(kind)]
        axis.barh([kind.name for kind in kinds], [100 * report.share(kind) for kind in kinds], color=_MANY)
        axis.set_xlabel("% of samples")
        axis.set_title("outlook", fontsize=10)
        return
    mean = report.quality.cpu().mean(1)
    axis.plot(torch.arange(len(mean)), mean, color=_MANY, lw=2, label="mean")
    axis.plot([report.best_step], [mean[report.best_step]], "o", color=_MARK, label=f"best: step {report.best_step}")
    axis.axhline(report.quality.amax(0).mean().item(), color=_ONE, lw=1, label="best step of each sample")
    axis.set_xlabel("step")
    axis.set_title("quality", fontsize=10)
    axis.legend(fontsize=8, frameon=False)


def _small(values: Tensor) -> float:
    """A bound below which a logarithmic axis need not go."""
    seen = values[values.isfinite() & (values > 0)]
    return max(seen.min().item(), 1e-9 * seen.max().item()) if len(seen) else 1e-9


def _canvas(target: Any, down: int, across: int, size: tuple[float, float]) -> tuple[list[Any], Any]:
    """The axes to draw on, and what to call when all is drawn: it saves where a path was given, and returns the figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed. Install `equilibrate[plot]`, or print the report."
        ) from error
    if target is None or isinstance(target, (str, os.PathLike)):
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(down, across).flat)

        def done() -> Any:
            if target is not None:
                write_figure(target, figure, 110)
            return figure

        return axes, done
    axes = list(getattr(target, "flat", target))
    if len(axes) != down * across:
        raise ValueError(
            f"The picture has {down * across} panels; got {len(axes)} axes. Pass as many, a path, or nothing."
        )
    return axes, lambda: axes[0].figure
