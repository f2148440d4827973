"""Continuous answers: the sum, the completion and the inverse of matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ebm.tasks.base import Baseline, Problems, Task, constant, linear, number, whole

__all__ = ["Addition", "Completion", "Inverse", "newton_schulz"]


@dataclass(frozen=True)
class _Matrices(Task):
    """Square matrices with the mean squared error of their entries."""

    metric: ClassVar[str] = "mean squared error of the entries"
    lower_is_better: ClassVar[bool] = True

    size: int = 20

    def __post_init__(self) -> None:
        whole(self, "size", 1)

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Problems: ...

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Mean squared error."""
        return (answer - y).square().mean()

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of the entries of each matrix."""
        return (answer - y).square().flatten(1).mean(1)

    def baselines(self) -> tuple[Baseline, ...]:
        """The mean; the best linear predictor from all entries."""
        side = (self.size, self.size)
        mean = constant("the mean", lambda train: train.y.mean(0))
        return (mean, linear(lambda y: y, lambda flat, x: flat.unflatten(1, side)))


@dataclass(frozen=True)
class Addition(_Matrices):
    r"""The sum of two matrices with entries :math:`U(-s, s)`.

    ``x`` is (B, 2, size, size), ``y`` and an answer are (B, size, size). Train with ``scale=1``, test with 2.5 for
    harder ones. A linear map solves it exactly, so it tells whether a model extrapolates, and no more.

    Args:
        size: rows and columns, at least 1.
        scale: s, at least 0.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range.

    Example:
        >>> import torch
        >>> from ebm.tasks import Addition
        >>> x, y = Addition(size=3).sample(2, torch.Generator().manual_seed(0))
        >>> bool(x.sum(1).equal(y))
        True

    Source: Du et al. (2022), Learning iterative reasoning through energy minimization, section 4.1.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "scale", 0)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Two matrices and their sum."""
        shape = (count, 2, self.size, self.size)
        x = self.scale * (2 * torch.rand(shape, generator=generator, device=generator.device) - 1)
        return Problems(x, x.sum(1))


@dataclass(frozen=True)
class Completion(_Matrices):
    r"""Fill in a matrix of low rank of which half the entries are shown.

    .. math:: R = U V^\top / c + \sigma Z, \qquad x = R \circ M, \qquad M_{ij} \sim \mathrm{Bernoulli}(\tfrac12)

    with U, V (size x rank) and Z normal. ``x`` is (B, 1, size, size), or (B, 2, size, size) with the mask M second where
    ``mask_shown``; ``y`` and an answer are (B, size, size); all entries are scored, noise and all, so the error cannot
    fall below :math:`\sigma^2 / 2`. Train with ``scale=20``, test with 5 for harder ones.

    The published rank of 10 leaves more unknowns than shown entries; a rank of 2 to 4 is a task where steps can matter.

    Args:
        size: rows and columns, at least 1.
        rank: at least 1.
        scale: c, above 0.
        noise: :math:`\sigma`, at least 0.
        mask_shown: whether the mask is part of the observation; published: it is not.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range.

    Example:
        >>> import torch
        >>> from ebm.tasks import Completion
        >>> x, y = Completion(noise=0.0).sample(2, torch.Generator().manual_seed(0))
        >>> [int(torch.linalg.matrix_rank(y[0], rtol=1e-4)), bool(x[:, 0][x[:, 0] != 0].equal(y[x[:, 0] != 0]))]
        [10, True]

    Source: Du et al. (2022) and Du et al. (2024), IRED, by its code.
    """

    rank: int = 10
    scale: float = 20.0
    noise: float = 0.1
    mask_shown: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "rank", 1)
        number(self, "scale", 1e-6)
        number(self, "noise", 0)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Masked matrices and whole ones."""

        def normal(columns: int) -> Tensor:
            return torch.randn(count, self.size, columns, generator=generator, device=generator.device)

        y = normal(self.rank) @ normal(self.rank).transpose(1, 2) / self.scale + self.noise * normal(self.size)
        mask = torch.randint(2, y.shape, generator=generator, device=generator.device).to(y.dtype)
        return Problems(torch.stack([y * mask, mask] if self.mask_shown else [y * mask], dim=1), y)

    def baselines(self) -> tuple[Baseline, ...]:
        """Those of every matrix task, and the shown entries with zeros elsewhere."""
        return (*super().baselines(), Baseline("the shown entries", lambda train: lambda x: x[:, 0]))


@dataclass(frozen=True)
class Inverse(_Matrices):
    r"""The inverse of a symmetric positive definite matrix.

    .. math:: S = 2 A A^\top + \delta I, \qquad A_{ij} \sim U(-1, 1), \qquad y = S^{-1}

    ``x`` is (B, 1, size, size), ``y`` and an answer are (B, size, size). Train with ``delta=0.5``, test with 0.1 for
    harder ones: worse conditioned, with larger inverses.

    Args:
        size: rows and columns, at least 1.
        delta: :math:`\delta`, above 0.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range.

    Example:
        >>> import torch
        >>> from ebm.tasks import Inverse
        >>> x, y = Inverse(size=4).sample(2, torch.Generator().manual_seed(0))
        >>> bool(torch.allclose(x[:, 0] @ y, torch.eye(4), atol=1e-4))
        True

    Source: Du et al. (2022) and Du et al. (2024), IRED, by its code. The best linear predictor does about as well as the
    published networks; `newton_schulz` is the exact iteration to measure against.
    """

    delta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "delta", 1e-6)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Matrices and inverses (computed in double precision)."""
        a = 2 * torch.rand(count, self.size, self.size, generator=generator, device=generator.device).double() - 1
        x = 2 * a @ a.transpose(1, 2) + self.delta * torch.eye(self.size, device=a.device, dtype=a.dtype)
        return Problems(x.float()[:, None], torch.linalg.inv(x).float())

    def baselines(self) -> tuple[Baseline, ...]:
        """Those of every matrix task, and Newton-Schulz iterations, which take no learning."""

        def iterated(steps: int) -> Callable[[Problems], Callable[[Tensor], Tensor]]:
            return lambda train: lambda x: newton_schulz(x[:, 0], steps)

        return (*super().baselines(), *(Baseline(f"Newton-Schulz, {k} steps", iterated(k)) for k in (14, 18)))


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    r"""Invert by products alone: :math:`Y \leftarrow Y (2 I - S Y)`, from :math:`Y = S^\top / (|S|_1 |S|_\infty)`.

    Converges quadratically, from any invertible S; the error grows worse before, and rounding stays.

    Args:
        matrix: S, (B, n, n).
        steps: at least 0.

    Returns:
        the approximate inverse, (B, n, n).

    Example:
        >>> import torch
        >>> from ebm.tasks import newton_schulz
        >>> s = torch.tensor([[[2.0, 1.0], [1.0, 3.0]]])
        >>> bool(torch.allclose(newton_schulz(s, 12) @ s, torch.eye(2), atol=1e-5))
        True

    Source: Schulz (1933); Ben-Israel and Cohen (1966) for the start.
    """
    identity = torch.eye(matrix.shape[1], device=matrix.device, dtype=matrix.dtype)
    size = matrix.abs().sum(1).amax(1) * matrix.abs().sum(2).amax(1)
    answer = matrix.transpose(1, 2) / size[:, None, None]
    for _ in range(steps):
        answer = answer @ (2 * identity - matrix @ answer)
    return answer
