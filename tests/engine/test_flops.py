"""The one FLOP counter: each formula by hand, and against torch's own counter where that has one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import ebm
from tests.energies import ClosedQuadratic, Quadratic, numbers


def n(*shape: int) -> torch.Tensor:
    return numbers(*shape, dtype=torch.float32)


def counted(fn: Callable[[], object]) -> ebm.FlopCounter:
    with ebm.FlopCounter() as counter:
        fn()
    return counter


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch calls all of its sparse tensors a beta
    SPARSE = torch.sparse_csr_tensor([0, 1, 3], [2, 0, 3], [1.0, 2.0, 3.0], (2, 4), check_invariants=True)
    LISTED = SPARSE.to_sparse_coo()


def _bag(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return F.embedding_bag(torch.tensor([0, 2, 1]), table, torch.tensor([0, 2]), mode="sum", per_sample_weights=weights)


BY_HAND = {
    "mm": (lambda: n(2, 3) @ n(3, 5), 2 * 2 * 3 * 5),
    "addmm": (lambda: torch.addmm(n(5), n(2, 3), n(3, 5)), 2 * 2 * 3 * 5),
    "bmm": (lambda: torch.bmm(n(4, 2, 3), n(4, 3, 5)), 2 * 4 * 2 * 3 * 5),
    "baddbmm": (lambda: torch.baddbmm(n(4, 2, 5), n(4, 2, 3), n(4, 3, 5)), 2 * 4 * 2 * 3 * 5),
    "batched matmul": (lambda: n(6, 4, 2, 3) @ n(3, 5), 2 * 6 * 4 * 2 * 3 * 5),
    "mv": (lambda: n(4, 3) @ n(3), 2 * 4 * 3),
    "addmv": (lambda: torch.addmv(n(4), n(4, 3), n(3)), 2 * 4 * 3),
    "dot": (lambda: n(7) @ n(7), 2 * 7),
    "vdot": (lambda: torch.vdot(n(7), n(7)), 2 * 7),
    "addr": (lambda: torch.addr(n(4, 3), n(4), n(3)), 2 * 4 * 3),
    "linear": (lambda: F.linear(n(2, 3), n(5, 3), n(5)), 2 * 2 * 3 * 5),
    "linear without bias": (lambda: F.linear(n(2, 3), n(5, 3)), 2 * 2 * 3 * 5),
    "linear on a sequence": (lambda: F.linear(n(2, 7, 3), n(5, 3), n(5)), 2 * 2 * 7 * 3 * 5),
    "einsum": (lambda: torch.einsum("bi,bnij->bnj", n(2, 3), n(2, 4, 3, 5)), 2 * 2 * 4 * 3 * 5),
    "conv1d": (lambda: F.conv1d(n(2, 3, 9), n(4, 3, 3)), 2 * 2 * 7 * 4 * 3 * 3),
    "conv1d with bias and padding": (lambda: F.conv1d(n(2, 3, 9), n(4, 3, 3), n(4), padding=1), 2 * 2 * 9 * 4 * 3 * 3),
    "conv2d": (lambda: F.conv2d(n(2, 3, 8, 6), n(4, 3, 3, 3)), 2 * 2 * 6 * 4 * 4 * 27),
    "conv2d with stride": (lambda: F.conv2d(n(2, 3, 9, 9), n(4, 3, 3, 3), stride=2), 2 * 2 * 16 * 4 * 27),
    "conv2d in groups": (lambda: F.conv2d(n(2, 4, 8, 8), n(6, 2, 3, 3), groups=2), 2 * 2 * 36 * 6 * 18),
    "conv2d dilated": (lambda: F.conv2d(n(1, 2, 9, 9), n(3, 2, 3, 3), dilation=2), 2 * 25 * 3 * 18),
    "conv3d": (lambda: F.conv3d(n(1, 2, 4, 4, 4), n(3, 2, 2, 2, 2)), 2 * 27 * 3 * 16),
    "transposed conv": (lambda: F.conv_transpose2d(n(2, 3, 5, 5), n(3, 4, 3, 3), stride=2), 2 * 2 * 25 * 3 * 4 * 9),
    "transposed conv in groups": (
        lambda: F.conv_transpose1d(n(2, 4, 5), n(4, 3, 3), groups=2),
        2 * 2 * 5 * 4 * 3 * 3,
    ),
    "attention": (
        lambda: F.scaled_dot_product_attention(n(2, 3, 5, 4), n(2, 3, 7, 4), n(2, 3, 7, 4)),
        2 * 2 * 3 * 5 * 7 * (4 + 4),
    ),
    "complex mm": (lambda: n(2, 3).to(torch.complex64) @ n(3, 5).to(torch.complex64), 4 * 2 * 2 * 3 * 5),
    "complex dot": (lambda: n(7).to(torch.complex64) @ n(7).to(torch.complex64), 4 * 2 * 7),
    "sparse rows by dense": (lambda: SPARSE @ n(4, 5), 2 * 3 * 5),
    "dense by sparse columns": (lambda: n(5, 4) @ SPARSE.t(), 2 * 3 * 5),
    "sparse coordinates by dense": (lambda: torch.sparse.mm(LISTED, n(4, 5)), 2 * 3 * 5),
    "sparse rows by a vector": (lambda: SPARSE @ n(4), 2 * 3),
    "a sum of rows": (lambda: F.embedding_bag(torch.tensor([0, 2, 1]), n(3, 5), torch.tensor([0, 2]), mode="sum"), 0),
    "a weighted sum of rows": (lambda: _bag(n(3, 5), n(3)), 2 * 3 * 5),
    "outer": (lambda: torch.outer(n(4), n(3)), 0),  # broadcasting: counted as element-wise
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(("fn", "flops"), BY_HAND.values(), ids=BY_HAND.keys())
def test_formulas_by_hand(fn: Callable[[], object], flops: int):
    counter = counted(fn)
    assert counter.flops == flops
    assert not counter.uncounted


KNOWN_TO_TORCH = [
    name
    for name in BY_HAND
    if name not in ("mv", "addmv", "dot", "vdot", "addr", "attention", "outer", "conv2d in groups")
    and not any(word in name for word in ("complex", "sparse", "sum of rows"))
]


@pytest.mark.parametrize("name", KNOWN_TO_TORCH)
def test_formulas_against_torch(name: str):
    fn, _ = BY_HAND[name]
    with FlopCounterMode(display=False) as theirs:
        fn()
    assert counted(fn).flops == theirs.get_total_flops()


def backward(fn: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[[], None]:
    leaves = [t.requires_grad_() for t in inputs]
    return lambda: fn(*leaves).sum().backward()


BACKWARD = {
    "mm": (backward(torch.mm, n(2, 3), n(3, 5)), 3 * 60),
    "a weighted sum of rows": (backward(_bag, n(3, 5), n(3)), 3 * 30),
    "conv1d": (backward(lambda x, w: F.conv1d(x, w, padding=1), n(2, 3, 9), n(4, 3, 3)), 3 * 2 * 2 * 9 * 36),
    "conv2d": (backward(F.conv2d, n(2, 3, 8, 6), n(4, 3, 3, 3)), 3 * 2 * 2 * 24 * 108),
    "conv2d with stride": (
        backward(lambda x, w: F.conv2d(x, w, stride=2), n(2, 3, 9, 9), n(4, 3, 3, 3)),
        3 * 2 * 2 * 16 * 108,
    ),
    "transposed conv": (backward(F.conv_transpose2d, n(2, 3, 5, 5), n(3, 4, 3, 3)), 3 * 2 * 2 * 25 * 108),
    "conv2d in groups": (
        backward(lambda x, w: F.conv2d(x, w, groups=2), n(2, 4, 8, 8), n(6, 2, 3, 3)),
        3 * 2 * 2 * 36 * 108,
    ),
}


@pytest.mark.parametrize(("fn", "flops"), BACKWARD.values(), ids=BACKWARD.keys())
def test_backward_formulas(fn: Callable[[], None], flops: int):
    assert counted(fn).flops == flops


@pytest.mark.parametrize("name", [name for name in BACKWARD if "groups" not in name and "rows" not in name])
def test_backward_formulas_against_torch(name: str):
    fn, _ = BACKWARD[name]
    with FlopCounterMode(display=False) as theirs:
        fn()
    assert counted(fn).flops == theirs.get_total_flops()


def test_only_the_gradients_asked_for_are_counted():
    x, weight = n(2, 3, 9).requires_grad_(), n(4, 3, 3)
    once = 2 * 2 * 7 * 36
    assert counted(lambda: torch.autograd.grad(F.conv1d(x, weight).sum(), x)).flops == 2 * once


def test_counting_changes_no_result():
    x, weight = n(4, 3), n(3, 5)
    with ebm.FlopCounter():
        inside = torch.einsum("bi,ij->bj", x, weight).tanh().softmax(1)
    assert torch.equal(inside, torch.einsum("bi,ij->bj", x, weight).tanh().softmax(1))


def test_what_has_no_formula_is_listed():
    counter = counted(lambda: (torch.linalg.inv(torch.eye(3)), torch.fft.fft(n(4)), torch.cdist(n(2, 3), n(4, 3))))
    assert counter.flops == 0 and len(counter.uncounted) >= 3
    assert all("aten" in name for name in counter.uncounted)


def test_point_wise_work_is_free_but_summed():
    counter = counted(lambda: (n(3, 4) + 1).tanh())
    assert counter.flops == 0 and counter.elementwise >= 24 and not counter.uncounted


class Heavy(Quadratic):
    """A condition, a start, a force and a read-out whose work is known."""

    def condition(self, x):
        return x @ self.weight  # 3 x 4

    def init_latent(self, c, draw):
        return c @ self.matrix  # 4 x 4

    def readout(self, z, c):
        return z @ self.weight.T  # 4 x 3


def test_the_parts_of_a_call_are_told_apart():
    solution = ebm.infer(Heavy(), numbers(5, 3), steps=6, solver=ebm.Descent(0.1))
    assert solution.fixed_flops == 5 * 2 * (12 + 16 + 12)
    price = 2 * 2 * 16  # forward and backward
    assert solution.flops_per_sample.tolist() == [7 * price] * 5
    assert solution.flops == solution.fixed_flops + 5 * 7 * price


def test_a_read_out_that_a_stop_rule_asks_for_is_charged_to_its_sample():
    model, x = Heavy(), numbers(5, 3)
    rule = ebm.Confident(0.9)
    solution = ebm.infer(model, x, steps=6, solver=ebm.Descent(0.3), stop=rule, compact=True)
    looked = solution.steps + 1
    assert solution.flops_per_sample.tolist() == (solution.evals * 64 + looked * 24).tolist()
    assert solution.flops == solution.fixed_flops + int(solution.flops_per_sample.sum())


def test_a_call_agrees_with_a_counter_around_it():
    """The second call runs without a count inside, so that the counter around it sees the work alone."""
    for solver in (ebm.Descent(0.1), ebm.AdaptiveDescent(), ebm.Langevin(0.1), ebm.Picard(0.5)):
        model, x = ClosedQuadratic(), numbers(5, 3)
        for options in (
            {"steps": 3},
            {"steps": 12, "stop": ebm.AtRest(0.3)},
            {"steps": 12, "stop": ebm.Confident(0.7)},
        ):
            ebm.infer(model, x, solver=solver, compact=True, **options)
            with FlopCounterMode(display=False) as theirs:
                solution = ebm.infer(model, x, solver=solver, compact=True, **options)
            assert solution.flops == theirs.get_total_flops()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_price_does_not_depend_on_the_batch(batch: int):
    assert ebm.infer(Heavy(), numbers(batch, 3), steps=2).flops_per_sample.tolist() == [3 * 64] * batch


class Attending(ebm.Energy):
    """A latent of one shape over conditions of any length."""

    def init_latent(self, c, draw):
        return c[0]

    def forward(self, z, c):
        return 0.5 * z.square().sum(1) - torch.einsum("bd,bnd->bn", z, c[1]).logsumexp(1)


def test_a_price_depends_on_the_shape_of_the_condition():
    model = Attending()
    per_step = {
        size: int(
            ebm.infer(model, (numbers(2, 4), numbers(2, size, 4)), steps=0, solver=ebm.Descent(0.1)).flops_per_sample[0]
        )
        for size in (3, 30, 3)
    }
    assert per_step[30] == 10 * per_step[3] > 0


def test_a_price_follows_a_model_that_changes_its_size():
    model = Quadratic(4)
    first = ebm.infer(model, numbers(2, 3), steps=0).flops_per_sample[0]
    model.matrix = torch.nn.Parameter(torch.eye(8, dtype=torch.float64))
    model.weight = torch.nn.Parameter(numbers(3, 8))
    assert ebm.infer(model, numbers(2, 3), steps=0).flops_per_sample[0] == 4 * first


def test_what_a_model_runs_without_formula_is_named():
    class Solving(Quadratic):
        def condition(self, x):
            return torch.linalg.solve(self.matrix, (x @ self.weight).T).T

    for _ in range(2):
        assert any("linalg_solve" in name for name in ebm.infer(Solving(), numbers(2, 3), steps=1).uncounted)
