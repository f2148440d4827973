"""Diagnoses of maps and energies whose fate is known."""

from __future__ import annotations

import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ebm
from ebm.diagnostics.measures import alignment, growth, period, rank_correlation, rate, settled_from
from tests.diagnostics.scripted import Bowl, Map, Script, Well, script
from tests.energies import ClosedQuadratic, Quadratic, Tanh, Tree, numbers


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Numbers between 0.1 and 0.9."""
    return 0.1 + 0.8 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(angle: float, factor: float = 1.0) -> Map:
    """A rotation of the plane, scaled."""
    c, s = factor * math.cos(angle), factor * math.sin(angle)
    matrix = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    return Map(lambda z: z @ matrix)


# Rates


@pytest.mark.parametrize("factor", [0.3, 0.9, 0.97, -0.5])
def test_the_rate_of_a_linear_map_is_its_factor(factor: float):
    report = ebm.diagnose(Map(lambda z: factor * z + 1), numbers(6, 3), steps=40, starts=0)
    for found in (report.rate, report.move_rate):
        torch.testing.assert_close(found, torch.full((6,), abs(factor), dtype=torch.float64), rtol=1e-3, atol=0)
    assert report.lyapunov is not None
    torch.testing.assert_close(
        report.lyapunov.exp(), torch.full((6,), abs(factor), dtype=torch.float64), rtol=0.01, atol=0
    )


def test_the_slower_mode_sets_the_rate():
    factors = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    report = ebm.diagnose(Map(lambda z: factors * z + 1), numbers(6, 3), steps=60, starts=0)
    torch.testing.assert_close(report.rate, torch.full((6,), 0.9, dtype=torch.float64), rtol=0.01, atol=0)


def test_the_rate_is_not_fooled_by_a_turning_force():
    skew = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    inner = turn(0.7, 0.9).step
    report = ebm.diagnose(Map(lambda z: inner(z @ skew) @ torch.linalg.inv(skew)), numbers(8, 2), steps=60, starts=0)
    torch.testing.assert_close(report.rate, torch.full((8,), 0.9, dtype=torch.float64), rtol=0.01, atol=0)


def test_the_rate_leaves_rounding_out():
    sizes = torch.tensor([0.5**t for t in range(20)] + [1e-9] * 40, dtype=torch.float64)[:, None]
    found = rate(sizes, torch.tensor([59]), torch.tensor([1e-6], dtype=torch.float64))
    assert found.item() == pytest.approx(0.5, rel=1e-12)
    at_once = rate(sizes, torch.tensor([59]), torch.tensor([2.0], dtype=torch.float64))
    assert at_once.isnan().all()


def test_the_rate_ignores_what_follows_the_end_of_a_sample():
    sizes = torch.tensor([[0.8**t, 0.8 ** min(t, 10)] for t in range(40)], dtype=torch.float64)
    found = rate(sizes, torch.tensor([39, 10]), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([0.8, 0.8], dtype=torch.float64))


def test_the_predicted_number_of_steps_is_the_number_it_takes():
    model, x = Map(lambda z: 0.97 * z + 1), numbers(5, 3)
    report = ebm.diagnose(model, x, steps=50, starts=0)
    assert report.main is ebm.Outlook.DESCENDING
    needed = 50 + report.steps_to(1e-3).long()
    for steps, reached in ((needed, True), (needed - 1, False)):
        residual = ebm.infer(model, x, steps=steps, solver=ebm.Picard()).residual
        assert ((residual <= 1e-3) == reached).all()
    assert (report.steps_to(10.0) == 0).all()
    assert f"about {int(needed.max()) - 50} more steps to 0.001" in report.advice[0]
    assert "Anderson" in report.advice[0]
    assert (ebm.diagnose(Map(lambda z: z + 1), x, steps=20, starts=0).steps_to(1e-3) == torch.inf).all()


def test_the_step_of_rest_is_the_one_of_the_stop_rule():
    model, x = Quadratic(), numbers(5, 3)
    report = ebm.diagnose(model, x, steps=60, solver=ebm.Descent(0.5), starts=0)
    taken = ebm.infer(model, x, steps=60, solver=ebm.Descent(0.5), stop=ebm.AtRest(1e-3)).steps
    assert torch.equal(report.rest_at, taken)
    assert report.main is ebm.Outlook.AT_REST
    assert settled_from(torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]), 0.5).tolist() == [3, 1]


def test_a_latent_that_creeps_is_not_at_rest():
    report = ebm.diagnose(Map(lambda z: 0.999 * z), torch.full((3, 1), 0.1, dtype=torch.float64), steps=200, starts=1)
    assert (report.residual[-1] < 1e-3).all()
    assert report.main is ebm.Outlook.DESCENDING
    gone = 1 - 0.999**200  # of what is left, in as many steps again
    torch.testing.assert_close(
        report.remaining, torch.full((3,), 0.999**200 * gone, dtype=torch.float64), rtol=1e-3, atol=0
    )
    assert (
        "creeps: within the tolerance, but at rate 0.999, so 200 more steps move the latent by 14.8% of its size"
        in report.advice[0]
    )
    assert report.depends is not None
    assert not report.depends.any()


# Cycles, chaos, divergence


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 8, 12])
def test_a_rotation_comes_back_after_its_period(k: int):
    report = ebm.diagnose(turn(2 * math.pi / k), numbers(5, 2), steps=40, starts=0)
    assert report.period.tolist() == [k] * 5
    assert report.main is ebm.Outlook.CYCLES
    assert f"period {k}, and more steps change nothing" in report.advice[0]


def test_a_rotation_by_no_part_of_a_turn_has_no_period():
    report = ebm.diagnose(turn(math.pi * (3 - 5**0.5)), numbers(5, 2), steps=80, starts=0)
    assert (report.period == 0).all()
    assert report.main is ebm.Outlook.UNSETTLED


def test_a_steady_approach_is_no_cycle():
    slow = [torch.tensor([[0.999**t]], dtype=torch.float64) for t in range(24)]
    still = [torch.ones(1, 1, dtype=torch.float64)] * 24
    for recent in (slow, still):
        assert period(recent, torch.tensor([1e-12], dtype=torch.float64), 12).item() == 0


@pytest.mark.parametrize(("slope", "fate"), [(-1.0, "change nothing"), (-0.95, "at rate 0.95")])
def test_a_steep_map_swings_until_it_is_damped(slope: float, fate: str):
    model, x = Map(lambda z: slope * z + 1), numbers(6, 2)
    report = ebm.diagnose(model, x, steps=40, starts=0)
    assert report.period.tolist() == [2] * 6
    assert "period 2" in report.advice[0]
    assert fate in report.advice[0]
    assert "Picard(0.5)" in report.advice[0]
    assert ebm.diagnose(model, x, steps=40, solver=ebm.Picard(0.5), starts=0).main is ebm.Outlook.AT_REST


def test_the_logistic_map_is_chaotic_and_its_window_is_not():
    chaos = ebm.diagnose(Map(lambda z: 4 * z * (1 - z)), unit(300, 1), steps=60, starts=0)
    assert chaos.share(ebm.Outlook.CHAOTIC) > 0.95
    assert chaos.lyapunov is not None
    assert chaos.lyapunov.mean().item() == pytest.approx(math.log(2), rel=0.1)
    assert "chaotic" in chaos.advice[0]
    cycle = ebm.diagnose(Map(lambda z: 3.5 * z * (1 - z)), unit(50, 1), steps=200, starts=0)
    assert cycle.period.tolist() == [4] * 50
    assert cycle.share(ebm.Outlook.CYCLES) == 1


@pytest.mark.parametrize("factor", [1.02, 1.5, 1e20])
def test_what_runs_away_diverges(factor: float):
    report = ebm.diagnose(Map(lambda z: factor * z), numbers(6, 2), steps=60, starts=1)
    assert report.main is ebm.Outlook.DIVERGES
    assert "lower the step size" in report.advice[0]
    if factor < 2:
        torch.testing.assert_close(report.rate, torch.full((6,), factor, dtype=torch.float64))


def test_each_sample_has_its_own_outlook():
    factors = torch.tensor([0.5, 0.97, -1.0, 1.1, math.nan], dtype=torch.float64)[:, None]
    model = Map(lambda z: z)
    model.forward = lambda z, c: c * z  # type: ignore[method-assign]
    model.init_latent = lambda c, draw: torch.ones_like(c)  # type: ignore[method-assign]
    factors[4] = 1e300
    report = ebm.diagnose(model, factors, steps=50, starts=1)
    O = ebm.Outlook  # noqa: E741
    assert report.outlook.tolist() == [O.AT_REST, O.DESCENDING, O.CYCLES, O.DIVERGES, O.DIVERGES]
    text = "\n".join(report.advice)
    for part in (
        "20.0% of samples: at rest",
        "20.0% of samples: still descending",
        "20.0% of samples: cycles",
        "40.0% of samples: diverges",
    ):
        assert part in text


def test_growth_stops_at_the_ceiling_and_at_the_floor():
    apart = torch.tensor([[1e-6, 1e-6], [1e-4, 1e-8], [1e-2, 1e-10], [1e-2, 1e-10]], dtype=torch.float64)
    bounds = torch.tensor([1e-9, 1e-9], dtype=torch.float64), torch.tensor([1e-3, 1e-3], dtype=torch.float64)
    found = growth(apart, *bounds)
    torch.testing.assert_close(found, torch.tensor([math.log(100), -math.log(100)], dtype=torch.float64))


# Other starts


def test_a_bowl_forgets_its_start():
    report = ebm.diagnose(Bowl(), numbers(10, 3), steps=40)
    assert report.alignment is not None
    assert report.depends is not None
    torch.testing.assert_close(report.alignment, torch.ones(10, dtype=torch.float64))
    assert not report.depends.any()
    assert report.main is ebm.Outlook.AT_REST
    assert len(report.advice) == 1


def test_a_double_well_does_not():
    report = ebm.diagnose(Well(), 0.1 * numbers(60, 1), steps=60, noise=30.0)
    assert report.alignment is not None
    assert report.depends is not None
    known = torch.tensor(
        [((2 * m - 5) ** 2 - 5) / 20 for m in range(6)], dtype=torch.float64
    )  # m of five starts end at 1
    nearest = (report.alignment[:, None] - known).abs().amin(1)
    assert nearest.max() < 1e-4
    assert torch.equal(report.depends, report.alignment < 0.99)
    assert 0.6 < report.depends.double().mean() < 1
    assert "Restarts" in report.advice[1]
    near = ebm.diagnose(Well(), numbers(60, 1).sign() * 0.8, steps=60, noise=0.01)
    assert near.depends is not None
    assert not near.depends.any()


def test_alignment_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(alignment([a, b]), torch.tensor([0.5**0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(alignment([{"a": a}, {"a": b}, {"a": -a}])[0].item(), (0.5**0.5 - 1 - 0.5**0.5) / 3)


def test_a_memory_of_signs_is_flipped_and_has_no_near_start():
    memory = ebm.Hopfield.store(numbers(3, 40, seed=1).sign())
    x = numbers(6, 40, seed=2).sign()
    report = ebm.diagnose(memory, x, steps=10)
    assert report.lyapunov is None
    assert report.alignment is not None
    assert report.alignment.min() < 0.9
    assert "near starts" not in str(report)


# Energy and quality


def test_the_energy_falls_as_fast_as_it_does():
    report = ebm.diagnose(Bowl(), torch.ones(3, 2, dtype=torch.float64), steps=10, solver=ebm.Descent(0.1), starts=0)
    energy = torch.tensor([0.9 ** (2 * t) for t in range(11)], dtype=torch.float64)
    assert report.energy is not None
    assert report.descent is not None
    assert report.raised is not None
    torch.testing.assert_close(report.energy[:, 0], energy)
    torch.testing.assert_close(report.descent[0], (energy[5] - energy[10]) / 5)
    assert (report.raised == 0).all()
    rising = ebm.diagnose(Bowl(), torch.ones(3, 2, dtype=torch.float64), steps=10, solver=ebm.Descent(2.1), starts=0)
    assert rising.raised is not None
    assert (rising.raised == 1).all()


def test_ranks_agree_with_the_closed_form_and_share_ties():
    a, b = torch.randperm(9, generator=torch.Generator().manual_seed(1)), torch.arange(9)
    known = 1 - 6 * (a - b).square().sum() / (9 * 80)
    assert rank_correlation(a.double().exp(), b).item() == pytest.approx(known.item())
    assert rank_correlation(torch.tensor([1.0, 2, 2, 3]), torch.tensor([1.0, 2, 3, 4])).item() == pytest.approx(
        4.5 / 22.5**0.5
    )
    assert rank_correlation(torch.zeros(4), torch.arange(4)).isnan()


def test_energy_and_quality_are_compared_over_steps_and_across_samples():
    x = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None]

    def closeness(answer: Tensor, target: Tensor) -> Tensor:
        return -(answer - target).abs()[:, 0]

    report = ebm.diagnose(Bowl(), x, steps=8, solver=ebm.Descent(0.3), target=x, quality=closeness, starts=0)
    assert report.over_steps is not None
    torch.testing.assert_close(report.over_steps, -torch.ones(6, dtype=torch.float64))
    assert report.across == pytest.approx(-1)
    away = ebm.diagnose(
        Bowl(), x, steps=8, solver=ebm.Descent(0.3), quality=lambda answer, _: answer[:, 0].abs().neg(), starts=0
    )
    assert away.over_steps is not None
    torch.testing.assert_close(away.over_steps, torch.ones(6, dtype=torch.float64))
    assert "energy and quality: -1.00 over steps, -1.00 across samples" in str(report)


def test_overthinking_is_counted_exactly():
    steps, first = 12, torch.tensor([1, 2, 3, 4, 1, 1, 1, 13])
    until = torch.tensor([6, 6, 6, 6, 6, 13, 13, 13])  # five samples forget at step 6, two keep it, one never knows
    when = torch.arange(steps + 1)
    right = (when >= first[:, None]) & (when < until[:, None])
    x = script(right, torch.full(right.shape, 0.9, dtype=torch.float64))
    report = ebm.diagnose(Script(), x, steps=steps, target=torch.ones(8, dtype=torch.int64), starts=0)
    assert report.quality is not None
    assert torch.equal(report.quality, right.T.double())
    assert report.best_step == 4
    assert report.overthinking == pytest.approx(5 / 8)
    assert report.lost == pytest.approx(5 / 8)
    assert report.overthinks
    assert "quality is 0.625 higher at step 4 than after 12" in report.advice[-1]
    kept = ebm.diagnose(Script(), x[5:], steps=steps, target=torch.ones(3, dtype=torch.int64), starts=0)
    assert not kept.overthinks
    assert kept.overthinking == 0


# Inference that changes nothing


def test_a_predictive_coding_net_that_starts_at_rest_is_found_out():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ebm.PredictiveCoding([4, 6, 3]).double()
    with pytest.warns(UserWarning, match="cannot change the answer"):
        report = ebm.diagnose(model, (numbers(7, 4), None), steps=10, starts=1)
    assert report.main is ebm.Outlook.INERT
    assert report.share(ebm.Outlook.INERT) == 1
    assert not report.changed.any()
    assert "cannot change the answer" in report.advice[0]
    busy = ebm.diagnose(model, (numbers(7, 4), numbers(7, 3)), steps=10, starts=1)
    assert busy.share(ebm.Outlook.INERT) == 0


def test_an_answer_that_stays_is_told_from_a_latent_that_stays():
    model = Bowl()
    model.readout = lambda z, c: torch.ones_like(z)  # type: ignore[method-assign]
    report = ebm.diagnose(model, numbers(5, 2), steps=20, starts=0)
    assert report.main is ebm.Outlook.AT_REST
    assert "never changes" in report.advice[-1]


# The report


def test_it_watches_to_the_end_whatever_the_model_would_stop_at():
    model = Tanh(3)
    model.default_stop = lambda: ebm.AtRest(10.0)  # type: ignore[method-assign]
    report = ebm.diagnose(model, numbers(4, 3), steps=15, starts=1)
    assert report.residual.shape == (16, 4)
    assert (report.residual[-1] < report.residual[0]).all()
    way = ebm.infer(Tanh(3), numbers(4, 3), steps=15, keep="last", record=["residual"]).trace["residual"]
    torch.testing.assert_close(report.residual, way)


def test_samples_that_stall_are_held_to_the_end():
    report = ebm.diagnose(Bowl(), numbers(4, 3), steps=300, starts=1)
    assert report.residual.shape == (301, 4)
    assert report.moves.shape == (300, 4)
    assert report.apart is not None
    assert report.apart.shape == (301, 4)
    assert (report.outlook == ebm.Outlook.AT_REST).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_of_several_parts_and_both_precisions(dtype: torch.dtype):
    tree = Tree(3).to(dtype)
    report = ebm.diagnose(tree, numbers(5, 3).to(dtype), steps=80, starts=2)
    assert (report.outlook == ebm.Outlook.AT_REST).all()
    torch.testing.assert_close(report.alignment, torch.ones(5, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_half_precision_is_not_taken_for_rest():
    report = ebm.diagnose(Map(lambda z: 0.5 * z), torch.ones(2, 2, dtype=torch.bfloat16), steps=5, starts=1)
    assert (report.outlook == ebm.Outlook.DESCENDING).all()
    torch.testing.assert_close(report.rate, torch.full((2,), 0.5, dtype=torch.float64), rtol=0.01, atol=0)


def test_what_fails_at_once_is_reported_and_drawn(tmp_path: Path):
    report = ebm.diagnose(Map(lambda z: z / 0), torch.ones(3, 2), steps=6)
    assert (report.outlook == ebm.Outlook.DIVERGES).all()
    assert report.residual.shape == (7, 3)
    assert len(report.advice) == 1
    pytest.importorskip("matplotlib")
    report.plot(tmp_path / "failed.png")


def test_the_same_call_gives_the_same_report_and_touches_no_global_generator():
    before = torch.get_rng_state()
    x = numbers(5, 3)
    reports = [ebm.diagnose(Well(), x, steps=10, generator=g) for g in (None, None)]
    reports += [ebm.diagnose(Well(), x, steps=10, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())

    def same(a: ebm.Diagnosis, b: ebm.Diagnosis) -> bool:
        pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
        return all(torch.equal(p.nan_to_num(), q.nan_to_num()) if isinstance(p, Tensor) else p == q for p, q in pairs)

    assert same(reports[0], reports[1])
    assert same(reports[2], reports[3])
    assert not same(reports[3], reports[4])


def test_the_twin_meets_the_same_noise():
    report = ebm.diagnose(
        Bowl(),
        numbers(5, 3),
        steps=30,
        solver=ebm.Langevin(0.05, 0.5),
        starts=0,
        generator=torch.Generator().manual_seed(0),
    )
    assert report.lyapunov is not None
    torch.testing.assert_close(
        report.lyapunov, torch.full((5,), math.log(0.95), dtype=torch.float64), rtol=0.01, atol=0
    )
    assert report.main is ebm.Outlook.UNSETTLED


def test_its_work_is_counted():
    model, x = ClosedQuadratic(), numbers(5, 3)
    call = ebm.infer(model, x, steps=10, keep="last", solver=ebm.Descent(0.3))
    alone = ebm.infer(model, x, steps=0, keep="last", solver=ebm.Descent(0.3))
    flops = [ebm.diagnose(model, x, steps=10, starts=k, solver=ebm.Descent(0.3)).flops for k in (0, 1, 2)]
    assert flops[2] - flops[1] == flops[1] - flops[0] == alone.flops + call.flops
    readouts = 10 * 5 * 2 * 3 * 4  # one an item after the first, of a matrix of 3 by 4
    probes = 10 * 5 * 2 * 4  # the engine's own look for what is not finite: the product of latent and force
    assert flops[0] == 2 * (call.flops + readouts + probes)


def test_the_text_says_what_was_found():
    text = str(ebm.diagnose(Quadratic(), numbers(20, 3), steps=60, solver=ebm.Descent(0.5)))
    for part in (
        "Quadratic, 20 samples, 60 steps of Descent",
        "residual",
        "energy",
        "near starts",
        "5 starts",
        "FLOPs",
        "Advice:\n  - ",
    ):
        assert part in text


def test_the_picture_is_drawn_on_a_path_or_on_axes(tmp_path: Path):
    figure = pytest.importorskip("matplotlib.figure")
    x = numbers(20, 3)
    reports = [
        ebm.diagnose(Quadratic(), x, steps=20, quality=lambda answer, _: -answer.square().sum(1)),
        ebm.diagnose(Map(lambda z: 0.5 * z), x, steps=20, starts=0),
        ebm.diagnose(ebm.Hopfield.store(x[:1].sign()), x.sign(), steps=6),
    ]
    for k, report in enumerate(reports):
        report.plot(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").read_bytes()[:4] == b"\x89PNG"
    axes = figure.Figure().subplots(2, 2)
    reports[0].plot(axes)
    assert all(axis.has_data() for axis in axes.flat)
    with pytest.raises(ValueError, match="4 panels; got 3"):
        reports[0].plot(list(axes.flat)[:3])


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    report = ebm.diagnose(Bowl(), numbers(3, 2), steps=5, starts=0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"equilibrate\[plot\]"):
        report.plot()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": 3}, "at least 4; got 3"),
        ({"steps": 10.0}, "whole number"),
        ({"steps": 10, "starts": -1}, "starts"),
        ({"steps": 10, "noise": math.nan}, "noise"),
        ({"steps": 10, "tolerance": 0.0}, "tolerance"),
        ({"steps": 10, "target": torch.zeros(4)}, "Accuracy wants logits"),
        ({"steps": 10, "quality": lambda answer, _: answer}, r"shape \(3,\); got \(3, 2\)"),
        ({"steps": 10, "quality": lambda answer, _: answer[:, 0] / 0}, "finite; got -?inf|finite; got nan"),
    ],
)
def test_what_it_refuses(settings: dict, match: str):
    with pytest.raises(ValueError, match=match):
        ebm.diagnose(Bowl(), numbers(3, 2), **settings)


def test_a_misspelt_setting_and_a_residual_of_zero():
    with pytest.raises(TypeError, match="Did you mean `starts=`"):
        ebm.diagnose(Bowl(), numbers(3, 2), steps=5, start=3)  # type: ignore[call-arg]
    report = ebm.diagnose(Bowl(), numbers(3, 2), steps=5, starts=0)
    with pytest.raises(ValueError, match="above zero"):
        report.steps_to(0.0)
    assert len(replace(report, steps=7)) == 3
