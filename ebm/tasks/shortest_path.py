"""The first step of a shortest way through a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ebm import rows
from ebm.tasks.base import Baseline, Problems, Task, number, span, whole
from ebm.tasks.graphs import distances, nearest_neighbours

__all__ = ["ShortestPath"]

_TRIES = 200  # batches without a single new problem before giving up


@dataclass(frozen=True)
class ShortestPath(Task):
    r"""From a start, which neighbour comes next on a shortest way to the goal?

    Directed links as in `Connectivity`, without their reverse. The distance from start to goal is
    :math:`d \sim U\{\text{least}, \ldots, \text{most}\}`, and the pair is any at that distance. ``x`` is (B, 4, n, n), plus and minus one:
    the links, the row of the start, the links again, the row of the goal (the published layout). ``y`` is (B, n), 1 at
    every node that is linked from the start and nearer to the goal, else 0: ties are all right. An answer is (B, n),
    one score a node; the highest is the step taken.

    Args:
        nodes: n, at least 2.
        share: p, from 0 to 1.
        links: (least, most) links from start to goal, 1 to n - 1.

    Raises:
        TypeError: a setting of another type.
        ValueError: a setting outside its range; at the call, graphs that hold no pair so far apart.

    Example:
        >>> import torch
        >>> from ebm.tasks import ShortestPath
        >>> x, y = ShortestPath(nodes=20).sample(8, torch.Generator().manual_seed(0))
        >>> bool((y.sum(1) >= 1).all()), tuple(x.shape)
        (True, (8, 4, 20, 20))

    Source: the planning task of Du et al. (2024), IRED, by its code: 20 nodes for training, 25 for testing, p = 0.5, distances 4 to 6. There an
    answer holds eight steps and its first one is scored; here it is that one.
    """

    metric: ClassVar[str] = "first steps that are links and lead nearer"

    nodes: int = 20
    share: float = 0.5
    links: tuple[int, int] = (4, 6)

    def __post_init__(self) -> None:
        whole(self, "nodes", 2)
        number(self, "share", 0, 1)
        span(self, "links", 1, self.nodes - 1)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Graphs, ends and first steps: graphs without a pair at the wanted distance are drawn again."""
        least, most = self.links
        wanted = torch.randint(least, most + 1, (count,), generator=generator, device=generator.device)
        x = torch.full((count, 4, self.nodes, self.nodes), -1.0, device=generator.device)
        y = torch.zeros(count, self.nodes, device=generator.device)
        missing, idle = torch.arange(count, device=generator.device), 0
        while len(missing):
            links = nearest_neighbours(len(missing), self.nodes, self.share, generator)
            far = distances(links, most)
            pairs = (far == wanted[missing, None, None]).flatten(1)
            there = pairs.any(1)
            start, goal = _pick(pairs[there], self.nodes, generator)
            x[missing[there]], y[missing[there]] = _problem(links[there], far[there], start, goal)
            idle = 0 if bool(there.any()) else idle + 1
            if idle == _TRIES:
                raise ValueError(
                    f"{self} has hardly a graph with a start and a goal that far apart; {_TRIES} batches held none. "
                    "Lower `links` or `share`."
                )
            missing = missing[~there]
        return Problems(x, y)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        r"""Minus the log of the softmax mass on right steps, :math:`-\log \sum_{i: y_i = 1} p_i`."""
        return (answer.logsumexp(1) - answer.masked_fill(y == 0, float("-inf")).logsumexp(1)).mean()

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One where the highest score is at a right step, else zero."""
        return y.gather(1, answer.argmax(1, keepdim=True))[:, 0]

    def baselines(self) -> tuple[Baseline, ...]:
        """Any link from the start; the link to the node with most links; a link to the goal or to one before it."""

        def unlearned(answer: Callable[[Tensor], Tensor]) -> Callable[[Problems], Callable[[Tensor], Tensor]]:
            return lambda train: answer

        return (
            Baseline("a random link", unlearned(_random_link)),
            Baseline("the node with most links", unlearned(_widest)),
            Baseline("two links ahead", unlearned(_two_ahead)),
        )


def _pick(pairs: Tensor, nodes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the marked pairs of each graph, uniformly."""
    keys = torch.rand(pairs.shape, generator=generator, device=pairs.device)
    pair = keys.masked_fill(~pairs, -1.0).argmax(1) if len(pairs) else pairs.new_zeros(0, dtype=torch.long)
    return pair // nodes, pair % nodes


def _problem(links: Tensor, far: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The published picture of a problem, and its right first steps."""
    row = torch.arange(len(links), device=links.device)
    ends = torch.zeros(2, *links.shape, dtype=torch.bool, device=links.device)
    ends[0, row, start] = ends[1, row, goal] = True
    nearer = far[row, :, goal] < far[row, start, goal][:, None]
    x = torch.stack([links, ends[0], links, ends[1]], dim=1)
    return 2.0 * x.float() - 1, (links[row, start] & nearer).float()


def _from_start(x: Tensor) -> tuple[Tensor, Tensor]:
    """The links, (B, n, n), and which nodes are linked from the start, (B, n)."""
    links = (x[:, 0] > 0).to(x.dtype)
    return links, (links * (x[:, 1] > 0)).sum(1)


def _random_link(x: Tensor) -> Tensor:
    """Which link comes first in an order that has nothing to do with the goal."""
    generator = torch.Generator(x.device).manual_seed(0)
    return _from_start(x)[1] * torch.rand(rows.count(x), x.shape[2], generator=generator, device=x.device)


def _widest(x: Tensor) -> Tensor:
    links, near = _from_start(x)
    return near * (1 + links.sum(2))


def _two_ahead(x: Tensor) -> Tensor:
    links, near = _from_start(x)
    goal = (x[:, 3, :, 0] > 0).to(x.dtype)
    one = (links * goal[:, None]).sum(2)
    return near * (1 + 4 * goal + 2 * one)
