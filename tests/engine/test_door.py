"""Every refusal says what was passed, what is wanted, and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ebm
from tests.energies import Quadratic, Tanh, Tree, numbers
from tests.engine.stubs import Script, Walk, script

X = numbers(4, 3)
MODEL = Quadratic()
SOLUTION = ebm.infer(MODEL, X, steps=1, solver=ebm.Descent(0.1), adjoint=ebm.Detached())
NAN = float("nan")
BAD = X.clone()
BAD[2, 1], BAD[3, 0] = NAN, float("inf")


def refuses(error: type[Exception], *words: str, x: object = X, model: object = MODEL, **options: object) -> None:
    for call in (ebm.infer, ebm.stream):
        with pytest.raises(error) as caught:
            call(model, x, **options)  # type: ignore[arg-type]
        for word in words:
            assert word in str(caught.value), f"{word!r} is not in {caught.value}"


LIMITS = [
    (
        {},
        ValueError,
        "Inference might never end. Pass `steps=`, `seconds=` or `flops=`; a `stop` rule alone may never fire.",
    ),
    ({"stop": ebm.AtRest()}, ValueError, "Inference might never end."),
    ({"steps": -1}, ValueError, "`steps=` may not be negative; got -1. Zero gives the initial answer."),
    ({"steps": 2.0}, TypeError, "`steps=` is a whole number; got 2.0 (float). Pass an int."),
    ({"steps": True}, TypeError, "`steps=` is a whole number; got True (bool)."),
    ({"steps": torch.ones(4)}, TypeError, "`steps=` counts whole steps; got a tensor of torch.float32. Pass integers."),
    ({"steps": torch.ones(4) > 0}, TypeError, "`steps=` counts whole steps; got a tensor of torch.bool."),
    ({"steps": torch.arange(3)}, ValueError, "one a sample, shape (4,); got (3,). Reshape it."),
    ({"steps": torch.arange(4) - 1}, ValueError, "`steps=` may not be negative; got -1."),
    ({"seconds": -0.1}, ValueError, "`seconds=` may be neither negative nor NaN; got -0.1."),
    ({"seconds": NAN}, ValueError, "`seconds=` may be neither negative nor NaN; got nan."),
    ({"seconds": "1"}, TypeError, "`seconds=` is a number; got str. Pass 0.5 for half a second."),
    ({"flops": 1e9}, TypeError, "`flops=` is a whole number; got 1000000000.0 (float). Pass an int."),
    ({"flops": -5}, ValueError, "`flops=` may not be negative; got -5."),
]
OPTIONS = [
    ({"stop": 0.1}, TypeError, "`stop=` got 0.1 (float). Pass a stop rule, for example `AtRest(1e-4)`."),
    ({"solver": "adam"}, TypeError, "`solver=` got 'adam' (str). Pass a solver, for example `Descent(0.1)`."),
    ({"solver": ebm.Descent}, TypeError, "`solver=` got"),
    ({"adjoint": "unroll"}, TypeError, "`adjoint=` got 'unroll' (str). Pass an adjoint, for example `Unroll()`."),
    ({"budget": 5}, TypeError, "`budget=` got 5 (int). Pass `ebm.Budget(steps=..., seconds=..., flops=...)`."),
    ({"resume": {}}, TypeError, "`resume=` got {} (dict). Pass the solution to go on from."),
    ({"precision": "bf16"}, TypeError, "`precision=` got 'bf16' (str). Pass a dtype, for example `torch.bfloat16`."),
    ({"generator": 0}, TypeError, "`generator=` got 0 (int). Pass a `torch.Generator`."),
    ({"callback": 3}, TypeError, "`callback=` must be callable; got int. Pass a function."),
    ({"keep": "first"}, ValueError, '`keep=` is "best", "last" or None; got \'first\'.'),
    ({"compact": "always"}, ValueError, "`compact=` is True, False or \"auto\"; got 'always'."),
    ({"start": numbers(4, 4), "resume": SOLUTION}, ValueError, "`start=` and `resume=` exclude each other; got both."),
]


@pytest.mark.parametrize(("options", "error", "words"), LIMITS, ids=lambda part: str(part)[:40])
def test_limits(options: dict, error: type[Exception], words: str):
    refuses(error, words, **options)


@pytest.mark.parametrize(("options", "error", "words"), OPTIONS, ids=lambda part: str(part)[:40])
def test_options(options: dict, error: type[Exception], words: str):
    refuses(error, words, steps=1, **options)


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [("step", "Did you mean `steps=`?"), ("max_iter", "See the signature."), ("sovler", "Did you mean `solver=`?")],
)
def test_a_misspelt_keyword(keyword: str, hint: str):
    refuses(TypeError, f"got `{keyword}=`, which it does not know; it takes model, x, steps,", hint, **{keyword: 3})


def test_a_model_that_is_none():
    refuses(
        TypeError,
        "`infer` settles an `ebm.Energy` or an `ebm.Update`; got Linear.",
        model=torch.nn.Linear(3, 4),
        steps=1,
    )


def test_observations():
    refuses(
        ValueError, "`x` must be finite; 2 of 4 samples hold NaN or infinity (rows 2, 3). Clean these", x=BAD, steps=1
    )
    refuses(ValueError, "needs at least one tensor with a sample axis; got none", x=None, steps=1)
    refuses(ValueError, "share their first axis, the sample; got sizes 2, 4", x=(X, X[:2]), steps=1)
    refuses(ValueError, "got sizes a scalar", x=torch.tensor(1.0), steps=1)


def test_devices():
    away = torch.empty(4, 3, device="meta", dtype=torch.float64)
    refuses(
        ValueError,
        "`x` is on meta, but the model on cpu. Move one with `.to(...)`: all must share a device.",
        x=away,
        steps=1,
    )
    refuses(ValueError, "`x` is on meta, but the other parts of `x` on cpu.", x=(X, away), model=Script(), steps=1)
    start = torch.empty(4, 4, device="meta", dtype=torch.float64)
    refuses(ValueError, "`start` is on meta, but the model on cpu.", start=start, steps=1)


def test_dtypes():
    refuses(
        ValueError,
        "`x` is torch.float32, but the model torch.float64. Convert one with `.to(...)`",
        x=X.float(),
        steps=1,
    )
    refuses(
        ValueError,
        "`x` is torch.float32, but the other parts of `x` torch.float64.",
        x=(X, X.float()),
        model=Script(),
        steps=1,
    )
    refuses(ValueError, "`start` is torch.float32, but the model torch.float64.", start=torch.zeros(4, 4), steps=1)


def test_starts():
    refuses(ValueError, "`start` holds 3 samples, but `x` 4. Pass one latent a sample.", start=numbers(3, 4), steps=1)
    refuses(ValueError, "`start` must be finite; some samples hold NaN or infinity.", start=numbers(4, 4) / 0, steps=1)
    refuses(
        ValueError, "`start` must hold floating-point numbers; got torch.int64.", start=torch.ones(4, 4).long(), steps=1
    )


def test_a_solver_or_a_rule_that_needs_what_the_model_lacks():
    refuses(
        ValueError,
        "The solver AdaptiveDescent needs energy, gradient; Tanh provides nothing beyond a point. Choose another solver,",
        model=Tanh(3),
        solver=ebm.AdaptiveDescent(),
        steps=1,
    )
    refuses(
        ValueError,
        "The stop rule Plateau needs energy; Tanh provides nothing",
        model=Tanh(3),
        stop=ebm.Plateau(),
        steps=1,
    )
    rule = ebm.AnyOf(ebm.AtRest(), ebm.Patience(ebm.Plateau()))
    refuses(ValueError, "The stop rule AnyOf needs energy", model=Tanh(3), stop=rule, steps=1)
    inner = ebm.Project(ebm.Anderson(safeguard="energy"), ebm.Box(0.0))
    refuses(ValueError, "The solver Project needs energy; Tanh", model=Tanh(3), solver=inner, steps=1)
    refuses(
        ValueError,
        "The solver Asynchronous needs conditional; Quadratic provides energy, gradient",
        solver=ebm.Asynchronous(),
        steps=1,
    )


def test_a_resumed_state_of_another_batch_model_or_solver():
    same = {"steps": 1, "solver": ebm.Descent(0.1), "resume": SOLUTION}
    refuses(
        ValueError,
        "`resume=` holds 4 samples, but `x` 3. Pass the same samples, or `resume.take(rows)`.",
        x=X[:3],
        **same,
    )
    refuses(
        ValueError,
        "`resume=` comes from Quadratic(",
        "but the model is Tanh(",
        "Resume with the model that made it.",
        model=Tanh(3),
        **same,
    )
    refuses(ValueError, "weight (3, 4)", "weight (3, 5)", model=Quadratic(5), **same)
    same["solver"] = ebm.Descent(0.2)
    refuses(
        ValueError,
        "comes from the solver Descent(step_size=0.1",
        "uses Descent(step_size=0.2",
        "begin anew with `start=resume.z`",
        **same,
    )


@pytest.mark.parametrize(
    ("energy", "got"),
    [
        (lambda e: e.mean(), "got (). Sum over every axis but the first."),
        (lambda e: e[:, None], "got (4, 1)."),
        (lambda e: e[:2], "got (2,)."),
        (lambda e: 3.0, "got float."),
    ],
)
def test_an_energy_of_another_shape(energy, got: str):
    class Wrong(Quadratic):
        def forward(self, z, c):
            return energy(super().forward(z, c))

    with pytest.raises(ValueError, match=r"`Wrong.forward` must return one energy a sample, shape ") as caught:
        ebm.infer(Wrong(), X, steps=1)
    assert "shape (4,); " + got in str(caught.value)


def test_an_energy_without_a_graph():
    class Deaf(Quadratic):
        def forward(self, z, c):
            return super().forward(z, c).detach()

    with pytest.raises(ValueError, match=r"`Deaf.forward` must return an energy that can be differentiated in `z`"):
        ebm.infer(Deaf(), X, steps=1)


@pytest.mark.parametrize("kind", [ebm.Energy, ebm.Update])
def test_a_model_without_its_formula(kind: type[ebm.Objective]):
    empty = type("Empty", (kind,), {})()
    with pytest.raises(NotImplementedError, match=r"`Empty` has no `forward\(z, c\)`. Define it"):
        ebm.infer(empty, X, steps=1, start=X)


def test_an_update_of_another_shape():
    class Wrong(Tanh):
        def forward(self, z, c):
            return super().forward(z, c)[:, :2]

    with pytest.raises(
        ValueError,
        match=r"`Wrong.forward` must give a row tree like the latent `z`: `z` is a tensor of shape \(4, 3\); got a tensor of shape \(4, 2\)",
    ):
        ebm.infer(Wrong(3), X, steps=1)


def test_a_model_that_names_no_start():
    class Bare(ebm.Energy):
        def forward(self, z, c):
            return z.square().sum(1)

    with pytest.raises(NotImplementedError, match=r"Bare does not say where settling starts. Define `init_latent"):
        ebm.infer(Bare(), X, steps=1)
    assert ebm.infer(Bare(), X, steps=1, start=X).steps.tolist() == [1] * 4


def test_a_start_of_another_number_of_samples():
    class One(Quadratic):
        def init_latent(self, c, draw):
            return c.new_zeros(1, 4)

    with pytest.raises(ValueError, match=r"`One.init_latent` must return one latent a sample, 4 rows; got 1."):
        ebm.infer(One(), X, steps=1)


def test_flops_alone_never_end_a_call_that_costs_none():
    class Free(ebm.Energy):
        def init_latent(self, c, draw):
            return c

        def forward(self, z, c):
            return z.square().sum(1)

    with pytest.raises(
        ValueError, match="`flops=` alone would never end this call: an evaluation of Free has no operation"
    ):
        ebm.infer(Free(), X, flops=100)
    assert ebm.infer(Free(), X, flops=100, steps=2).steps.tolist() == [2] * 4
    assert ebm.infer(Free(), X, flops=0).steps.tolist() == [0] * 4


def test_a_stop_rule_that_reads_what_is_no_logits():
    class Flat(Script):
        def readout(self, z, c):
            return z[:, 0]

    with pytest.raises(
        ValueError, match=r"`Confident` needs logits of shape \(B, classes, ...\); the read-out gave \(1,\)"
    ):
        ebm.infer(Flat(), script([1.0, 2.0]), steps=1, solver=Walk(), stop=ebm.Confident())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ebm.Descent(0.0), ValueError, "`Descent(step_size=...)` must be above zero; got 0.0."),
        (lambda: ebm.Descent(0.1, momentum=1.0), ValueError, "`Descent(momentum=...)` must lie in [0, 1); got 1.0."),
        (lambda: ebm.Descent(0.1, nesterov=True), ValueError, "`Descent(nesterov=True)` needs momentum"),
        (lambda: ebm.Adam(-1.0), ValueError, "`Adam(step_size=...)` must be above zero"),
        (lambda: ebm.Adam(eps=0.0), ValueError, "`Adam(eps=...)` must be above zero"),
        (lambda: ebm.Adam(betas=(0.9, 1.0)), ValueError, "`Adam(betas=...)` must both lie in [0, 1)"),
        (lambda: ebm.AdaptiveDescent(first=0), ValueError, "`AdaptiveDescent(first=...)` must be above zero"),
        (lambda: ebm.AdaptiveDescent(growth=1.0), ValueError, "`AdaptiveDescent(growth=...)` must be above one"),
        (lambda: ebm.Picard(1.0), ValueError, "`Picard(damping=...)` must lie in [0, 1); got 1.0."),
        (lambda: ebm.Anderson(1), ValueError, "`Anderson(window=...)` must be at least 2; got 1."),
        (lambda: ebm.Anderson(ridge=-1.0), ValueError, "`Anderson(ridge=...)` may not be negative"),
        (lambda: ebm.Anderson(safeguard="x"), ValueError, '`Anderson(safeguard=...)` is "residual", "energy" or None'),  # type: ignore[arg-type]
        (lambda: ebm.Langevin(temperature=-1.0), ValueError, "`Langevin(temperature=...)` may not be negative"),
        (lambda: ebm.Asynchronous("sorted"), ValueError, '`Asynchronous(order=...)` is "random" or "cyclic"'),  # type: ignore[arg-type]
        (lambda: ebm.Box(), ValueError, "`Box()` without an end holds everything"),
        (lambda: ebm.Box(1, 0), ValueError, "`Box(low, high)` needs low <= high; got 1 > 0."),
        (lambda: ebm.Project(0.1, ebm.Box(0)), TypeError, "`Project` wraps a solver; got float."),  # type: ignore[arg-type]
        (lambda: ebm.Project(ebm.Adam(), 3), TypeError, "`Project(onto=...)` must be callable; got int."),  # type: ignore[arg-type]
        (lambda: ebm.AtRest(-1), ValueError, "`AtRest(atol=...)` may not be negative; got -1."),
        (lambda: ebm.Plateau(rtol=NAN), ValueError, "`Plateau(rtol=...)` may not be negative; got nan."),
        (lambda: ebm.Patience(ebm.AtRest(), 0), ValueError, "`Patience(times=...)` must be at least 1"),
        (lambda: ebm.Patience(0.1), TypeError, "`Patience` takes stop rules; got float."),  # type: ignore[arg-type]
        (lambda: ebm.Confident(0.0), ValueError, "`Confident(threshold=...)` must lie in (0, 1]"),
        (lambda: ebm.AnyOf(), ValueError, "`AnyOf` needs at least one stop rule; got none."),
        (lambda: ebm.AllOf(1), TypeError, "`AllOf` takes stop rules; got int."),  # type: ignore[arg-type]
    ],
)
def test_settings(make, error: type[Exception], words: str):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_a_refusal_comes_at_the_call_and_not_at_the_first_item():
    with pytest.raises(ValueError, match="might never end"):
        ebm.stream(MODEL, X)


def test_a_saved_solution_of_another_model_is_refused_too(tmp_path: Path):
    SOLUTION.save(tmp_path / "s.pt")
    refuses(
        ValueError,
        "Resume with the model that made it",
        model=Tree(3),
        steps=1,
        solver=ebm.Descent(0.1),
        resume=ebm.Solution.load(tmp_path / "s.pt"),
    )


def test_a_sweep_over_units_is_not_compiled():
    with pytest.raises(ValueError, match=r"does not suit Asynchronous: .* units one by one.* Leave `compile` out"):
        ebm.infer(ebm.Hopfield.store(torch.ones(1, 4)), torch.ones(2, 4), steps=1, compile=True)


# What users pass that is nearly right


def test_arrays_and_lists_are_tensors():
    right = ebm.infer(MODEL, X, steps=3)
    for x in (X.numpy(), X.tolist(), np.asfortranarray(X.numpy()), X.flip(0).numpy()[::-1]):
        assert torch.equal(ebm.infer(MODEL, x, steps=3).z, right.z)
    single = Quadratic(dtype=torch.float32)
    assert ebm.infer(single, X.numpy(), steps=1).z.dtype == torch.float32
    start = numbers(4, 4)
    begun = [ebm.infer(MODEL, X, steps=2, start=each).z for each in (start, start.numpy(), start.tolist())]
    assert torch.equal(begun[0], begun[1]) and torch.equal(begun[0], begun[2])
    tree = ebm.FixedPoint(lambda z, x: 0.5 * z + x["a"][0] + x["a"][1], 3)
    parts = [ebm.infer(tree, {"a": (X, each)}, steps=1).z for each in (X, X.numpy())]
    assert torch.equal(parts[0], 2 * X) and torch.equal(parts[0], parts[1])
    x = X.numpy().copy()
    ebm.infer(MODEL, x, steps=0).z.add_(1)
    assert (x == X.numpy()).all()
    refuses(TypeError, "`x` is taken as a tensor where it is an array", x=np.array(["a", "b"]), steps=1)
    refuses(TypeError, "`x` is taken as a tensor", x=[[1.0, 2.0], [1.0]], steps=1)


@pytest.mark.parametrize("steps", [[0, 1, 2, 3], np.arange(4), torch.arange(4)])
def test_steps_of_each_sample_as_a_list_or_an_array(steps: object):
    assert ebm.infer(MODEL, X, steps=steps, solver=ebm.Descent(0.1)).steps.tolist() == [0, 1, 2, 3]  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers():
    found = ebm.infer(MODEL, X, steps=np.int64(3), seconds=np.float32(60.0), flops=np.int64(10**9))  # type: ignore[arg-type]
    assert found.steps.tolist() == [3] * 4
    refuses(TypeError, "`steps=` is a whole number; got", steps=np.float64(3.0))
    refuses(TypeError, "`steps=` counts whole steps; got a tensor of torch.float32", steps=[1.5, 2.0, 1.0, 1.0])


def test_a_class_in_the_place_of_one_of_it():
    refuses(TypeError, "got the class Quadratic. Make one of it: `Quadratic(...)`.", model=Quadratic, steps=1)
    refuses(TypeError, "`solver=` got the class Adam. Pass one of it: `Adam(...)`.", solver=ebm.Adam, steps=1)
    refuses(TypeError, "`adjoint=` got the class Implicit.", adjoint=ebm.Implicit, steps=1)
    refuses(TypeError, "`stop=` got the class AtRest.", stop=ebm.AtRest, steps=1)


def test_a_model_inside_a_wrapper():
    refuses(
        TypeError,
        "got DataParallel, a wrapper for several devices. Pass the model in it, `model.module`.",
        model=torch.nn.DataParallel(MODEL),
        steps=1,
    )
    compiled = torch.compile(MODEL)
    refuses(
        TypeError,
        "Pass the model in it, `model._orig_mod`. `infer(..., compile=True)` compiles its steps.",
        model=compiled,
        steps=1,
    )


class Unready(ebm.Energy):
    def __init__(self) -> None:
        self.size = 3


class NoDraw(Quadratic):
    def init_latent(self, c: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return torch.zeros_like(c)


class NoCondition(Quadratic):
    def forward(self, z: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return z.square().sum(1)


def test_models_that_are_nearly_right():
    refuses(
        TypeError, "`Unready` was not initialised as a module: its `__init__` never calls", model=Unready(), steps=1
    )
    refuses(
        TypeError,
        "`NoDraw.init_latent` is called as init_latent(c, draw); it is defined with (c",
        "Write `def init_latent(self, c, draw)`",
        model=NoDraw(),
        steps=1,
    )
    refuses(TypeError, "`NoCondition.forward` is called as forward(z, c)", model=NoCondition(), steps=1)


def test_a_model_called_by_hand():
    with pytest.raises(
        TypeError,
        match=r"called as model\(z, c\).*got 1 arguments. To settle an observation, call `ebm.infer\(model, x",
    ):
        MODEL(X)
    z = torch.zeros(4, 4, dtype=torch.float64)
    assert torch.equal(MODEL(z, c=MODEL.condition(X)), MODEL(z, MODEL.condition(X)))


@pytest.mark.parametrize("start", [numbers(4, 1), numbers(4, 5), numbers(4), [numbers(4, 4)], {"z": numbers(4, 4)}])
def test_a_start_of_another_shape(start: object):
    """(4, 1) would broadcast, and settle as something else."""
    for _ in range(2):
        with pytest.raises(ValueError, match=r"`Quadratic.init_latent` gives a tensor of shape \(4, 4\) for this `x`"):
            ebm.infer(MODEL, X, steps=1, start=start)


def test_what_a_loader_gives():
    labels = torch.zeros(4, dtype=torch.int64)
    for x in ((X, labels), [X, X]):
        with pytest.raises(
            Exception, match=r"`x` is a pair, as a data loader gives it.*`for x, y in loader:` and pass `x`"
        ):
            ebm.infer(MODEL, x, steps=1)


def test_whole_numbers_for_a_model_of_real_ones():
    for model in (MODEL, Tanh()):
        with pytest.raises(Exception, match=r"`x` holds torch.int64. If \w+ observes real numbers, pass `x.float\(\)`"):
            ebm.infer(model, torch.ones(4, 3, dtype=torch.int64), steps=1)
