"""Inference leaves no trace, works in every mode, and may be compiled or run in a lower precision."""

from __future__ import annotations

import pytest
import torch

import ebm
from ebm import rows
from ebm.engine.compiled import CompiledStep
from tests.contracts.members import SOLVERS as MEMBERS
from tests.energies import Clock, ClosedQuadratic, Quadratic, Tanh, Tree, Wells, numbers
from tests.engine.test_resume import SOLVERS, same

X = numbers(5, 3, seed=9)
D = ebm.Descent(0.3)


@pytest.mark.parametrize("model", [Quadratic(), Wells(3), Tree(3), Tanh(3)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("solver", [D, ebm.Adam(), ebm.Anderson(3, mixing=0.5)], ids=lambda s: type(s).__name__)
def test_all_modes_give_the_same_bits(model: ebm.Objective, solver: ebm.Solver):
    plain = ebm.infer(model, X, steps=4, solver=solver)
    with torch.no_grad():
        same(ebm.infer(model, X, steps=4, solver=solver), plain)
    with torch.inference_mode():
        inside = ebm.infer(model, X, steps=4, solver=solver)
        same(inside, plain)
        x = X.clone()
        assert x.is_inference()
        same(ebm.infer(model, x, steps=4, solver=solver), plain)
        half = ebm.infer(model, x, steps=2, solver=solver)
    same(ebm.infer(model, X, steps=2, solver=solver, resume=half), plain)
    for leaf in rows.leaves((inside.z, inside.answer, inside.carry)):
        assert not leaf.is_inference(), "an answer can be used in a graph afterwards"


def test_autocast_changes_products_and_no_latent():
    model, x = ClosedQuadratic(dtype=torch.float32), X.float()
    plain = ebm.infer(model, x, steps=20, solver=D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = ebm.infer(model, x, steps=20, solver=D)
        assert torch.is_autocast_enabled("cpu")
    assert cast.z.dtype == cast.energy.dtype == cast.residual.dtype == torch.float32
    assert not torch.equal(cast.z, plain.z)
    torch.testing.assert_close(cast.z, plain.z, rtol=0.05, atol=0.05)


def test_training_after_inference_under_one_autocast_still_has_gradients():
    model, x = ClosedQuadratic(dtype=torch.float32), X.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = ebm.infer(model, x, steps=2, solver=D).z
        model.readout(z, model.condition(x)).sum().backward()
    assert model.head.weight.grad is not None


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("make", [Quadratic, ClosedQuadratic], ids=lambda m: m.__name__)
def test_bfloat16_products_leave_latents_and_energies_alone(make: type, solver: ebm.Solver):
    model, x = make(dtype=torch.float32), X.float()
    solution = ebm.infer(model, x, steps=10, solver=solver, precision=torch.bfloat16)
    for leaf in rows.leaves(
        (solution.z, solution.energy, solution.residual, solution.carry.point, solution.carry.memory)
    ):
        assert leaf.dtype != torch.bfloat16
    plain = ebm.infer(model, x, steps=10, solver=solver)
    assert not torch.equal(solution.z, plain.z), "the products were not run in bfloat16"
    torch.testing.assert_close(solution.z, plain.z, rtol=0.1, atol=0.1)
    assert not torch.is_autocast_enabled("cpu")


class NoProducts(ebm.Energy):
    """An energy number by number: nothing in it that a lower precision would touch."""

    def init_latent(self, c: torch.Tensor, draw: object) -> torch.Tensor:
        return torch.zeros_like(c)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return (0.25 * z.square().square() + 0.5 * z.square() - z * c).sum(1)


@pytest.mark.parametrize("solver", MEMBERS.values(), ids=MEMBERS)
def test_a_solvers_own_products_are_in_full_precision(solver: ebm.Solver):
    if not solver.needs <= NoProducts.provides:
        return
    x = numbers(5, 8, seed=9).float()

    def found(precision: torch.dtype | None) -> ebm.Solution:
        draws = torch.Generator().manual_seed(0)
        return ebm.infer(NoProducts(), x, steps=8, solver=solver, precision=precision, generator=draws)

    same(found(torch.bfloat16), found(None))


@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2)], ids=repr)
def test_gradients_through_bfloat16_products(adjoint: ebm.Adjoint):
    found = []
    for precision in (None, torch.bfloat16):
        model = ClosedQuadratic(dtype=torch.float32)
        ebm.infer(model, X.float(), steps=4, solver=D, adjoint=adjoint, precision=precision).z.sum().backward()
        found.append([p.grad for p in (model.matrix, model.weight)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.2)


class Modal(Quadratic):
    """Holds a module with modes and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3, dtype=torch.float64)
        self.norm.eval()

    def condition(self, x):
        return super().condition(self.norm(x))


@pytest.mark.parametrize("adjoint", [ebm.Detached(), ebm.Unroll(), ebm.Truncated(1)], ids=repr)
def test_inference_leaves_no_trace(adjoint: ebm.Adjoint):
    model = Modal()
    model.norm.train(False)
    model.weight.grad = torch.ones_like(model.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    versions = {name: value._version for name, value in model.state_dict(keep_vars=True).items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    x = X.clone().requires_grad_()
    ebm.infer(model, x, steps=3, solver=ebm.Langevin(0.1), adjoint=adjoint, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert modes == [module.training for module in model.modules()]
    for name, value in model.state_dict(keep_vars=True).items():
        assert torch.equal(value, before[name]) and value._version == versions[name], name
    assert torch.equal(model.weight.grad, torch.ones_like(model.weight)) and model.matrix.grad is None
    assert x.grad is None and torch.equal(x, X)
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def test_the_generator_draws_one_key_a_sample():
    model, solver = Quadratic(), ebm.Langevin(0.1)
    one, two = (torch.Generator().manual_seed(5) for _ in range(2))
    same(
        ebm.infer(model, X, steps=3, solver=solver, generator=one),
        ebm.infer(model, X, steps=3, solver=solver, generator=two),
    )
    torch.randint(2**62, (5,), generator=torch.Generator().manual_seed(5))
    assert torch.equal(one.get_state(), two.get_state())
    other = ebm.infer(model, X, steps=3, solver=solver, generator=one)
    assert not torch.equal(other.z, ebm.infer(model, X, steps=3, solver=solver).z)
    without = ebm.infer(model, X, steps=3, solver=solver)
    same(without, ebm.infer(model, X, steps=3, solver=solver))
    assert without.carry.keys.tolist() == list(range(5))


def test_the_condition_is_computed_once_a_call():
    class Counting(Quadratic):
        conditions = 0

        def condition(self, x):
            self.conditions += 1
            return super().condition(x)

    model = Counting()
    list(ebm.stream(model, X, steps=5, solver=D, stop=ebm.AtRest(0.3), compact=True))
    assert model.conditions == 1


# torch.compile


def _graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "solver"),
    [(Quadratic, s) for s in (*SOLVERS, ebm.Project(D, ebm.Box(-0.2, 0.2)))] + [(Tree, D), (Tree, SOLVERS[-1])],
    ids=lambda part: part.__name__ if isinstance(part, type) else type(part).__name__,
)
def test_compiled_steps_equal_eager_ones(make: type, solver: ebm.Solver):
    model, x = (Quadratic(), X) if make is Quadratic else (Tree(3), X)
    stop = ebm.AtRest(0.05)
    eager = ebm.infer(model, x, steps=5, solver=solver, stop=stop, compact=False)
    compiled = ebm.infer(model, x, steps=5, solver=solver, stop=stop, compile=True)
    for a, b in zip(rows.leaves(compiled.z), rows.leaves(eager.z), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert compiled.steps.tolist() == eager.steps.tolist() and compiled.evals.tolist() == eager.evals.tolist()
    assert compiled.flops == eager.flops
    graphs = _graphs()
    again = ebm.infer(model, x, steps=5, solver=solver, stop=stop, compile=True)
    longer = ebm.infer(model, x, steps=9, solver=solver, compile=True)
    assert _graphs() == graphs, "a second call compiled anew"
    assert torch.equal(next(rows.leaves(again.z)), next(rows.leaves(compiled.z))) and longer.steps.max() == 9


def test_a_compiled_call_equals_an_eager_one():
    model = ClosedQuadratic()
    eager = ebm.infer(model, X, steps=5, solver=D)
    compiled = ebm.infer(model, X, steps=5, solver=D, compile=True)
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-12, atol=1e-12)
    assert compiled.flops == eager.flops and compiled.steps.tolist() == [5] * 5
    graphs = _graphs()
    ebm.infer(model, X, steps=7, solver=D, compile=True)
    assert _graphs() == graphs
    assert ebm.infer(model, X, steps=0, solver=D, compile=True).steps.tolist() == [0] * 5


def test_a_deadline_is_not_spent_on_compiling(monkeypatch: pytest.MonkeyPatch):
    """Without a program for its shapes a call under a deadline steps uncompiled; a call of no steps makes the program."""
    model, compiled = ClosedQuadratic(), []
    call = CompiledStep.__call__
    monkeypatch.setattr(CompiledStep, "__call__", lambda *parts: (compiled.append(len(parts[3].z)), call(*parts))[1])
    with pytest.warns(
        UserWarning,
        match=r"no program for this ClosedQuadratic at a batch of 5 .* `infer\(model, x, steps=0, compile=True\)`",
    ) as seen:
        found = ebm.infer(model, X, seconds=9.5, solver=D, compile=True, clock=Clock(0.5), steps=4)
    assert {each.filename for each in seen} == {__file__}
    assert not compiled
    same(found, ebm.infer(model, X, steps=4, solver=D))
    ebm.infer(model, X, steps=0, solver=D, compile=True)
    compiled.clear()
    ebm.infer(model, X, seconds=1e9, solver=D, compile=True, clock=Clock(0.5), steps=4)
    assert compiled == [5] * 4


@pytest.mark.slow
def test_many_batch_sizes_may_be_compiled():
    """The compiler limits how often one function may be compiled again; a server sees more sizes than that."""
    model = ClosedQuadratic()
    for size in range(1, 13):
        x = numbers(size, 3)
        compiled = ebm.infer(model, x, steps=2, solver=D, compile=True)
        torch.testing.assert_close(compiled.z, ebm.infer(model, x, steps=2, solver=D).z, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_compiled_bfloat16():
    model, x = ClosedQuadratic(dtype=torch.float32), X.float()
    compiled = ebm.infer(model, x, steps=10, solver=D, compile=True, precision=torch.bfloat16)
    eager = ebm.infer(model, x, steps=10, solver=D)
    assert compiled.z.dtype == compiled.energy.dtype == torch.float32
    torch.testing.assert_close(compiled.z, eager.z, rtol=0.1, atol=0.1)
    plain = ebm.infer(model, x, steps=10, solver=D, compile=True)
    torch.testing.assert_close(plain.z, eager.z, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_compiled_work_sees_new_parameter_values():
    model = ClosedQuadratic()
    ebm.infer(model, X, steps=3, solver=D, compile=True)
    with torch.no_grad():
        model.weight.mul_(1.5)
        model.matrix.mul_(0.7)
    compiled, eager = (ebm.infer(model, X, steps=3, solver=D, compile=c) for c in (True, False))
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-12, atol=1e-12)
