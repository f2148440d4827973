"""Gradients whose states are made again: by running on from kept ones, and by running the solver backwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm
from ebm.testing import kept_bytes
from tests.energies import Quadratic, Tanh, Tree, Wells, numbers
from tests.engine.test_adjoints import agrees_with_differences, gradients

X = numbers(4, 3, seed=9)
MODELS = [Quadratic(), Wells(3), Tree(3), Tanh(3)]
BACK = ebm.Reversible(0.4, step_size=0.5)
NAMES: Any = {"ids": lambda m: type(m).__name__}


@pytest.mark.parametrize("segment", [1, 3, 8, 20])
@pytest.mark.parametrize("model", MODELS, **NAMES)
def test_running_backwards_gives_the_gradient_of_unrolling(model: ebm.Objective, segment: int):
    options: Any = {"steps": 41, "solver": BACK}
    wanted, unrolled = gradients(model, X, adjoint=ebm.Unroll(), **options)
    found, reversed_ = gradients(model, X, adjoint=ebm.Reverse(segment), **options)
    assert torch.equal(ebm.rows.first_leaf(unrolled.z), ebm.rows.first_leaf(reversed_.z))
    close = 1e-6 if segment < 20 else 1e-4  # a step back multiplies rounding by up to 1 / 0.4, twenty of them by 1e8
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=close, atol=close)


@pytest.mark.parametrize("checkpoint", [1, 4, 7, 100])
@pytest.mark.parametrize(
    "solver", [ebm.Descent(0.2, momentum=0.6), ebm.Anderson(3, mixing=0.4), ebm.Langevin(0.05, 0.3)], ids=repr
)
@pytest.mark.parametrize("model", MODELS, **NAMES)
def test_checkpoints_give_the_gradient_of_unrolling_to_the_last_bit(
    model: ebm.Objective, solver: ebm.Solver, checkpoint: int
):
    if not solver.needs <= model.provides:
        return

    def found(adjoint: ebm.Adjoint) -> list[Tensor]:
        draws = torch.Generator().manual_seed(3)
        return gradients(model, X, adjoint=adjoint, steps=9, solver=solver, generator=draws)[0]

    for got, want in zip(found(ebm.Unroll(checkpoint)), found(ebm.Unroll()), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("adjoint", [ebm.Reverse(3), ebm.Unroll(checkpoint=2)], ids=repr)
@pytest.mark.parametrize("model", [Quadratic(), Tanh(3)], **NAMES)
def test_finite_differences(model: ebm.Objective, adjoint: ebm.Adjoint):
    agrees_with_differences(model, {"solver": BACK, "steps": 7}, adjoint)


def uneven() -> Tensor:
    return X.clone() * torch.tensor([[1e-3], [0.3], [1.0], [3.0]])


@pytest.mark.parametrize("adjoint", [ebm.Reverse(4), ebm.Unroll(checkpoint=4)], ids=repr)
@pytest.mark.parametrize("compact", [True, False])
def test_samples_that_stop_at_different_steps(adjoint: ebm.Adjoint, compact: bool):
    model = Tanh(3, gain=0.5)
    options: Any = {"steps": 60, "stop": ebm.AtRest(1e-5), "solver": BACK, "compact": compact}
    model.zero_grad()
    solution = ebm.infer(model, uneven(), adjoint=adjoint, **options)
    assert len(set(solution.steps.tolist())) > 2
    solution.z.square().sum().backward()
    assert model.weight.grad is not None
    found, total = model.weight.grad.clone(), torch.zeros_like(model.weight)
    for row in uneven().split(1):
        model.zero_grad()
        ebm.infer(model, row, adjoint=ebm.Unroll(), **options).z.square().sum().backward()
        total += model.weight.grad
    torch.testing.assert_close(found, total, rtol=1e-6, atol=1e-9)


def test_step_limits_of_each_sample():
    model, steps = Quadratic(), torch.tensor([0, 3, 8, 21])
    wanted, _ = gradients(model, X, adjoint=ebm.Unroll(), steps=steps, solver=BACK)
    for adjoint in (ebm.Reverse(5), ebm.Unroll(checkpoint=5)):
        found, _ = gradients(model, X, adjoint=adjoint, steps=steps, solver=BACK)
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_the_observation_and_the_start_get_theirs():
    model = Quadratic()

    def settled(x: Tensor, start: Tensor) -> Tensor:
        return ebm.infer(model, x, steps=13, solver=BACK, start=start, adjoint=ebm.Reverse(5)).z

    assert torch.autograd.gradcheck(settled, (X.clone().requires_grad_(), numbers(4, 4).requires_grad_()), atol=1e-6)


def bytes_of(adjoint: ebm.Adjoint, steps: int) -> int:
    model, x = Tanh(32), numbers(64, 32)
    return kept_bytes(lambda: ebm.infer(model, x, steps=steps, solver=BACK, adjoint=adjoint, keep="last"))


@pytest.mark.slow
def test_memory_is_that_of_the_segments():
    state = 64 * 32 * 8
    found = {steps: bytes_of(ebm.Reverse(10), steps) for steps in (10, 100, 300)}
    for fewer, more in ((10, 100), (100, 300)):
        # a kept frame is the latent, the force and the other state, one in ten steps, beside a few numbers a step
        growth = (found[more] - found[fewer]) / state
        assert growth == pytest.approx(3 * (more - fewer) / 10, rel=0.15)
    assert bytes_of(ebm.Reverse(20), 100) < 0.65 * found[100]
    assert bytes_of(ebm.Unroll(), 100) > 10 * found[100]


def test_lost_digits_are_told():
    model = Quadratic(low=0.3, high=1.9).float()
    x = X.float().requires_grad_()
    z = ebm.infer(model, x, steps=60, solver=ebm.Reversible(0.95), adjoint=ebm.Reverse(20)).z
    with pytest.warns(
        ebm.ReversalWarning, match=r"Running Reversible backwards for 20 steps missed by .* of the latent"
    ):
        z.sum().backward()


@pytest.mark.parametrize("segment", [0, 21])
def test_a_segment_out_of_range(segment: int):
    with pytest.raises(ValueError, match=rf"`Reverse\(segment=...\)` must lie between 1 and 20; got {segment}"):
        ebm.Reverse(segment)


def test_a_solver_that_cannot_be_run_backwards():
    with pytest.raises(ValueError, match="`Reverse` needs a solver that can be run backwards, as `Reversible"):
        ebm.infer(Quadratic(), X, steps=3, solver=ebm.Descent(0.3), adjoint=ebm.Reverse())


def test_a_model_that_is_no_function_of_its_arguments():
    class Moody(Tanh):
        calls = 0

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            self.calls += 1
            z = super().forward(z, c)
            return z if self.calls < 5 else z.exp().log()

    z = ebm.infer(Moody(3), X, steps=6, solver=ebm.Picard(), adjoint=ebm.Unroll(checkpoint=3)).z
    with pytest.raises(RuntimeError, match="Moody must be a function of its arguments alone"):
        z.sum().backward()


TAPED: Any = pytest.mark.parametrize("adjoint", [ebm.Unroll(checkpoint=2), ebm.Reverse(2)], ids=repr)


class Plain(Quadratic):
    """A quadratic whose condition is the observation itself."""

    drops = False

    def condition(self, x: Tensor) -> Tensor:
        return x

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return super().forward(z, torch.nn.functional.dropout(c @ self.weight, training=self.drops))

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c.new_zeros(len(c), 4)


def written(what: str, model: Plain, x: Tensor, start: Tensor, z: Tensor) -> None:
    with torch.no_grad():
        if what == "a step":
            for parameter in model.parameters():
                parameter.mul_(1.5)
        elif what == "load_state_dict":
            model.load_state_dict({name: 2 * p for name, p in model.state_dict().items()})
        elif what == "other data":
            model.weight.data = 2 * model.weight.data
        elif what == "x":
            x.zero_()
        elif what == "the start":
            start.zero_()
        elif what == "behind autograd":
            model.weight.data.mul_(1.01)
        elif what == "dropout":
            pass


def taped(adjoint: ebm.Adjoint, what: str) -> tuple[Plain, Tensor]:
    model, x, start = Plain(), X.clone(), numbers(4, 4, seed=5)
    model.drops = what == "dropout"  # the function: the module is refused at the call
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        z = ebm.infer(model, x, steps=5, start=start, solver=BACK, adjoint=adjoint).z
    written(what, model, x, start, z)
    return model, z


@TAPED
@pytest.mark.parametrize("what", ["a step", "load_state_dict", "other data"])
def test_what_is_written_over_before_the_backward_pass_is_refused(adjoint: ebm.Adjoint, what: str):
    _, z = taped(adjoint, what)
    with pytest.raises(RuntimeError, match="written over since"):
        z.sum().backward()


@TAPED
@pytest.mark.parametrize("what", ["x", "the start"])
def test_what_the_call_has_copied_may_be_written_over(adjoint: ebm.Adjoint, what: str):
    """A data loader may fill its tensors anew before the backward pass."""
    (model, z), (other, wanted) = taped(adjoint, what), taped(ebm.Unroll(), "nothing")
    z.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(model.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-9)


@TAPED
def test_the_answer_may_be_written_into(adjoint: ebm.Adjoint):
    """As autograd allows, and `relu_` does."""
    (model, z), (other, wanted) = taped(adjoint, "nothing"), taped(ebm.Unroll(), "nothing")
    z.mul_(2).sum().backward()
    (2 * wanted).sum().backward()
    torch.testing.assert_close(model.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-9)


@TAPED
@pytest.mark.parametrize("what", ["behind autograd", "dropout"])
def test_steps_that_lead_elsewhere_the_second_time_are_refused(adjoint: ebm.Adjoint, what: str):
    _, z = taped(adjoint, what)
    with pytest.raises(RuntimeError, match="Plain must be a function of its arguments alone"):
        z.sum().backward()


@pytest.mark.parametrize("adjoint", [ebm.Unroll(checkpoint=9), ebm.Unroll(checkpoint=2), ebm.Reverse(2)], ids=repr)
def test_a_step_between_two_backward_passes_is_refused(adjoint: ebm.Adjoint):
    """Also where the tensors in question are those kept from the first pass, which are the weights themselves."""
    model, z = taped(adjoint, "nothing")
    z.sum().backward(retain_graph=True)
    written("a step", model, X, X, z)
    with pytest.raises(RuntimeError, match="written over since"):
        z.sum().backward()


@TAPED
def test_passes_in_a_row_and_a_step_after_them_are_not(adjoint: ebm.Adjoint):
    model, z = taped(adjoint, "nothing")
    first, second = (torch.autograd.grad(z.sum(), model.weight, retain_graph=True)[0] for _ in range(2))
    z.sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert torch.equal(first, second) and torch.equal(first, model.weight.grad)  # type: ignore[arg-type]


@TAPED
@pytest.mark.parametrize("way", ["functional_call", "assign", "new parameter"])
def test_tensors_put_in_the_place_of_others_leave_the_gradient_right(adjoint: ebm.Adjoint, way: str):
    """A step is made again with the tensors it was made with, wherever they have gone since."""

    class Net(torch.nn.Module):
        def __init__(self, adjoint: ebm.Adjoint) -> None:
            super().__init__()
            self.model, self.adjoint = Plain().eval(), adjoint

        def forward(self, x: Tensor) -> Tensor:
            return ebm.infer(self.model, x, steps=5, solver=BACK, adjoint=self.adjoint).z

    def found(adjoint: ebm.Adjoint) -> Tensor:
        net = Net(adjoint)
        if way == "functional_call":
            weight = (1.5 * net.model.weight.detach()).requires_grad_()
            z = torch.func.functional_call(net, {"model.weight": 1.0 * weight}, (X,))
        else:
            weight, z = net.model.weight, net(X)
            if way == "assign":
                net.model.load_state_dict({k: 2 * v for k, v in net.model.state_dict().items()}, assign=True)
            else:
                net.model.weight = torch.nn.Parameter(2 * weight.detach())
        return torch.autograd.grad(z.square().sum(), weight)[0]

    torch.testing.assert_close(found(adjoint), found(ebm.Unroll()), rtol=1e-9, atol=1e-9)


@TAPED
@pytest.mark.parametrize("model", [Wells(3), Tanh(3)], **NAMES)
def test_second_derivatives_through_steps_made_again(model: ebm.Objective, adjoint: ebm.Adjoint):
    def found(adjoint: ebm.Adjoint) -> list[Tensor]:
        x, weights = X.clone().requires_grad_(), list(model.parameters())
        z = ebm.infer(model, x, steps=5, solver=BACK, adjoint=adjoint).z
        (first,) = torch.autograd.grad(z.pow(3).sum(), x, create_graph=True)
        return [*torch.autograd.grad(first.square().sum(), [x, *weights])]

    for got, want in zip(found(adjoint), found(ebm.Unroll()), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mixing", [0.2, 0.5, 0.8])
def test_a_step_and_back(mixing: float):
    model, solver = Tanh(3), ebm.Reversible(mixing)
    points = [ebm.infer(model, X, steps=k, solver=solver).carry for k in (5, 6)]
    field = ebm.engine.field.CountedField(model, model.condition(X), len(X))
    with torch.no_grad():
        before, memory = solver.reverse(field, points[1].point, points[1].memory)
    torch.testing.assert_close(before.z, points[0].point.z)
    torch.testing.assert_close(memory, points[0].memory)


def test_both_states_end_at_the_fixed_point():
    model = Tanh(3)
    solution = ebm.infer(model, X, steps=400, solver=ebm.Reversible(), stop=ebm.AtRest(1e-13))
    torch.testing.assert_close(model(solution.z, X), solution.z)
    torch.testing.assert_close(solution.carry.memory, solution.z)


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_mixing_out_of_range(mixing: float):
    with pytest.raises(ValueError, match=r"`Reversible\(mixing=...\)` must lie in \(0, 1\)"):
        ebm.Reversible(mixing)
