"""What an observer sees of a call: the trace it asked for, and a progress bar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ebm import rows
from ebm.engine.adjoint import Stage
from ebm.objective import Objective

__all__ = ["Progress", "Trace"]

_NAMES = ("energy", "residual", "z", "answer", "status")


class Trace:
    """The recorded parts of the running point at every stage."""

    def __init__(self, names: Iterable[str] | None, model: Objective) -> None:
        self._names = () if names is None else (names,) if isinstance(names, str) else tuple(names)
        self._items: dict[str, list[Any]] = {name: [] for name in self._names}
        self._last: Any = None
        for name in self._names:
            if name not in _NAMES:
                raise ValueError(f"`record=` knows {', '.join(_NAMES)}; got {name!r}. Choose among these.")
            if name == "energy" and "energy" not in model.provides:
                raise ValueError(f'`record=` got "energy", but {type(model).__name__} has none. Record "residual".')

    def add(self, stage: Stage, call: Any) -> None:
        """Record one stage; the same moment is recorded once."""
        moment = (id(stage), getattr(stage, "taken", None))
        if not self._names or moment == self._last:
            return
        self._last = moment
        carry = stage.carry()
        with torch.no_grad():
            for name in self._names:
                self._items[name].append(self._value(name, carry, call.problem))

    def _value(self, name: str, carry: Any, problem: Any) -> Any:
        if name == "energy":
            return carry.point.energy.detach()
        if name == "residual":
            return problem.residual(carry.point, problem.c).detach()
        if name == "answer":
            return problem.objective.readout(carry.point.z, problem.c)
        return carry.status if name == "status" else rows.map_rows(torch.detach, carry.point.z)

    def stacked(self) -> dict[str, Any]:
        """Each recorded part with the steps as a new first axis."""
        return {
            name: rows.map_rows(lambda *parts: torch.stack(parts), items[0], *items[1:])
            for name, items in self._items.items()
            if items
        }


class Progress:
    """A progress bar on stderr, in the first process only."""

    def __init__(self, wanted: bool, steps: int | Tensor | None) -> None:
        self._bar: Any = None
        if wanted and _first_process():
            total = int(steps.max()) if isinstance(steps, Tensor) else steps
            self._bar = tqdm(total=total, unit="step", desc="settling")
            self._bar.n = -1

    def show(self, stage: Stage) -> None:
        """One stage further."""
        if self._bar is None:
            return
        energy = stage.carry().point.energy
        shown: dict[str, Any] = {"running": stage.running}
        if energy is not None:
            shown["energy"] = f"{energy.detach().nanmean().item():.4g}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
