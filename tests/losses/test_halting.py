"""Learned halting: losses against loops over samples and steps, the rules that ask the head, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ebm
from ebm.losses import ACT, PonderNet, QHead, Stretch
from ebm.losses.halting import halting_log_chances
from ebm.tasks import PrefixSums
from tests.contracts.members import seeded
from tests.energies import numbers
from tests.losses.halting_parts import Swinging, cell, each

TASK = PrefixSums(6)


def model(head: nn.Module | None = None) -> ebm.Halting:
    return ebm.Halting(cell(), head or Swinging()).double()


def problems() -> tuple[Tensor, Tensor]:
    x, y = TASK.sample(5, torch.Generator().manual_seed(0))
    return x.double(), y


def seen(halting: ebm.Halting, steps: int) -> tuple[list[list[float]], list[list[float]]]:
    """Losses and chances of halting, by sample and step, from one call a number of steps."""
    x, y = problems()
    losses, chances = [], []
    for count in range(1, steps + 1):
        answer, halt = ebm.infer(halting, x, steps=count, keep="last").answer
        losses.append(each(answer, y).tolist())
        chances.append(halt.sigmoid().tolist())
    return [list(part) for part in zip(*losses, strict=True)], [list(part) for part in zip(*chances, strict=True)]


def test_act_against_a_loop() -> None:
    halting, steps, wanted, stopped = model(), 6, [], []
    for losses, chances in zip(*seen(halting, steps), strict=True):
        total, mixed = 0.0, 0.0
        for t in range(steps):
            if total + chances[t] >= 0.99 or t == steps - 1:
                mixed += (1 - total) * losses[t]
                wanted.append(mixed + 0.3 * (t + 1 + 1 - total))
                stopped.append(t + 1)
                break
            total += chances[t]
            mixed += chances[t] * losses[t]
    x, y = problems()
    found = ACT(each, Stretch(steps=steps), price=0.3)(halting, x, y)
    assert found.item() == pytest.approx(sum(wanted) / 5, rel=1e-9)
    by_rule = ebm.infer(halting, x, steps=steps, stop=ebm.HaltsBySum(0.99), keep="last")
    assert by_rule.steps.tolist() == stopped and len(set(stopped)) > 1


def test_ponder_net_against_a_loop() -> None:
    halting, steps, wanted, medians = model(), 6, [], []
    prior = [0.3 * 0.7**t for t in range(steps)]
    prior = [part / sum(prior) for part in prior]
    for losses, chances in zip(*seen(halting, steps), strict=True):
        left, p = 1.0, []
        for t in range(steps):
            p.append(left if t == steps - 1 else left * chances[t])
            left -= p[-1]
        assert sum(p) == pytest.approx(1.0)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, prior, strict=True))
        wanted.append(sum(a * b for a, b in zip(p, losses, strict=True)) + 0.4 * divergence)
        medians.append(next((t + 1 for t in range(steps - 1) if sum(p[: t + 1]) >= 0.5), steps))
    x, y = problems()
    found = PonderNet(each, Stretch(steps=steps), prior=0.3, beta=0.4)(halting, x, y)
    assert found.item() == pytest.approx(sum(wanted) / 5, rel=1e-9)
    by_rule = ebm.infer(halting, x, steps=steps, stop=ebm.HaltsByChance(0.5), keep="last")
    assert by_rule.steps.tolist() == medians and len(set(medians)) > 1


def test_chances_sum_to_one_even_where_the_head_is_sure() -> None:
    logits = torch.tensor([[-800.0, 0.0, 800.0], [0.0, 800.0, -800.0], [3.0, -800.0, 1.0]], dtype=torch.float64)
    log_chances = halting_log_chances(logits)
    assert torch.allclose(log_chances.exp().sum(0), torch.ones(3, dtype=torch.float64))
    assert bool(log_chances.isfinite().all())


def test_q_head_against_a_loop() -> None:
    halting, steps = model(), 4
    x, y = problems()
    y[0] = ebm.infer(halting, x, steps=2, keep="last").answer.answer[0].argmax(0)  # one that is right at some step
    wanted, rights = 0.0, []
    for count in range(1, steps + 1):
        answer, halt = ebm.infer(halting, x, steps=count, keep="last").answer
        right = (answer.argmax(1) == y).all(1).double()
        rights.append(float(right.sum()))
        sigmoid = halt.sigmoid()
        binary = -(right * sigmoid.log() + (1 - right) * (1 - sigmoid).log()).mean()
        wanted += float((functional.cross_entropy(answer, y) + 0.7 * binary).detach()) / steps
    assert sum(rights) > 0
    found = QHead(functional.cross_entropy, TASK.score, Stretch(steps=steps), weight=0.7)(halting, x, y)
    assert found.item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "rule",
    [ACT(each, Stretch(steps=5)), PonderNet(each, Stretch(steps=5)), QHead(TASK.loss, TASK.score, Stretch(steps=5))],
)
def test_gradients_by_finite_differences(rule: Any) -> None:
    halting = seeded(lambda: model(ebm.PooledLogit(3, axis=1)))
    with torch.no_grad():
        halting.halt.linear.weight.add_(0.7 * numbers(1, 6, seed=3))  # type: ignore[union-attr, operator]
    x, y = problems()
    rule(halting, x, y).backward()
    for parameter in (halting.halt.linear.weight, halting.model.cell.weight):  # type: ignore[union-attr]
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)  # type: ignore[union-attr]
        place, small = int(slope.abs().argmax()), 1e-6
        ends = []
        for sign in (1, -1):
            flat[place] += sign * small
            ends.append(rule(halting, x, y).item())
            flat[place] -= sign * small
        assert (ends[0] - ends[1]) / (2 * small) == pytest.approx(slope[place].item(), rel=1e-5)


class Countdown(ebm.Update):
    """What is left falls by one a step; the answer is right once nothing is left."""

    def init_latent(self, c: Tensor, draw: Any) -> Tensor:
        return c

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (z - 1).clamp_min(0)

    def default_solver(self) -> ebm.Solver:
        return ebm.Picard()


def left_over(z: Tensor, y: Tensor) -> Tensor:
    return z[:, 0, 0].clamp_max(1.0)


def finished(z: Tensor, y: Tensor) -> Tensor:
    return z[:, 0, 0] == 0


LEARNED = [
    (QHead(lambda z, y: z.new_zeros(()), finished, Stretch(steps=9)), ebm.Halts(0.5), 0),
    (ACT(left_over, Stretch(steps=9), price=0.2), ebm.HaltsBySum(0.9), 1),
    (PonderNet(left_over, Stretch(steps=9), prior=0.2, beta=0.01), ebm.HaltsByChance(0.5), 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "stop", "late"), LEARNED)
def test_a_head_learns_to_take_the_steps_that_each_sample_needs(rule: Any, stop: ebm.Stop, late: int) -> None:
    halting = ebm.Halting(Countdown(), seeded(lambda: ebm.PooledLogit(1)))
    optimizer = torch.optim.Adam(halting.parameters(), 0.1)
    x = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None, None]
    for _ in range(600):
        optimizer.zero_grad()
        rule(halting, x, x).backward()
        optimizer.step()
    taken = ebm.infer(halting, x, steps=9, stop=stop, keep="last").steps
    assert bool((taken - x[:, 0, 0] >= 0).all()) and bool((taken - x[:, 0, 0] <= late).all())


@pytest.mark.parametrize("rule", [ebm.Halts(0.7), ebm.HaltsBySum(0.9), ebm.HaltsByChance(0.6)])
def test_halting_alone_is_halting_in_company_and_through_a_pause(rule: ebm.Stop) -> None:
    halting, (x, _) = model(), problems()
    together = ebm.infer(halting, x, steps=9, stop=rule, compact=True)
    assert len(set(together.steps.tolist())) > 1
    for sample in range(5):
        alone = ebm.infer(halting, x[sample : sample + 1], steps=9, stop=rule)
        assert alone.steps.tolist() == together.steps[sample : sample + 1].tolist()
    paused = ebm.infer(halting, x, steps=7, stop=rule, resume=ebm.infer(halting, x, steps=2, stop=rule))
    assert paused.steps.tolist() == together.steps.tolist() and paused.status.tolist() == together.status.tolist()


X, Y = problems()
PLAIN = model().model
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: ebm.Halts(0.0), ValueError, r"must lie in \(0, 1\]; got 0.0"),
    (lambda: ebm.HaltsBySum(1.5), ValueError, "got 1.5"),
    (lambda: ACT(each, price=-1.0), ValueError, "may not be negative; got -1.0"),
    (lambda: ACT(each, epsilon=1.0), ValueError, r"lies in \[0, 1\); got 1.0"),
    (lambda: PonderNet(each, prior=1.0), ValueError, r"lies in \(0, 1\); got 1.0"),
    (lambda: PonderNet(each, beta=-0.1), ValueError, "may not be negative"),
    (lambda: QHead(TASK.loss, TASK.score, weight=-1.0), ValueError, "may not be negative"),
    (lambda: ebm.PooledLogit(0), ValueError, "at least 1; got 0"),
    (lambda: ebm.Halting(PLAIN, 3), TypeError, "an objective and a module; got GatedCell and int"),  # type: ignore[arg-type]
    (lambda: ACT(each)(PLAIN, X, Y), TypeError, "whose answer is Tensor. Wrap the model"),
    (lambda: ACT(functional.cross_entropy)(model(), X, Y), ValueError, r"one number a sample here, \(5,\); got \(\)"),
    (lambda: ebm.infer(PLAIN, X, steps=2, stop=ebm.Halts()), ValueError, "whose read-out is Tensor. Wrap the model"),
    (lambda: ebm.infer(model(nn.Identity()), X, steps=2), ValueError, r"\(B,\) or \(B, 1\); got \(5, 3, 6\)"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
