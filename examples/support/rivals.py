"""The small nets that a sceptic would try first on a task of reasoning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm

__all__ = ["GRU", "RRN", "VIN", "GraphNet", "UNet", "every_step"]


class GRU(nn.Module):
    """A gated recurrent unit that reads a line from left to right, with two scores a place.

    Args:
        width: hidden units.
        at_the_end: whether only the last place is scored, (B, 2), or every place, (B, 2, length).

    Source: Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    """

    def __init__(self, width: int, at_the_end: bool = False) -> None:
        super().__init__()
        self.reader = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, 2)
        self.at_the_end = at_the_end

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, length) or (B, length) to scores."""
        line = x.transpose(1, 2) if x.ndim == 3 else x[..., None]
        scores = self.head(self.reader(line)[0])
        return scores[:, -1] if self.at_the_end else scores.transpose(1, 2)


class UNet(nn.Module):
    """Convolutions down to a coarse grid and back, with what each scale saw handed across.

    Args:
        inputs: channels of the picture.
        outputs: scores a square.
        width: channels at the finest scale; twice as many at each coarser one.
        depth: how often the grid is halved.

    Source: Ronneberger et al. (2015), U-Net.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([_pair(a, b) for a, b in zip([inputs, *widths[:-1]], widths, strict=True)])
        self.up = nn.ModuleList([_pair(b + a, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)])
        self.head = nn.Conv2d(width, outputs, 1)
        self.multiple = 2**depth

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W), of any size: the picture is padded with zeros and cut again."""
        height, width = x.shape[-2:]
        h = functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        seen: list[Tensor] = []
        for level, block in enumerate(self.down):
            h = block(functional.max_pool2d(h, 2) if level else h)
            seen.append(h)
        for block, across in zip(self.up, seen[-2::-1], strict=True):
            h = block(torch.cat([across, functional.interpolate(h, scale_factor=2.0)], 1))
        return self.head(h)[..., :height, :width]


def _pair(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()
    )


class GraphNet(nn.Module):
    r"""A residual graph network, :math:`h \leftarrow h + W_2\,\text{relu}(W_1 [\text{norm}(h), \max_{j \in N(i)} \text{norm}(h_j)])`, each layer with weights of its own.

    Args:
        wiring: what an observation says of nodes and links.
        width: features a node.
        layers: how many, one for each step that the settled cell takes.
        outputs: scores a node.

    Source: Gilmer et al. (2017), Neural message passing; residual branches with a norm before each as in Li et al. (2020), DeeperGCN.
    """

    def __init__(self, wiring: ebm.Wiring, width: int, layers: int, outputs: int = 1) -> None:
        super().__init__()
        self.wiring = wiring
        self.inject = nn.Linear(wiring.features, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(layers)])
        self.first = nn.ModuleList([nn.Linear((1 + wiring.messages) * width, width) for _ in range(layers)])
        self.second = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, x: Any) -> Any:
        """The scores of every node, in the layout of the task."""
        features, links = self.wiring.wire(x)
        h = self.inject(features)
        for norm, first, second in zip(self.norms, self.first, self.second, strict=True):
            own = norm(h)
            heard = self.wiring.gather(own, links, ebm.Aggregate.MAX)
            h = h + second(first(torch.cat([own, *heard], -1)).relu())
        return self.wiring.answer(self.head(h), links)


