"""Training modules that hold Hebbian layers, and linear read-outs of what they have learned."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hebbian import checks
from hebbian.layers.base import HebbianLayer
from hebbian.readouts import logistic as logistic
from hebbian.readouts import ridge as ridge

__all__ = [
    "DeadUnitsWarning",
    "dead_units",
    "features",
    "greedy",
    "joint",
    "layers_of",
    "learning",
    "logistic",
    "ridge",
]

_FEW_DEAD = 0.1  # of the units; a few lose every contest in any run


class DeadUnitsWarning(UserWarning):
    """More than a tenth of a layer's units answer zero to everything that they were shown."""


def layers_of(model: nn.Module) -> list[HebbianLayer]:
    """The Hebbian layers of a module, in the order in which they were put there; those inside another are its own.

    Example:
        >>> import torch
        >>> from hebbian import HebbianLinear, Oja
        >>> from hebbian.train import layers_of
        >>> len(layers_of(torch.nn.Sequential(HebbianLinear(3, 2, Oja(0.1)), torch.nn.ReLU())))
        1
    """
    if isinstance(model, HebbianLayer):
        return [model]
    return [layer for child in model.children() for layer in layers_of(child)]


@contextmanager
def learning(*modules: nn.Module) -> Iterator[None]:
    """Inside this block every Hebbian layer of the modules learns from whatever passes through it.

    Joint training with backpropagation is a plain training loop in such a block: a layer learns *after* it has answered, and
    the graph keeps the weights that gave the answer.

    Args:
        modules: any.

    Raises:
        ValueError: none of them holds a Hebbian layer.

    Example:
        >>> import torch
        >>> from hebbian import HebbianLinear, Oja
        >>> from hebbian.train import learning
        >>> net = torch.nn.Sequential(HebbianLinear(3, 2, Oja(0.1)), torch.nn.Linear(2, 1))
        >>> before = net[0].weight.clone()
        >>> with learning(net):
        ...     net(torch.ones(4, 3)).sum().backward()  # the read-out has a gradient, the first layer has learned
        >>> bool(net[1].weight.grad.any()), bool((net[0].weight != before).any())
        (True, True)
    """
    layers = [layer for module in modules for layer in _some(module)]
    before = [layer.learning for layer in layers]
    for layer in layers:
        layer.learning = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.learning = was


def joint(model: nn.Module, loader: Iterable[Any], epochs: int = 1, *, progress: bool = False) -> None:
    """All Hebbian layers of a module learn at once, each from what those before it answer just then.

    No gradient is taken: other parameters stay (mix in backpropagation with `learning`). The mode of the module (train or
    eval) is the caller's.

    Args:
        model: called on each batch.
        loader: gives batches: tensors, or tuples whose first entry is the input. Gone through once an epoch.
        epochs: at least 0.
        progress: a bar on stderr.

    Raises:
        ValueError: no Hebbian layer, no batch, or a negative number of epochs.

    Warns:
        DeadUnitsWarning: more than a tenth of a layer's units answered zero to every input of the last epoch.

    Example:
        >>> import torch
        >>> from hebbian import HebbianLinear, Oja
        >>> from hebbian.train import joint
        >>> net = torch.nn.Sequential(HebbianLinear(3, 2, Oja(0.1)), HebbianLinear(2, 1, Oja(0.1)))
        >>> joint(net, [torch.ones(4, 3)], epochs=100)
        >>> print(f"{net[1].weight.norm():.3f}")
        1.000
    """
    with learning(model):
        _epochs(model, loader, epochs, layers_of(model), "all layers", progress)


def greedy(model: nn.Module, loader: Iterable[Any], epochs: int | Sequence[int] = 1, *, progress: bool = False) -> None:
    """The Hebbian layers of a module learn one after the other, each from what the finished ones before it answer.

    Nothing behind the layer that learns is computed. Otherwise as `joint`.

    Args:
        model: called on each batch.
        loader: gives batches: tensors, or tuples whose first entry is the input. Gone through once an epoch and layer.
        epochs: for each layer: one number for all, or one each.
        progress: a bar on stderr for each layer.

    Raises:
        ValueError: no Hebbian layer, no batch, a layer that the model does not call, or another number of epochs.

    Warns:
        DeadUnitsWarning: as in `joint`, for each layer.

    Example:
        >>> import torch
        >>> from hebbian import HebbianLinear, Oja
        >>> from hebbian.train import greedy
        >>> net = torch.nn.Sequential(HebbianLinear(3, 2, Oja(0.1)), HebbianLinear(2, 1, Oja(0.1)))
        >>> greedy(net, [torch.ones(4, 3)], epochs=[100, 60])
        >>> print(f"{net[1].weight.norm():.3f}")
        1.000
    """
    layers = _some(model)
    each = [epochs] * len(layers) if isinstance(epochs, int) else list(epochs)
    if len(each) != len(layers):
        raise ValueError(
            f"`greedy` was given epochs for {len(each)} layers; the module has {len(layers)} Hebbian layers. "
            "Pass one number for all, or one for each."
        )
    for k, (layer, count) in enumerate(zip(layers, each, strict=True)):
        with learning(layer), _until(layer):
            _epochs(model, loader, count, [layer], f"layer {k + 1} of {len(layers)}", progress, stops=True)


