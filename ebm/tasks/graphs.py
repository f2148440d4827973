"""Random nearest-neighbour graphs, and how far apart their nodes are."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["components", "distances", "nearest_neighbours"]


def nearest_neighbours(count: int, nodes: int, share: float, generator: torch.Generator) -> Tensor:
    r"""Points in the unit square; each links to its :math:`d_i \sim U\{1, \ldots, \max(1, \lfloor p n \rfloor)\}` nearest.

    Args:
        count: graphs.
        nodes: n, at least 2.
        share: p, from 0 to 1.
        generator: the only source of randomness.

    Returns:
        who links to whom, bool (count, nodes, nodes); directed, and nobody links to itself.
    """
    points = torch.rand(count, nodes, 2, generator=generator, device=generator.device)
    apart = (points[:, :, None] - points[:, None]).square().sum(-1)
    apart.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    most = min(max(1, int(share * nodes)), nodes - 1)
    degree = torch.randint(1, most + 1, (count, nodes, 1), generator=generator, device=generator.device)
    nearest = apart.topk(most, dim=2, largest=False).indices
    links = torch.zeros_like(apart, dtype=torch.bool)
    return links.scatter_(2, nearest, torch.arange(most, device=links.device) < degree)


def components(links: Tensor) -> Tensor:
    """The number of each node's component, int64 (B, n): the lowest node in it. Links must go both ways."""
    graphs, nodes = links.shape[:2]
    graph, here, there = links.nonzero(as_tuple=True)
    here, there = graph * nodes + here, graph * nodes + there
    label = torch.arange(graphs * nodes, device=links.device)
    while True:
        lower = label.scatter_reduce(0, here, label[there], "amin")
        lower = lower[lower]  # what my lowest neighbour knows, too
        if bool((lower == label).all()):
            return label.view(graphs, nodes) % nodes
        label = lower


def distances(links: Tensor, most: int) -> Tensor:
    """Links on the shortest way from row to column, int64 (B, n, n); ``most`` + 1 where there is none so short."""
    reach = torch.eye(links.shape[1], device=links.device).expand_as(links)
    step = links.float()
    far = torch.where(reach > 0, 0, most + 1)
    for length in range(1, most + 1):
        reach = (torch.bmm(reach, step) > 0).float()
        far = torch.where((reach > 0) & (far > length), length, far)
    return far
