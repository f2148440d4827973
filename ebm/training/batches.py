"""Batches that something else makes, a `torch.utils.data.DataLoader` say, as a source of problems that training can be resumed on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.tasks import Problems

__all__ = ["Batches", "own_noise"]


class Batches:
    """An iterable of pairs (x, y), gone through again and again.

    What it draws from torch's global generators (a loader's order, random crops) comes from seeds of the training and of the place in the
    epoch, so that a training that goes on takes the batches it would have taken: those before it in the epoch are made again and left aside.

    Args:
        source: what can be gone through more than once.
        seed: of the training.
        device: where the batches are wanted.
    """

    def __init__(self, source: Iterable[Any], seed: int, device: torch.device) -> None:
        self._source, self._seed, self._device = source, seed, device
        self._epoch, self._place = 0, 0
        self._begun: Tensor | None = None  # the loader's own generator at the beginning of the epoch
        self._items: Iterator[Any] | None = None
        self._next: Problems | None = None

    def sample(self) -> Problems:
        """The batch whose turn it is; the same one until `done`."""
        if self._items is None:
            self._open()
            for place in range(self._place):
                self._taken(place)
        if self._next is None:
            found = self._taken(self._place)
            if found is None and self._place > 0:
                self._epoch, self._place, self._begun = self._epoch + 1, 0, None
                self._open()
                found = self._taken(0)
            if found is None:
                raise ValueError(
                    f"`train(tasks=...)` takes what gives batches again and again; {type(self._source).__name__} gave none. Pass a "
                    "`DataLoader` or a list of batches: a generator ends once and for all."
                )
            self._next = self._checked(found)
        return self._next

    def done(self) -> None:
        """The batch was learnt from."""
        self._next, self._place = None, self._place + 1

    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {"epoch": self._epoch, "place": self._place, "begun": self._begun}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._epoch, self._place, self._begun = state["epoch"], state["place"], state["begun"]
        self._items = self._next = None

    def _open(self) -> None:
        """Begin an epoch, or begin it again."""
        own = getattr(self._source, "generator", None)
        if isinstance(own, torch.Generator):
            if self._begun is None:
                self._begun = own.get_state()
            else:
                own.set_state(self._begun)
        with self._noise(0):
            self._items = iter(self._source)

    def _taken(self, place: int) -> Any:
        """The batch at a place of the epoch, or None at its end."""
        assert self._items is not None
        with self._noise(place + 1):
            return next(self._items, None)

    def _noise(self, place: int) -> contextlib.AbstractContextManager[None]:
        return own_noise(((self._seed * 1_009 + self._epoch) * 1_000_003 + place) % 2**63, self._device)

    def _checked(self, found: Any) -> Problems:
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            got = f"{len(found)} parts" if isinstance(found, (tuple, list)) else type(found).__name__
            raise TypeError(
                f"`train(tasks=...)` takes batches that are pairs (x, y); {type(self._source).__name__} gave {got}. Let its dataset return pairs."
            )

        def moved(leaf: Tensor) -> Tensor:
            return leaf.to(self._device)

        return Problems(*(rows.map_rows(moved, part) for part in found))


_TURN = threading.RLock()


@contextlib.contextmanager
def own_noise(seed: int, device: torch.device) -> Iterator[None]:
    """Whatever draws from the global generators, such as dropout, draws from a seed of its own and leaves them as they were.

    PyTorch has one such generator for all threads, and dropout knows no other. So trainings take turns, and what other threads
    draw from it meanwhile is not their own; a generator of their own is.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with _TURN, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
