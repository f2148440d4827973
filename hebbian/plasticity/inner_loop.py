"""Memories that are fitted to what they are shown at test time, for as many inner steps as the caller allows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm import Draw, Energy, Picard, Solver, Update
from hebbian import checks

__all__ = ["DeepMemory", "LinearMemory", "Pairs", "ridge_memory"]


class Pairs(NamedTuple):
    """What a test-time memory is shown.

    Attributes:
        keys: (B, n, K).
        values: (B, n, V).
        before: weights to stay near, as the memory's latent; None for where the memory begins.
    """

    keys: Tensor
    values: Tensor
    before: Any = None


class LinearMemory(Update):
    r"""A matrix fitted to key-value pairs by gradient steps that are stable for any number of them.

    .. math:: \min_W \; \tfrac1{2n} \sum_i |W k_i - v_i|^2 + \tfrac\lambda2 |W - W_0|^2, \qquad
              W \leftarrow W - \frac{1}{L + \lambda} \big( W G - C + \lambda (W - W_0) \big)

    with :math:`G = \tfrac1n \sum_i k_i k_i^\top`, :math:`C = \tfrac1n \sum_i v_i k_i^\top` and L the largest eigenvalue of G (a bound within 3 % above it), of each sample. Every step lowers the
    objective and brings W nearer to its minimum, by the factor :math:`(L - \mu) / (L + \lambda)` at least, :math:`\mu` the smallest eigenvalue. So the number of
    inner steps is an argument of the call (``ebm.infer(memory, Pairs(keys, values), steps=8)``), with its budgets, resuming and best-so-far; it ends at
    `ridge_memory`. Few steps fit the strong directions of the keys alone; many fit the weak ones too, which is where noise is, hence :math:`\lambda`.

    The latent is W, (B, V, K). One evaluation costs one product of W with G, however many pairs there are.

    Args:
        ridge: :math:`\lambda`, at least 0. For noise of variance :math:`\sigma^2` and weights of variance :math:`\omega^2` the best is
            :math:`\sigma^2 / (n \, \omega^2)`.
        rate: None for the step above; a number fixes it, in units of the *summed* squares,
            :math:`W \leftarrow W - r n (W G - C + \lambda (W - W_0))`, which is stable only below :math:`2 / (n (L + \lambda))`. With ``rate=1``,
            no ridge and one step from zero this is linear attention; with one pair it is the delta rule.

    Raises:
        TypeError: a setting is no number; at the call, an observation that is no `Pairs`.
        ValueError: a setting out of its range; at the call, shapes that do not fit.

    Example:
        >>> import torch, ebm
        >>> from hebbian.plasticity import LinearMemory, Pairs, ridge_memory
        >>> generator = torch.Generator().manual_seed(0)
        >>> pairs = Pairs(torch.randn(2, 20, 4, generator=generator), torch.randn(2, 20, 3, generator=generator))
        >>> few, many = (ebm.infer(LinearMemory(0.1), pairs, steps=steps).answer for steps in (2, 100))
        >>> best = ridge_memory(pairs, 0.1)
        >>> bool((few - best).norm() > 0.05), torch.allclose(many, best, atol=1e-5)
        (True, True)

    Source: Sun et al. (2024), Learning to (learn at test time): RNNs with expressive hidden states; Behrouz, Zhong and Mirrokni (2024), Titans. There one step a
    token or chunk at a learned rate; the step that is stable for any number is the classical 1 / L of gradient descent.
    """

    default_steps = 8

    def __init__(self, ridge: float = 0.0, rate: float | None = None) -> None:
        super().__init__()
        checks.number(self, "ridge", ridge, low=0)
        if rate is not None:
            checks.positive(self, "rate", rate)
        self.ridge, self.rate = float(ridge), rate

    def condition(self, x: Any) -> dict[str, Tensor]:
        """Second moments and the pull of the ridge, all times the size of the step, and where to stay near."""
        keys, values, before = _pairs("LinearMemory", x)
        # in keys whose largest number is one, or squares of squares of large and small ones would not be numbers
        longest = keys.detach().abs().amax((1, 2), keepdim=True)
        longest = torch.where(longest > 0, longest, 1.0)
        gram, cross = _moments(keys / longest, values)
        before = torch.zeros_like(cross) if before is None else before
        if before.shape != cross.shape:
            raise ValueError(
                f"`Pairs(before=...)` wants weights of shape {tuple(cross.shape)}; got {tuple(before.shape)}."
            )
        if self.rate is None:
            bound = largest(gram.detach())[:, None, None]
            bound = torch.where(bound > 0, bound, 1.0)
            # 1 / (L + ridge) times the moments of the keys as they were given: each quotient by itself, so that none overflows
            gram = gram / (bound + self.ridge / longest / longest)
            cross = cross / (longest * bound + self.ridge / longest)
            pull = 1 / (1 + bound * longest / self.ridge * longest) if self.ridge else torch.zeros_like(longest)
        else:
            size = self.rate * keys.shape[1]
            gram, cross = size * longest * gram * longest, size * longest * cross
            pull = torch.full_like(longest, size * self.ridge)
        return {"gram": gram, "cross": cross + pull * before, "before": before, "pull": pull}

    def init_latent(self, c: dict[str, Tensor], draw: Draw) -> Tensor:
        """Where it is to stay near."""
        return c["before"]

    def forward(self, z: Tensor, c: dict[str, Tensor]) -> Tensor:
        """One step of the size that suits the sample."""
        return z - (z @ c["gram"] + c["pull"] * z - c["cross"])

    def read(self, weight: Tensor, queries: Tensor) -> Tensor:
        """What the weights (B, V, K) say to queries (B, m, K): (B, m, V)."""
        return queries @ weight.mT

    def default_solver(self) -> Solver:
        """`Picard`: the step as it is. `Anderson` comes to rest in fewer."""
        return Picard()


class DeepMemory(Energy):
    r"""A small network fitted to key-value pairs, for any number of inner steps.

    .. math:: E(\theta) = \tfrac1{2n} \sum_i |f(k_i; \theta) - v_i|^2 + \tfrac\lambda2 |\theta - \theta_0|^2, \qquad
              f(k) = W_2 \, \text{gelu}(W_1 k)

    It is an energy and not an update, because no fixed step is stable for a network; the library's default solver gives every sample a step size
    of its own and never raises E, so more steps never fit worse. :math:`\theta_0` are parameters, to be learned in an outer loop if wanted (see the
    adjoints). The latent is a dict of ``inner`` (B, H, K) and ``outer`` (B, V, H).

    Args:
        keys: K, numbers in a key.
        values: V, numbers in a value.
        hidden: H.
        ridge: :math:`\lambda`, at least 0.

    Raises:
        TypeError, ValueError: as `LinearMemory`.

    Example:
        >>> import torch, ebm
        >>> from hebbian.plasticity import DeepMemory, Pairs
        >>> memory = DeepMemory(4, 3, hidden=16)
        >>> pairs = Pairs(torch.randn(2, 20, 4), torch.randn(2, 20, 3))
        >>> few, many = (ebm.infer(memory.eval(), pairs, steps=steps) for steps in (2, 50))
        >>> bool((many.energy < few.energy).all())
        True

    Source: Sun et al. (2024), TTT-MLP; Behrouz, Zhong and Mirrokni (2024), Titans, for deep memories.
    """

    default_steps = 8

    def __init__(self, keys: int, values: int, hidden: int, ridge: float = 0.0) -> None:
        super().__init__()
        for name, value in (("keys", keys), ("values", values), ("hidden", hidden)):
            checks.whole(self, name, value, 1)
        checks.number(self, "ridge", ridge, low=0)
        self.ridge = float(ridge)
        self.inner = nn.Parameter(torch.randn(hidden, keys) / keys**0.5)
        self.outer = nn.Parameter(torch.zeros(values, hidden))

    def condition(self, x: Any) -> dict[str, Any]:
        """The pairs, and where to stay near."""
        keys, values, before = _pairs("DeepMemory", x)
        if keys.shape[2] != self.inner.shape[1] or values.shape[2] != self.outer.shape[0]:
            raise ValueError(
                f"`DeepMemory` wants keys of {self.inner.shape[1]} and values of {self.outer.shape[0]} numbers; got "
                f"{keys.shape[2]} and {values.shape[2]}."
            )
        if before is None:
            whole = {"inner": self.inner, "outer": self.outer}
            before = {name: part.expand(len(keys), *part.shape) for name, part in whole.items()}
        return {"keys": keys, "values": values, "before": before}

    def init_latent(self, c: dict[str, Any], draw: Draw) -> dict[str, Tensor]:
        """Where it is to stay near."""
        return c["before"]

    def forward(self, z: dict[str, Tensor], c: dict[str, Any]) -> Tensor:
        """The energy, (B,)."""
        error = self.read(z, c["keys"]) - c["values"]
        far = sum((z[name] - c["before"][name]).square().sum((1, 2)) for name in ("inner", "outer"))
        return 0.5 * error.square().sum(2).mean(1) + 0.5 * self.ridge * far

    def read(self, weight: dict[str, Tensor], queries: Tensor) -> Tensor:
        """What the weights say to queries (B, m, K): (B, m, V)."""
        return nn.functional.gelu(queries @ weight["inner"].mT) @ weight["outer"].mT


def ridge_memory(pairs: Pairs, ridge: float) -> Tensor:
    r"""Where `LinearMemory` comes to rest: :math:`(C + \lambda W_0)(G + \lambda I)^{-1}`, (B, V, K), in float64 inside.

    Args:
        pairs: keys and values.
        ridge: :math:`\lambda`, at least 0; 0 needs as many independent keys as they have numbers.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import Pairs, ridge_memory
        >>> ridge_memory(Pairs(torch.eye(2)[None], torch.tensor([[[1.0], [3.0]]])), 0.0)
        tensor([[[1., 3.]]])
    """
    keys, values, before = _pairs("ridge_memory", pairs)
    gram, cross = _moments(keys.double(), values.double())
    if before is not None:
        cross = cross + ridge * before
    whole = gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(whole, cross, left=False).to(keys.dtype)


def largest(gram: Tensor, squarings: int = 6) -> Tensor:
    r"""A bound from above on the largest eigenvalue of positive semidefinite matrices (B, K, K): :math:`\lVert G^p \rVert_F^{1 / p}` with p = 64.

    At most a factor :math:`K^{1 / 2p}` too large, 1.03 for K = 64. By products alone, which give the same bits wherever a tensor lies in memory;
    eigenvalue routines do not.
    """
    power, log = gram, gram.new_zeros(len(gram))
    for k in range(squarings + 1):
        length = power.square().sum((1, 2)).sqrt()
        log = log + length.log() / 2**k
        power = power / torch.where(length > 0, length, 1.0)[:, None, None]
        power = power @ power
    return log.exp()


def _moments(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    count = keys.shape[1]
    return keys.mT @ keys / count, values.mT @ keys / count


def _pairs(owner: str, x: Any) -> Pairs:
    if not isinstance(x, Pairs):
        raise TypeError(f"`{owner}` is shown `Pairs(keys, values)`; got {type(x).__name__}.")
    keys, values, _ = x
    if keys.ndim != 3 or values.ndim != 3 or keys.shape[:2] != values.shape[:2] or not keys.shape[1]:
        raise ValueError(
            f"`{owner}` wants keys (B, n, K) and values (B, n, V) with at least one pair; got {tuple(keys.shape)} and "
            f"{tuple(values.shape)}."
        )
    return x
