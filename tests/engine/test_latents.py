"""What a model makes of a latent: its parts are paired by name, whatever order it lists them in, and it may write into nothing of the caller's."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import ebm
from ebm import rows


class Two(ebm.Energy):
    """Two parts of different width; at rest a = c and b = 2."""

    def init_latent(self, c, draw):
        return {"a": torch.zeros_like(c), "b": torch.zeros_like(c).repeat(1, 2)}

    def forward(self, z, c):
        return 0.5 * (z["a"] - c).square().sum(1) + 2 * (z["b"] - 2).square().sum(1)


class Other(Two):
    """A closed form that lists the parts the other way round."""

    def point(self, z, c):
        return ebm.Point(z, self(z, c), {"b": -4 * (z["b"] - 2), "a": -(z["a"] - c)})


class Turned(ebm.Update):
    """An update that lists the parts of its outcome the other way round."""

    def init_latent(self, c, draw):
        return {"a": torch.zeros_like(c), "b": torch.zeros_like(c).repeat(1, 2)}

    def forward(self, z, c):
        return {"b": 1 + 0.5 * z["b"], "a": 0.5 * (z["a"] + c)}


SOLVERS = [ebm.LBFGS(), ebm.NewtonCG(), ebm.Nesterov(), ebm.BarzilaiBorwein(), ebm.Sweep(ebm.AdaptiveDescent()), ebm.Anderson(), ebm.Adam(0.1)]  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_closed_form_may_list_its_parts_in_any_order(solver: ebm.Solver):
    x = torch.ones(2, 1, dtype=torch.float64)
    for adjoint in (ebm.Detached(), ebm.Unroll()):
        ends = [ebm.infer(model, x, steps=8, solver=solver, adjoint=adjoint, keep="last") for model in (Two(), Other())]
        assert list(ends[0].z) == list(ends[1].z) == ["a", "b"]
        torch.testing.assert_close(ends[1].z, ends[0].z, rtol=1e-9, atol=1e-9)
    start = {"b": torch.zeros(2, 2, dtype=torch.float64), "a": torch.zeros(2, 1, dtype=torch.float64)}
    turned = ebm.infer(Other(), x, start=start, steps=8, solver=solver, keep="last").z
    torch.testing.assert_close(turned["b"], ends[0].z["b"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [ebm.Picard(), ebm.Anderson(), ebm.Broyden()], ids=repr)
def test_an_update_may_list_its_parts_in_any_order(solver: ebm.Solver):
    found = ebm.infer(Turned(), torch.ones(2, 1), steps=40, solver=solver).z
    torch.testing.assert_close(found, {"a": torch.ones(2, 1), "b": torch.full((2, 2), 2.0)}, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("outcome", "words"), [
    (lambda z: {"a": z["a"]}, "`z` is a dict of 'a', 'b'; got a dict of 'a'."),
    (lambda z: {**z, "d": z["a"]}, "`z` is a dict of 'a', 'b'; got a dict of 'a', 'b', 'd'."),
    (lambda z: (z["a"], z["b"]), "`z` is a dict of 'a', 'b'; got a tuple of 0, 1."),
    (lambda z: z["a"], "`z` is a dict of 'a', 'b'; got a tensor of shape (2, 1)."),
    (lambda z: {**z, "b": z["a"]}, "`z['b']` is a tensor of shape (2, 2); got a tensor of shape (2, 1)."),
    (lambda z: {**z, "b": [z["b"]]}, "`z['b']` is a tensor of shape (2, 2); got a list of 0."),
])  # fmt: skip
def test_other_parts_than_the_latent_has_are_named(outcome: Any, words: str):
    class Wrong(Turned):
        def forward(self, z, c):
            return outcome(z)

    class Crooked(Two):
        def point(self, z, c):
            return ebm.Point(z, self(z, c), outcome(z))

    for model, method in ((Wrong(), "Wrong.forward"), (Crooked(), "Crooked.point(...).force")):
        with pytest.raises(
            ValueError, match=re.escape(f"`{method}` must give a row tree like the latent `z`: {words}")
        ):
            ebm.infer(model, torch.ones(2, 1), steps=1)


def test_trees_are_matched_by_name_and_by_number():
    class State(NamedTuple):
        a: Any
        b: Any

    class Reversed(NamedTuple):
        b: Any
        a: Any

    like = State(torch.zeros(2), [torch.zeros(2, 3), None])
    one, other = torch.ones(2), torch.ones(2, 3)
    assert rows.matched(like, like, None, "") is like
    for tree in (Reversed([other, None], one), (one, (other, None)), [one, [other, None]]):
        found = rows.matched(tree, like, None, "")
        assert type(found) is State and type(found.b) is list and found.a is one and found.b[0] is other
    with pytest.raises(ValueError, match=re.escape("`z[1][1]` is a NoneType; got a tensor")):
        rows.matched((one, (other, one)), like, None, "")


class Half(ebm.Update):
    """z / 2 + c, in place: at rest 2 c."""

    def init_latent(self, c, draw):
        return torch.zeros_like(c)

    def forward(self, z, c):
        z *= 0.5
        z += c
        return z


class Cell(ebm.Update):
    """relu(z) / 2 + c by a module that works in place, begun at the observation itself: at rest c, where that is negative."""

    def __init__(self) -> None:
        super().__init__()
        line = nn.Linear(1, 1, bias=False)
        nn.init.constant_(line.weight, 0.5)
        self.net = nn.Sequential(nn.ReLU(inplace=True), line)

    def init_latent(self, c, draw):
        return c

    def forward(self, z, c):
        return self.net(z) + c


class Head(Cell):
    """The module that works in place is the read-out: the answer at rest is relu(2) / 2 = 1."""

    def forward(self, z, c):
        return 0.5 * z + c

    def readout(self, z, c):
        return self.net(z)


class Prepared(Half):
    """Halves the observation in place, once a call: at rest at the observation."""

    def condition(self, x):
        x *= 0.5
        return x


@pytest.mark.parametrize("adjoint", [ebm.Detached(), ebm.Unroll(), ebm.Unroll(checkpoint=3), ebm.Implicit()], ids=repr)
@pytest.mark.parametrize(("make", "given", "wanted"), [
    (Half, 1.0, 2.0), (Cell, -1.0, -1.0), (Head, 1.0, 2.0), (Prepared, 1.0, 1.0), (lambda: ebm.Clamped(Half()), 1.0, 2.0),
])  # fmt: skip
def test_what_works_in_place_gives_the_right_answer_and_leaves_the_callers_tensors(make, given, wanted, adjoint):
    x = torch.full((2, 1), given)
    model, observed = make(), x
    if isinstance(model, ebm.Clamped):
        observed = (x, torch.zeros(2, 1, dtype=torch.bool), torch.zeros(2, 1))
    start = torch.full((2, 1), 0.3)
    for begin in (None, start):
        found = ebm.infer(model, observed, steps=40, start=begin, stop=ebm.AtRest(1e-6), adjoint=adjoint)
        torch.testing.assert_close(found.z, torch.full((2, 1), wanted), rtol=1e-5, atol=1e-5)
        assert (x == given).all() and (start == 0.3).all() and x._version == 0 and start._version == 0
    if make is Head:
        torch.testing.assert_close(found.answer, torch.ones(2, 1), rtol=1e-5, atol=1e-5)
        *_, last = ebm.stream(model, x, steps=40)
        assert torch.equal(last.answer, ebm.infer(model, x, steps=40).answer)


def test_the_gradient_through_a_step_in_place():
    x = torch.ones(1, 1, requires_grad=True)
    ebm.infer(Half(), x, steps=3, adjoint=ebm.Unroll(), keep="last").z.sum().backward()
    assert x.grad is not None and x.grad.item() == 1.75  # 1 + 1/2 + 1/4


class Late(Half):
    """Works in place from its third evaluation on."""

    calls = 0

    def forward(self, z, c):
        self.calls += 1
        return super().forward(z, c) if self.calls > 2 else 0.5 * z + c


class Closed(Two):
    def point(self, z, c):
        z["a"].add_(c)
        return Other.point(self, z, c)  # type: ignore[arg-type]


class Keeping(Half):
    def forward(self, z, c):
        c += z
        return c.clone()


class Beginning(Half):
    def init_latent(self, c, draw):
        return c.mul_(2)


class Wanting(ebm.Hopfield):
    def conditional(self, z, c, block):
        wanted = super().conditional(z, c, block)
        z.zero_()
        return wanted


@pytest.mark.parametrize(("model", "words"), [
    (Late(), "`Late.forward` must leave the latent as it is; it wrote into it. Make a new tensor"),
    (Closed(), "`Closed.point` must leave the latent as it is"),
    (Wanting(torch.zeros(1, 1)), "`Wanting.conditional` must leave the latent as it is"),
    (Keeping(), "`Keeping` must leave its condition as it is; one of its methods wrote into it. Make a new tensor"),
    (Beginning(), "`Beginning` must leave its condition as it is"),
])  # fmt: skip
def test_what_cannot_be_put_right_is_an_error_that_leaves_the_observation(model: ebm.Objective, words: str):
    x = torch.ones(3, 1)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        ebm.infer(model, x, steps=5)
    assert (x == 1).all()


def test_a_start_that_is_the_observation_shares_no_memory_with_it():
    x = torch.ones(2, 1)
    for start in (None, x):
        ebm.infer(Cell(), x, steps=0, start=start).z.add_(5)
        assert (x == 1).all()
    with torch.inference_mode():
        still: Tensor = torch.ones(2, 1)
        assert ebm.infer(Half(), still, steps=30).z.round(decimals=4).tolist() == [[2.0], [2.0]]
