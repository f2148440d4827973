"""Are the draws of a sampler worth what they seem? Effective sample sizes, agreement of chains, rates of acceptance.

Draws are (chains, steps, dims): every sample of a call is a chain, ``record="z"`` keeps its latents.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.solution import Solution
from ebm.solvers.metropolis import Tally, named

__all__ = ["Chains", "acceptance", "describe", "effective_sample_size", "split_rhat", "swaps"]


class Chains(NamedTuple):
    """What the draws of a call say, one number for each number of a latent, (D,).

    Attributes:
        mean: over all chains and steps.
        std: standard deviation over all chains and steps.
        error: the standard error of ``mean``, from the effective sample size.
        ess: effective sample size of all chains together.
        rhat: split R-hat; below 1.01 the chains agree.
        draws: how many draws there are, chains times steps.
    """

    mean: Tensor
    std: Tensor
    error: Tensor
    ess: Tensor
    rhat: Tensor
    draws: int

    def __str__(self) -> str:
        return (
            f"{self.draws} draws of {len(self.mean)} numbers: effective sample size {self.ess.min():.0f} at the least, "
            f"R-hat {self.rhat.max():.3f} at the most"
        )


def describe(solution: Solution, discard: int = 0) -> Chains:
    """What the recorded latents of a sampling call say: every sample a chain, every step a draw.

    Args:
        solution: of a call with ``record="z"``; its samples are chains of one distribution, so their observations are alike.
        discard: how many of the first recorded latents are left out: the start, and the warm-up.

    Raises:
        ValueError: no latents were recorded, or fewer than 8 are left.

    Example:
        >>> import torch, ebm
        >>> from ebm.diagnostics import describe
        >>> memory, x = ebm.ModernHopfield(torch.eye(2)), torch.zeros(8, 2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> solution = ebm.infer(memory, x, steps=250, solver=ebm.HMC(0.6, 3), record="z", generator=generator)
        >>> print(describe(solution, discard=51))  # doctest: +ELLIPSIS
        1600 draws of 2 numbers: effective sample size ... at the least, R-hat ... at the most

    Source: Vehtari et al. (2021).
    """
    if "z" not in solution.trace:
        raise ValueError('`describe` reads recorded latents; this call kept none. Pass `record="z"` to `infer`.')
    steps = rows.map_rows(lambda leaf: leaf[discard:].flatten(0, 1), solution.trace["z"])
    flat = rows.flatten(steps)
    draws = flat.unflatten(0, (-1, len(solution))).transpose(0, 1)
    ess, rhat = effective_sample_size(draws), split_rhat(draws)
    std, mean = torch.std_mean(draws, (0, 1))
    return Chains(mean, std, std / ess.sqrt(), ess, rhat, draws.shape[0] * draws.shape[1])


def effective_sample_size(draws: Tensor, rank_normalised: bool = False) -> Tensor:
    r"""How many independent draws would give the mean as precisely: :math:`MN / (-1 + 2 \sum_k P_k)`, (D,).

    :math:`P_k = \rho_{2k} + \rho_{2k+1}` are sums of neighbouring autocorrelations, pooled over chains that are split in
    half, taken as long as they stay positive and made monotone. Chains that disagree lower it.

    Args:
        draws: (chains, steps, dims), floating; at least 8 steps.
        rank_normalised: judge ranks made normal instead of the numbers: for heavy tails.

    Returns:
        One number for each dimension; NaN where draws are constant or not finite. At most MN log10(MN).

    Raises:
        ValueError: draws of another shape, or fewer than 8 steps.

    Example:
        >>> import torch
        >>> from ebm.diagnostics import effective_sample_size
        >>> draws = torch.randn(4, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> bool((effective_sample_size(draws) / 2000 - 1).abs() < 0.2)
        True

    Source: Vehtari et al. (2021), section 3.2; Geyer (1992), the initial monotone sequence.
    """
    halves = _halves(draws, rank_normalised)
    chains, steps, _ = halves.shape
    within, total = _variances(halves)
    covariance = _autocovariance(halves).mean(0)
    rho = 1 - (within - covariance) / total
    rho = torch.cat([torch.ones_like(rho[:1]), rho[1:]])
    pairs = rho[: steps - steps % 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    inefficiency = -1 + 2 * (pairs.cummin(0).values * positive).sum(0)
    count = chains * steps
    found = count / inefficiency.clamp_min(1 / math.log10(count))
    return torch.where((within > 0) & total.isfinite(), found, torch.nan)


def split_rhat(draws: Tensor, rank_normalised: bool = False) -> Tensor:
    r"""Whether chains agree, also with themselves: :math:`\sqrt{\widehat{\text{var}}^+ / W}` of chains split in half, (D,).

    One where they agree; above 1.01 they have not forgotten where they began.

    Args:
        draws: (chains, steps, dims), floating; at least 8 steps.
        rank_normalised: judge ranks made normal instead of the numbers: for heavy tails.

    Returns:
        One number for each dimension; NaN where draws are constant or not finite.

    Raises:
        ValueError: draws of another shape, or fewer than 8 steps.

    Example:
        >>> import torch
        >>> from ebm.diagnostics import split_rhat
        >>> draws = torch.randn(4, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> bool(split_rhat(draws) < 1.01), bool(split_rhat(draws + torch.arange(4.0)[:, None, None]) > 1.5)
        (True, True)

    Source: Vehtari et al. (2021), eq. 1-4 and section 4; Gelman et al. (2013) without ranks.
    """
    within, total = _variances(_halves(draws, rank_normalised))
    return torch.where(within > 0, (total / within).sqrt(), torch.nan)


def acceptance(solution: Solution) -> Tensor:
    """How often each sample's proposals were accepted, warm-up left out: (B,), or (B, temperatures) under `ebm.Tempering`.

    Args:
        solution: of a call with `ebm.MALA` or `ebm.HMC`.

    Returns:
        Rates; NaN where no proposal was counted.

    Raises:
        ValueError: a solver that accepts everything.
    """
    memory = solution.carry.memory
    return _rate(memory.get("moves", memory) if isinstance(memory, dict) else memory, "MALA or HMC")


def swaps(solution: Solution) -> Tensor:
    """How often each pair of neighbouring temperatures traded places, (B, temperatures - 1).

    Args:
        solution: of a call with `ebm.Tempering`.

    Returns:
        Rates; NaN where no swap was proposed.

    Raises:
        ValueError: another solver.
    """
    memory = solution.carry.memory
    return _rate(memory.get("swaps") if isinstance(memory, dict) else None, "Tempering")


def _rate(memory: Any, wanted: str) -> Tensor:
    tally = named(memory, Tally)
    if tally is None:
        raise ValueError(
            f"This solution holds no such tally. Sample with {wanted}, and pass the solution of that call."
        )
    return tally.accepted / tally.proposed


def _halves(draws: Tensor, ranked: bool) -> Tensor:
    """Chains split in half, (2 * chains, steps // 2, dims), in float64; the middle draw of an odd number is left out."""
    if draws.ndim != 3 or not draws.is_floating_point() or draws.shape[1] < 8 or not draws.shape[0]:
        raise ValueError(
            f"Draws are floating numbers (chains, steps, dims) with at least 8 steps; got {draws.dtype} {tuple(draws.shape)}. "
            "Put the chains first, and give a single number an axis of its own."
        )
    half = draws.shape[1] // 2
    parts = torch.cat([draws[:, :half], draws[:, -half:]]).to(torch.float64)
    return _normal_ranks(parts) if ranked else parts


def _normal_ranks(draws: Tensor) -> Tensor:
    """Each number's rank among all draws, ties sharing the mean of theirs, as a quantile of the normal distribution."""
    flat = draws.flatten(0, 1)
    columns = []
    for column in flat.unbind(1):
        _, place, times = column.unique(return_inverse=True, return_counts=True)
        mean_rank = times.cumsum(0).to(draws.dtype) - (times - 1) / 2
        columns.append(torch.special.ndtri((mean_rank[place] - 0.375) / (len(column) + 0.25)))
    return torch.stack(columns, 1).reshape(draws.shape)


def _variances(chains: Tensor) -> tuple[Tensor, Tensor]:
    """The variance within chains and an overestimate of that of all draws, each (D,)."""
    steps = chains.shape[1]
    within = chains.var(1).mean(0)
    return within, within * (steps - 1) / steps + chains.mean(1).var(0)


def _autocovariance(chains: Tensor) -> Tensor:
    """Of each chain at every lag, (chains, steps, dims), with the divisor steps: what is far apart counts less."""
    steps = chains.shape[1]
    spectrum = torch.fft.rfft(chains - chains.mean(1, keepdim=True), 2 * steps, dim=1)
    return torch.fft.irfft(spectrum.abs().square(), 2 * steps, dim=1)[:, :steps] / steps
