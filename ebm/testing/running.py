"""Promises about a run: what it says is true, looking is free, and stopping costs nothing."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ebm import rows
from ebm.engine.adjoint import Unroll
from ebm.solution import Solution, Status
from ebm.testing.case import SAID, Case, check, close, same

__all__ = [
    "a_callback_stops_like_a_limit",
    "best_so_far_never_rises",
    "facts_are_of_the_point_returned",
    "going_on_is_never_stopping",
    "history_changes_nothing",
    "inference_leaves_no_trace",
    "looking_does_not_disturb",
    "same_noise_same_bits",
]


def _differs(one: Solution, other: Solution, names: tuple[str, ...]) -> str | None:
    """The first of the named parts in which two solutions differ by a bit."""
    return next((name for name in names if not same(getattr(one, name), getattr(other, name))), None)


def best_so_far_never_rises(case: Case) -> None:
    """Promise 8, G5: what is kept is the best point seen, the first and the last included."""
    lowest = None
    what = "energy" if "energy" in case.model.provides else "residual"
    items = list(case._stream(steps=case.steps, keep="best", record=[what]))
    seen = items[-1].trace[what]
    for step, item in enumerate(items[: seen.shape[0]]):
        kept = item.residual if item.energy is None else item.energy
        check(lowest is None or (kept <= lowest).all(), f"The kept {what} rose in step {step}.")
        lowest = kept
        best = seen[: step + 1].amin(0)
        fine = item.status != Status.NONFINITE
        check(
            close(kept[fine], best[fine]),
            f"After {step} steps the kept {what} is {kept.tolist()}; the lowest seen is {best.tolist()}.",
        )


def facts_are_of_the_point_returned(case: Case) -> None:
    """Promise 3: energy, residual and answer are those of the latent returned."""
    solver = case.solver or case.model.default_solver()
    for keep in ("best", "last"):
        found = case._infer(steps=case.steps, keep=keep)
        with torch.no_grad():
            c = case.model.condition(case.x)
            point = case.model.point(found.z, c)
            residual = case.model.residual(point, c) if solver is None else solver.residual(case.model, point, c)
            answer = case.model.readout(found.z, c)
        if found.energy is not None:
            check(close(found.energy, point.energy), f"With keep={keep!r} `energy` is not the energy of `z`.")
        check(close(found.residual, residual), f"With keep={keep!r} `residual` is not the residual of `z`.")
        check(close(found.answer, answer), f"With keep={keep!r} `answer` is not the read-out of `z`.")


def looking_does_not_disturb(case: Case) -> None:
    """Promise 5, G6: item t of a stream equals a call of t steps, its last item the whole call; earlier items stay true."""
    items = list(case._stream(steps=case.steps))
    copies = [rows.map_rows(torch.clone, (item.z, item.carry.memory)) for item in case._stream(steps=case.steps)]
    whole = case._infer(steps=case.steps)
    wrong = _differs(items[-1], whole, (*SAID, "carry"))
    check(wrong is None, f"The last item of a stream differs from the call in `{wrong}`.")
    check(items[-1].flops == whole.flops, f"A stream reports {items[-1].flops} FLOPs; the call {whole.flops}.")
    check(
        len(items) == int(whole.steps.max()) + 1 or _failed(whole),
        f"A stream of {int(whole.steps.max())} steps has {len(items)} items.",
    )
    for step, (item, copy) in enumerate(zip(items, copies, strict=True)):
        check(
            same((item.z, item.carry.memory), copy),
            f"Item {step} changed while the stream went on: something writes in place.",
        )
        twin = case._infer(steps=step)
        wrong = _differs(item, twin, tuple(name for name in SAID if name != "status"))
        check(wrong is None, f"Item {step} of a stream differs from `infer(steps={step})` in `{wrong}`.")
        check(item.flops == twin.flops, f"Item {step} reports {item.flops} FLOPs; `infer(steps={step})` {twin.flops}.")


def _failed(solution: Solution) -> bool:
    return bool((solution.status == Status.NONFINITE).any())


def going_on_is_never_stopping(case: Case) -> None:
    """Promise 4, G7: t steps and then T - t equal T, bit for bit, also through a file."""
    whole = case._infer(steps=case.steps)
    for first in (0, case.steps // 2, case.steps):
        part = case._infer(steps=first)
        resumed = [case._infer(steps=case.steps - first, resume=part)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.pt"
            part.save(path)
            resumed.append(case._infer(steps=case.steps - first, resume=Solution.load(path)))
        for found, how in zip(resumed, ("", " through a file"), strict=True):
            wrong = _differs(found, whole, (*SAID, "carry"))
            check(
                wrong is None,
                f"{first} and then {case.steps - first} steps{how} differ from {case.steps} in `{wrong}`.",
            )


def a_callback_stops_like_a_limit(case: Case) -> None:
    """G8: a callback sees the start and every step, its view cannot change the run, and its stop equals a limit."""
    seen: list[int] = []

    def look(solution: Solution) -> bool:
        seen.append(int(solution.steps.max()))
        for leaf in rows.leaves((solution.z, solution.steps)):
            leaf.zero_()
        return len(seen) == 3

    stopped = case._infer(steps=case.steps, callback=look)
    twin = case._infer(steps=2)
    check(seen == list(range(len(seen))), f"A callback saw the steps {seen}.")
    wrong = _differs(stopped, twin, tuple(name for name in SAID if name != "status"))
    check(wrong is None, f"A call stopped by its callback after 2 steps differs from `infer(steps=2)` in `{wrong}`.")
    limited = twin.status == Status.OUT_OF_STEPS
    if case.steps > 2:
        check(
            (stopped.status[limited] == Status.STOPPED).all(), "A sample that a callback stopped does not end STOPPED."
        )
    check(torch.equal(stopped.status[~limited], twin.status[~limited]), "A callback renamed samples that had ended.")


def same_noise_same_bits(case: Case) -> None:
    """G12: the same generator gives the same bits, and the global one is not touched."""
    state = torch.get_rng_state()
    one, other = (case._infer(steps=case.steps, generator=torch.Generator().manual_seed(11)) for _ in range(2))
    wrong = _differs(one, other, (*SAID, "carry"))
    check(wrong is None, f"Two calls with the same generator differ in `{wrong}`.")
    check(
        torch.equal(torch.get_rng_state(), state), "The global generator was used: `draw` is the only source of noise."
    )


def history_changes_nothing(case: Case) -> None:
    """A model that has settled other batches, also with a graph, settles as a new one."""
    new, used = deepcopy(case.model), deepcopy(case.model)
    index = torch.tensor([1, 0])
    other = case._replace(model=used, x=rows.take(case.x, index), start=_taken(case.start, index))
    other._infer(steps=2)
    other._infer(steps=1, adjoint=Unroll())
    found, wanted = (case._replace(model=model)._infer(steps=case.steps) for model in (used, new))
    differs = _differs(found, wanted, SAID)
    check(differs is None, f"`{differs}` is another where the model has been used before, at another batch size.")


def _taken(start: Any, index: torch.Tensor) -> Any:
    return None if start is None else rows.take(start, index)


def _traces(model: torch.nn.Module) -> list[Any]:
    tensors = model.state_dict(keep_vars=True)
    grads = [(name, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()]
    return [
        [module.training for module in model.modules()],
        {name: value._version for name, value in tensors.items() if isinstance(value, torch.Tensor)},
        str(grads),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
    ]


def inference_leaves_no_trace(case: Case) -> None:
    """Promise 7, G13: no parameter, gradient, buffer or mode changes, and every grad mode gives the same answer."""
    plain = case._infer(steps=case.steps)
    before, x = _traces(case.model), rows.map_rows(torch.clone, case.x)
    case._infer(steps=case.steps)
    words = ("a module's train mode", "a parameter or buffer", "a `.grad`", "the grad mode or autocast")
    for what, one, other in zip(words, before, _traces(case.model), strict=True):
        check(one == other, f"Inference changed {what}.")
    check(same(case.x, x), "Inference wrote into the observation.")
    with torch.no_grad():
        check(_differs(case._infer(steps=case.steps), plain, SAID) is None, "Under `no_grad` the answer is another.")
    with torch.inference_mode():
        found = case._infer(steps=case.steps)
        check(_differs(found, plain, SAID) is None, "Under `inference_mode` the answer is another.")
    check(
        not any(leaf.is_inference() for leaf in rows.leaves(found.z)),
        "Under `inference_mode` the latent is an inference tensor.",
    )
    half = any(leaf.dtype == torch.float16 for leaf in rows.leaves(plain.z))  # the two halves do not mix
    with torch.autocast("cpu", dtype=torch.float16 if half else torch.bfloat16):
        cast = case._infer(steps=case.steps)
    kinds = [[leaf.dtype for leaf in rows.leaves(solution.z)] for solution in (plain, cast)]
    check(kinds[0] == kinds[1], f"Under autocast latents are {kinds[1]} instead of {kinds[0]}.")
