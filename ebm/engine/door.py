"""What is checked before anything runs: each refusal says what was passed, what is wanted, and what to do."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import get_interpreter_stack
from torch.autograd import forward_ad

from ebm import rows
from ebm.objective import Objective
from ebm.solvers.base import Solver

__all__ = [
    "check_adjoint",
    "check_fit",
    "check_latent",
    "check_limits",
    "check_model",
    "check_observation",
    "check_options",
    "check_resume",
    "check_resumed_dtype",
    "check_transforms",
    "known_keywords",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def known_keywords(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """Refuse a misspelt keyword with the nearest right one, before Python does it without."""
    names = list(inspect.signature(fn).parameters)

    @functools.wraps(fn)
    def checked(*args: _P.args, **given: _P.kwargs) -> _R:
        unknown = next((name for name in given if name not in names), None)
        if unknown is None:
            return fn(*args, **given)
        close = difflib.get_close_matches(unknown, names, 1, 0.5)
        hint = f"Did you mean `{close[0]}=`?" if close else "See the signature."
        raise TypeError(
            f"`{fn.__name__}` got `{unknown}=`, which it does not know; it takes {', '.join(names)}. {hint}"
        )

    return checked


def check_model(model: Any) -> None:
    """The model is an objective."""
    if isinstance(model, Objective):
        return
    if isinstance(model, type) and issubclass(model, Objective):
        raise TypeError(
            f"`infer` settles a model; got the class {model.__name__}. Make one of it: `{model.__name__}(...)`."
        )
    for name, what in (
        ("module", "a wrapper for several devices"),
        ("_orig_mod", "what `torch.compile` made of a model"),
    ):
        if isinstance(getattr(model, name, None), Objective):
            advice = " `infer(..., compile=True)` compiles its steps." if name == "_orig_mod" else ""
            raise TypeError(
                f"`infer` settles an `ebm.Energy` or an `ebm.Update`; got {type(model).__name__}, {what}. Pass the model in it, `model.{name}`.{advice}"
            )
    raise TypeError(
        f"`infer` settles an `ebm.Energy` or an `ebm.Update`; got {type(model).__name__}. "
        "Derive your model from one of them, or wrap a module as `ebm.EnergyNet(module, ...)`."
    )


def check_observation(x: Any, home: Tensor | None) -> int:
    """The observation is a finite row tree of one batch, on the model's device and in its dtype; returns B."""
    batch = rows.count(x)
    _check_placed("x", x, home)
    for leaf in rows.leaves(x):
        if (
            leaf.is_floating_point()
            and not math.isfinite(leaf.detach().sum().item())
            and not bool(torch.isfinite(leaf).all())
        ):
            bad = (~rows.finite(leaf)).nonzero().flatten().tolist()
            named = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
            raise ValueError(
                f"`x` must be finite; {len(bad)} of {batch} samples hold NaN or infinity (rows {named}). "
                "Clean these samples, or leave them out."
            )
    return batch


def _check_placed(name: str, tree: Any, home: Tensor | None) -> None:
    """One device and one floating dtype, in a tree and with a tensor of the model (None: the model has none)."""
    tensors = list(rows.leaves(tree))
    floats = [leaf for leaf in tensors if leaf.is_floating_point()]
    whose = f"the other parts of `{name}`" if home is None else "the model"
    device = tensors[0].device if home is None else home.device
    dtype = None if not floats else floats[0].dtype if home is None else home.dtype
    for leaf in tensors:
        if leaf.device != device:
            raise ValueError(
                f"`{name}` is on {leaf.device}, but {whose} on {device}. Move one with `.to(...)`: all must share a device."
            )
    for leaf in floats:
        if leaf.dtype != dtype:
            raise ValueError(
                f"`{name}` is {leaf.dtype}, but {whose} {dtype}. Convert one with `.to(...)`: all must share a floating dtype."
            )


def check_latent(name: str, z: Any, batch: int, home: Tensor | None) -> None:
    """A start is a finite, floating row tree of this batch."""
    got = rows.count(z)
    if got != batch:
        raise ValueError(f"`{name}` holds {got} samples, but `x` {batch}. Pass one latent a sample.")
    for leaf in rows.leaves(z):
        if not leaf.is_floating_point():
            raise ValueError(
                f"`{name}` must hold floating-point numbers; got {leaf.dtype}. Convert it with `.float()`."
            )
    _check_placed(name, z, home)
    if not bool(rows.finite(z).all()):
        raise ValueError(f"`{name}` must be finite; some samples hold NaN or infinity. Clean them, or leave it out.")


def check_limits(steps: Any, seconds: Any, flops: Any, budget: Any, batch: int) -> None:
    """Each limit has its type and range, and there is at least one."""
    if steps is None and seconds is None and flops is None and budget is None:
        raise ValueError(
            "Inference might never end. Pass `steps=`, `seconds=` or `flops=`; a `stop` rule alone may never fire."
        )
    if isinstance(steps, Tensor):
        if steps.dtype.is_floating_point or steps.dtype == torch.bool:
            raise TypeError(f"`steps=` counts whole steps; got a tensor of {steps.dtype}. Pass integers.")
        if steps.shape not in ((), (batch,)):
            raise ValueError(
                f"`steps=` is one limit for all or one a sample, shape ({batch},); got {tuple(steps.shape)}. Reshape it."
            )
        if steps.numel() and int(steps.min()) < 0:
            raise ValueError(f"`steps=` may not be negative; got {int(steps.min())}. Zero gives the initial answer.")
    elif steps is not None:
        _check_count("steps", steps, "Zero gives the initial answer.")
    if flops is not None:
        _check_count("flops", flops, "Zero gives the initial answer.")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, Real)):
        raise TypeError(f"`seconds=` is a number; got {type(seconds).__name__}. Pass 0.5 for half a second.")
    if seconds is not None and not float(seconds) >= 0:
        raise ValueError(f"`seconds=` may be neither negative nor NaN; got {seconds}. Zero gives the initial answer.")


