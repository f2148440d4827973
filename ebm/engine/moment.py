"""What a computation was made with, so that it can be made again: refused where that has been written over since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ebm import rows

__all__ = ["Moment", "Unwritten", "refuse", "unwritten", "version_of"]


class Unwritten(NamedTuple):
    """A tensor and how it can be told that nobody wrote into it: its version, and where its numbers lie."""

    tensor: Tensor
    version: int
    place: int

    def intact(self) -> bool:
        """Whether the numbers are those of then, as far as autograd itself can tell."""
        return version_of(self.tensor) == self.version and _place(self.tensor) == self.place


def unwritten(tensor: Tensor) -> Unwritten:
    """A tensor as it is now."""
    return Unwritten(tensor, version_of(tensor), _place(tensor))


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written into, as autograd counts."""
    return 0 if tensor.is_inference() else tensor._version


def _place(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.layout is torch.strided else 0


class Moment:
    """A model, its observation and the modes in force, as they are now.

    Args:
        model: whose parameters and buffers are remembered. Others may take their place until `again`, as in
            `torch.func.functional_call`; it then asks with those of now.
        given: what else is asked with, a row tree.
        device: the kind of device whose autocast is remembered.
    """

    def __init__(self, model: nn.Module, given: Any, device: str) -> None:
        self.model = model
        self._homes = [
            (f"{prefix}.{name}" if prefix else name, held, name, unwritten(tensor))
            for prefix, module in model.named_modules(remove_duplicate=False)
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None and tensor.is_floating_point()
        ]
        self._given = [unwritten(leaf) for leaf in _all_tensors(given)]
        self._modes = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def check(self) -> None:
        """Refuse to go on if a parameter, a buffer or the observation was written over.

        Raises:
            RuntimeError: one was.
        """
        written = next((f"`{name}`" for name, _, _, then in self._homes if not then.intact()), None)
        if written is None and not all(then.intact() for then in self._given):
            written = "the observation"
        if written is not None:
            refuse(f"{written} of {type(self.model).__name__}")

    def again(self, ask: Callable[[], Any]) -> Any:
        """The answer of ``ask`` with the tensors and in the modes of then."""
        device, dtype, enabled = self._modes
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            if all(held.get(name) is then.tensor for _, held, name, then in self._homes):
                return ask()
            tensors = {f"model.{path}": then.tensor for path, _, _, then in self._homes}
            return torch.func.functional_call(_Asked(self.model), tensors, (ask,), tie_weights=False)


class _Asked(nn.Module):
    """A module whose answer is that of any function, for `torch.func.functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ask: Callable[[], Any]) -> Any:
        return ask()


def _all_tensors(tree: Any) -> list[Tensor]:
    """The tensors of a row tree, those that belong to no sample included."""
    if isinstance(tree, rows.Shared):
        return [tree.value] if isinstance(tree.value, Tensor) else []
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    return [leaf for part in parts for leaf in _all_tensors(part)]


def refuse(what: str) -> NoReturn:
    """Say what was written over."""
    raise RuntimeError(
        f"The backward pass makes steps of this call again, but {what} was written over since (by an optimiser's step, `load_state_dict`, a "
        "data loader). They have to be made with what they were made with. Differentiate before anything is written, or write into a copy."
    )
