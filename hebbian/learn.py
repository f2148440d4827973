"""From a rule's change to new weights: a pure step, or a gradient for any optimiser."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hebbian import checks
from hebbian.rule import LocalRule, State
from hebbian.synapse import Synapse

__all__ = ["pseudo_gradient", "step"]


def step(
    rule: LocalRule,
    synapse: Synapse,
    weight: Tensor,
    pre: Tensor,
    post: Tensor,
    state: State,
    signal: Tensor | None = None,
) -> tuple[Tensor, State]:
    r"""One step of a rule on one batch: $W + \Delta W$, and the next state. Nothing is written.

    What the state says of the weight is told anew first, so the weight need not be what the last step returned.

    Args:
        rule: the rule, which holds the rate.
        synapse: the geometry of the weight.
        weight: ``(units, *field)``.
        pre: activity before the synapse, (B, ...).
        post: activity after the synapse, ``(B, units, *places)``.
        state: from ``rule.init_state(synapse, weight)`` or from the last step.
        signal: the third factor or the teacher, for rules that need one.

    Returns:
        the new weight, a plain tensor without a graph, and the next state.

    Raises:
        ValueError, TypeError: as `LocalRule.statistics` and `LocalRule.stepped` do.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Hebb, step
        >>> weight, state = step(Hebb(1.0), Dense(2, 1), torch.zeros(1, 2), torch.ones(3, 2), torch.ones(3, 1), None)
        >>> weight
        tensor([[1., 1.]])
    """
    checks.floating({"weight": weight})
    state = rule.renewed(weight.detach(), state)
    statistics = replace(rule.statistics(synapse, pre, post, state, signal), spare=True)
    return rule.stepped(statistics, weight, state)


def pseudo_gradient(weight: Tensor, change: Tensor) -> None:
    r"""Hand a change to any `torch.optim` optimiser: writes ``weight.grad = -change``, for optimisers step against it.

    A step of ``torch.optim.SGD(lr=1)`` is then the step of the rule, to rounding. The two rates multiply, so with another ``lr`` let
    the rule have ``rate=1``. The gradient is replaced, not accumulated: over several batches add *statistics*, then
    take one `delta`.

    Args:
        weight: a leaf tensor, as parameters are.
        change: from `LocalRule.delta`; the shape, dtype and device of ``weight``.

    Raises:
        ValueError: shapes or devices differ, or the weight is no leaf.
        TypeError: dtypes differ.

    Example:
        >>> import torch
        >>> from hebbian import Dense, Hebb, pseudo_gradient
        >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
        >>> optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
        >>> rule = Hebb(0.5)
        >>> statistics = rule.statistics(Dense(2, 1), torch.ones(3, 2), torch.ones(3, 1), None)
        >>> change, state = rule.delta(statistics, weight, None)
        >>> pseudo_gradient(weight, change)
        >>> optimiser.step()
        >>> weight.data
        tensor([[0.5000, 0.5000]])
    """
    checks.alike({"weight": weight, "change": change})
    if weight.shape != change.shape:
        raise ValueError(
            f"`change` has shape {checks.shape(change)} and `weight` {checks.shape(weight)}; one shape is wanted. "
            "Pass the weight that the change was computed for."
        )
    if not weight.is_leaf:
        raise ValueError(
            "`weight` was computed from other tensors; a leaf is wanted, or no optimiser would read its gradient. "
            "Pass the parameter itself."
        )
    weight.grad = torch.neg(change.detach())
