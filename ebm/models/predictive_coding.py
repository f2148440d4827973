"""Layered predictive coding: every layer predicts the next, and settling shares out the errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm.models.activations import Activation, activation_of
from ebm.models.starts import Amortised, FeedForward, Start
from ebm.noise import Draw
from ebm.objective import Energy, Point
from ebm.rows import Shared
from ebm.solvers import AdaptiveDescent
from ebm.solvers.base import Solver

__all__ = ["Ends", "PredictiveCoding", "Synapses"]


class Synapses(NamedTuple):
    """The weights of one prediction as a call uses them: cast ahead of time under autocast, and their transpose."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor
    precision: Tensor | float


class Ends(NamedTuple):
    """What follows from the observation alone: the clamped ends, the prediction of a clamped bottom, and the weights."""

    bottom: Tensor | None
    top: Tensor | None
    first: Tensor | None
    synapses: tuple[Shared, ...]

    @property
    def given(self) -> Tensor:
        """A clamped end."""
        end = self.bottom if self.bottom is not None else self.top
        assert end is not None
        return end


class PredictiveCoding(Energy):
    r"""Layered Gaussian predictive coding.

    With layers :math:`z_0, \ldots, z_L` and predictions :math:`\mu_l = W_l\,\phi(z_{l-1}) + b_l` (no activation on
    layer 0, so that a clamped observation enters as it is):

    .. math:: E = \tfrac12 \sum_{l=1}^{L} \pi_l\,\|z_l - \mu_l\|^2 + \tfrac12 \pi_0 \|z_0\|^2

    The observation is a pair (bottom, top), either of which may be None; a tensor alone clamps the bottom. The latent
    is the tuple of the free layers; where none is free (two layers, both clamped: a delta rule), it holds one layer of no units. The
    force of layer l needs its own error and that of the next layer only:

    .. math:: F_l = -\pi_l e_l + \phi'(z_l) \odot W_{l+1}^T \pi_{l+1} e_{l+1}, \qquad e_l = z_l - \mu_l

    A clamped bottom's prediction is computed once a call. Weights learn from the settled latent by the gradient of the
    energy: ``model(z, model.condition(x)).mean().backward()``, or without a graph by `local_gradients`.

    Args:
        sizes: numbers of units from layer 0 to layer L, at least two layers.
        activation: any module or function of each number, or an `Activation` with its derivative.
        precision: > 0, of layers 1 to L: one number for all, or for each layer a number or a (size,) tensor.
        start: where the free layers start: `FeedForward`, `Zeros`, `Noise` or `Amortised`.
        prior: precision of a free bottom layer around zero, >= 0.

    Raises:
        ValueError: fewer than two layers, an empty one, a precision of another shape or not above zero, a negative
            prior; at the call, no clamped end, or an observation or an amortised start of another shape.
        TypeError: an activation or a start that cannot be called.

    Example:
        >>> import torch, ebm
        >>> model = ebm.PredictiveCoding([4, 8, 2])
        >>> x, y = torch.randn(5, 4), torch.randn(5, 2)
        >>> [layer.shape for layer in ebm.infer(model, (x, y), steps=20, adjoint=ebm.Detached()).z]
        [torch.Size([5, 8])]

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017), eq. 2.5-2.13, whose activation stands as here, inside
    the product: W phi(z). Some libraries put it outside, phi(W z). Layers count up from the input, there down to it.
    """

    provides = Energy.provides | {"residuals"}

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor] | Activation = torch.tanh,
        precision: float | Sequence[float | Tensor] = 1.0,
        start: Start | FeedForward | Amortised = FeedForward(),
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or not all(size >= 1 for size in sizes):
            raise ValueError(
                f"`PredictiveCoding(sizes)` needs at least two layers of at least one unit; got {list(sizes)}. Pass [784, 256, 10], say."
            )
        if not 0 <= prior < math.inf:
            raise ValueError(
                f"`PredictiveCoding(prior=...)` must be finite and not negative; got {prior}. Zero is no prior."
            )
        for name, value, advice in (
            ("activation", activation, "Pass a function of a tensor, `torch.tanh` or `torch.relu` say"),
            ("start", start, "Pass `ebm.Zeros()`, `ebm.Noise(0.1)` or `ebm.FeedForward()`"),
        ):
            if not (callable(value) or isinstance(value, (Activation, FeedForward))):
                raise TypeError(f"`PredictiveCoding({name}=...)` must be callable; got {value!r}. {advice}.")
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.activation = activation
        self.start = start
        self.prior = float(prior)
        self._scales: list[float | None] = []
        self._keep_precision(precision)

    def condition(self, x: Any) -> Ends:
        """The clamped ends and what follows from them alone; one made earlier is returned as it is.

        So ``c = model.condition(x)`` may be made once and handed to `ebm.infer` and `local_gradients` in place of x, as long as
        the weights do not change. For products in bfloat16 make it under `torch.autocast`.
        """
        if isinstance(x, Ends):
            return x
        bottom, top = x if isinstance(x, (tuple, list)) else (x, None)
        given = self._checked_end(bottom, top)
        low = torch.get_autocast_dtype(given.device.type) if torch.is_autocast_enabled(given.device.type) else None
        synapses = tuple(self._synapses(k, low if k or bottom is None else None) for k in range(len(self.layers)))
        first = None if bottom is None else self.layers[0](bottom).to(given.dtype)
        return Ends(bottom, top, first, synapses)

    def init_latent(self, c: Ends, draw: Draw) -> tuple[Tensor, ...]:
        """The free layers, from the bottom up."""
        free = self._free(c)
        if not free:
            return self._none(c)
        if isinstance(self.start, Amortised):
            return self._guessed(c)
        if not isinstance(self.start, FeedForward):
            return self.start(tuple(c.given.new_zeros(c.given.shape[0], self.sizes[layer]) for layer in free), draw)
        phi = activation_of(self.activation)
        bottom = c.given.new_zeros(c.given.shape[0], self.sizes[0]) if c.bottom is None else c.bottom
        layers = [bottom]
        for k in range(free.stop - 1):
            below = layers[k] if k == 0 else phi.value(layers[k])
            known = c.first if k == 0 else None
            layers.append(_product(below, c.synapses[k].value) if known is None else known)
        return tuple(layers[layer] for layer in free)

    def idle(self, x: Any) -> str | None:
        """With a clamped bottom, a free top and a feed-forward start, the start is the answer."""
        top = x.top if isinstance(x, Ends) else x[1] if isinstance(x, (tuple, list)) and len(x) == 2 else None
        if top is not None or not isinstance(self.start, FeedForward):
            return None
        return (
            "The bottom is clamped, the top is free and the start is feed-forward: every error is zero at the start, so settling cannot "
            "change the answer. To predict, pass `steps=0`; to settle, clamp the top as well, turn the network round (labels at the bottom), "
            "or start from Zeros() or Noise()."
        )

    def forward(self, z: Any, c: Ends) -> Tensor:
        """The energy, (B,)."""
        layers = self._all(z, c)
        return self._energy(layers, self._errors(layers, self._active(layers), c), c)

    def point(self, z: Any, c: Ends) -> Point:
        """Energy and force in closed form: one product forward and one back for each free layer."""
        layers = self._all(z, c)
        active = self._active(layers)
        errors = self._errors(layers, active, c)
        energy = self._energy(layers, errors, c)
        weighted = [_weighted(e, s.value.precision) for e, s in zip(errors, c.synapses, strict=True)]
        pull = activation_of(self.activation).pull
        force = []
        for layer in self._free(c):
            own = weighted[layer - 1] if layer else self.prior * layers[0]
            if layer == len(weighted):
                force.append(-own)
                continue
            back = _back(weighted[layer], c.synapses[layer].value)
            force.append((pull(back, layers[layer], active[layer]) if layer else back) - own)
        return Point(z, energy, tuple(force) or self._none(c))

    def residuals(self, z: Any, c: Ends) -> Tensor:
        """The errors side by side, each times the square root of its precision, (B, M): half their squares are the energy."""
        layers = self._all(z, c)
        errors = self._errors(layers, self._active(layers), c)
        parts = [_weighted(e, _root(s.value.precision)) for e, s in zip(errors, c.synapses, strict=True)]
        if c.bottom is None and self.prior:
            parts.append(layers[0] * math.sqrt(self.prior))
        return torch.cat(parts, 1)

    def readout(self, z: Any, c: Ends) -> Any:
        """The free end: the top if it is free, else the bottom; with both clamped, the latent."""
        return z[-1] if c.top is None else z[0] if c.bottom is None else z

    def default_solver(self) -> Solver:
        """`AdaptiveDescent`, which needs no step size and never raises the energy, whatever the weights."""
        return AdaptiveDescent(first=0.3)

    @torch.no_grad()
    def local_gradients(self, z: Any, x: Any) -> dict[str, Tensor]:
        r"""The gradient of the mean energy in the weights at settled latents, each from the two ends of its synapses alone.

        .. math:: \nabla W_l = -\tfrac1B\, (\pi_l e_l)^T \phi(z_{l-1}), \qquad \nabla b_l = -\tfrac1B \textstyle\sum \pi_l e_l

        Args:
            z: settled latents, as `ebm.infer` returned them for ``x``.
            x: the observation, or its `condition`.

        Returns:
            Gradients by parameter name, as ``named_parameters`` has them; write them to ``.grad`` for any optimiser.

        Example:
            >>> import torch, ebm
            >>> model, x = ebm.PredictiveCoding([4, 8, 2]), (torch.randn(5, 4), torch.randn(5, 2))
            >>> gradients = model.local_gradients(ebm.infer(model, x, steps=20, adjoint=ebm.Detached()).z, x)
            >>> for name, parameter in model.named_parameters():
            ...     parameter.grad = gradients[name]

        Source: Whittington and Bogacz (2017), eq. 2.19: Hebbian, the error above times the activity below.
        """
        c = self.condition(x)
        layers = self._all(z, c)
        active = self._active(layers)
        found = {}
        for k, error in enumerate(self._errors(layers, active, c)):
            synapses = c.synapses[k].value
            scaled = _weighted(error, synapses.precision) * (-1 / error.shape[0])
            found[f"layers.{k}.weight"] = (scaled.T @ active[k]).to(error.dtype)
            found[f"layers.{k}.bias"] = scaled.sum(0)
        return found

    def _keep_precision(self, precision: float | Sequence[float | Tensor]) -> None:
        """Numbers are settings; tensors become buffers, so that they move with the model."""
        each = list(precision) if isinstance(precision, Sequence) else [precision] * len(self.layers)
        if len(each) != len(self.layers):
            raise ValueError(
                f"`PredictiveCoding(precision=...)` is one for each of the {len(self.layers)} predicted layers; got {len(each)}. "
                "Layer 0 is not predicted: leave it out."
            )
        for k, value in enumerate(each):
            held = value if isinstance(value, Tensor) else torch.tensor(float(value))
            if held.shape not in ((), (self.sizes[k + 1],)) or not bool(((held > 0) & held.isfinite()).all()):
                raise ValueError(
                    f"`PredictiveCoding(precision=...)` must be above zero and finite, a number or a tensor ({self.sizes[k + 1]},) for layer "
                    f"{k + 1}; got {value}. Pass 1.0, say."
                )
            self._scales.append(None if isinstance(value, Tensor) else float(value))
            self.register_buffer(f"precision_{k + 1}", value if isinstance(value, Tensor) else None)

    def _synapses(self, k: int, low: torch.dtype | None) -> Shared:
        layer, scale = self.layers[k], self._scales[k]
        weight: Tensor = layer.weight if low is None else layer.weight.to(low)  # pyright: ignore
        precision = getattr(self, f"precision_{k + 1}") if scale is None else scale
        return Shared(Synapses(weight, weight.T, layer.bias, precision))  # pyright: ignore

    def _checked_end(self, bottom: Tensor | None, top: Tensor | None) -> Tensor:
        """A clamped end, after all that are given were looked at."""
        for name, end, size in (("bottom", bottom, self.sizes[0]), ("top", top, self.sizes[-1])):
            if end is not None and (not isinstance(end, Tensor) or end.ndim != 2 or end.shape[1] != size):
                got = tuple(end.shape) if isinstance(end, Tensor) else type(end).__name__
                raise ValueError(f"The {name} must have shape (B, {size}); got {got}. Flatten it, or change `sizes`.")
        given = bottom if bottom is not None else top
        if given is None:
            raise ValueError(
                "`PredictiveCoding` needs at least one clamped end; got (None, None). Pass x, (x, y) or (None, y)."
            )
        return given

    def _guessed(self, c: Ends) -> tuple[Tensor, ...]:
        """The amortised start, checked."""
        guess = self.start.module((c.bottom, c.top))  # pyright: ignore
        guess = (guess,) if isinstance(guess, Tensor) else tuple(guess)
        wanted = [(c.given.shape[0], self.sizes[layer]) for layer in self._free(c)]
        got = [tuple(layer.shape) for layer in guess]
        if got != wanted:
            raise ValueError(
                f"The module in `Amortised` must return the free layers, of shapes {wanted}; got {got}. Return a tuple, from the bottom up."
            )
        return guess

    def _free(self, c: Ends) -> range:
        """The numbers of the free layers."""
        return range(0 if c.bottom is None else 1, len(self.sizes) if c.top is None else len(self.sizes) - 1)

    def _all(self, z: Any, c: Ends) -> list[Tensor]:
        """All layers, clamped ones included."""
        free = z if self._free(c) else ()
        return [*([] if c.bottom is None else [c.bottom]), *free, *([] if c.top is None else [c.top])]

    def _none(self, c: Ends) -> tuple[Tensor]:
        """The latent where no layer is free: one layer of no units, so that there is a row for each sample."""
        return (c.given.new_zeros(c.given.shape[0], 0),)

    def _active(self, layers: list[Tensor]) -> list[Tensor]:
        """What each layer but the last sends up."""
        value = activation_of(self.activation).value
        return [layers[0], *(value(layer) for layer in layers[1:-1])]

    def _errors(self, layers: list[Tensor], active: list[Tensor], c: Ends) -> list[Tensor]:
        """The errors of layers 1 to L."""
        errors = [] if c.first is None else [layers[1] - c.first]
        for k in range(len(errors), len(active)):
            errors.append(_missed(layers[k + 1], active[k], c.synapses[k].value))
        return errors

    def _energy(self, layers: list[Tensor], errors: list[Tensor], c: Ends) -> Tensor:
        parts = [_square(e, s.value.precision) for e, s in zip(errors, c.synapses, strict=True)]
        if c.bottom is None and self.prior:
            parts.append(_square(layers[0], self.prior))
        return 0.5 * sum(parts[1:], parts[0])