@torch.no_grad()
def dead_units(model: nn.Module, loader: Iterable[Any]) -> dict[str, Tensor]:
    """Which units of each Hebbian layer answer zero to every input, so that nothing behind the layer hears of them; nothing learns.

    Args:
        model: called on each batch.
        loader: gives batches, as in `joint`.

    Returns:
        the numbers of the units, by the name of the layer in the module (``""`` for the module itself).

    Raises:
        ValueError: no Hebbian layer.

    Example:
        >>> import torch
        >>> from hebbian import HebbianLinear, Oja
        >>> from hebbian.layers import Relu
        >>> from hebbian.train import dead_units
        >>> layer = HebbianLinear(2, 3, Oja(0.1), Relu())
        >>> layer.start_from(torch.ones(1, 2))
        >>> _ = layer.weight.data[1].neg_()
        >>> dead_units(layer, [torch.ones(4, 2)])
        {'': tensor([1])}
    """
    layers = _some(model)
    with _answering(layers) as active:
        for batch in loader:
            model(_input(batch, model))
    names = {id(module): name for name, module in model.named_modules()}
    return {
        names[id(layer)]: (~ever).nonzero()[:, 0]
        for layer, ever in zip(layers, active, strict=True)
        if ever is not None
    }


@contextmanager
def _answering(layers: Sequence[HebbianLayer]) -> Iterator[list[Tensor | None]]:
    """Which units of each layer have answered anything but zero in this block; None for a layer that was not called."""
    active: list[Tensor | None] = [None] * len(layers)

    def look(k: int) -> Any:
        def hook(module: nn.Module, given: Any, answer: Tensor) -> None:
            now = (answer != 0).transpose(0, 1).flatten(1).any(1)
            before = active[k]
            active[k] = now if before is None else before | now

        return hook

    handles = [layer.register_forward_hook(look(k), prepend=True) for k, layer in enumerate(layers)]
    try:
        yield active
    finally:
        for handle in handles:
            handle.remove()


def _report(layers: Sequence[HebbianLayer], active: Sequence[Tensor | None]) -> None:
    for layer, ever in zip(layers, active, strict=True):
        dead = 0 if ever is None else int((~ever).sum())
        if ever is not None and dead > _FEW_DEAD * len(ever):
            warnings.warn(
                f"{dead} of the {len(ever)} units of {type(layer).__name__}({layer.extra_repr()}) answered zero to every input of the last "
                "epoch, so nothing behind the layer hears of them. Begin among the data with `layer.start_from(x)`, let an activation "
                "compare units (`Triangle()`), or learn at a lower rate; `dead_units(model, loader)` names them.",
                DeadUnitsWarning,
                stacklevel=4,
            )


class _Reached(Exception):
    """The layer that learns has learned; what is behind it is of no use."""


@contextmanager
def _until(layer: HebbianLayer) -> Iterator[None]:
    def stop(module: nn.Module, given: Any, answer: Any) -> None:
        raise _Reached

    handle = layer.register_forward_hook(stop)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _epochs(
    model: nn.Module,
    loader: Iterable[Any],
    epochs: int,
    layers: Sequence[HebbianLayer],
    name: str,
    progress: bool,
    stops: bool = False,
) -> None:
    if epochs < 0:
        raise ValueError(f"{epochs} epochs were asked for; at least 0 are wanted. Pass for example epochs=1.")
    for epoch in range(epochs):
        seen = 0
        with _answering(layers if epoch + 1 == epochs else []) as active:
            for batch in tqdm(
                loader, desc=f"{name}, epoch {epoch + 1} of {epochs}", unit="batch", disable=not progress
            ):
                seen += 1
                try:
                    model(_input(batch, model))
                except _Reached:
                    continue
                if stops:
                    raise ValueError(
                        f"The model did not call {name}; layers that learn must be passed through. Take it out of the module, "
                        "or call it in `forward`."
                    )
        if not seen:
            raise ValueError(
                f"The loader gave no batch in epoch {epoch + 1}; at least one is wanted. Pass something that can be gone "
                "through again, as a list or a DataLoader can and a generator cannot."
            )
        if active:
            _report(layers, active)


@torch.no_grad()
def features(model: nn.Module, loader: Iterable[Any]) -> Tensor:
    """What a module answers to all batches of a loader, flattened, (N, D); nothing learns.

    Args:
        model: called on each batch.
        loader: gives batches: tensors, or tuples whose first entry is the input.

    Example:
        >>> import torch
        >>> from hebbian.train import features
        >>> features(torch.nn.Flatten(), [torch.ones(4, 2, 3), torch.ones(1, 2, 3)]).shape
        torch.Size([5, 6])
    """
    return torch.cat([model(_input(batch, model)).flatten(1) for batch in loader])


def _some(module: nn.Module) -> list[HebbianLayer]:
    layers = layers_of(module)
    if not layers:
        raise ValueError(
            f"`{type(module).__name__}` holds no Hebbian layer; at least one is wanted. Put one in, for example "
            "HebbianLinear(784, 100, rule)."
        )
    return layers


def _input(batch: Any, model: nn.Module) -> Tensor:
    """The input of a batch; an array as a tensor in the dtype of the module."""
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    like = next((part for part in model.parameters() if part.is_floating_point()), torch.empty(0))
    return checks.taken(x, like)
