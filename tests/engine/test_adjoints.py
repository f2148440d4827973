"""How a loss differentiates a settled latent: against finite differences and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ebm
from ebm import Status, rows
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, Wells, numbers

X = numbers(4, 3, seed=9)
SOLVERS = [
    ebm.Descent(0.3),
    ebm.Descent(0.2, momentum=0.6),
    ebm.Descent(0.2, momentum=0.6, nesterov=True),
    ebm.Adam(0.1),
    ebm.AdaptiveDescent(first=0.4),
    ebm.Picard(0.4),
    ebm.Anderson(3, mixing=0.5),
    ebm.Langevin(0.05, 0.3),
    ebm.Project(ebm.Descent(0.3), ebm.Box(-0.4, 0.4)),
]


def loss_of(z: object) -> Tensor:
    parts = [(leaf * torch.arange(1, leaf.numel() + 1).view(leaf.shape)).sum() for leaf in rows.leaves(z)]
    return sum(parts[1:], parts[0]) + sum(leaf.square().sum() for leaf in rows.leaves(z))


def gradients(model: ebm.Objective, x: Tensor, **options: object) -> tuple[list[Tensor], ebm.Solution]:
    model.zero_grad()
    solution = ebm.infer(model, x, **options)  # type: ignore[arg-type]
    loss_of(solution.z).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()], solution


def slope_by_differences(run: Callable[[], Tensor], parameter: Tensor, direction: Tensor, size: float = 1e-6) -> float:
    with torch.no_grad():
        parameter.add_(direction, alpha=size)
        above = run().item()
        parameter.sub_(direction, alpha=2 * size)
        below = run().item()
        parameter.add_(direction, alpha=size)
    return (above - below) / (2 * size)


def agrees_with_differences(model: ebm.Objective, options: dict, adjoint: ebm.Adjoint, rtol: float = 2e-5) -> None:
    found, _ = gradients(model, X, adjoint=adjoint, **options)
    for seed, (parameter, gradient) in enumerate(zip(model.parameters(), found, strict=True)):
        direction = numbers(*parameter.shape, seed=100 + seed)
        wanted = slope_by_differences(
            lambda: loss_of(ebm.infer(model, X, keep="last", **options).z), parameter, direction
        )
        torch.testing.assert_close(float((gradient * direction).sum()), wanted, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("model", [Quadratic(), Wells(3), Tree(3), Tanh(3)], ids=lambda m: type(m).__name__)
def test_unroll_against_finite_differences(model: ebm.Objective, solver: ebm.Solver):
    if solver.needs <= model.provides:
        agrees_with_differences(model, {"solver": solver, "steps": 4}, ebm.Unroll())


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_unroll_reaches_start_and_observation(steps: int):
    model = Quadratic()
    x, start = X.clone().requires_grad_(), numbers(4, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, start: ebm.infer(model, x, steps=steps, solver=ebm.Descent(0.3), start=start, adjoint=ebm.Unroll()).z,
        (x, start),
    )


def test_a_learned_step_size_gets_its_gradient():
    size = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    model = Quadratic()
    assert torch.autograd.gradcheck(
        lambda a: ebm.infer(model, X, steps=3, solver=ebm.Descent(a), adjoint=ebm.Unroll()).z, (size,)
    )


def test_unroll_on_a_quadratic_is_the_geometric_series():
    """z_T = sum over k < T of a (I - a A)^k b, so the slope in b is that sum."""
    model, step_size, steps = Quadratic(), 0.3, 7
    x = X.clone().requires_grad_()
    solution = ebm.infer(model, x, steps=steps, solver=ebm.Descent(step_size), adjoint=ebm.Unroll())
    solution.z.sum().backward()
    matrix = 0.5 * (model.matrix + model.matrix.T).detach()
    series = sum(
        step_size * torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - step_size * matrix, k)
        for k in range(steps)
    )
    wanted = (model.weight.detach() @ series).sum(1).expand(4, 3)
    torch.testing.assert_close(x.grad, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("last", [1, 3])
def test_truncated_on_a_quadratic_is_the_tail_of_the_series(last: int):
    model, step_size = Quadratic(), 0.3
    x = X.clone().requires_grad_()
    ebm.infer(model, x, steps=7, solver=ebm.Descent(step_size), adjoint=ebm.Truncated(last)).z.sum().backward()
    matrix = 0.5 * (model.matrix + model.matrix.T).detach()
    series = sum(
        step_size * torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - step_size * matrix, k)
        for k in range(last)
    )
    torch.testing.assert_close(x.grad, (model.weight.detach() @ series).sum(1).expand(4, 3), rtol=1e-12, atol=1e-12)


def test_at_rest_unrolling_meets_the_closed_form():
    model = Quadratic()
    found, solution = gradients(model, X, steps=200, solver=ebm.Descent(0.8), adjoint=ebm.Unroll())
    torch.testing.assert_close(solution.z, model.settled(X), rtol=1e-10, atol=1e-10)
    model.zero_grad()
    loss_of(model.settled(X)).backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-9)
    truncated, _ = gradients(model, X, steps=200, solver=ebm.Descent(0.8), adjoint=ebm.Truncated(100))
    for gradient, other in zip(found, truncated, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("stop", [None, ebm.AtRest(0.0)], ids=["end known", "end found out"])
def test_truncated_is_the_unrolled_tail_from_a_detached_state(solver: ebm.Solver, stop: ebm.Stop | None):
    """Resuming a detached solution with `Unroll` is the tail by another road."""
    model, last, steps = Quadratic(), 2, 6
    truncated, one = gradients(model, X, steps=steps, solver=solver, stop=stop, adjoint=ebm.Truncated(last))
    head = ebm.infer(model, X, steps=steps - last, solver=solver, stop=stop, keep="last")
    unrolled, other = gradients(model, X, steps=last, solver=solver, stop=stop, resume=head, adjoint=ebm.Unroll())
    torch.testing.assert_close(one.z, other.z, rtol=1e-12, atol=1e-12)
    assert one.steps.tolist() == other.steps.tolist() == [steps] * 4
    for a, b in zip(truncated, unrolled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_one_step_of_gradient_does_not_vanish(solver: ebm.Solver):
    """The force that the tail begins with is evaluated with a graph, wherever a solver keeps it."""
    found, _ = gradients(Quadratic(), X, steps=5, solver=solver, adjoint=ebm.Truncated(1))
    assert all(bool((gradient != 0).any()) for gradient in found)


@pytest.mark.parametrize("last", [6, 60])
@pytest.mark.parametrize("stop", [None, ebm.AtRest(0.0)])
def test_truncated_longer_than_the_run_is_unroll(last: int, stop: ebm.Stop | None):
    model = Quadratic()
    options = {"steps": 6, "solver": ebm.Descent(0.3), "stop": stop}
    truncated, one = gradients(model, X, adjoint=ebm.Truncated(last), **options)
    unrolled, other = gradients(model, X, adjoint=ebm.Unroll(), **options)
    torch.testing.assert_close(one.z, other.z)
    for a, b in zip(truncated, unrolled, strict=True):
        torch.testing.assert_close(a, b)


UNEVEN = {"steps": torch.tensor([0, 1, 3, 6]), "solver": ebm.Descent(0.3)}
STOPPING = {"steps": 40, "stop": ebm.AtRest(0.2), "solver": ebm.Descent(0.3)}


@pytest.mark.parametrize("options", [UNEVEN, STOPPING], ids=["limits a sample", "a stop rule"])
@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2)], ids=repr)
def test_samples_that_stop_at_different_steps(options: dict, adjoint: ebm.Adjoint):
    """The gradient of a batch is the sum of those of its samples alone."""
    model = Quadratic()
    found, whole = gradients(model, X, adjoint=adjoint, **options)
    assert len(set(whole.steps.tolist())) > 2, "the case must hold samples of different lengths"
    total = [torch.zeros_like(p) for p in model.parameters()]
    for row in range(4):
        mine = {**options, "steps": options["steps"][row] if isinstance(options["steps"], Tensor) else options["steps"]}
        parts, alone = gradients_or_zero(model, X[row : row + 1], adjoint, mine)
        torch.testing.assert_close(alone.z[0], whole.z[row].detach(), rtol=1e-12, atol=1e-12)
        total = [a + b for a, b in zip(total, parts, strict=True)]
    # the weights of the loss differ by row, so compare a loss without them
    model.zero_grad()
    ebm.infer(model, X, adjoint=adjoint, **options).z.sum().backward()
    for a, b in zip(total, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-10, atol=1e-12)
    assert all(bool(g.isfinite().all()) for g in found)


def gradients_or_zero(
    model: ebm.Objective, x: Tensor, adjoint: ebm.Adjoint, options: dict
) -> tuple[list[Tensor], ebm.Solution]:
    model.zero_grad()
    solution = ebm.infer(model, x, adjoint=adjoint, **options)
    if solution.z.requires_grad:
        solution.z.sum().backward()
    with torch.no_grad():
        parts = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    solution = ebm.infer(model, x, keep="last", **options)
    return parts, solution


class Failing(Quadratic):
    """Becomes NaN once the latent of a sample with a large first input has moved."""

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        bad = (c[:, 0] > 50) & (z.abs().sum(1) > 0)
        return super().forward(z, c) * torch.where(bad, float("nan"), 1.0)


def company(model: Quadratic) -> tuple[Tensor, list[int]]:
    """The observations with one that fails among them, and the rows of the good ones."""
    bad = 100 * model.weight[:, :1].detach().T
    return torch.cat([X[:1], bad, X[1:]]), [0, 2, 3, 4]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2)], ids=repr)
@pytest.mark.parametrize("stop", [None, ebm.AtRest(0.0)], ids=["end known", "end found out"])
def test_a_failing_neighbour_poisons_no_shared_gradient(
    solver: ebm.Solver, adjoint: ebm.Adjoint, stop: ebm.Stop | None
):
    model = Failing()
    x, good = company(model)
    assert (model.condition(x)[:, 0] > 50).tolist() == [False, True, False, False, False]
    model.zero_grad()
    solution = ebm.infer(model, x, steps=5, solver=solver, adjoint=adjoint, stop=stop)
    solution.z[good].sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    assert solution.status[1] in (Status.NONFINITE, Status.STALLED, Status.OUT_OF_STEPS)
    assert bool(solution.z.isfinite().all())
    model.zero_grad()
    keys = ebm.infer(model, x, steps=0, solver=solver).take(good)
    alone = ebm.infer(model, X, steps=5, solver=solver, adjoint=adjoint, stop=stop, resume=keys, keep="last")
    alone.z.sum().backward()
    torch.testing.assert_close(solution.z[good], alone.z, rtol=1e-10, atol=1e-12)
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)


def test_a_sample_bad_from_the_start_poisons_no_shared_gradient():
    class Bad(Quadratic):
        def forward(self, z, c):
            return super().forward(z, c) * torch.where(c[:, 0] > 50, float("nan"), 1.0)

    model = Bad()
    x, good = company(model)
    solution = ebm.infer(model, x, steps=3, solver=ebm.Descent(0.3), adjoint=ebm.Unroll())
    assert solution.status.tolist() == [2, 7, 2, 2, 2] and solution.steps.tolist() == [3, 0, 3, 3, 3]
    solution.z[good].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_sample_at_rest_in_float32_keeps_gradients_finite():
    model = Quadratic(dtype=torch.float32)
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    solution = ebm.infer(model, x, steps=80, adjoint=ebm.Unroll())
    solution.z.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_detached_has_no_graph_and_writes_no_grad():
    model = Quadratic()
    x = X.clone().requires_grad_()
    solution = ebm.infer(model, x, steps=3, solver=ebm.Descent(0.3))
    for leaf in rows.leaves((solution.z, solution.answer, solution.energy, solution.residual, solution.carry)):
        assert not leaf.requires_grad
    assert all(p.grad is None for p in model.parameters()) and x.grad is None


@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2)], ids=repr)
def test_without_grad_mode_an_adjoint_keeps_no_graph(adjoint: ebm.Adjoint):
    model = Quadratic()
    wanted = ebm.infer(model, X, steps=3, solver=ebm.Descent(0.3), keep="best")
    with torch.no_grad():
        found = ebm.infer(model, X, steps=3, solver=ebm.Descent(0.3), adjoint=adjoint)
    assert torch.equal(found.z, wanted.z) and not found.z.requires_grad


def test_the_answer_of_a_differentiated_call_reaches_the_head():
    model = ClosedQuadratic()
    ebm.infer(model, X, steps=3, solver=ebm.Descent(0.3), adjoint=ebm.Unroll()).answer.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("adjoint", [ebm.Unroll(), ebm.Truncated(2), ebm.Truncated(4)], ids=repr)
@pytest.mark.parametrize(
    "limit", [{}, {"stop": ebm.AtRest(0.2)}, {"flops": 4000}, {"steps": torch.tensor([0, 2, 5, 9])}]
)
@pytest.mark.parametrize("compact", [True, False])
def test_differentiated_work_is_counted_too(adjoint: ebm.Adjoint, limit: dict, compact: bool):
    model = Quadratic()
    ebm.infer(model, X, steps=0)
    sizes: list[int] = []
    original = model.point

    def counted(z, c):
        sizes.append(z.shape[0])
        return original(z, c)

    model.point = counted  # type: ignore[method-assign]
    options = {"steps": 9, **limit}
    solution = ebm.infer(model, X, solver=ebm.Descent(0.3), adjoint=adjoint, compact=compact, **options)
    price = 2 * 2 * 4 * 4
    executed = solution.flops - solution.fixed_flops
    assert executed == price * sum(sizes)
    if compact:
        assert executed == int(solution.flops_per_sample.sum()) == price * int(solution.evals.sum())
    if "flops" in limit:
        assert solution.flops <= 4000


def test_a_stream_of_differentiable_items():
    model = Quadratic()
    items = list(ebm.stream(model, X, steps=3, solver=ebm.Descent(0.3), adjoint=ebm.Unroll()))
    sum(item.z.sum() for item in items[1:]).backward()
    total = [p.grad.clone() for p in model.parameters()]
    parts = [torch.zeros_like(p) for p in model.parameters()]
    for steps in (1, 2, 3):
        model.zero_grad()
        ebm.infer(model, X, steps=steps, solver=ebm.Descent(0.3), adjoint=ebm.Unroll()).z.sum().backward()
        parts = [a + p.grad for a, p in zip(parts, model.parameters(), strict=True)]
    for a, b in zip(total, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_a_callback_that_stops_leaves_truncated_its_tail():
    model = Quadratic()
    seen: list[int] = []

    def at_four(solution: ebm.Solution) -> bool:
        seen.append(int(solution.steps[0]))
        return seen[-1] == 4

    stopped, one = gradients(model, X, steps=9, solver=ebm.Descent(0.3), adjoint=ebm.Truncated(2), callback=at_four)
    twin, other = gradients(model, X, steps=4, solver=ebm.Descent(0.3), adjoint=ebm.Truncated(2))
    assert seen == [0, 1, 2, 3, 4] and one.status.tolist() == [Status.STOPPED] * 4
    torch.testing.assert_close(one.z, other.z)
    for a, b in zip(stopped, twin, strict=True):
        torch.testing.assert_close(a, b)


def test_what_an_adjoint_refuses():
    with pytest.raises(
        ValueError, match=r"`Truncated\(last=...\)` must be at least 1; got 0. For no gradient use `Detached\(\)`"
    ):
        ebm.Truncated(0)
    with pytest.raises(ValueError, match="`compile=True` serves; got it with Unroll"):
        ebm.infer(Quadratic(), X, steps=1, compile=True, adjoint=ebm.Unroll())
