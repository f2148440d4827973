"""Layered predictive coding: every layer predicts the next, and settling shares out the errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm.models.activations import activation_of
from ebm.models.starts import Start
from ebm.noise import Draw
from ebm.objective import Energy, Point
from ebm.rows import Shared
from ebm.solvers import AdaptiveDescent
from ebm.solvers.base import Solver

__all__ = ["Amortised", "FeedForward", "PredictiveCoding"]


@dataclass(frozen=True)
class FeedForward:
    """Start every free layer at its prediction; a free bottom layer starts at zero.

    Example:
        >>> import ebm
        >>> ebm.FeedForward()
        FeedForward()
    """


class Amortised(nn.Module):
    """Start where a network guesses: ``module(x)`` returns the free layers, a tuple in the order of the latent.

    Args:
        module: takes the observation, the pair (bottom, top), and returns the tuple of free layers.

    Example:
        >>> import ebm
        >>> guess = ebm.Amortised(Guess()) # doctest: +SKIP
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Clamped(NamedTuple):
    """What a call knows: the clamped ends, the first prediction where the bottom is one, and weights cast ahead of time."""

    like: Tensor
    bottom: Tensor | None
    top: Tensor | None
    first: Tensor | None
    weights: tuple[Shared, ...] | None


class PredictiveCoding(Energy):
    r"""Layered Gaussian predictive coding.

    With layers :math:`z_0, \ldots, z_L` and predictions :math:`\mu_l = W_l\,\phi(z_{l-1}) + b_l` (no activation on
    layer 0, so that a clamped observation enters as it is):

    .. math:: E = \tfrac12 \sum_{l=1}^{L} \pi_l\,\|z_l - \mu_l\|^2 + \tfrac12 \pi_0 \|z_0\|^2

    The observation is a pair (bottom, top), either of which may be None; a tensor alone clamps the bottom. The latent
    is the tuple of the free layers. The force of layer l needs its own error and that of the next layer only:

    .. math:: F_l = -\pi_l e_l + \phi'(z_l) \odot W_{l+1}^T \pi_{l+1} e_{l+1}, \qquad e_l = z_l - \mu_l

    A clamped bottom's prediction is computed once a call. Weights learn from the settled latent by the gradient of the
    energy: ``model(z, model.condition(x)).mean().backward()``, or without a graph by `local_gradients`.

    Args:
        sizes: numbers of units from layer 0 to layer L, at least two layers.
        activation: any module or function of each number.
        precision: of layers 1 to L: a number, or a (size,) tensor, for each; None takes 1 for all.
        start: where the free layers start: `FeedForward`, `Zeros`, `Noise` or `Amortised`.
        prior: precision of a free bottom layer around zero, >= 0.

    Raises:
        ValueError: fewer than two layers, a precision for another number of layers, a negative prior, or an
            observation of another shape.

    Example:
        >>> import torch, ebm
        >>> model = ebm.PredictiveCoding([4, 8, 2])
        >>> x, y = torch.randn(5, 4), torch.randn(5, 2)
        >>> [layer.shape for layer in ebm.infer(model, (x, y), steps=20).z]
        [torch.Size([5, 8])]

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017), whose activation stands as here, inside the product:
    W phi(z). Some libraries put it outside, phi(W z).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        precision: Sequence[float | Tensor] | None = None,
        start: Start | FeedForward | Amortised = FeedForward(),
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(
                f"`PredictiveCoding(sizes)` needs at least two layers; got {list(sizes)}. Pass [784, 256, 10], say."
            )
        if precision is not None and len(precision) != len(sizes) - 1:
            raise ValueError(
                f"`PredictiveCoding(precision=...)` is one for each of the {len(sizes) - 1} predicted layers; got {len(precision)}. "
                "Layer 0 is not predicted: leave it out."
            )
        if not prior >= 0:
            raise ValueError(f"`PredictiveCoding(prior=...)` may not be negative; got {prior}. Zero is no prior.")
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True))
        self.activation = activation
        self.precision = [1.0] * (len(sizes) - 1) if precision is None else list(precision)
        self.start = start
        self.prior = prior
        self._phi = activation_of(activation)

    def condition(self, x: Any) -> Clamped:
        """The clamped ends and what follows from them alone."""
        bottom, top = x if isinstance(x, (tuple, list)) else (x, None)
        self._check_ends(bottom, top)
        like = bottom if bottom is not None else top
        if bottom is not None and top is None and isinstance(self.start, FeedForward):
            warnings.warn(
                "The bottom is clamped, the top is free and the start is feed-forward: every error is zero at the start, so settling cannot "
                "change the answer. Clamp the top as well, turn the network round (labels at the bottom), or start from Zeros() or Noise().",
                stacklevel=2,
            )
        first = None if bottom is None else self.layers[0](bottom)
        if first is not None and first.dtype != like.dtype:
            first = first.to(like.dtype)
        cast = None
        if torch.is_autocast_enabled(like.device.type):
            dtype = torch.get_autocast_dtype(like.device.type)
            cast = tuple(Shared(layer.weight.to(dtype)) for layer in self.layers)  # pyright: ignore
        return Clamped(like, bottom, top, first, cast)

    def init_latent(self, c: Clamped, draw: Draw) -> tuple[Tensor, ...]:
        """The free layers, from the bottom up."""
        if isinstance(self.start, Amortised):
            return self.start.module((c.bottom, c.top))
        zeros = tuple(c.like.new_zeros(c.like.shape[0], self.sizes[layer]) for layer in self._free(c))
        return self._predicted(c) if isinstance(self.start, FeedForward) else self.start(zeros, draw)

    def forward(self, z: Any, c: Clamped) -> Tensor:
        """The energy, (B,)."""
        layers = self._all(z, c)
        errors, _ = self._errors(layers, c)
        return self._energy(layers, errors, [self._weighted(k, e) for k, e in enumerate(errors)], c)

    def point(self, z: Any, c: Clamped) -> Point:
        """Energy and force in closed form: one product forward and one back for each free layer."""
        layers = self._all(z, c)
        errors, active = self._errors(layers, c)
        weighted = [self._weighted(k, e) for k, e in enumerate(errors)]
        force = tuple(self._force(layer, layers, active, weighted, c) for layer in self._free(c))
        return Point(z, self._energy(layers, errors, weighted, c), force)

    def readout(self, z: Any, c: Clamped) -> Any:
        """The free end: the top if it is free, else the bottom; with both clamped, the latent."""
        return z[-1] if c.top is None else z[0] if c.bottom is None else z

    def default_solver(self) -> Solver:
        """`AdaptiveDescent`, which needs no step size."""
        return AdaptiveDescent(first=0.3)

    @torch.no_grad()
    def local_gradients(self, z: Any, x: Any) -> dict[str, Tensor]:
        r"""The gradient of the mean energy in the weights at settled latents, each from the two ends of its synapses alone.

        .. math:: \nabla W_l = -\tfrac1B\, (\pi_l e_l)^T \phi(z_{l-1}), \qquad \nabla b_l = -\tfrac1B \textstyle\sum \pi_l e_l

        Args:
            z: settled latents, as `ebm.infer` returned them for ``x``.
            x: the observation.

        Returns:
            Gradients by parameter name, as ``named_parameters`` has them; write them to ``.grad`` for any optimiser.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            c = self.condition(x)
        layers = self._all(z, c)
        errors, active = self._errors(layers, c)
        found = {}
        for k, error in enumerate(errors):
            below = active[k]
            scaled = self._weighted(k, error) * (-1 / error.shape[0])
            found[f"layers.{k}.weight"] = (scaled.T @ below).to(error.dtype)
            found[f"layers.{k}.bias"] = scaled.sum(0)
        return found

    def _check_ends(self, bottom: Tensor | None, top: Tensor | None) -> None:
        if bottom is None and top is None:
            raise ValueError(
                "`PredictiveCoding` needs at least one clamped end; got (None, None). Pass x, (x, y) or (None, y)."
            )
        for name, end, size in (("bottom", bottom, self.sizes[0]), ("top", top, self.sizes[-1])):
            if end is not None and (end.ndim != 2 or end.shape[1] != size):
                raise ValueError(
                    f"The {name} must have shape (B, {size}); got {tuple(end.shape)}. Flatten it, or change `sizes`."
                )

    def _free(self, c: Clamped) -> range:
        """The numbers of the free layers."""
        return range(0 if c.bottom is None else 1, len(self.sizes) if c.top is None else len(self.sizes) - 1)

    def _all(self, z: Any, c: Clamped) -> list[Tensor]:
        """All layers, clamped ones included."""
        return [*([] if c.bottom is None else [c.bottom]), *z, *([] if c.top is None else [c.top])]

    def _prediction(self, k: int, below: Tensor, c: Clamped) -> Tensor:
        """What layer k + 1 is predicted to be."""
        layer = self.layers[k]
        if c.weights is None:
            return torch.addmm(layer.bias, below, layer.weight.T)  # pyright: ignore
        return (below @ c.weights[k].value.T).to(c.like.dtype) + layer.bias  # pyright: ignore

    def _predicted(self, c: Clamped) -> tuple[Tensor, ...]:
        """The free layers at their predictions, from the bottom up."""
        layers = [c.like.new_zeros(c.like.shape[0], self.sizes[0]) if c.bottom is None else c.bottom]
        for k in range(len(self.sizes) - 1):
            known = c.first if k == 0 else None
            layers.append(self._prediction(k, self._active(k, layers[k]), c) if known is None else known)
        return tuple(layers[layer] for layer in self._free(c))

    def _active(self, k: int, layer: Tensor) -> Tensor:
        return layer if k == 0 else self._phi.value(layer)

    def _errors(self, layers: list[Tensor], c: Clamped) -> tuple[list[Tensor], list[Tensor]]:
        """The errors of layers 1 to L, and the activity below each."""
        active = [self._active(k, layer) for k, layer in enumerate(layers[:-1])]
        errors = []
        for k, below in enumerate(active):
            prediction = c.first if k == 0 and c.first is not None else self._prediction(k, below, c)
            errors.append(layers[k + 1] - prediction)
        return errors, active

    def _weighted(self, k: int, error: Tensor) -> Tensor:
        precision = self.precision[k]
        return error if isinstance(precision, float) and precision == 1.0 else precision * error

    def _force(
        self, layer: int, layers: list[Tensor], active: list[Tensor], weighted: list[Tensor], c: Clamped
    ) -> Tensor:
        pull = self._pull(layer, layers, active, weighted, c) if layer < len(layers) - 1 else None
        if layer == 0:
            assert pull is not None
            return pull - self.prior * layers[0] if self.prior else pull
        own = weighted[layer - 1]
        return -own if pull is None else pull - own

    def _pull(
        self, layer: int, layers: list[Tensor], active: list[Tensor], weighted: list[Tensor], c: Clamped
    ) -> Tensor:
        """What the error of the next layer asks of this one."""
        if c.weights is None:
            back = weighted[layer] @ self.layers[layer].weight  # pyright: ignore
        else:
            back = (weighted[layer] @ c.weights[layer].value).to(c.like.dtype)
        return back if layer == 0 else self._phi.pull(back, layers[layer], active[layer])

    def _energy(self, layers: list[Tensor], errors: list[Tensor], weighted: list[Tensor], c: Clamped) -> Tensor:
        total = sum((_inner(e, w) for e, w in zip(errors, weighted, strict=True)), torch.zeros((), dtype=c.like.dtype))
        if c.bottom is None and self.prior:
            total = total + self.prior * _inner(layers[0], layers[0])
        return 0.5 * total


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each row, (B,); without a graph and for a square by the norm, which is one pass."""
    if a is b and not torch.is_grad_enabled():
        return torch.linalg.vector_norm(a, dim=1).square()
    return (a * b).sum(1)
