"""Depth against breadth: the example runs small, and its figures are what they are said to be."""

from __future__ import annotations

import json
from pathlib import Path

import depth_against_breadth
import pytest
import torch

import ebm
from support.breadth import compare
from support.landscapes import phases, spins, waves


def test_the_example_runs_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    depth_against_breadth.main(["--smoke", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "depth_against_breadth.json").read_text())
    assert (tmp_path / "depth_against_breadth.png").stat().st_size > 20_000
    said = capsys.readouterr().out
    assert len(found["tasks"]) == 3 and all(sentence in said for sentence in found["verdict"])
    for task in found["tasks"]:
        names = [contender["name"] for contender in task["contenders"]]
        assert names[:3] == ["one start", "4 starts", "4 starts, halved"] and names[-1] == "random points, not settled"
        for contender in task["contenders"]:
            gaps = torch.tensor(contender["mean_gap_by_seed"])
            assert gaps.shape == (2, len(task["flops_a_sample"])) and (gaps > -1e-9).all()


def test_settings_are_checked(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        depth_against_breadth.main(["--evals", "12"])
    assert "--evals must be at least 128; got 12" in capsys.readouterr().err


def test_the_lowest_energies_are_reached_at_known_points():
    task = spins(2, size=6)
    states = 2 * (torch.arange(64)[:, None] >> torch.arange(6) & 1).double() - 1
    for couplings, lowest in zip(task.x, task.lowest, strict=True):
        with torch.no_grad():
            energy = task.model(30 * states, couplings.expand(64, 6, 6))
        torch.testing.assert_close(energy.min(), lowest)
    hard = phases(2)
    generator = torch.Generator().manual_seed(0)
    found = ebm.infer(
        hard.model, hard.x, steps=300, solver=ebm.Restarts(64, ebm.AdaptiveDescent()), generator=generator
    )
    assert (found.energy < 1e-6).all() and (hard.lowest == 0).all()  # type: ignore[operator]


@pytest.mark.slow
def test_gaps_never_rise_with_the_budget_and_no_contender_exceeds_it():
    task = waves(3)
    result = compare(task, 2, 256)
    for curve in result.curves:
        if not curve.name.startswith("Langevin"):  # each of its budgets ends in a descent of its own
            assert (curve.gap.diff(dim=0) <= 0).all(), curve.name
    first = ebm.infer(task.model, task.x, steps=0, generator=torch.Generator().manual_seed(0))
    wide = next(curve for curve in result.curves if curve.name == "64 starts")
    start = first.energy - task.lowest  # type: ignore[operator]
    assert (wide.gap[0, 0] <= start + 1e-9).all()
    assert (wide.gap[:2, 0] == wide.gap[0, 0]).all(), "32 evaluations cannot place 64 starts: the start is the answer"
