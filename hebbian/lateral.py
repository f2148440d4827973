"""The geometry of weights among the units of one layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian.synapse import Dense, Synapse

__all__ = ["Lateral"]


@dataclass(frozen=True)
class Lateral(Synapse):
    r"""Every unit of a layer to every other, and none to itself: $u = M y$ with $M_{ii} = 0$.

    Both ends are the same activity. No rule reads the diagonal of the weight or changes it, and the correlation has none.

    Args:
        units: at least 1.

    Raises:
        ValueError: no whole number of at least 1.

    Example:
        >>> import torch
        >>> from hebbian import Lateral
        >>> synapse, activity = Lateral(2), torch.tensor([[1.0, 3.0]])
        >>> synapse.outer(activity, activity)
        tensor([[0., 3.],
                [3., 0.]])
        >>> synapse.forward(torch.ones(2, 2), activity)
        tensor([[3., 1.]])
    """

    units: int

    def __post_init__(self) -> None:
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise ValueError(
                f"`Lateral` was given units={self.units!r}; a whole number of at least 1 is wanted. Pass the units of the "
                "layer."
            )

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(units, units)."""
        return (self.units, self.units)

    def forward(self, weight: Tensor, pre: Tensor) -> Tensor:
        """What each unit receives from the others, (B, units)."""
        return self._dense().forward(self.others(weight), pre)

    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        """The sum over the batch of post times pre, the diagonal zero, (units, units)."""
        return self.others(self._dense().outer(post, pre))

    def outer_each(self, post: Tensor, pre: Tensor) -> Tensor:
        """The same for each sample, (B, units, units)."""
        return self.others(self._dense().outer_each(post, pre))

    def there(self, weight: Tensor) -> Tensor:
        """The weights to others."""
        return self.others(weight)

    def seen_square(self, pre: Tensor) -> Tensor:
        """The squared length of what each unit sees of the others, (B, units)."""
        return self.forward(pre.new_ones(self.weight_shape), pre.square())

    def seen_sum(self, post: Tensor, pre: Tensor) -> Tensor:
        """The sum of the activity over the batch, (1, units); what a unit would see of itself is in it, and meets no weight."""
        return self._dense().seen_sum(post, pre)

    def check_shapes(self, pre: Tensor, post: Tensor) -> None:
        """Raise ValueError unless both ends are (B, units)."""
        self._dense().check_shapes(pre, post)

    def others(self, matrix: Tensor) -> Tensor:
        """The matrix (..., units, units) with a diagonal of zeros."""
        return matrix.masked_fill(torch.eye(self.units, dtype=torch.bool, device=matrix.device), 0)

    def _dense(self) -> Dense:
        return Dense(self.units, self.units)
