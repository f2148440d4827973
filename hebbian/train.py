"""Training modules that hold Hebbian layers, and linear read-outs of what they have learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from hebbian.layers.base import HebbianLayer

__all__ = ["features", "greedy", "joint", "layers_of", "learning", "logistic", "ridge"]


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
        _epochs(model, loader, epochs, "all layers", progress)


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
            _epochs(model, loader, count, f"layer {k + 1} of {len(layers)}", progress, stops=True)


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
    model: nn.Module, loader: Iterable[Any], epochs: int, name: str, progress: bool, stops: bool = False
) -> None:
    if epochs < 0:
        raise ValueError(f"{epochs} epochs were asked for; at least 0 are wanted. Pass for example epochs=1.")
    for epoch in range(epochs):
        seen = 0
        for batch in tqdm(loader, desc=f"{name}, epoch {epoch + 1} of {epochs}", unit="batch", disable=not progress):
            seen += 1
            try:
                model(_input(batch))
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
    return torch.cat([model(_input(batch)).flatten(1) for batch in loader])


@torch.no_grad()
def ridge(inputs: Tensor, targets: Tensor, penalty: float = 1e-3, classes: int | None = None) -> nn.Linear:
    r"""A linear read-out by ridge regression, in closed form and in float64.

    $$\min_{V, b} \; \tfrac{1}{N} \sum_n |V \hat x_n + b - t_n|^2 + \lambda \, |V|^2$$

    $\hat x$ are the inputs less their mean, over one scale for all of them (their root mean square deviation), so that a
    penalty means the same whatever the units; the read-out that is returned takes the inputs as they are. Solved with D or N
    unknowns, whichever are fewer.

    Args:
        inputs: (N, D).
        targets: classes (N,), int64, coded as one-hot rows; or numbers (N, K).
        penalty: $\lambda$, above 0.
        classes: how many, where targets are classes; None is the largest plus one.

    Returns:
        a linear module, D to K, in the dtype of the inputs.

    Raises:
        ValueError: shapes that do not fit, no samples, or a penalty that is not above 0.

    Example:
        >>> import torch
        >>> from hebbian.train import ridge
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> ridge(x, 3 * x + 1, penalty=1e-9)(torch.tensor([[10.0]])).round(decimals=3)
        tensor([[31.]], grad_fn=<RoundBackward1>)

    Source:
        Hoerl and Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems.
    """
    wanted = _targets(inputs, targets, classes).double()
    _positive("penalty", penalty)
    x, mean, scale = _standard(inputs)
    centre = wanted.mean(0)
    gap, (count, size) = wanted - centre, x.shape
    if size <= count:
        solved = _solve(x.T @ x, count * penalty, x.T @ gap)
    else:
        solved = x.T @ _solve(x @ x.T, count * penalty, gap)
    return _linear(inputs, solved.T / scale, centre - (solved.T / scale) @ mean)


def logistic(
    inputs: Tensor, labels: Tensor, penalty: float = 1e-4, classes: int | None = None, steps: int = 200
) -> nn.Linear:
    r"""A linear read-out by multinomial logistic regression, by L-BFGS on all samples in float64.

    $$\min_{V, b} \; \tfrac{1}{N} \sum_n -\log \mathrm{softmax}(V \hat x_n + b)_{t_n} + \tfrac{\lambda}{2} |V|^2$$

    with $\hat x$ as in `ridge`. Begun at zero, so nothing is drawn.

    Args:
        inputs: (N, D).
        labels: (N,), int64.
        penalty: $\lambda$, above 0, so that there is one minimum.
        classes: how many; None is the largest plus one.
        steps: of L-BFGS, at most.

    Returns:
        a linear module, D to classes, in the dtype of the inputs.

    Raises:
        ValueError: shapes that do not fit, no samples, or a penalty that is not above 0.

    Example:
        >>> import torch
        >>> from hebbian.train import logistic
        >>> x, labels = torch.tensor([[-2.0], [-1.0], [1.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> logistic(x, labels)(x).argmax(1)
        tensor([0, 0, 1, 1])
    """
    codes = _targets(inputs, labels, classes)
    if labels.ndim != 1:
        raise ValueError(f"`labels` has shape {tuple(labels.shape)}; one class a sample is wanted, ({len(inputs)},).")
    _positive("penalty", penalty)
    x, mean, scale = _standard(inputs)
    readout = nn.Linear(x.shape[1], codes.shape[1], dtype=torch.float64, device=x.device)
    with torch.no_grad():
        readout.weight.zero_(), readout.bias.zero_()
    optimiser = torch.optim.LBFGS(
        readout.parameters(),
        max_iter=steps,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        with torch.enable_grad():
            value = functional.cross_entropy(readout(x), labels) + 0.5 * penalty * readout.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    weight = readout.weight.detach() / scale
    return _linear(inputs, weight, readout.bias.detach() - weight @ mean)


def _some(module: nn.Module) -> list[HebbianLayer]:
    layers = layers_of(module)
    if not layers:
        raise ValueError(
            f"`{type(module).__name__}` holds no Hebbian layer; at least one is wanted. Put one in, for example "
            "HebbianLinear(784, 100, rule)."
        )
    return layers


def _input(batch: Any) -> Tensor:
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"`{name}` is {value!r}; a number above 0 is wanted. Pass for example {name}=1e-3.")


def _targets(inputs: Tensor, targets: Tensor, classes: int | None) -> Tensor:
    """One row of targets a sample; classes become one-hot rows."""
    if inputs.ndim != 2 or len(inputs) != len(targets) or not len(inputs) or targets.ndim > 2:
        raise ValueError(
            f"The inputs have shape {tuple(inputs.shape)} and the targets {tuple(targets.shape)}; (N, D) and (N,) or (N, K) are "
            "wanted, with at least one sample. Flatten the inputs, as `features` does."
        )
    if targets.ndim == 2:
        return targets
    return functional.one_hot(targets, -1 if classes is None else classes)


def _standard(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs in float64 about their mean and over one scale, and both."""
    x = inputs.detach().double()
    mean = x.mean(0)
    x = x - mean
    scale = x.square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return x / scale, mean, scale


def _solve(gram: Tensor, ridge: float, right: Tensor) -> Tensor:
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> nn.Linear:
    dtype = inputs.dtype if inputs.is_floating_point() else torch.float32
    readout = nn.Linear(weight.shape[1], weight.shape[0], device=inputs.device, dtype=dtype)
    with torch.no_grad():
        readout.weight.copy_(weight)
        readout.bias.copy_(bias)
    return readout
