"""The duality gap: what a code's energy can still lose at most, and the stop rule that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ebm import Look, Stop
from ebm.objective import Gap
from hebbian.sparse.penalties import polar, worth

__all__ = ["DualityGap", "duality_gap"]


def duality_gap(term: nn.Module, code: Tensor, energy: Tensor, force: Tensor) -> Gap:
    r"""The gap between the energy of a code and that of a dual point made from its residual.

    With residual r, force :math:`F = \Phi^T r` and penalty g, the residual shrunk by
    :math:`\sigma = \min(1, 1 / \mathrm{polar}(F))` is a dual point, and the gap is

    .. math:: P(a) - D(\sigma r) = \tfrac12 (1 - \sigma)^2 \|r\|^2 + \left( g(a) - \sigma F^T a \right)

    Both parts are at least zero, and neither needs the signal. It is exact to the rounding of g(a).

    Args:
        term: `ebm.L1`, `ebm.GroupL1` or `ebm.NonNegative`, with weights above zero.
        code: a, (B, ...).
        energy: P(a), (B,).
        force: F, shaped like the code.

    Returns:
        the width of the gap and the energy, (B,) each.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import duality_gap
        >>> duality_gap(ebm.L1(1.0), torch.zeros(1, 2), torch.tensor([2.0]), torch.tensor([[2.0, 0.0]])).width
        tensor([0.5000])

    Source: Kim, Koh, Lustig, Boyd and Gorinevsky (2007), the dual point of a lasso by scaling the residual.
    """
    scale = 1 / polar(term, force).clamp_min(1.0)
    cost = worth(term, code)
    slack = cost - scale * torch.linalg.vecdot(force.flatten(1), code.flatten(1))
    return Gap((1 - scale).square() * (energy - cost) + slack.clamp_min(0.0), energy)


@dataclass(frozen=True)
class DualityGap(Stop):
    r"""Done when no code could have an energy lower by more than a share: :math:`\text{gap} \le \text{atol} + \text{rtol} \, E`.

    Unlike a small step or a small force, a small gap is a proof, and means the same for every solver.

    Args:
        rtol: >= 0, relative to the energy. In float32 about 1e-5 is as far as rounding lets most problems go.
        atol: >= 0, in units of energy.

    Raises:
        ValueError: a negative tolerance.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import DualityGap, SparseCoding
        >>> model = SparseCoding(torch.eye(3), ebm.L1(0.5))
        >>> ebm.infer(model.eval(), torch.tensor([[2.0, 0.1, -1.0]]), steps=9, stop=DualityGap(1e-5)).answer
        tensor([[ 1.5000,  0.0000, -0.5000]])

    Source: as `duality_gap`; a stop rule in Boyd and Vandenberghe (2004), section 5.5.1.
    """

    rtol: float = 1e-6
    atol: float = 0.0
    needs: ClassVar[frozenset[str]] = frozenset({"gap"})
    threshold_name: ClassVar[str | None] = "rtol"

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`DualityGap({name}=...)` may not be negative; got {getattr(self, name)}. Try 1e-6.")

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        width, energy = look.gap
        return (width <= self.atol + self.rtol * energy) & energy.isfinite(), None

    def strictest(self, look: Look) -> Tensor:
        width, energy = look.gap
        share = (width - self.atol) / torch.where(energy > 0, energy, torch.ones_like(energy))
        return torch.where(energy > 0, share, torch.where(width <= self.atol, 0.0, torch.inf))
