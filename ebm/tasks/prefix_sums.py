"""Prefix sums modulo two: how many ones so far, odd or even?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ebm.tasks.base import Baseline, Problems, Task, constant, whole

__all__ = ["PrefixSums"]

_LISTED = 24  # below this length the strings can be listed, and are drawn without repeats


@dataclass(frozen=True)
class PrefixSums(Task):
    r"""Bits :math:`b`, and at every place the parity of the bits up to it.

    .. math:: t_i = \Big(\sum_{j \le i} b_j\Big) \bmod 2

    ``x`` is (B, 1, length), :math:`b - 1/2`; ``y`` is (B, length), int64 in {0, 1}; an answer is (B, 2, length), the
    scores of the two classes at each place. A string counts only if *every* place of it is right.

    Bits are fair and independent. ``distinct`` draws strings without repeats within one call, for lengths below 24 (longer ones hardly
    ever repeat), as the published protocol does.

    Args:
        length: bits a string, at least 1.
        distinct: draw without repeats; a call may then ask for at most 2 ** length strings.

    Raises:
        TypeError: a length that is no whole number.
        ValueError: a length below 1; at the call, more distinct strings than there are.

    Example:
        >>> import torch
        >>> from ebm.tasks import PrefixSums
        >>> x, y = PrefixSums(length=6).sample(1, torch.Generator().manual_seed(1))
        >>> (x[0, 0] + 0.5).int().tolist(), y[0].tolist()
        ([1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 0])

    Source: Schwarzschild et al. (2021), Can you learn an algorithm? Generalizing from easy to hard problems with recurrent
    networks; the protocol of Bansal et al. (2022). There 10,000 strings of a length are drawn once and stored.
    """

    metric: ClassVar[str] = "strings with every place right"

    length: int = 32
    distinct: bool = False

    def __post_init__(self) -> None:
        whole(self, "length", 1)

    def draw(self, count: int, generator: torch.Generator) -> Problems:
        """Strings and their prefix parities."""
        bits = self._bits(count, generator)
        return Problems(bits[:, None].float() - 0.5, bits.cumsum(1) % 2)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, the mean over places."""
        return functional.cross_entropy(answer, y)

    def score(self, answer: Tensor, y: Tensor) -> Tensor:
        """One for a string whose every place is right, else zero."""
        return (answer.argmax(1) == y).all(1).to(answer.dtype)

    def baselines(self) -> tuple[Baseline, ...]:
        """The commoner answer at each place; the input itself."""
        return (constant("the commoner answer", _commoner), Baseline("the input itself", _copy))

    def _bits(self, count: int, generator: torch.Generator) -> Tensor:
        if not self.distinct or self.length >= _LISTED:
            return torch.randint(2, (count, self.length), generator=generator, device=generator.device)
        if count > 2**self.length:
            raise ValueError(
                f"`PrefixSums(length={self.length}, distinct=True)` has {2**self.length} strings; {count} were asked for. "
                "Ask for fewer, or leave out `distinct`."
            )
        numbers = torch.randperm(2**self.length, generator=generator, device=generator.device)[:count]
        return (numbers[:, None] >> torch.arange(self.length, device=generator.device)) & 1


def _commoner(train: Problems) -> Tensor:
    share = train.y.float().mean(0)
    return torch.stack([1 - share, share])


def _copy(train: Problems) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.cat([-x, x], dim=1)