def _product(below: Tensor, synapses: Synapses) -> Tensor:
    """What the next layer is predicted to be; the product in the dtype of the weights, the rest in that of the layer."""
    if synapses.weight.dtype == below.dtype:
        return torch.addmm(synapses.bias, below, synapses.transposed)
    return (below.to(synapses.weight.dtype) @ synapses.transposed).to(below.dtype) + synapses.bias


def _missed(above: Tensor, below: Tensor, synapses: Synapses) -> Tensor:
    """The layer less its prediction. Writes only into the tensor it has just made."""
    rest = above - synapses.bias
    if synapses.weight.dtype == below.dtype and not torch.compiler.is_compiling():
        return rest.addmm_(below, synapses.transposed, alpha=-1)
    # a compiler fuses the difference with what follows, where it would copy `rest` for a product that adds
    return rest - (below.to(synapses.weight.dtype) @ synapses.transposed).to(rest.dtype)


def _back(error: Tensor, synapses: Synapses) -> Tensor:
    """What an error asks of the activity below."""
    if synapses.weight.dtype == error.dtype:
        return error @ synapses.weight
    return (error.to(synapses.weight.dtype) @ synapses.weight).to(error.dtype)


def _weighted(error: Tensor, precision: Tensor | float) -> Tensor:
    return precision * error if isinstance(precision, Tensor) or precision != 1.0 else error


def _root(precision: Tensor | float) -> Tensor | float:
    return precision.sqrt() if isinstance(precision, Tensor) else math.sqrt(precision)


def _square(error: Tensor, precision: Tensor | float) -> Tensor:
    """The squared length of each row under a precision, (B,); without a graph by the norm, which is one pass."""
    if isinstance(precision, Tensor):
        return (precision * error * error).sum(1)
    square = torch.linalg.vector_norm(
        error.detach(), dim=1
    ).square()  # one pass; with a graph the same bits, and a square's slope
    if torch.is_grad_enabled():
        product = (error * error).sum(1)
        square = product + (square - product).detach()
    return square if precision == 1.0 else precision * square
