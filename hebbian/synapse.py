"""Where a weight sits between its two ends: the geometry, so that no rule needs to know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hebbian import checks

__all__ = ["Dense", "Synapse", "few", "per_unit"]


def per_unit(values: Tensor, weight: Tensor) -> Tensor:
    r"""One number a unit, shaped so that it multiplies the weight of that unit: $\mathrm{diag}(v)\,W$.

    Args:
        values: (units,).
        weight: ``(units, *field)``; only its number of axes is read.

    Returns:
        ``values`` with shape (units, 1, ..., 1).

    Example:
        >>> import torch
        >>> from hebbian import per_unit
        >>> per_unit(torch.tensor([1.0, 10.0]), torch.ones(2, 3)) * torch.ones(2, 3)
        tensor([[ 1.,  1.,  1.],
                [10., 10., 10.]])
    """
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def few(chosen: Tensor) -> Tensor | None:
    r"""Which units were chosen, where it pays to look at them alone: at least one, and at most a quarter of all.

    Args:
        chosen: (units,), not zero for a unit that was.

    Returns:
        their numbers, (K,), in order; None where there are none, or more.

    Example:
        >>> import torch
        >>> from hebbian.synapse import few
        >>> few(torch.tensor([0.0, 2.0, 0.0, 0.0])), few(torch.tensor([1.0, 2.0, 0.0, 0.0]))
        (tensor([1]), None)
    """
    rows = chosen.nonzero()[:, 0]
    return rows if 0 < 4 * len(rows) <= len(chosen) else None


class Synapse(ABC):
    r"""The geometry of a weight: all that a rule may ask about how pre, weight and post lie.

    Three conventions carry every geometry, and are those of `torch.nn.functional`:

    - ``weight`` is ``(units, *field)``: its first axis is the post-synaptic unit, the rest is what that unit sees;
    - ``post`` is ``(B, units, *places)``: axis 1 is the unit, so competition among units is along axis 1;
    - ``pre`` is (B, ...), as the geometry likes it.

    A dense weight has one place; a convolution has one for each position, and uses its weight at every one. A rule
    written with `outer`, `uses` and `count` therefore runs on both unchanged. A geometry that shares no weight (locally
    connected) numbers its units by position and has one place.

    To add a geometry, write `weight_shape`, `forward`, `outer` and `check_shapes`, in a frozen dataclass.
    """

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight, ``(units, *field)``."""

    @abstractmethod
    def forward(self, weight: Tensor, pre: Tensor) -> Tensor:
        """What the units receive, ``(B, units, *places)``."""

    @abstractmethod
    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        r"""The correlation of both ends, shaped like the weight: post times what the unit saw, summed over all uses.

        The gradient of $\sum \mathrm{post} \cdot \mathrm{forward}(W, \mathrm{pre})$ by the weight, written directly.
        """

    def outer_of_winners(self, winners: Tensor, share: Tensor, pre: Tensor) -> Tensor:
        r"""`outer`, where at each use of the weight a few units are active and the others silent; a geometry that can leaves those out.

        Args:
            winners: the numbers of the active units, int64 ``(B, K, *places)``, different ones at each use.
            share: their activity, ``(B, K, *places)``.
            pre: (B, ...).
        """
        batch, _, *places = share.shape
        return self.outer(share.new_zeros(batch, self.weight_shape[0], *places).scatter_(1, winners, share), pre)

    def over_winners(self, winners: Tensor, share: Tensor) -> Tensor:
        """`over_uses`, where at each use a few units are active, as in `outer_of_winners`."""
        return share.new_zeros(self.weight_shape[0]).index_add_(0, winners.flatten(), share.flatten())

    def outer_each(self, post: Tensor, pre: Tensor) -> Tensor:
        r"""`outer` of each sample by itself, ``(B, *weight_shape)``: for rules that keep a change a sample, and no others."""
        each = [self.outer(post[b : b + 1], pre[b : b + 1]) for b in range(len(post))]
        return torch.stack(each) if each else post.new_zeros((0, *self.weight_shape))

    def fields(self, pre: Tensor) -> Tensor:
        """What a unit sees at each use of the weight, ``(count, *field)``, for geometries whose units all see the same."""
        raise NotImplementedError(f"{self} cannot say what one unit sees. Write the weight yourself.")

    def there(self, weight: Tensor) -> Tensor:
        """A tensor shaped like the weight, with zeros where this geometry has no synapse; by default, itself.

        Rules read a weight and write a change through it, so a weight that is not there is neither read nor written.
        """
        return weight

    def seen_square(self, pre: Tensor) -> Tensor:
        r"""The squared length of what a unit sees, ``(B, 1, *places)``: $|x|^2$, at each place of a convolution its own.

        ``(B, units, *places)`` where units see different things.
        """
        ones = torch.ones(self.weight_shape, dtype=pre.dtype, device=pre.device)
        return self.forward(ones, pre.square())[:, :1]

    def seen_sum(self, post: Tensor, pre: Tensor) -> Tensor:
        r"""What the units see, summed over all uses of the weight, ``(1, *field)``: $\sum x$."""
        return self.outer(torch.ones_like(post), pre)[:1]

    @abstractmethod
    def check_shapes(self, pre: Tensor, post: Tensor) -> None:
        """Raise ValueError unless both ends fit this geometry and hold the same samples."""

    def check(self, pre: Tensor, post: Tensor) -> None:
        """Raise unless both ends fit: shape (ValueError), device (ValueError), dtype (TypeError)."""
        checks.alike({"pre": pre, "post": post})
        self.check_shapes(pre, post)

    def check_weight(self, weight: Tensor) -> None:
        """Raise ValueError unless the weight has this geometry's shape."""
        if tuple(weight.shape) != tuple(self.weight_shape):
            raise ValueError(
                f"`weight` has shape {checks.shape(weight)}; {self} wants {tuple(self.weight_shape)}, the unit first. "
                "Transpose or reshape the weight, or build the synapse for it."
            )

    def uses(self, post: Tensor) -> Tensor:
        """``post`` with one row for each use of the weight, (count, units): a place is treated as a sample is."""
        return post.movedim(1, -1).flatten(0, -2)

    def over_uses(self, post: Tensor) -> Tensor:
        """``post`` summed over all uses of the weight, (units,)."""
        return post.sum(dim=(0, *range(2, post.ndim)))

    def count(self, post: Tensor) -> int:
        """How often the weight was used on this batch: samples times places."""
        return post.numel() // self.weight_shape[0]


