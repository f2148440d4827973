"""Small objectives with known answers, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import ebm
from ebm.objective import Point


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers from their own generator."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Clock:
    """A clock that moves by ``tick`` seconds at each reading, or by hand."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Quadratic(ebm.Energy):
    """E = z A z / 2 - z W x, with the eigenvalues of A between ``low`` and ``high``; at rest z = A^-1 W x."""

    def __init__(
        self,
        size: int = 4,
        inputs: int = 3,
        low: float = 0.3,
        high: float = 1.6,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        basis = torch.linalg.qr(numbers(size, size, seed=seed)).Q
        self.matrix = nn.Parameter((basis @ torch.diag(torch.linspace(low, high, size).double()) @ basis.T).to(dtype))
        self.weight = nn.Parameter(numbers(inputs, size, seed=seed + 1).to(dtype))

    def condition(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (0.5 * (z @ self.matrix) * z - z * c).sum(1)

    def settled(self, x: Tensor) -> Tensor:
        """The closed form."""
        return torch.linalg.solve(0.5 * (self.matrix + self.matrix.T), (x @ self.weight).T).T


class ClosedQuadratic(Quadratic):
    """The same with its force written down, and a linear read-out."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.head = nn.Linear(self.matrix.shape[0], 3, dtype=self.matrix.dtype)

    def point(self, z: Tensor, c: Tensor) -> Point:
        pull = z @ (0.5 * (self.matrix + self.matrix.T))
        return Point(z, (0.5 * pull * z - z * c).sum(1), c - pull)

    def readout(self, z: Tensor, c: Tensor) -> Tensor:
        return self.head(z)


class Wells(ebm.Energy):
    """Two wells a number, coupled and unevenly stiff: nonconvex. Starts from noise of each sample's own."""

    def __init__(self, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.linspace(0.2, 2.0, size, dtype=torch.float64))
        self.coupling = nn.Parameter(0.1 * numbers(size, size, seed=seed))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return 0.5 * draw.normal(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (0.25 * self.stiffness * (z.square() - 1).square() + z * (z @ self.coupling) - 0.2 * z * c).sum(1)


class Tanh(ebm.Update):
    """z' = tanh(z W + x): no energy."""

    def __init__(self, size: int = 4, gain: float = 0.7, seed: int = 0) -> None:
        super().__init__()
        weight = numbers(size, size, seed=seed)
        self.weight = nn.Parameter(gain * weight / torch.linalg.matrix_norm(weight, 2))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return torch.zeros_like(c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(z @ self.weight + c)


class Pair(NamedTuple):
    """A latent in two parts."""

    mean: Tensor
    rest: Any


class Tree(ebm.Energy):
    """A latent of several parts and a condition that holds a Gram matrix of no sample."""

    def __init__(self, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.4 * numbers(size, 3, seed=seed))

    def condition(self, x: Tensor) -> Any:
        return {"x": x, "gram": ebm.Shared(self.weight.T @ self.weight + torch.eye(3, dtype=x.dtype))}

    def init_latent(self, c: Any, draw: Any) -> Pair:
        x = c["x"]
        return Pair(
            x.new_zeros(x.shape[0], 3), {"scale": 0.3 * draw.normal(x[:, 0]), "grid": draw.uniform(x[:, :, None])}
        )

    def forward(self, z: Pair, c: Any) -> Tensor:
        x = c["x"]
        mean, scale, grid = z.mean, z.rest["scale"], z.rest["grid"]
        pulled = (mean * (mean @ c["gram"].value)).sum(1) / 2 - (mean * (x @ self.weight)).sum(1)
        return pulled + 0.5 * (scale - mean.mean(1)).square() + 0.25 * (grid.squeeze(2) - x).square().sum(1)

    def readout(self, z: Pair, c: Any) -> Tensor:
        return z.mean


def coupling_slope(model: Wells, measure: Callable[[Wells], Tensor], nudge: float = 1e-6) -> Tensor:
    """The gradient of a sum by each coupling of the wells, by central differences."""
    finite = torch.zeros_like(model.coupling)
    for i, j in torch.cartesian_prod(*(torch.arange(n) for n in finite.shape)).tolist():
        ends = []
        for sign in (1, -1):
            other = Wells(len(finite))
            other.load_state_dict(model.state_dict())
            with torch.no_grad():
                other.coupling[i, j] += sign * nudge
            ends.append(float(measure(other).sum()))
        finite[i, j] = (ends[0] - ends[1]) / (2 * nudge)
    return finite
