"""What a batch tells a rule: sums over its samples, which add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hebbian.change import Times
from hebbian.synapse import Synapse, per_unit
from hebbian.traces import Rows, joined

__all__ = ["Statistics", "decayed", "less_decay", "one_over_largest"]


@dataclass(frozen=True, eq=False)
class Statistics:
    r"""Sums over a batch, with the count that turns them into means.

    The statistics of two batches add to those of both together, $S(A \cup B) = S(A) + S(B)$ and
    $n(A \cup B) = n(A) + n(B)$, so a mean over many workers, or many small batches, is exact. No sum has a sample axis.
    Only the traces of a rule that follows each sample do: they are carried along to `LocalRule.delta`, and those of two
    batches are put one after the other.

    Args:
        count: how often the weight was used: samples times places (one place where dense, each position of a
            convolution).
        sums: the sums by name, tensors whose shapes do not depend on the batch.
        weight_shape: of the weight that these statistics are for; the unit is the first axis.
        traces: what the rule now remembers of each sample, first axis B, one mapping for each `Traced` of its state.
        spare: whether they are for one change alone, as those that `step` takes, so that a rule may write its change where a sum is.
        synapse: the geometry they were taken on, which says where there is no weight to change; None where there is one everywhere.

    Example:
        >>> import torch
        >>> from hebbian import Statistics
        >>> one = Statistics(1, {"square": torch.tensor([4.0])}, (1, 2))
        >>> three = Statistics(3, {"square": torch.tensor([0.0])}, (1, 2))
        >>> (one + three).mean("square")
        tensor([1.])
    """

    count: int
    sums: Mapping[str, Tensor]
    weight_shape: tuple[int, ...]
    traces: tuple[Rows, ...] = ()
    spare: bool = False
    synapse: Synapse | None = None

    def there(self, weight: Tensor) -> Tensor:
        """A tensor shaped like the weight, with zeros where the geometry has no synapse; itself where it has one everywhere."""
        return weight if self.synapse is None else self.synapse.there(weight)

    def mean(self, name: str, times: float = 1.0) -> Tensor:
        """The mean of the sum called ``name`` over all uses of the weight, in memory of its own; zero where there were none.

        Args:
            name: which sum.
            times: a factor, a rate say: one pass over the sum does for both.

        Raises:
            ValueError: there is no such sum.
        """
        return self.total(name) * (times / max(self.count, 1))

    def taken(self, name: str, rate: float) -> Times:
        """A change that is the rate times the mean of a sum that is not looked at again."""
        return Times(self.total(name), rate / max(self.count, 1), lent=not self.spare)

    def own(self, name: str) -> Tensor:
        """A sum that is not looked at again, to be written in: itself where these statistics are `spare`, else a copy."""
        return self.total(name) if self.spare else self.total(name).clone()

    def total(self, name: str) -> Tensor:
        """The sum called ``name`` itself, not to be written in.

        Raises:
            ValueError: there is no such sum.
        """
        if name not in self.sums:
            raise ValueError(
                f"These statistics hold {sorted(self.sums)}; {name!r} is wanted. "
                "Take the statistics with the same rule whose `delta` is asked."
            )
        return self.sums[name]

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of both batches together.

        Raises:
            ValueError: the two are of different rules or of weights of different shapes.
        """
        if not isinstance(other, Statistics):
            return NotImplemented
        if self._kind() != other._kind():
            raise ValueError(
                f"Statistics of {self._kind()} and of {other._kind()} were to be added; those of one rule on one "
                "synapse are wanted. Keep one total for each weight."
            )
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        synapse = self.synapse if other.synapse is None else other.synapse
        traces = joined(self.traces, other.traces)
        return Statistics(self.count + other.count, sums, self.weight_shape, traces, synapse=synapse)

    def of_units(self, rows: Tensor) -> Statistics:
        """The statistics of some units, as of a weight that has no others; for sums that all have the unit as first axis.

        Args:
            rows: their numbers, (K,).
        """
        sums = {name: value[rows] for name, value in self.sums.items()}
        return Statistics(self.count, sums, (len(rows), *self.weight_shape[1:]), spare=True)

    def put(self, name: str, rows: Tensor, change: Tensor) -> Tensor:
        """The change of some units among all, of which the others' is zero, and so is their part of the sum that is then no longer needed.

        Args:
            name: of that sum, shaped like the weight.
            rows: the units' numbers, (K,).
            change: theirs, ``(K, *field)``.
        """
        whole = self.total(name) if self.spare else torch.zeros_like(self.total(name))
        return whole.index_copy_(0, rows, change)

    def _kind(self) -> dict[str, tuple[int, ...]]:
        """What two statistics must share to be added: every name and shape."""
        shapes = {name: tuple(self.sums[name].shape) for name in sorted(self.sums)}
        traces = {
            f"trace {k} {name!r}": tuple(rows[name].shape[1:])
            for k, rows in enumerate(self.traces)
            for name in sorted(rows)
        }
        return {"weight": tuple(self.weight_shape), **shapes, **traces}


def decayed(statistics: Statistics, weight: Tensor, by: str, rate: float) -> Times:
    r"""Growth less a decay of each unit: $\eta \, ( \langle \mathrm{outer} \rangle_i - \langle \mathrm{by} \rangle_i \, w_i )$.

    Args:
        statistics: with the sums ``"outer"``, shaped like the weight, and ``by``, (units,).
        weight: ``(units, *field)``.
        by: the name of the sum that says how fast each unit decays.
        rate: $\eta$.

    Returns:
        the change, as a direction and a factor.
    """
    return Times(less_decay(statistics, weight, by), rate / max(statistics.count, 1))


def less_decay(statistics: Statistics, weight: Tensor, by: str, growth: float = 1.0) -> Tensor:
    r"""What `decayed` divides by the count: sums, $\mathrm{outer}_i - (\mathrm{by}_i / R) \, w_i$, in memory of its own; ``growth`` is $R > 0$."""
    outer, decay = statistics.total("outer"), per_unit(statistics.total(by) / growth, weight)
    return torch.addcmul(outer, decay, weight, value=-1, out=outer if statistics.spare else None)


def one_over_largest(change: Tensor) -> Tensor:
    """What scales a change so that its largest entry is one, (); at most 1e30, as in the published codes, so that no rate makes a zero NaN."""
    low, high = torch.aminmax(change)
    return 1 / torch.maximum(-low, high).clamp_min(1e-30)