@dataclass(frozen=True)
class Dense(Synapse):
    r"""Every input to every unit: $y = W x$.

    Args:
        in_features: number of inputs, at least 1.
        out_features: number of units, at least 1.

    Raises:
        ValueError: a size that is no whole number of at least 1.

    Example:
        >>> import torch
        >>> from hebbian import Dense
        >>> synapse = Dense(in_features=3, out_features=2)
        >>> pre = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
        >>> post = synapse.forward(torch.ones(2, 3), pre)
        >>> post
        tensor([[3., 3.],
                [1., 1.]])
        >>> synapse.outer(post, pre)
        tensor([[3., 1., 6.],
                [3., 1., 6.]])
    """

    in_features: int
    out_features: int

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(
                    f"`Dense` was given {name}={size!r}; a whole number of at least 1 is wanted. "
                    f"Pass for example {name}=16."
                )

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return (self.out_features, self.in_features)

    def forward(self, weight: Tensor, pre: Tensor) -> Tensor:
        r"""What the units receive, $y_b = W x_b$.

        Differentiable as usual: no rule asks for a gradient, but a network around the synapse may.

        Args:
            weight: (out_features, in_features).
            pre: (B, in_features), same dtype (autocast lifts this) and device.

        Returns:
            (B, out_features).

        Raises:
            ValueError: a shape or device that does not fit.
            TypeError: a dtype that does not fit.
        """
        checks.floating({"pre": pre})
        checks.alike({"pre": pre, "weight": weight}, dtypes=not torch.is_autocast_enabled(pre.device.type))
        self.check_weight(weight)
        self._check_end("pre", pre, self.in_features)
        return functional.linear(pre, weight)

    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        r"""The sum over the batch of $y_b x_b^\top$, by one matrix product $Y^\top X$ (B x out x in is never built).

        Args:
            post: (B, out_features).
            pre: (B, in_features), same dtype and device.

        Returns:
            (out_features, in_features).

        Raises:
            ValueError: a shape or device that does not fit.
            TypeError: a dtype that does not fit.
        """
        self.check(pre, post)
        return post.T @ pre

    def outer_of_winners(self, winners: Tensor, share: Tensor, pre: Tensor) -> Tensor:
        """`outer`, by adding the inputs that each unit won where at most a sixteenth of all win at once: with so few, no product is as quick.

        A class of its own that derives from this one may have another `outer`, and gets that.
        """
        count = winners.shape[1]
        if type(self) is not Dense or 16 * count > self.out_features:
            return super().outer_of_winners(winners, share, pre)
        unit, order = winners.flatten().sort(stable=True)
        first = torch.searchsorted(unit, torch.arange(self.out_features, device=unit.device))
        sample, weighing = order // count, share.flatten()[order]
        return functional.embedding_bag(sample, pre, first, mode="sum", per_sample_weights=weighing)

    def outer_each(self, post: Tensor, pre: Tensor) -> Tensor:
        """Post times pre of each sample, (B, out_features, in_features)."""
        self.check(pre, post)
        return torch.einsum("bi,bj->bij", post, pre)

    def fields(self, pre: Tensor) -> Tensor:
        """The inputs themselves."""
        self._check_end("pre", pre, self.in_features)
        return pre

    def seen_square(self, pre: Tensor) -> Tensor:
        """The squared length of each input, (B, 1)."""
        self._check_end("pre", pre, self.in_features)
        return pre.square().sum(dim=1, keepdim=True)

    def seen_sum(self, post: Tensor, pre: Tensor) -> Tensor:
        """The sum of the inputs over the batch, (1, in_features)."""
        self.check(pre, post)
        return pre.sum(dim=0, keepdim=True)

    def check_shapes(self, pre: Tensor, post: Tensor) -> None:
        """Raise ValueError unless ``pre`` is (B, in_features) and ``post`` (B, out_features), with one B."""
        self._check_end("pre", pre, self.in_features)
        self._check_end("post", post, self.out_features)
        if len(pre) != len(post):
            raise ValueError(
                f"`pre` holds {len(pre)} samples and `post` {len(post)}; as many are wanted. "
                "Pass both ends of the same batch."
            )

    def _check_end(self, name: str, end: Tensor, size: int) -> None:
        if end.ndim != 2 or end.shape[1] != size:
            raise ValueError(
                f"`{name}` has shape {checks.shape(end)}; {self} wants (B, {size}). Pass one row a sample: "
                f"`{name}[None]` makes a batch of one, `{name}.flatten(0, -2)` joins several leading axes."
            )
