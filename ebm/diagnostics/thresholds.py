"""Set a stop rule's threshold on held-out data, for a stated loss of quality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from ebm import rows
from ebm.diagnostics.calibration import Calibration, Curve, upper_bound
from ebm.diagnostics.leaving import Full, Trial, given_candidates, own_candidates
from ebm.diagnostics.quality import Quality, accuracy, copied
from ebm.engine import Stop
from ebm.engine.door import known_keywords
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = ["calibrate"]


@known_keywords
def calibrate(
    stop: Stop,
    model: Objective,
    loader: Iterable[tuple[Any, Any]],
    max_drop: float,
    *,
    steps: int,
    solver: Solver | None = None,
    quality: Quality = accuracy,
    thresholds: Sequence[float] | None = None,
    confidence: float | None = None,
    keep: Literal["best", "last"] | None = None,
    generator: torch.Generator | None = None,
) -> Calibration:
    r"""Choose the loosest threshold of a stop rule that loses at most ``max_drop`` of quality against taking all ``steps``.

    Every batch is settled once for all its steps, while the strictest threshold that each check would have met is written
    down; from that record follows, for every candidate, when each sample would have left and with which answer. The
    chosen rule is then run on the same batches, compacted, so that the quality and FLOPs reported are those of a real run.

    Without ``confidence`` the drop on the held-out samples themselves is held to ``max_drop``; that of new samples
    scatters about it, by the standard error in the report and a little more, since the threshold was chosen on these. With it,
    an upper bound of the mean drop of new samples is held to ``max_drop``, with that probability. The bound is
    that of Maurer and Pontil for n paired differences d in [-1, 1], of mean m and variance v,

    .. math:: m + \sqrt{2 v \ln(2/\delta) / n} + \frac{14 \ln(2/\delta)}{3 (n - 1)}, \qquad \delta = 1 - \text{confidence}

    and the candidates are tried from the strictest on until one fails, so that trying many costs nothing. This wants thousands of
    samples: nothing can be granted below n of about :math:`14 \ln(2/\delta) / (3\,\text{max\_drop})`.

    Args:
        stop: `AtRest`, `Plateau`, `Confident`, or `Patience` of one of these; or a rule of your own that defines
            ``threshold_name`` and ``strictest``. Its other settings are kept, its threshold is replaced.
        model: an `ebm.Energy` or an `ebm.Update`.
        loader: gives held-out batches (x, y), never test ones; they are held until the call ends.
        max_drop: the most mean quality to give up, >= 0, in units of ``quality``.
        steps: the full budget, >= 1.
        solver, keep: as in `ebm.infer`.
        quality: ``quality(answer, y)``, finite numbers (B,), larger is better; with ``confidence`` within [0, 1].
        thresholds: candidates; by default 16 a decade from 1e-12 to 1e6, and zero; or, where a larger threshold is stricter,
            numbers in (0, 1] that are dense at both ends. They must not be taken from the same samples if ``confidence`` is to hold.
        confidence: in (0, 1), or None for the plain mean.
        generator: the only source of randomness.

    Returns:
        The calibrated rule, what it keeps and what it saves.

    Raises:
        TypeError: ``stop`` is no stop rule.
        ValueError: a rule without a threshold, a negative or non-finite ``max_drop``, an empty loader, a quality that is not one
            finite number a sample, or no threshold that keeps within ``max_drop``.

    Example:
        >>> import torch, ebm
        >>> generator = torch.Generator().manual_seed(0)
        >>> memory = ebm.ModernHopfield(torch.randn(8, 16, generator=generator), beta=1.0)
        >>> y = torch.arange(8).repeat(25)
        >>> x = memory.patterns[y] + torch.randn(200, 16, generator=generator)
        >>> def right(answer, y):
        ...     return (answer @ memory.patterns.T).argmax(1) == y
        >>> found = ebm.calibrate(ebm.AtRest(), memory, [(x, y)], 0.01, steps=20, quality=right)
        >>> found.drop <= 0.01, found.saved > 0.5
        (True, True)

    Source: thresholds chosen for a stated loss: Schuster et al. (2022), Confident adaptive language modeling; one after the other:
        Angelopoulos et al. (2021), Learn then test (fixed sequence testing); the bound: Maurer and Pontil (2009), theorem 4.
    """
    _check(stop, max_drop, steps, confidence)
    batches = _batches(loader)
    again = copied(generator)
    trial = Trial(stop, model, steps, solver, quality, keep)
    full = trial.full(batches, generator)
    if confidence is not None and not (full.quality.min() >= 0 and full.quality.max() <= 1):
        raise ValueError(
            f"With `confidence=` the quality must lie in [0, 1]; got {full.quality.min():.4g} to {full.quality.max():.4g}. "
            "Rescale it, or leave `confidence=` out."
        )
    candidates = own_candidates(stop, full.level) if thresholds is None else given_candidates(stop, thresholds)
    curve = _curve(stop, full, candidates, confidence)
    index = _loosest(curve, max_drop, confidence, full.quality.shape[1])
    rule = stop.with_threshold(candidates[index])
    got, taken, flops = trial.stopped(rule, batches, again)
    losses = full.quality[-1] - got
    return Calibration(
        stop=rule,
        max_drop=max_drop,
        confidence=confidence,
        bound=None if confidence is None else upper_bound(losses, confidence),
        samples=len(got),
        limit=steps,
        full_quality=full.quality[-1].mean().item(),
        quality=got.mean().item(),
        standard_error=losses.std().item() / len(losses) ** 0.5 if len(losses) > 1 else math.nan,
        full_steps=full.steps[-1].double().mean().item(),
        steps=taken,
        full_flops=full.flops,
        flops=flops,
        curve=curve,
        chosen=index,
    )


def _check(stop: Any, max_drop: float, steps: int, confidence: float | None) -> None:
    if not isinstance(stop, Stop):
        raise TypeError(
            f"`calibrate` sets the threshold of a stop rule; got {type(stop).__name__}. Pass `Confident()`, say."
        )
    if stop.threshold_name is None:
        raise ValueError(
            f"`calibrate` sets one threshold; `{type(stop).__name__}` has none of its own. Use `AtRest`, `Plateau`, `Confident` or "
            "`Patience` of these, or define `threshold_name` and `strictest`."
        )
    if not 0 <= max_drop < math.inf:
        raise ValueError(f"`calibrate(max_drop=...)` must be finite and not negative; got {max_drop}. Try 0.01.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"`calibrate(steps=...)` wants a whole number, at least 1; got {steps!r}. Try 50.")
    if confidence is not None and not 0 < confidence < 1:
        raise ValueError(
            f"`calibrate(confidence=...)` must lie in (0, 1); got {confidence}. Try 0.95, or leave it out."
        )


def _batches(loader: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    batches = []
    for item in loader:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise ValueError(
                f"`calibrate` wants batches (x, y); got {type(item).__name__}. Make the loader give pairs."
            )
        if rows.count(item[0]):
            batches.append((item[0], item[1]))
    if not batches:
        raise ValueError(
            "`calibrate` got a loader without samples. Pass held-out batches (x, y); a generator can be read only once."
        )
    return batches


def _curve(stop: Stop, full: Full, candidates: list[float], confidence: float | None) -> Curve:
    """What each candidate would have done."""
    last = full.level.shape[0] - 1
    qualities, steps, drops, bounds = [], [], [], []
    for value in candidates:
        going = full.level < value if stop.larger_is_stricter else full.level > value
        left = going.sum(0).clamp(max=last)[None]
        reached = full.quality.gather(0, left)[0]
        losses = full.quality[-1] - reached
        qualities.append(reached.mean())
        steps.append(full.steps.gather(0, left).double().mean())
        drops.append(losses.mean())
        bounds.append(losses.mean().item() if confidence is None else upper_bound(losses, confidence))
    return Curve(
        torch.tensor(candidates, dtype=torch.float64),
        torch.stack(qualities),
        torch.stack(steps),
        torch.stack(drops),
        torch.tensor(bounds, dtype=torch.float64),
    )


def _loosest(curve: Curve, max_drop: float, confidence: float | None, samples: int) -> int:
    """The number of the loosest candidate that keeps the promise."""
    kept = curve.bound <= max_drop + 1e-12  # means of a few hundred equal steps, summed in two orders
    if confidence is not None:
        kept = kept.int().cumprod(0).bool()  # one after the other: behind a failure nothing is granted
    if bool(kept.any()):
        return int(kept.nonzero().max())
    least = curve.bound.min().item()
    if confidence is None:
        raise ValueError(
            f"No threshold loses at most {max_drop:g} of quality; the least loss is {least:.4g}. Allow a larger `max_drop`, use "
            "another rule, or pass stricter `thresholds=`."
        )
    raise ValueError(
        f"{samples} samples cannot show at confidence {confidence:g} that at most {max_drop:g} of quality is lost; the strictest "
        f"candidate is bounded by {curve.bound[0].item():.4g}. Pass more samples, allow a larger `max_drop`, or leave `confidence=` out."
    )
