"""Will more steps help? Settle a batch once and from other starts, and read off what steps do to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.diagnostics.measures import (
    alignment,
    different,
    growth,
    period,
    rank_correlation,
    rate,
    settled_from,
    way_left,
)
from ebm.diagnostics.quality import Quality, accuracy
from ebm.diagnostics.report import NEAR, Diagnosis, Outlook
from ebm.diagnostics.watching import LONGEST_PERIOD, Bench, Way
from ebm.engine.door import known_keywords
from ebm.objective import Objective
from ebm.solution import Solution, Status
from ebm.solvers.base import Solver

__all__ = ["diagnose"]


@known_keywords
def diagnose(
    model: Objective,
    x: Any,
    *,
    steps: int,
    solver: Solver | None = None,
    target: Any = None,
    quality: Quality | None = None,
    starts: int = 4,
    noise: float = 1.0,
    tolerance: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """Say whether more steps would help, for each sample and in a few lines of advice.

    The batch is settled for all its steps, without a stop rule; beside it goes a twin that starts a little off, and then
    it is settled again from other starts (new noise keys, and noise about the model's own start). All in all, that is the
    work of ``2 + starts`` calls; it is counted in the report.

    Args:
        model: an `ebm.Energy` or an `ebm.Update`.
        x: the observation, a row tree of B samples; some hundred tell enough.
        steps: how many steps to watch, at least 4.
        solver: how a latent moves; None asks the model, as `ebm.infer` does.
        target: what ``quality`` compares the answers with, labels (B, ...) by default.
        quality: ``quality(answer, target)``, finite numbers (B,), larger is better; None is accuracy where there is a ``target``.
        starts: other starts to try, >= 0.
        noise: standard deviation of the noise about a start, >= 0, in units of the latent's root mean square. Discrete latents
            flip the sign of each number instead, with probability ``min(noise, 1) / 2``.
        tolerance: the residual that counts as rest, > 0, in units of the latent, as in `ebm.AtRest`.
        generator: the only source of randomness; without one the same call gives the same report.

    Returns:
        The report: print it, plot it, or read its numbers.

    Raises:
        ValueError: a setting outside its range, or a quality that is not one finite number a sample.

    Example:
        >>> import torch, ebm
        >>> class Halve(ebm.Update):
        ...     def init_latent(self, c, draw):
        ...         return torch.zeros_like(c)
        ...     def forward(self, z, c):
        ...         return 0.5 * z + c
        >>> report = ebm.diagnose(Halve(), torch.ones(2, 3), steps=20, starts=2)
        >>> report.advice
        ('at rest after about 10 steps: more change nothing. Save work with `ebm.AtRest(0.001)`.',)
        >>> round(report.rate[0].item(), 4), round(report.alignment[0].item(), 4)
        (0.5, 1.0)

    Source: the asymptotic alignment of Anil et al. (2022) for starts; the overthinking gap after Kaya, Hong and Dumitras (2019),
    there over the exits of a network. The verdicts and their bounds are ours.
    """
    _check(steps, starts, noise, tolerance)
    score = None if target is None and quality is None else quality or accuracy
    bench = Bench(model, x, steps, solver, generator)
    way = bench.watch(score, target)
    ends = [bench.again(noise * way.size) for _ in range(starts)]
    return _report(bench, way, ends, tolerance)


def _check(steps: int, starts: int, noise: float, tolerance: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 4:
        raise ValueError(f"`diagnose(steps=...)` wants a whole number, at least 4; got {steps!r}. Try 50.")
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 0:
        raise ValueError(f"`diagnose(starts=...)` wants a whole number, at least 0; got {starts!r}. Try 4.")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"`diagnose(noise=...)` may not be negative or infinite; got {noise}. Try 1.0.")
    if not 0 < tolerance < float("inf"):
        raise ValueError(f"`diagnose(tolerance=...)` must be above zero; got {tolerance}. Try 1e-3.")


def _report(bench: Bench, way: Way, ends: list[Solution], tolerance: float) -> Diagnosis:
    floor, last = way.rounding, way.last
    rates, move_rates = rate(way.residual, last.steps, floor), rate(way.moves, last.steps - 1, floor)
    remaining = way_left(way.moves[-1], move_rates, bench.steps) / way.size
    rest_at = settled_from(way.residual, tolerance)
    periods = period(way.recent, floor, LONGEST_PERIOD)
    exponent = None if way.apart is None else growth(way.apart, floor, 0.01 * way.size)
    descent, raised = _energy(way.energy)
    rests = _resting(last, tolerance) & ((remaining <= NEAR) | (periods > 0))
    answers = [rows.map_rows(torch.Tensor.double, end.answer) for end in (last, *ends)]
    resting = torch.stack([rests, *(_resting(end, tolerance) for end in ends)]).all(0)
    over, across = _agreement(way)
    return Diagnosis(
        model=type(bench.model).__name__,
        solver=last.origin.solver,
        steps=bench.steps,
        tolerance=tolerance,
        residual=way.residual,
        moves=way.moves,
        energy=way.energy,
        quality=way.quality,
        outlook=_outlook(way, rates, periods, exponent, rests, bench.noisy),
        rate=rates,
        move_rate=move_rates,
        remaining=remaining,
        rest_at=rest_at,
        descent=descent,
        raised=raised,
        period=periods,
        lyapunov=exponent,
        apart=way.apart,
        starts=len(ends),
        alignment=alignment([end.z for end in (last, *ends)]) if ends else None,
        answer_alignment=alignment(answers) if ends else None,
        depends=resting & different(answers) if ends else None,
        changed=way.changed,
        over_steps=over,
        across=across,
        flops=bench.flops,
    )


def _outlook(way: Way, rates: Tensor, periods: Tensor, exponent: Tensor | None, rests: Tensor, noisy: bool) -> Tensor:
    """The verdict on each sample; the later ones here overrule the earlier."""
    residual, half = way.residual, way.residual.shape[0] // 2
    fall = rates**half  # by what the residual fell over the second half, all in all
    swings = torch.zeros_like(way.changed)
    if exponent is not None and way.apart is not None:
        far = way.apart[-max(half // 2, 1) :].median(0).values > 0.01 * way.size
        swings = (exponent > 0.01) & far & ~(fall < 0.1)
    grows = (rates > 1) & (residual[-1] >= 0.99 * residual.amax(0)) & (residual[-1] > 1.5 * residual[half])
    found = torch.full_like(periods, int(Outlook.UNSETTLED))
    for which, outlook in (
        ((fall < 0.95) & (not noisy), Outlook.DESCENDING),  # a slope of noise is no rate
        (swings, Outlook.CHAOTIC),
        (periods > 0, Outlook.CYCLES),
        (rests, Outlook.AT_REST),
        (grows & ~rests, Outlook.DIVERGES),
        (residual[0] <= way.rounding, Outlook.INERT),
        (way.last.status == Status.NONFINITE, Outlook.DIVERGES),
    ):
        found = torch.where(which, int(outlook), found)
    return found


def _resting(end: Solution, tolerance: float) -> Tensor:
    """At rest, or as low as the solver can go; never what failed."""
    return ((end.residual <= tolerance) | (end.status == Status.STALLED)) & (end.status != Status.NONFINITE)


def _energy(energy: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """How much the energy falls a step over the second half, and the share of steps that raise it beyond rounding."""
    if energy is None:
        return None, None
    half = energy.shape[0] // 2
    rounding = 8 * torch.finfo(energy.dtype).eps * torch.maximum(energy[1:].abs(), energy[:-1].abs())
    raised = (energy[1:] - energy[:-1] > rounding).double().mean(0)
    return (energy[half] - energy[-1]) / (energy.shape[0] - 1 - half), raised


def _agreement(way: Way) -> tuple[Tensor | None, float | None]:
    """Rank correlation of energy, or residual, and quality: over the steps of each sample, and across samples at the end."""
    if way.quality is None:
        return None, None
    judge = way.residual if way.energy is None else way.energy
    return rank_correlation(judge.T, way.quality.T), rank_correlation(judge[-1], way.quality[-1]).item()
