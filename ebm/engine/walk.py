"""Some steps of every row, with nothing in between: what the loop looks at the end of, and what is compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.field import CountedField
from ebm.noise import Draw
from ebm.objective import Objective, Point
from ebm.solvers.base import Solver, Step

__all__ = ["Outcome", "walk"]


class Outcome(NamedTuple):
    """The last of some steps, and what was seen on the way.

    Attributes:
        step: the last step.
        probe: a number that is finite only if every new point is.
        asked: how many questions of each kind were asked.
        ran: how many rows were computed for them.
        stalled: whether any sample stalled in any step; None: none can.
        taken: how many steps were made: fewer than asked for, if a sample stalled and somebody looked.
        looked: whether the steps end with the first in which a sample stalled.
    """

    step: Step
    probe: Tensor
    asked: dict[str, int | Tensor]
    ran: dict[str, int]
    stalled: Tensor | None
    taken: int
    looked: bool


def walk(
    objective: Objective, solver: Solver, point: Point, memory: Any, c: Any, keys: Any, steps: Any, count: int = 1
) -> Outcome:
    """``count`` steps of every row, or up to the first in which a sample stalls; the whole of what ``compile`` compiles.

    A look between steps is free only on a processor: a program cannot look, and an accelerator would be waited for.
    """
    leaf = rows.first_leaf(point.z)
    looked = leaf.device.type == "cpu" and not torch.compiler.is_compiling()
    field = CountedField(objective, c, leaf.shape[0])
    step, probes, stalls, made = Step(point, memory), [], [], 0
    for taken in range(count):
        draw: Any = None if keys is None else Draw(keys, steps + taken)
        step = solver.step(field, step.point, step.memory, draw)
        made += 1
        z, energy, force = step.point
        if not solver.additive:
            probes.append(rows.probe(z, force))
        if energy is not None:
            probes.append(energy.sum())
        if step.info.stalled is not None:
            stalls.append(step.info.stalled.any())
            if looked and made < count and bool(stalls[-1]):
                break
    if solver.additive:  # then a latent that is not finite is so at the end as well
        probes.append(rows.probe(step.point.z, step.point.force))
    probe, stalled = probes[0], stalls[0] if stalls else None
    for other in probes[1:]:
        probe = probe + other
    for other in stalls[1:]:
        stalled = stalled | other
    return Outcome(step, probe, field.asked, field.ran, stalled, made, looked)
