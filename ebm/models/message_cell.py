"""A message-passing cell: what neighbours say together, gated, with the observation injected at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm.models.gated import Gated
from ebm.models.neighbours import Aggregate
from ebm.models.starts import Start, Zeros
from ebm.models.wiring import Wiring
from ebm.noise import Draw

__all__ = ["MessageCell"]


class MessageCell(Gated):
    r"""An iterated cell on the nodes of a graph.

    .. math:: (a_i, b_i) = W \Bigl[ z_i,\; \bigoplus_{j \in N(i)} z_j \Bigr] + I(x)_i, \qquad
        f(z; x)_i = z_i + \sigma(a_i) \odot (\tanh(b_i) - z_i)

    with the same W at every node and step, and :math:`\bigoplus` a sum, a mean or a maximum over neighbours, or several
    of them side by side. No node knows its number or the size of its graph, so the cell runs on any graph, and on a grid it treats all
    directions alike.

    Args:
        wiring: what an observation says of nodes and links: `Grid()`, `Houses()`, `Pairs()`, `Nodes()`, or your own `Wiring`.
        width: numbers in the latent of a node, at least 1; the latent is (B, ..., width).
        head: maps the latent of a node (..., width) to its scores; None reads out the latent itself.
        aggregate: one `Aggregate`, or a tuple of several.
        hidden: None, as above; or a number of rectified units, at least 1, that hear the node's latent and its messages together and stand between
            them and W: for what no weighted sum can say, such as "any of these, whatever the others".
        start: where settling starts.

    Raises:
        TypeError: a wiring, head or aggregate of another type.
        ValueError: a setting outside its range; at the call, an observation the wiring cannot read.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.MessageCell(ebm.Nodes(), width=8, head=torch.nn.Linear(8, 1), aggregate=ebm.Aggregate.MAX)
        >>> problems = ebm.tasks.ShortestPath(nodes=9, links=(2, 3)).sample(4, torch.Generator().manual_seed(0))
        >>> ebm.infer(cell.eval(), problems.x, steps=5).answer.shape
        torch.Size([4, 9])

    Source: Gilmer et al. (2017), Neural message passing for quantum chemistry, with the gate of Li et al. (2016), Gated graph sequence
    neural networks.
    """

    def __init__(
        self,
        wiring: Wiring,
        width: int,
        head: nn.Module | None = None,
        aggregate: Aggregate | tuple[Aggregate, ...] = Aggregate.SUM,
        hidden: int | None = None,
        start: Start = Zeros(),
    ) -> None:
        super().__init__(head)
        if not isinstance(wiring, Wiring):
            raise TypeError(f"`MessageCell(wiring)` is a `Wiring`; got {wiring!r}. Pass `ebm.Grid()`, say.")
        for name, value in (("width", width), ("hidden", hidden)):
            if not (value is None and name == "hidden") and (type(value) is not int or value < 1):
                raise ValueError(
                    f"`MessageCell({name}=...)` is a whole number of at least 1; got {value!r}. Pass 24, say."
                )
        self.wiring = wiring
        self.width = width
        self.aggregates = _checked(aggregate)
        self.start = start
        heard = len(self.aggregates) * wiring.messages
        self.inject = nn.Linear(wiring.features, 2 * width)
        self.hear = nn.Linear((1 + heard) * width, hidden) if hidden else None
        self.mix = nn.Linear(hidden or (1 + heard) * width, 2 * width, bias=False)

    def condition(self, x: Any) -> dict[str, Any]:
        """The injection, (B, ..., 2 width), and the links."""
        features, links = self.wiring.wire(x)
        return {"injected": self.inject(features), "links": links}

    def init_latent(self, c: dict[str, Any], draw: Draw) -> Tensor:
        """The start, one latent a node."""
        return self.start(c["injected"][..., : self.width], draw)

    def drive(self, z: Tensor, c: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What the node and its neighbours say of gate and target."""
        messages = [self.wiring.gather(z, c["links"], aggregate) for aggregate in self.aggregates]
        heard = torch.cat([z, *sum(messages, ())], -1)
        if self.hear is not None:
            heard = self.hear(heard).relu()
        a, b = (self.mix(heard) + c["injected"]).chunk(2, -1)
        return a, b

    def readout(self, z: Tensor, c: dict[str, Any]) -> Any:
        """The head's scores in the layout of the task."""
        return z if self.head is None else self.wiring.answer(self.head(z), c["links"])


def _checked(aggregate: Any) -> tuple[Aggregate, ...]:
    several = aggregate if isinstance(aggregate, tuple) else (aggregate,)
    if several and all(isinstance(each, Aggregate) for each in several):
        return several
    raise TypeError(
        f"`MessageCell(aggregate=...)` is an `Aggregate` or a tuple of them; got {aggregate!r}. Pass `ebm.Aggregate.SUM`, say."
    )
