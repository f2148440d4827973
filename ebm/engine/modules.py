"""What a model is made of: its tensors, and the modules that do not answer alike twice, found in one walk."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

__all__ = ["Survey", "Unsteady", "refusal", "survey", "watched"]

_MIXES = "takes its mean over the batch: what a sample gets would depend on its neighbours, and every step would move its statistics"
_MOVES = "moves its running statistics at every step"
_DRAWS = "draws from the global generator: one and the same latent would be answered otherwise from step to step"
_ESTIMATES = "moves its estimate of the norm at every step"


class Unsteady(NamedTuple):
    """A module whose outcome depends on the batch, on chance, or on how often it was called.

    Attributes:
        name: where it stands in the model.
        module: the module.
        fault: what it does, in words.
    """

    name: str
    module: nn.Module
    fault: str


class Survey(NamedTuple):
    """What a walk over a model finds.

    Attributes:
        tensors: parameters and buffers by name.
        unsteady: modules that do not answer alike twice, as they stand.
    """

    tensors: dict[str, Tensor]
    unsteady: list[Unsteady]


def survey(model: nn.Module) -> Survey:
    """The tensors and the unsteady modules of a model, in the order of ``named_modules``."""
    tensors: dict[str, Tensor] = {}
    unsteady: list[Unsteady] = []
    seen: set[nn.Module] = set()
    todo: list[tuple[str, nn.Module]] = [("", model)]
    while todo:
        prefix, module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    tensors[prefix + name] = tensor
        judge = _judge(type(module))
        fault = judge(module) if judge is not None else None
        if module._forward_pre_hooks and module.training and fault is None:
            hooks = module._forward_pre_hooks.values()
            fault = _ESTIMATES if any(isinstance(hook, SpectralNorm) for hook in hooks) else None
        if fault is not None:
            unsteady.append(Unsteady(prefix[:-1], module, fault))
        if module._modules:
            todo += [(f"{prefix}{name}.", part) for name, part in reversed(module._modules.items()) if part is not None]
    return Survey(tensors, unsteady)


def refusal(model: nn.Module, part: Unsteady) -> ValueError:
    """The error that names a module, what it does, and what to do."""
    name, _, parametrized = part.name.partition(".parametrizations.")
    what = (
        f"holds `{name}`, a {type(part.module).__name__}"
        if not parametrized
        else f"holds `{name}`, under spectral_norm"
    )
    cure = ", or use LayerNorm or GroupNorm" if isinstance(part.module, _NormBase) else ""
    return ValueError(
        f"`{type(model).__name__}` {what}, which {part.fault}. Call `.eval()` on it{cure}. Gradients pass in eval mode, too."
    )


@contextmanager
def watched(model: nn.Module, parts: Sequence[Unsteady]) -> Iterator[None]:
    """Raise if one of these modules is called inside, in this thread."""
    here = threading.get_ident()

    def refuse(part: Unsteady, *_: object) -> None:
        if threading.get_ident() == here:
            raise refusal(model, part)

    # before all other hooks: an estimate that is made in one must not move
    handles = [part.module.register_forward_pre_hook(functools.partial(refuse, part), prepend=True) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_norm(part: nn.Module) -> str | None:
    assert isinstance(part, _NormBase)
    if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
        return _MIXES
    return _MOVES if part.training and part.track_running_stats else None


def _of_noise(draws: Callable[..., bool]) -> Callable[[nn.Module], str | None]:
    return lambda part: _DRAWS if part.training and draws(part) else None


_JUDGES: tuple[tuple[type, Callable[[nn.Module], str | None]], ...] = (
    (_NormBase, _of_norm),
    (_DropoutNd, _of_noise(lambda part: part.p > 0)),
    (nn.RReLU, _of_noise(lambda part: part.lower < part.upper)),
    (nn.MultiheadAttention, _of_noise(lambda part: part.dropout > 0)),
    (nn.RNNBase, _of_noise(lambda part: part.dropout > 0 and part.num_layers > 1)),
    (parametrizations._SpectralNorm, lambda part: _ESTIMATES if part.training else None),
)


@functools.lru_cache(512)
def _judge(kind: type) -> Callable[[nn.Module], str | None] | None:
    """How modules of a class are judged; None: they are steady."""
    return next((judge for base, judge in _JUDGES if issubclass(kind, base)), None)
