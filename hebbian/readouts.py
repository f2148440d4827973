"""Linear read-outs of features, by convex problems that have one answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["logistic", "ridge"]


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
        ValueError: shapes that do not fit, no samples, inputs that are not finite, or a penalty that is not above 0.

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
        ValueError: shapes that do not fit, no samples, inputs that are not finite, or a penalty that is not above 0.

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
    readout = _linear(x, x.new_zeros(codes.shape[1], x.shape[1]), x.new_zeros(codes.shape[1]))
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
    if not bool(inputs.isfinite().all()):
        raise ValueError(
            "The inputs hold NaN or infinity; finite numbers are wanted. If they are features that were learned, begin again "
            "with a lower rate."
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
    # a module that initialised itself would draw from the global generator
    readout = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=dtype).to_empty(device=inputs.device)
    with torch.no_grad():
        readout.weight.copy_(weight)
        readout.bias.copy_(bias)
    return readout
