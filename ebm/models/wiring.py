"""What a message-passing cell reads off an observation: nodes, who hears whom, and the answer's layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm.models.neighbours import Aggregate, gather, neighbour_lists

__all__ = ["Nodes", "Pairs", "Wired", "Wiring"]


class Wired(NamedTuple):
    """An observation as a graph.

    Attributes:
        features: what each node is shown, (B, ..., features).
        links: who hears whom, a row tree; only the wiring that made it reads it.
    """

    features: Tensor
    links: Any


class Wiring(ABC):
    """Turns an observation into nodes with links; a frozen dataclass of settings.

    Attributes:
        features: numbers each node is shown.
        messages: messages each node gets from one aggregate.
    """

    features: int
    messages: int = 1

    @abstractmethod
    def wire(self, x: Any) -> Wired:
        """The nodes' features and their links.

        Raises:
            ValueError: an observation of another shape.
        """

    @abstractmethod
    def gather(self, z: Tensor, links: Any, aggregate: Aggregate) -> tuple[Tensor, ...]:
        """The `messages` messages to each node, each like the latent (B, ..., width)."""

    @abstractmethod
    def answer(self, scores: Tensor, links: Any) -> Tensor:
        """The answer in the layout of the task, from each node's scores (B, ..., k)."""


@dataclass(frozen=True)
class Pairs(Wiring):
    """A node for each pair of nodes of a graph, for answers about pairs; links go both ways.

    The observation is (B, 1, n, n), above zero where there is a link, as `ebm.tasks.Connectivity` draws it. The latent of
    the pair (i, j) hears those of (i, k) for all neighbours k of j, so whatever begins at i travels along the graph, and every i has
    a copy of the graph to itself. A node is shown whether i = j. The answer is (B, n, n), or (B, k, n, n) of several scores.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Pairs(), width=4, head=torch.nn.Linear(4, 1))
        >>> ebm.infer(cell.eval(), torch.ones(2, 1, 5, 5), steps=3).answer.shape
        torch.Size([2, 5, 5])
    """

    features = 1

    def wire(self, x: Tensor) -> Wired:
        """A unit matrix, and the neighbours of each node."""
        _check_graph(self, x, 1)
        eye = torch.eye(x.shape[2], dtype=x.dtype, device=x.device)[..., None].expand(len(x), -1, -1, -1)
        return Wired(eye, neighbour_lists(x[:, 0] > 0))

    def gather(self, z: Tensor, links: Tensor, aggregate: Aggregate) -> tuple[Tensor, ...]:
        """What the pairs with a neighbour of the second node say."""
        return (gather(z, links, links, aggregate),)

    def answer(self, scores: Tensor, links: Tensor) -> Tensor:
        """One score, or one channel each."""
        return _first(scores)


@dataclass(frozen=True)
class Nodes(Wiring):
    """The nodes of a directed graph, for answers about nodes.

    The observation is (B, 4, n, n), above zero where there is a link from row to column, then the row of the start, the links again,
    the row of the goal, as `ebm.tasks.ShortestPath` draws it. A node gets two messages: of those it links to and of
    those that link to it; it is shown whether it is the start and whether it is the goal. The answer is (B, n), or (B, k, n) of
    several scores.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Nodes(), width=4, head=torch.nn.Linear(4, 1))
        >>> ebm.infer(cell.eval(), torch.ones(2, 4, 5, 5), steps=3).answer.shape
        torch.Size([2, 5])
    """

    features = 2
    messages = 2

    def wire(self, x: Tensor) -> Wired:
        """Which node is the start and which the goal, and the neighbours of each node both ways."""
        _check_graph(self, x, 4)
        links = x[:, 0] > 0
        ends = (x[:, (1, 3), :, 0] > 0).to(x.dtype)
        return Wired(ends.transpose(1, 2), (neighbour_lists(links), neighbour_lists(links.transpose(1, 2))))

    def gather(self, z: Tensor, links: tuple[Tensor, Tensor], aggregate: Aggregate) -> tuple[Tensor, ...]:
        """What the nodes ahead say, and what those behind say."""
        ahead, behind = links
        return gather(z, ahead, behind, aggregate), gather(z, behind, ahead, aggregate)

    def answer(self, scores: Tensor, links: Any) -> Tensor:
        """One score a node, or one channel each."""
        return _first(scores)


def _first(scores: Tensor) -> Tensor:
    """A single score without its axis; several along axis 1."""
    return scores[..., 0] if scores.shape[-1] == 1 else scores.movedim(-1, 1)


def _check_graph(wiring: Wiring, x: Any, channels: int) -> None:
    if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == channels and x.shape[2] == x.shape[3]:
        return
    got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
    raise ValueError(
        f"`{type(wiring).__name__}` reads observations (B, {channels}, n, n); got {got}. Pass the links of each graph in channel 0."
    )
