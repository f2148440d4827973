"""How a dictionary lies: atoms that fill the whole signal, or small ones laid down at every place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional, grad

from hebbian import checks
from hebbian.sparse.faces import combination
from hebbian.synapse import Dense, Synapse

__all__ = ["Convolved", "synthesise"]

_FORWARD = (functional.conv1d, functional.conv2d, functional.conv3d)
_WEIGHT = (grad.conv1d_weight, grad.conv2d_weight, grad.conv3d_weight)
_BACKWARD = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


@dataclass(frozen=True)
class Convolved(Synapse):
    r"""Small atoms laid down at every place: the weight is ``(atoms, channels, *kernel)``, with one to three axes of space.

    As a synapse, ``pre`` is a signal ``(B, channels, *size)`` and ``post`` a code ``(B, atoms, *places)``; `forward` is the
    correlation of each atom with the signal at each place.

    Args:
        atoms: number of atoms, at least 1.
        channels: of the signal, at least 1.
        kernel: size of an atom along each axis of space.
        stride: places are so far apart.
        padding: how far atoms may hang over the edge of the signal.

    Raises:
        ValueError: a size below one, a negative padding, or not one to three axes of space.

    Example:
        >>> import torch
        >>> from hebbian.sparse import Convolved
        >>> synapse = Convolved(atoms=4, channels=1, kernel=(3,), padding=2)
        >>> synapse.forward(torch.ones(4, 1, 3), torch.ones(2, 1, 6)).shape
        torch.Size([2, 4, 8])
    """

    atoms: int
    channels: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.kernel) <= 3:
            raise ValueError(
                f"`Convolved(kernel=...)` has one to three axes of space; got {self.kernel}. Pass (8, 8) for pictures."
            )
        if min(self.atoms, self.channels, self.stride, *self.kernel) < 1 or self.padding < 0:
            raise ValueError(
                f"`Convolved` wants sizes and a stride of at least one and a padding of at least zero; got {self}. Correct them."
            )

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``(atoms, channels, *kernel)``."""
        return (self.atoms, self.channels, *self.kernel)

    def forward(self, weight: Tensor, pre: Tensor) -> Tensor:
        """How well each atom fits at each place, ``(B, atoms, *places)``."""
        return _FORWARD[len(self.kernel) - 1](pre, weight, stride=self.stride, padding=self.padding)

    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        """The correlation of code and signal, shaped like the weight, summed over samples and places."""
        adjoint = _WEIGHT[len(self.kernel) - 1]
        return adjoint(pre, self.weight_shape, post, stride=self.stride, padding=self.padding)

    def backward(self, weight: Tensor, post: Tensor, size: tuple[int, ...]) -> Tensor:
        """The signal ``(B, channels, *size)`` that a code lays down: the transpose of `forward`."""
        # places that a stride leaves over at the far edge are part of the signal, too
        left = [(n + 2 * self.padding - k) % self.stride for n, k in zip(size, self.kernel, strict=True)]
        laid = _BACKWARD[len(self.kernel) - 1]
        return laid(post, weight, stride=self.stride, padding=self.padding, output_padding=left)  # pyright: ignore[reportArgumentType]

    def places(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """How many places there are along each axis of a signal of this size."""
        return tuple((n + 2 * self.padding - k) // self.stride + 1 for n, k in zip(size, self.kernel, strict=True))

    def check_shapes(self, pre: Tensor, post: Tensor) -> None:
        """Raise ValueError unless signal and code fit the dictionary and each other."""
        wanted = (*pre.shape[:1], self.atoms, *self.places(tuple(pre.shape[2:]))) if self._fits(pre) else None
        if wanted is None:
            raise ValueError(
                f"`pre` has shape {checks.shape(pre)}; a signal of shape (B, {self.channels}, *size) with {len(self.kernel)} axes of "
                "space is wanted. Reshape it."
            )
        if tuple(post.shape) != wanted:
            raise ValueError(
                f"`post` has shape {checks.shape(post)}; {wanted} is wanted for these samples. Settle the code of this signal."
            )

    def _fits(self, pre: Tensor) -> bool:
        return pre.ndim == 2 + len(self.kernel) and pre.shape[1] == self.channels


def synthesise(synapse: Synapse, weight: Tensor, code: Tensor, like: Tensor) -> Tensor:
    """The signal that a code lays down with a dictionary, shaped like ``like``.

    Args:
        synapse: `hebbian.Dense` or `Convolved`.
        weight: the dictionary.
        code: ``(B, atoms, *places)``.
        like: a signal of the size that is wanted.

    Example:
        >>> import torch
        >>> from hebbian import Dense
        >>> from hebbian.sparse import synthesise
        >>> synthesise(Dense(3, 2), torch.ones(2, 3), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 3))
        tensor([[3., 3., 3.]])
    """
    if isinstance(synapse, Convolved):
        return synapse.backward(weight, code, tuple(like.shape[2:]))
    assert isinstance(synapse, Dense)
    return combination(code, weight)