class RRN(nn.Module):
    """A recurrent relational network: cells of the board send each other messages, and an LSTM in each hears their sum.

    In training it answers after every step, and the loss is the mean over them; in evaluation it answers once, at the end.

    Args:
        width: hidden numbers a cell of the board.
        steps: how often messages are sent.
        box: height and width of a box, for boards of one size.

    Source: Palm, Paquet and Winther (2018), Recurrent relational networks: embeddings of digit, row and column; messages from both ends
    of a link through a perceptron; 32 steps; there 96 numbers, and perceptrons of three hidden layers where here they have one.
    """

    def __init__(self, width: int, steps: int = 32, box: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        digits = box[0] * box[1]
        self.steps, self.digits = steps, digits
        self.embed = nn.ModuleList([nn.Embedding(count, 16) for count in (digits + 1, digits, digits)])
        self.inject = nn.Sequential(nn.Linear(48, width), nn.ReLU(), nn.Linear(width, width))
        self.sent = nn.Linear(width, width)
        self.received = nn.Linear(width, width)
        self.message = nn.Linear(width, width)
        self.hear = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.cell = nn.LSTMCell(width, width)
        self.head = nn.Linear(width, digits)
        self.register_buffer("peers", _peers(box), persistent=False)
        self.peers: Tensor

    def forward(self, x: Tensor) -> Any:
        """(B, N, N, N) givens, digits along axis 1, to scores alike; in training a list of them, one a step."""
        batch, digits = len(x), self.digits
        given = torch.where(x.sum(1) > 0, x.argmax(1) + 1, 0)
        place = torch.arange(digits, device=x.device)
        parts = (given, place[:, None].expand_as(given), place.expand_as(given))
        embedded = torch.cat([table(part) for table, part in zip(self.embed, parts, strict=True)], -1)
        start = self.inject(embedded.flatten(1, 2))
        h, memory, answers = start, torch.zeros_like(start).flatten(0, 1), list[Tensor]()
        for _ in range(self.steps):
            # relu(sent_j + received_i), the first layer of the perceptron on both ends, then summed over the peers of i
            pairs = (self.sent(h)[:, self.peers] + self.received(h)[:, :, None]).relu().sum(2)
            heard = self.hear(torch.cat([start, self.message(pairs)], -1))
            new, memory = self.cell(heard.flatten(0, 1), (h.flatten(0, 1), memory))
            h = new.view_as(start)
            if self.training:
                answers.append(self._scores(h, batch))
        return answers if self.training else self._scores(h, batch)

    def _scores(self, h: Tensor, batch: int) -> Tensor:
        return self.head(h).view(batch, self.digits, self.digits, self.digits).movedim(3, 1)


def _peers(box: tuple[int, int]) -> Tensor:
    """The cells that share a row, column or box with each, int64 (N * N, 3 N - rows - columns - 1)."""
    digits = box[0] * box[1]
    cell = torch.arange(digits * digits)
    row, column = cell // digits, cell % digits
    block = row // box[0] * box[0] + column // box[1]
    shared = torch.stack([part[:, None] == part for part in (row, column, block)]).any(0).fill_diagonal_(False)
    return shared.nonzero()[:, 1].view(digits * digits, -1)


class VIN(nn.Module):
    r"""A value iteration network: :math:`Q = W * [R, V]`, :math:`V = \max_a Q_a`, again and again, and a move read off Q.

    Args:
        inputs: channels of the grid.
        moves: scores a square.
        hidden: channels of the net that finds the reward R.
        actions: channels of Q.
        iterations: how often, for each square of a side.

    Source: Tamar et al. (2016), Value iteration networks.
    """

    def __init__(self, inputs: int, moves: int, hidden: int, actions: int = 10, iterations: float = 3.0) -> None:
        super().__init__()
        self.reward = nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))
        self.of_reward = nn.Conv2d(1, actions, 3, padding=1, bias=False)
        self.of_value = nn.Conv2d(1, actions, 3, padding=1, bias=False)
        self.head = nn.Conv2d(actions, moves, 1)
        self.iterations = iterations

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, moves, H, W)."""
        fixed = self.of_reward(self.reward(x))
        q = fixed
        for _ in range(round(self.iterations * x.shape[-1])):
            q = fixed + self.of_value(q.amax(1, keepdim=True))
        return self.head(q)


def every_step(loss: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """The mean of a loss over the answers after every step."""

    def mean(answers: Any, y: Any) -> Tensor:
        return torch.stack([loss(answer, y) for answer in answers]).mean()

    return mean
