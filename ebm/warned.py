"""Warnings of calls that run, and are probably not what is meant: each once a model, at the caller's own line."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref

import torch
from torch import nn

__all__ = [
    "DetachedWarning",
    "RepeatedNoiseWarning",
    "SlowPrecisionWarning",
    "users_level",
    "warn_once",
    "warn_same_noise",
    "warn_slow_precision",
]

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = tuple(
    os.path.join(folder, "")
    for folder in (os.path.join(_HOME, "ebm"), os.path.join(_HOME, "hebbian"), os.path.dirname(torch.__file__))
)
_told: weakref.WeakKeyDictionary[nn.Module, set[type[Warning]]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class DetachedWarning(UserWarning):
    """A model that could be trained was settled without a gradient, and nobody asked for that.

    Gradients are enabled, the model is in training mode and has parameters that want one, and no ``adjoint=`` was given: a loss of
    the answer would train what comes after the settling, and nothing inside it. Pass ``adjoint=ebm.Implicit()`` or another to train; to
    say that no gradient is meant, pass ``adjoint=ebm.Detached()``, call ``model.eval()``, or settle under `torch.no_grad`.

    Example:
        >>> import torch, ebm, warnings
        >>> cell = ebm.GatedCell(1, width=4, dims=1)
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     _ = ebm.infer(cell, torch.ones(1, 1, 5), steps=1)
        ...     _ = ebm.infer(cell.eval(), torch.ones(1, 1, 5), steps=1)
        >>> [warning.category.__name__ for warning in seen]
        ['DetachedWarning']
    """


class RepeatedNoiseWarning(UserWarning):
    """Noise was drawn without a ``generator=``, so the next call draws the same.

    Noise is a function of each sample's key. Without a generator the keys are the row numbers, whatever `torch.manual_seed` says:
    equal calls give equal answers, and the samples of the next batch get the noise of this one. To draw other noise at every call, make one
    generator and pass it to all of them; to repeat a call, seed it anew.

    Example:
        >>> import torch, ebm, warnings
        >>> memory = ebm.ModernHopfield(torch.eye(2))
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     _ = ebm.infer(memory, torch.ones(2, 2), steps=1, solver=ebm.Langevin(0.1))
        >>> [warning.category.__name__ for warning in seen]
        ['RepeatedNoiseWarning']
    """


class SlowPrecisionWarning(UserWarning):
    """Products in bfloat16 were asked for on a processor that makes them more slowly than those in float32.

    A processor needs tiles (AMX) to gain by it; ``benchmarks/predictive_coding.py`` measures it on yours.

    Example:
        >>> import warnings, ebm
        >>> warnings.simplefilter("ignore", ebm.SlowPrecisionWarning)  # to measure it all the same
    """


def warn_once(model: nn.Module, category: type[Warning], message: str) -> None:
    """Warn, unless this model was warned of the same before; at the line that called into the library."""
    with _lock:
        told = _told.setdefault(model, set())
        if category in told:
            return
        told.add(category)
    warnings.warn(message, category, stacklevel=users_level())


def users_level() -> int:
    """The ``stacklevel`` at which a function of the library warns of its user's own line.

    What lies between, in the library or in PyTorch (which calls modules, and steps aside of its compiler), is passed over.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FOLDERS):
        frame, level = frame.f_back, level + 1
    return level


def warn_same_noise(model: nn.Module, drew: str) -> None:
    """Tell of noise that the next call will draw again."""
    warn_once(
        model,
        RepeatedNoiseWarning,
        f"{drew}, and no `generator=` was given: every call draws the same noise, and so do equal rows of other batches, whatever "
        "`torch.manual_seed` says. Make one `torch.Generator().manual_seed(0)` and pass it to every call.",
    )


def warn_slow_precision(model: nn.Module, precision: torch.dtype | None, device: torch.device) -> None:
    """Tell of bfloat16 on a processor without tiles."""
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    if precision is torch.bfloat16 and device.type == "cpu" and not has_tiles():
        warn_once(
            model,
            SlowPrecisionWarning,
            "`precision=torch.bfloat16` was asked for on a processor without tiles for it (AMX), where such products take longer than those in "
            "float32. Leave out `precision=`, or measure both.",
        )
