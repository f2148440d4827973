"""Noise that belongs to the sample: a draw is a function of (key, step, site).

Each sample holds one 64-bit key. A counter-based hash in plain tensor operations turns key, step, site and position
into bits, so a sample draws the same numbers alone, in any batch, after any resume, and in a compiled step.

The bits come from two rounds of the 32-bit mixing function of Wellons (2018, `lowbias32`), keyed by both halves of the
sample's key; 64-bit integers with a mask keep every product within range on any device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = ["Draw", "draw_keys"]

_MASK = 0xFFFFFFFF
_GOLDEN = 0x1E3779B9
_FIRST = 0x7FEB352D
_SECOND = 0x846CA68B - (1 << 32)  # the same multiplier modulo 2**32, small enough for a signed product


def draw_keys(batch: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """One key a sample, int64 (B,): drawn from ``generator``, or the row numbers where there is none."""
    if generator is None:
        return torch.arange(batch, dtype=torch.int64, device=device)
    high = torch.iinfo(torch.int64).max
    return torch.randint(high, (batch,), generator=generator, device=generator.device).to(device)


def _mix(bits: Tensor) -> Tensor:
    """A bijection of 32-bit words in which every input bit moves about half of the output bits."""
    bits = bits ^ (bits >> 16)
    bits = (bits * _FIRST) & _MASK
    bits = bits ^ (bits >> 15)
    bits = (bits * _SECOND) & _MASK
    return bits ^ (bits >> 16)


class Draw:
    """The only source of noise of a step: ``draw.normal(like)``, ``draw.uniform(like)``.

    Each call is a *site*, numbered in the order of the calls, so two draws of one step differ.

    Args:
        keys: int64 (B,), one a sample.
        step: int64 (B,), the number of steps each sample has taken; -1 while the initial latent is made.

    Attributes:
        used: whether anything was drawn.

    Example:
        >>> import torch
        >>> from ebm import Draw
        >>> keys = torch.tensor([7, 8, 9])
        >>> step = torch.zeros(3, dtype=torch.int64)
        >>> whole = Draw(keys, step).normal(torch.empty(3, 4))
        >>> alone = Draw(keys[1:2], step[1:2]).normal(torch.empty(1, 4))
        >>> torch.equal(whole[1:2], alone)
        True
    """

    def __init__(self, keys: Tensor, step: Tensor) -> None:
        self.keys = keys
        self.step = step
        self._site = 0

    @property
    def used(self) -> bool:
        """Whether anything was drawn."""
        return self._site > 0

    def of(self, samples: Tensor, replicas: Tensor) -> Draw:
        """The noise of replicas of samples, in the same step.

        Args:
            samples: int64 (R,), whose replica each row is.
            replicas: int64 (R,), its number; replica 0 draws what the sample itself draws.
        """
        keys = self.keys[samples]
        # for one replica a bijection of keys, so no two samples come to share one
        low = _mix((keys & _MASK) ^ _mix((replicas * _GOLDEN) & _MASK))
        high = _mix(((keys >> 32) & _MASK) ^ _mix((low + replicas) & _MASK))
        return Draw(torch.where(replicas == 0, keys, (high << 32) | low), self.step[samples])

    def normal(self, like: Any) -> Any:
        """Standard normal numbers in the shapes, dtypes and device of a row tree, by the Box-Muller transform."""
        return rows.map_rows(self._normal_leaf, like)

    def uniform(self, like: Any) -> Any:
        """Numbers uniform on (0, 1), both ends excluded, in the shapes, dtypes and device of a row tree."""
        return rows.map_rows(self._uniform_leaf, like)

    def _normal_leaf(self, leaf: Tensor) -> Tensor:
        size = math.prod(leaf.shape[1:])
        half = (size + 1) // 2
        first, second = self._words(half)
        radius = (-2 * _unit(first, leaf.dtype).log()).sqrt()
        angle = _unit(second, leaf.dtype) * (2 * math.pi)
        pair = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return pair[:, :size].reshape(leaf.shape)

    def _uniform_leaf(self, leaf: Tensor) -> Tensor:
        size = math.prod(leaf.shape[1:])
        return _unit(self._words(size)[0], leaf.dtype).reshape(leaf.shape)

    def _words(self, size: int) -> tuple[Tensor, Tensor]:
        """Two words of 32 bits for each of ``size`` positions of each sample, as int64 (B, size)."""
        self._site += 1
        low, high = self.keys & _MASK, (self.keys >> 32) & _MASK
        step = _mix((self.step + 1 + self._site * _GOLDEN) & _MASK)
        low, high = _mix(low ^ step), _mix(_mix((high + _GOLDEN) & _MASK) ^ low)
        position = torch.arange(size, device=self.keys.device)
        first = _mix(_mix(position ^ low[:, None]) ^ high[:, None])
        return first, _mix(((first + _GOLDEN) & _MASK) ^ low[:, None])


def _unit(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Words of 32 bits as numbers on (0, 1); float32 keeps 23 bits so that 1 is never reached."""
    if dtype == torch.float64:
        return (words.to(dtype) + 0.5) * 2.0**-32
    return ((words >> 9).to(torch.float32) + 0.5).mul(2.0**-23).to(dtype)
