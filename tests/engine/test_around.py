"""A call inside other parts of PyTorch: compiled programs, checkpoints, traces; and what it leaves behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import ebm
from tests.energies import ClosedQuadratic, Quadratic, numbers

X = numbers(3, 3, seed=4)
D = ebm.Descent(0.3)
ADJOINTS = [
    ebm.Detached(),
    ebm.Unroll(),
    ebm.Unroll(checkpoint=3),
    ebm.Truncated(2),
    ebm.Implicit(),
]


class Net(torch.nn.Module):
    """Something to compile around a call."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.model, self.options = Quadratic(), options
        self.head = torch.nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(ebm.infer(self.model, 2 * x, **{"steps": 7, "solver": D, **self.options}).z)


def gradients(module: torch.nn.Module, out: torch.Tensor) -> list[torch.Tensor | None]:
    module.zero_grad()
    out.square().sum().backward()
    return [parameter.grad for parameter in module.parameters()]


# the compiler itself asks for the `.grad` of whatever it is handed
QUIET = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@QUIET
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "adjoint",
    [a if i == 0 else pytest.param(a, marks=pytest.mark.slow) for i, a in enumerate(ADJOINTS)],
    ids=repr,
)
def test_a_program_around_a_call_gives_the_eager_answer(adjoint: ebm.Adjoint):
    net = Net(adjoint=adjoint)
    program = torch.compile(net, backend="eager")
    eager, compiled = net(X), program(X)
    assert torch.equal(eager, compiled)
    for a, b in zip(gradients(net, eager), gradients(net, compiled), strict=True):
        assert (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))


@QUIET
@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_a_program_of_the_default_compiler_around_a_call_gives_the_eager_answer():
    net = Net(adjoint=ebm.Implicit())
    torch.testing.assert_close(torch.compile(net)(X), net(X), rtol=1e-12, atol=1e-12)


def _streamed(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([2 * item.z for item in ebm.stream(Quadratic(), x + 1, steps=3, solver=D)])


def _of_a_loss(loss: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    model = Quadratic()
    return lambda x: 2 * loss(model, x + 1, torch.ones(3, 4, dtype=x.dtype))


def _cost(answer: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (answer - y).square().sum(1)


@QUIET
@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "make",
    [
        lambda: _streamed,
        lambda: _of_a_loss(ebm.TwoPhase(_cost, steps=5, solver=D)),
        lambda: lambda x: ebm.infer(ClosedQuadratic(), x + 1, steps=3, compile=True, keep="last", solver=D).z * 2,
    ],
    ids=["stream", "two phases", "a compiled step"],
)
def test_whatever_settles_inside_a_program_gives_the_eager_answer(make: Callable[[], Any]):
    fn = make()
    torch.testing.assert_close(torch.compile(fn, backend="eager")(X), fn(X), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("fresh")
def test_a_program_without_breaks_is_refused():
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(Net(), backend="eager", fullgraph=True)(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "record", [lambda net: torch.jit.trace(net, X), lambda net: torch.export.export(net, (X,))], ids=["jit", "export"]
)
def test_a_call_that_would_be_recorded_is_refused(record: Callable[[Any], Any]):
    with pytest.raises(RuntimeError, match=r"`infer` was called inside `torch.jit.trace` or `torch.export`"):
        record(Net())


@pytest.mark.parametrize("adjoint", ADJOINTS[1:], ids=repr)
def test_a_checkpoint_around_a_call_has_its_gradient(adjoint: ebm.Adjoint):
    net = Net(adjoint=adjoint)
    x = X.clone().requires_grad_()
    plain = [*gradients(net, net(x)), x.grad]
    x.grad = None
    again = [*gradients(net, checkpoint(net, x, use_reentrant=False)), x.grad]  # pyright: ignore[reportArgumentType]
    for a, b in zip(plain, again, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_nothing_runs_while_a_checkpoint_breaks_off_its_second_pass(monkeypatch: pytest.MonkeyPatch):
    net, read = Net(adjoint=ebm.Unroll()), []
    readout = net.model.readout
    monkeypatch.setattr(net.model, "readout", lambda z, c: (read.append(1), readout(z, c))[1])
    net(X)
    read.clear()
    checkpoint(net, X, use_reentrant=False).sum().backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(read) <= 2, "once a pass at most"


# What is left behind


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adjoint": ebm.Unroll()},
        {"adjoint": ebm.Unroll(), "solver": ebm.LBFGS(3)},
        {"adjoint": ebm.Unroll(), "solver": ebm.NewtonCG()},
        {"adjoint": ebm.Unroll(), "solver": ebm.AdaptiveDescent()},
        {"adjoint": ebm.Unroll(checkpoint=2)},
        {"adjoint": ebm.Truncated(2)},
        {"adjoint": ebm.Implicit()},
        {"seconds": 100.0, "budget": ebm.Budget(steps=1000), "stop": ebm.AtRest(1e-9), "record": ["z"]},
        {"ending": "closed"},
        {"ending": "raised"},
    ],
    ids=str,
)
def test_a_dropped_call_is_gone_without_a_collection(options: dict[str, Any]):
    """No call is a cycle of references: what it held would wait for Python's collector, which knows nothing of memory."""
    ending, left = options.pop("ending", None) if "ending" in options else None, []
    options = {"steps": 4, "solver": D, **options}

    def note(solution: ebm.Solution) -> None:
        left.extend(weakref.ref(leaf) for leaf in ebm.rows.leaves((solution.carry, solution.z)))
        if ending == "raised" and len(left) > 40:
            raise ValueError

    gc.collect()
    gc.disable()
    try:
        model, x = Quadratic(), X.clone()
        if ending == "closed":
            items = ebm.stream(model, x, **options)
            note(next(items))
            note(next(items))
            del items
        elif ending == "raised":
            with pytest.raises(ValueError) as caught:
                ebm.infer(model, x, callback=note, **options)
            caught.value.__traceback__ = None
            del caught
        else:
            solution = ebm.infer(model, x, **options)
            note(solution)
            if solution.z.requires_grad:
                solution.z.sum().backward()
            del solution
        assert left and not [ref for ref in left if ref() is not None]
    finally:
        gc.enable()


def test_counting_does_not_load_the_compiler():
    """PyTorch wraps what a dispatch mode does into a call that loads it, unless the mode objects."""
    assert not hasattr(ebm.FlopCounter.__torch_dispatch__, "__wrapped__")


@pytest.mark.slow
def test_the_first_call_loads_nothing_more():
    """A module loaded on the clock of the first call would take its deadline: the compiler's take seconds."""
    code = (
        "import sys, torch, ebm; before = set(sys.modules); memory = ebm.ModernHopfield(torch.eye(3))\n"
        "ebm.infer(memory, torch.eye(3), steps=2, solver=ebm.AdaptiveDescent()); print(len(set(sys.modules) - before))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["0", "False"]
