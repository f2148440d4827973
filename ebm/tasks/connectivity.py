"""Which nodes of a graph hang together?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, constant, number, whole
from ebm.tasks.graphs import components, nearest_neighbours

__all__ = ["Connectivity", "balanced_accuracy"]


@dataclass(frozen=True)
class Connectivity(Task):
    r"""All pairs of nodes that a path joins.

    Points fall uniformly in the unit square, each links to its :math:`d_i` nearest,
    :math:`d_i \sim U\{1, \ldots, \max(1, \lfloor p n \rfloor)\}`, and links go both ways. ``x`` is (B, 1, n, n), the
    links as plus and minus one; ``y`` is (B, n, n), +1 where a path joins the two (and on the diagonal), else -1; an
    answer is (B, n, n), whose sign counts.

    With many links nearly every pair is joined and the task is empty: keep :math:`\lfloor p n \rfloor` at 1 to 3, and
    report `balanced_accuracy` too. For 100 nodes use ``share=0.02``.

    Args:
        nodes: n, at least 2.
        share: p, from 0 to 1.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range.

    Example:
        >>> import torch
        >>> from ebm.tasks import Connectivity
        >>> x, y = Connectivity(nodes=12).sample(64, torch.Generator().manual_seed(0))
        >>> bool((y >= x[:, 0]).all())  # linked nodes are joined
        True

    Source: Du et al. (2022), Learning iterative reasoning through energy minimization, with the generator of the code of Du et al. (2024),
    IRED: 12 nodes with p = 0.2 for training, 18 with p = 0.2 and 20 with p = 0.1 for testing. Its paper tells of more
    links; there 99.8 % of the pairs are joined.
    """

    metric: ClassVar[str] = "pairs right"

    nodes: int = 12
    share: float = 0.2

    def __post_init__(self) -> None:
        whole(self, "nodes", 2)
        number(self, "share", 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Graphs and their components."""
        links = nearest_neighbours(count, self.nodes, self.share, generator)
        links = links | links.transpose(1, 2)
        label = components(links)
        joined = label[:, :, None] == label[:, None]
        return Problems(2.0 * links[:, None].float() - 1, 2.0 * joined.float() - 1)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Logistic loss, the mean over pairs."""
        return functional.softplus(-answer * y).mean()

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """The share of the pairs whose sign is right."""
        return ((answer > 0) == (y > 0)).flatten(1).to(answer.dtype).mean(1)

    def baselines(self) -> tuple[Baseline, ...]:
        """The commoner sign; linked pairs alone; pairs with a path of at most two links."""
        commoner = constant("the commoner answer", lambda train: train.y.mean().sign() * torch.ones_like(train.y[0]))
        return (commoner, Baseline("linked pairs", _paths(1)), Baseline("paths of two links", _paths(2)))


def balanced_accuracy(answer: Tensor, y: Tensor) -> Tensor:
    """The mean of the shares of joined and of separate pairs that are right, over the whole batch; a scalar.

    A sign with no pair of its own counts as right.

    Args:
        answer: (B, n, n), whose sign counts.
        y: +1 and -1, alike.

    Example:
        >>> import torch
        >>> from ebm.tasks import balanced_accuracy
        >>> round(float(balanced_accuracy(torch.ones(1, 2, 2), torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]))), 2)
        0.5
    """
    right = ((answer > 0) == (y > 0)).double()
    sides = [right[y > 0], right[y <= 0]]
    return torch.stack([side.mean() if len(side) else side.new_ones(()) for side in sides]).mean()


def _paths(links: int) -> Callable[[Problems], Callable[[Tensor], Tensor]]:
    """Joined by at most so many links, or by none at all."""

    def answer(x: Tensor) -> Tensor:
        step = (x[:, 0] > 0).float() + torch.eye(x.shape[2], device=x.device)
        return 2.0 * (torch.linalg.matrix_power(step, links) > 0).float() - 1

    return lambda train: answer
