"""Growth less what the units already explain together: what Oja's subspace rule, Sanger's and nonlinear ones share."""

from __future__ import annotations

from torch import Tensor

from hebbian.change import Times
from hebbian.statistics import Statistics
from hebbian.synapse import Synapse

__all__ = ["explained", "pair_sums"]


def pair_sums(synapse: Synapse, pre: Tensor, post: Tensor) -> dict[str, Tensor]:
    """The correlation of both ends, and that of the units among themselves, (units, units): two products."""
    uses = synapse.uses(post)
    return {"outer": synapse.outer(post, pre), "among": uses.T @ uses}


def explained(statistics: Statistics, weight: Tensor, rate: float, ordered: bool) -> Times:
    r"""$\eta \, (\langle y x^\top \rangle - \langle y y^\top \rangle W)$; ``ordered`` keeps $j \le i$ alone."""
    among, change = statistics.total("among"), statistics.own("outer").flatten(1)
    change.addmm_(among.tril() if ordered else among, weight.flatten(1), alpha=-1)
    return Times(change.view_as(weight), rate / statistics.count)
