"""Thresholds whose right value, drop and saving are known."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import ebm
from ebm.diagnostics.calibration import upper_bound
from tests.diagnostics.scripted import Bowl, Map, Script, script
from tests.energies import ClosedQuadratic, Quadratic, Wells, numbers

STEPS = 8


def one_by_one(count: int = 8) -> Tensor:
    """Sample i becomes right, and sure of it, at step i + 1."""
    when = torch.arange(STEPS + 1)
    right = when >= torch.arange(1, count + 1)[:, None]
    return script(right, torch.where(right, 0.9, 0.6).double())


def tempting(wrong: int, count: int = 100) -> Tensor:
    """At step 1 all are a little sure, ``wrong`` of them of the wrong answer; at step 5 all are surer, and right."""
    when = torch.arange(STEPS + 1).expand(count, -1)
    right = (when >= 5) | ((when >= 1) & (torch.arange(count)[:, None] >= wrong))
    sure = torch.where(when >= 5, 0.9, torch.where(when >= 1, 0.7, 0.55))
    return script(right, sure.double())


def classifier() -> ClosedQuadratic:
    """Three logits of a settled latent, the same at every call."""
    model = ClosedQuadratic()
    model.head.weight.data, model.head.bias.data = numbers(3, 4, seed=7), numbers(3, seed=8)
    return model


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.int64)


def test_the_threshold_and_the_work_it_saves_are_known():
    found = ebm.calibrate(ebm.Confident(), Script(), [(one_by_one(), ones(8))], 0.0, steps=STEPS)
    assert isinstance(found.stop, ebm.Confident)
    assert 0.6 < found.stop.threshold <= 0.9
    assert found.curve.threshold[found.chosen + 1] <= 0.6  # the next looser one would leave at the start
    assert found.threshold == found.stop.threshold
    assert (found.full_quality, found.quality, found.drop, found.standard_error) == (1, 1, 0, 0)
    assert (found.full_steps, found.steps) == (8, 4.5)
    evals = [1 + (i + 1) for i in range(8)]  # the start, and a step each
    assert (found.full_flops, found.flops) == (2 * 8 * 9, 2 * sum(evals))
    assert found.saved == pytest.approx(1 - 44 / 72)
    assert found.samples == 8


@pytest.mark.parametrize(("allowed", "steps", "drop"), [(0.1, 1.0, 0.1), (0.099, 5.0, 0.0), (1.0, 0.0, 1.0)])
def test_the_allowed_drop_binds(allowed: float, steps: float, drop: float):
    batches = [(part, ones(len(part))) for part in tempting(10).split([30, 50, 20])]
    found = ebm.calibrate(ebm.Confident(), Script(), batches, allowed, steps=STEPS)
    assert found.steps == steps
    assert found.drop == pytest.approx(drop)
    assert found.drop <= allowed + 1e-12
    beyond = found.curve.drop[found.chosen + 1 :]
    assert (beyond > allowed).all()
    if drop == 0.1:
        assert found.standard_error == pytest.approx(torch.tensor([1.0] * 10 + [0.0] * 90).std().item() / 10)


def test_given_thresholds_are_the_only_candidates():
    found = ebm.calibrate(
        ebm.Confident(), Script(), [(tempting(10), ones(100))], 0.05, steps=STEPS, thresholds=[0.6, 0.95, 0.8]
    )
    assert found.curve.threshold.tolist() == [0.95, 0.8, 0.6]
    assert found.curve.steps.tolist() == [8, 5, 1]
    torch.testing.assert_close(found.curve.quality, torch.tensor([1, 1, 0.9], dtype=torch.float64))
    assert found.stop == ebm.Confident(0.8)


# Against running every threshold for itself

RULES: dict[str, ebm.Stop] = {
    "at rest": ebm.AtRest(),
    "relative": ebm.AtRest(rtol=0.05),
    "plateau": ebm.Plateau(rtol=0.01),
    "confident": ebm.Confident(),
    "patience": ebm.Patience(ebm.AtRest(), 3),
    "patient plateau": ebm.Patience(ebm.Plateau(rtol=0.0), 2),
    "patience twice": ebm.Patience(ebm.Patience(ebm.Confident(), 2), 3),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("solver", [ebm.Descent(1.5), ebm.AdaptiveDescent()], ids=["descent", "adaptive"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_curve_is_that_of_a_run_at_each_threshold(name: str, solver: ebm.Solver, keep: Any):
    rule, model, x = RULES[name], classifier(), numbers(12, 3)
    y = (x[:, 0] > 0).long()

    def sureness(answer: Tensor, y: Tensor) -> Tensor:
        return answer.double().log_softmax(1).gather(1, y[:, None])[:, 0]

    thresholds = [0.34, 0.5, 0.6, 0.8] if rule.larger_is_stricter else [0.0, 1e-6, 1e-3, 0.01, 0.05, 0.2, 1.0]
    found = ebm.calibrate(
        rule,
        model,
        [(x[:7], y[:7]), (x[7:], y[7:])],
        100.0,
        steps=14,
        solver=solver,
        quality=sureness,
        keep=keep,
        thresholds=thresholds,
    )
    assert len(set(found.curve.steps.tolist())) > 2
    for k, threshold in enumerate(found.curve.threshold.tolist()):
        ends = [
            ebm.infer(
                model, part, steps=14, solver=solver, keep=keep, stop=rule.with_threshold(threshold), compact=False
            )
            for part in (x[:7], x[7:])
        ]
        answers, steps = torch.cat([end.answer for end in ends]), torch.cat([end.steps for end in ends])
        assert found.curve.steps[k] == steps.double().mean(), (name, threshold)
        torch.testing.assert_close(found.curve.quality[k], sureness(answers, y).mean(), rtol=1e-12, atol=1e-12)
    full = ebm.infer(model, x, steps=14, solver=solver, keep=keep)
    assert found.full_quality == pytest.approx(sureness(full.answer, y).mean().item())
    assert found.full_steps == full.steps.double().mean()


@pytest.mark.parametrize(
    "rule", [ebm.AtRest(0.3), ebm.Confident(0.7), ebm.Patience(ebm.Plateau(0.1, 0.2), 4)], ids=repr
)
def test_a_rule_is_replaced_but_for_its_threshold(rule: ebm.Stop):
    other = rule.with_threshold(0.5)
    assert type(other) is type(rule)
    assert other != rule
    assert other.with_threshold(0.1) == rule.with_threshold(0.1)
    if isinstance(rule, ebm.Patience):
        assert other == ebm.Patience(ebm.Plateau(0.5, 0.2), 4)


def test_what_is_reported_is_a_real_compacted_run():
    model, x = classifier(), numbers(40, 3)
    y = ebm.infer(model, x, steps=200).answer.argmax(1)
    found = ebm.calibrate(ebm.AtRest(), model, [(x, y)], 0.05, steps=30, solver=ebm.Descent(0.3))
    end = ebm.infer(model, x, steps=30, solver=ebm.Descent(0.3), stop=found.stop, compact=True)
    assert found.flops == end.flops
    assert found.full_flops == ebm.infer(model, x, steps=30, solver=ebm.Descent(0.3)).flops
    assert found.quality == (end.answer.argmax(1) == y).double().mean()
    assert found.steps == end.steps.double().mean()
    assert found.saved > 0.3


def test_looking_at_answers_is_charged_to_the_rule_alone():
    model, x = classifier(), numbers(6, 3)
    y = ebm.infer(model, x, steps=100).answer.argmax(1)
    never = ebm.calibrate(ebm.Confident(), model, [(x, y)], 0.0, steps=10, thresholds=[1.0])
    assert never.steps == never.full_steps
    assert never.saved < 0
    assert "-" in str(never).split("FLOPs")[1]


def test_the_noise_is_the_same_in_both_runs():
    def low(answer: Tensor, _: Any) -> Tensor:
        return -answer.square().sum(1)

    def run(seed: int) -> ebm.Calibration:
        generator = torch.Generator().manual_seed(seed)
        return ebm.calibrate(
            ebm.AtRest(),
            Wells(3),
            [(numbers(5, 3), None)] * 2,
            10.0,
            steps=20,
            quality=low,
            generator=generator,
            thresholds=[0.1],
        )

    found = run(0)
    assert found.quality == pytest.approx(found.curve.quality[0].item(), rel=1e-12)
    assert found.steps == found.curve.steps[0]
    assert run(0).quality == found.quality
    assert run(1).quality != found.quality


def test_it_reads_the_loader_once():
    found = ebm.calibrate(ebm.Confident(), Script(), ((one_by_one(), ones(8)) for _ in range(2)), 0.0, steps=STEPS)
    assert (found.samples, found.steps) == (16, 4.5)


def test_a_sample_that_failed_does_not_stop_early():
    model = Map(lambda z: z.square())
    x = torch.tensor([[0.5], [1e200]], dtype=torch.float64)
    found = ebm.calibrate(
        ebm.AtRest(),
        model,
        [(x, None)],
        1.0,
        steps=10,
        quality=lambda answer, _: (answer[:, 0] < 0.1).double(),
        thresholds=[1e-3],
    )
    assert found.curve.steps.item() == found.steps
    assert found.quality == 0.5


def test_a_rule_of_ones_own_joins():
    @dataclass(frozen=True)
    class Low(ebm.Stop):
        level: float = 0.0
        threshold_name: ClassVar[str | None] = "level"

        def check(self, look: ebm.Look, memory: Any) -> tuple[Tensor, Any]:
            return self.strictest(look) <= self.level, None

        def strictest(self, look: ebm.Look) -> Tensor:
            assert look.point.energy is not None
            return look.point.energy

    x = torch.ones(4, 2, dtype=torch.float64)
    found = ebm.calibrate(
        Low(),
        Bowl(),
        [(x, None)],
        0.2,
        steps=20,
        solver=ebm.Descent(0.5),
        quality=lambda a, _: -(1 - a).abs().sum(1),
        thresholds=[0, 1e-2, 1e-4],
    )
    assert found.stop == Low(1e-2)
    assert found.steps == 4  # the energy is 4 ** -t


# With confidence


def test_the_bound_by_hand():
    losses = torch.tensor([1.0] * 3 + [0.0] * 97, dtype=torch.float64)
    weight = math.log(2 / 0.05)
    known = 0.03 + math.sqrt(2 * losses.var().item() * weight / 100) + 14 * weight / (3 * 99)
    assert upper_bound(losses, 0.95) == pytest.approx(known)
    assert upper_bound(losses[:1], 0.95) == math.inf


def test_the_bound_holds_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(400, 600, generator=generator, dtype=torch.float64)
    losses = torch.where(draws < 0.3, 1.0, torch.where(draws > 0.9, -1.0, 0.0))  # mean 0.2
    missed = sum(upper_bound(row, 0.8) < 0.2 for row in losses) / 400
    assert missed <= 0.2
    assert upper_bound(losses.flatten(), 0.8) == pytest.approx(0.2, abs=0.01)


def test_confidence_asks_for_samples_and_grants_less():
    x, y = tempting(20, 2000), ones(2000)
    sure = ebm.calibrate(ebm.Confident(), Script(), [(x, y)], 0.02, steps=STEPS, confidence=0.95)
    plain = ebm.calibrate(ebm.Confident(), Script(), [(x, y)], 0.02, steps=STEPS)
    assert (plain.steps, sure.steps) == (1, 5)
    assert sure.bound is not None
    assert sure.bound == pytest.approx(upper_bound(torch.zeros(2000, dtype=torch.float64), 0.95))
    assert "at most" in str(sure)
    assert "scatter" in str(plain)
    with pytest.raises(ValueError, match=r"100 samples cannot show at confidence 0\.95"):
        ebm.calibrate(ebm.Confident(), Script(), [(x[:100], y[:100])], 0.02, steps=STEPS, confidence=0.95)


def test_behind_a_failure_nothing_is_granted_with_confidence():
    when = torch.arange(STEPS + 1).expand(3000, -1)
    right = (when == 1) | (when >= 5)  # right at first, wrong in the middle, right at last
    sure = torch.where(when >= 5, 0.95, torch.where(when >= 3, 0.8, torch.where(when >= 1, 0.7, 0.55)))
    x, y = script(right, sure.double()), ones(3000)
    settings: dict[str, Any] = {"steps": STEPS, "thresholds": [0.9, 0.75, 0.6]}
    assert ebm.calibrate(ebm.Confident(), Script(), [(x, y)], 0.01, **settings).stop == ebm.Confident(0.6)
    assert ebm.calibrate(ebm.Confident(), Script(), [(x, y)], 0.01, confidence=0.9, **settings).stop == ebm.Confident(
        0.9
    )


# Refusals, words and pictures


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"stop": "confident"}, TypeError, "got str"),
        ({"stop": ebm.AnyOf(ebm.AtRest(), ebm.Confident())}, ValueError, "`AnyOf` has none of its own"),
        ({"loader": []}, ValueError, "without samples"),
        ({"loader": [torch.zeros(3, 2)]}, ValueError, r"batches \(x, y\); got Tensor"),
        ({"max_drop": -0.1}, ValueError, "not negative; got -0.1"),
        ({"max_drop": math.nan}, ValueError, "not negative; got nan"),
        ({"max_drop": math.inf}, ValueError, "must be finite"),
        ({"steps": 0}, ValueError, "at least 1; got 0"),
        ({"confidence": 1.0}, ValueError, "confidence"),
        ({"quality": lambda answer, y: answer}, ValueError, "one number a sample"),
        ({"quality": lambda answer, y: y / 0}, ValueError, "finite; got inf"),
        ({"quality": lambda answer, y: 2.0 * y, "confidence": 0.9}, ValueError, r"lie in \[0, 1\]; got 2 to 2"),
        ({"thresholds": []}, ValueError, "wants finite numbers"),
        ({"thresholds": [math.nan]}, ValueError, "wants finite numbers"),
        ({"thresholds": [1.5]}, ValueError, r"must lie in \(0, 1\]"),
        ({"thresholds": [0.5]}, ValueError, "the least loss is 1"),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], error: type[Exception], match: str):
    given: dict[str, Any] = {
        "stop": ebm.Confident(),
        "model": Script(),
        "loader": [(one_by_one(), ones(8))],
        "max_drop": 0.0,
        "steps": STEPS,
    }
    with pytest.raises(error, match=match):
        ebm.calibrate(**(given | changes))


def test_a_rule_without_a_threshold_says_so():
    rule = ebm.AllOf(ebm.AtRest())
    with pytest.raises(ValueError, match="no threshold of its own"):
        rule.with_threshold(1.0)
    with pytest.raises(ValueError, match="no threshold of its own"):
        rule.strictest(None)  # type: ignore[arg-type]
    assert ebm.Patience(rule).threshold_name is None


def test_accuracy_over_positions_is_their_share():
    answer = torch.eye(3)[torch.tensor([[0, 1], [2, 2]])].movedim(2, 1)
    assert ebm.diagnostics.accuracy(answer, torch.tensor([[0, 1], [2, 0]])).tolist() == [1, 0.5]


def test_words_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figure = pytest.importorskip("matplotlib.figure")
    found = ebm.calibrate(ebm.Confident(), Script(), [(tempting(10), ones(100))], 0.1, steps=STEPS)
    text = str(found)
    for part in (
        "set on 100 samples within 8 steps",
        "1 -> 0.9: drop 0.1 +- 0.03, allowed 0.1",
        "8 -> 1",
        "77.8% saved",
    ):
        assert part in text
    found.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    rest = ebm.calibrate(
        ebm.AtRest(), Quadratic(), [(numbers(9, 3), None)], 0.1, steps=STEPS, quality=lambda a, _: -a.square().sum(1)
    )
    axes = figure.Figure().subplots(1, 2)
    rest.plot(axes)
    assert all(axis.has_data() for axis in axes)
    assert axes[0].xaxis_inverted()
    with pytest.raises(ValueError, match="2 panels; got 1"):
        rest.plot([axes[0]])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"equilibrate\[plot\]"):
        rest.plot()
