"""Noise that belongs to the sample: a draw is a function of (key, step, site).

Each sample holds one 64-bit key. A counter-based hash in plain tensor operations turns key, step, site and position
into bits, so a sample draws the same numbers alone, in any batch, after any resume, and in a compiled step.

The bits are those of SplitMix64, a bijection of 64-bit words (Steele, Lea and Flood 2014, with the multipliers of Stafford's
variant 13), taken twice: over key, step and site for where a sample's stream begins, and over that and the position.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ebm import rows

__all__ = ["Draw", "draw_keys"]

_WORD = 0xFFFFFFFF


def _signed(bits: int) -> int:
    """A 64-bit word as the signed number that a tensor holds; products wrap around either way."""
    return bits - (1 << 64) if bits >> 63 else bits


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
_STEP = _signed(0xD1342543DE82EF95)
_SITE = _signed(0xDA942042E4DD58B5)


def draw_keys(batch: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """One key a sample, int64 (B,): drawn from ``generator``, or the row numbers where there is none."""
    if generator is None:
        return torch.arange(batch, dtype=torch.int64, device=device)
    high = torch.iinfo(torch.int64).max
    return torch.randint(high, (batch,), generator=generator, device=generator.device).to(device)


def _mix(bits: Tensor) -> Tensor:
    """A bijection of 64-bit words in which every input bit moves about half of the output bits; overwrites ``bits``."""
    bits.bitwise_xor_(_shifted(bits, 30)).mul_(_FIRST)
    bits.bitwise_xor_(_shifted(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shifted(bits, 31))


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Bits moved down with zeros after them; the shift of a signed number fills with its sign."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


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
        own = _mix(keys * _GOLDEN + replicas * _SITE)
        return Draw(torch.where(replicas == 0, keys, own), self.step[samples])

    def normal(self, like: Any) -> Any:
        """Standard normal numbers in the shapes, dtypes and device of a row tree, by the Box-Muller transform."""
        return rows.map_rows(self._normal_leaf, like)

    def uniform(self, like: Any) -> Any:
        """Numbers uniform on (0, 1), both ends excluded, in the shapes, dtypes and device of a row tree."""
        return rows.map_rows(self._uniform_leaf, like)

    def _normal_leaf(self, leaf: Tensor) -> Tensor:
        size, dtype = math.prod(leaf.shape[1:]), _precision(leaf)
        words = self._words((size + 1) // 2)
        # a first half that rounds to one gives the radius zero: all 32 bits may be kept, and reach out to 6.7
        radius = _shifted(words, 32).to(dtype).add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = words.bitwise_and_(_WORD).to(dtype).mul_(2 * math.pi * 2.0**-32)
        pair = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)
        return pair[:, :size].reshape(leaf.shape).to(leaf.dtype)

    def _uniform_leaf(self, leaf: Tensor) -> Tensor:
        size, dtype = math.prod(leaf.shape[1:]), _precision(leaf)
        bits = 52 if dtype == torch.float64 else 23  # with half a unit added these are exact, so neither end is reached
        numbers = _shifted(self._words(size), 64 - bits).to(dtype).add_(0.5).mul_(2.0**-bits)
        return numbers.reshape(leaf.shape).to(leaf.dtype)

    def _words(self, size: int) -> Tensor:
        """A word of 64 bits for each of ``size`` positions of each sample, (B, size)."""
        self._site += 1
        begin = _mix(self.keys * _GOLDEN + (self.step + 1) * _STEP + _signed(self._site * _SITE & (1 << 64) - 1))
        position = torch.arange(1, size + 1, device=begin.device) * _GOLDEN
        return _mix(begin[:, None] + position)


def _precision(leaf: Tensor) -> torch.dtype:
    """What numbers are made in, before they are rounded to the leaf's own dtype."""
    return torch.float64 if leaf.dtype == torch.float64 else torch.float32