def _check_count(name: str, value: Any, advice: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}=` is a whole number; got {value!r} ({type(value).__name__}). Pass an int.")
    if value < 0:
        raise ValueError(f"`{name}=` may not be negative; got {value}. {advice}")


def check_options(options: dict[str, tuple[Any, type | tuple[type, ...], str]]) -> None:
    """Each option is None or an instance of its type; the last entry names what to pass."""
    for name, (value, kind, advice) in options.items():
        if isinstance(value, type) and issubclass(value, kind):
            raise TypeError(f"`{name}=` got the class {value.__name__}. Pass one of it: `{value.__name__}(...)`.")
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"`{name}=` got {value!r} ({type(value).__name__}). {advice}")


def check_fit(solver: Solver, stop: Any, model: Objective, compiled: bool | int) -> None:
    """The objective provides what the solver and the stop rule need, and the step can be compiled where it should be."""
    for role, part in (("solver", solver), ("stop rule", stop)):
        missing = sorted(part.needs - model.provides) if part is not None else []
        if missing:
            able = ", ".join(sorted(model.provides)) or "nothing beyond a point"
            raise ValueError(
                f"The {role} {type(part).__name__} needs {', '.join(missing)}; {type(model).__name__} provides {able}. "
                f"Choose another {role}, or give the model what is missing."
            )
    if compiled and not solver.compiles:
        raise ValueError(
            f"`compile=True` does not suit {type(solver).__name__}: its steps go through the units one by one, or have shapes that depend on "
            "the data. Leave `compile` out, or choose another solver."
        )
    if compiled and "levels" in model.provides:
        raise ValueError(
            f"`compile=True` cannot follow samples from rung to rung, which {type(model).__name__} does with each by itself. Leave `compile` out."
        )


def check_transforms(adjoint: Any, model: Objective, tensors: Iterable[Tensor]) -> None:
    """The call goes through the transforms of PyTorch that it is made in: `torch.func`, and forward-mode differentiation."""
    stack = get_interpreter_stack() or ()
    active = {level.key().name for level in stack}
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        active.add("Jvp")
    through = adjoint.transforms if not stack or "energy" not in model.provides else frozenset()
    refused = sorted(active - through)
    if refused:
        raise RuntimeError(
            f"`infer` was called inside {_TRANSFORMS.get(refused[0], refused[0])} with {type(adjoint).__name__} and {type(model).__name__}. Steps "
            "look at numbers and differentiate by themselves, which it does not allow. The first axis of a batch is the sample already; take "
            "gradients outside, by `torch.autograd.grad` and an adjoint."
        )


_TRANSFORMS = {
    "Vmap": "`torch.func.vmap`",
    "Grad": "`torch.func.grad` or `vjp`",
    "Jvp": "forward-mode differentiation (`torch.func.jvp`)",
}


def check_adjoint(adjoint: Any, solver: Solver, model: Objective) -> None:
    """The solver can do what the gradient is made from, and the objective says what vanishes at rest."""
    missing = sorted(adjoint.needs - solver.provides)
    if "rest" in adjoint.needs and not missing and not model.tells_rest:
        raise ValueError(
            f"`{type(adjoint).__name__}` differentiates what vanishes at rest, but {type(model).__name__}, or a model inside it, defines "
            "`residual` without `move(point, c)`. Define the move whose size the residual measures, or choose `Unroll(checkpoint=...)`."
        )
    if missing:
        able = {
            "rest": "comes to rest and says what vanishes there (it draws samples, or judges rest by a residual of its own without `move`)",
            "reverse": "can be run backwards, as `Reversible(...)`",
        }
        raise ValueError(
            f"`{type(adjoint).__name__}` needs a solver that {able.get(missing[0], missing[0])}; got {type(solver).__name__}. "
            "Choose another solver, or `Unroll(checkpoint=...)`, which goes with every one."
        )


def check_resume(resume: Any, origin: Any, batch: int) -> None:
    """A resumed state is of this batch, model and solver."""
    got = resume.status.shape[0]
    if got != batch:
        raise ValueError(
            f"`resume=` holds {got} samples, but `x` {batch}. Pass the same samples, or `resume.take(rows)`."
        )
    if resume.origin.model != origin.model:
        raise ValueError(
            f"`resume=` comes from {resume.origin.model}, but the model is {origin.model}. Resume with the model that made it."
        )
    if resume.origin.solver != origin.solver:
        raise ValueError(
            f"`resume=` comes from the solver {resume.origin.solver}, but this call uses {origin.solver}, whose memory differs. "
            "Pass the same solver, or begin anew with `start=resume.z`."
        )


def check_resumed_dtype(resume: Any, dtype: Any) -> None:
    """A resumed state has the precision of the model."""
    made = None if resume.provenance is None else resume.provenance.source.dtype
    if made not in (None, str(dtype)):
        raise ValueError(
            f"`resume=` was made in {made}, but the model is in {dtype}, and so would be all that goes on. Resume with the model as it was, "
            "or begin anew with `start=` in the model's dtype."
        )
