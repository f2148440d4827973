"""The reasoning protocol: scores along one settling, rivals, records, and the page that is written from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ebm
from ebm.tasks import PrefixSums
from ebm.training import Recipe, Supervised, Validation

ROOT = Path(__file__).parents[2]
TASK = PrefixSums(6)


def cell() -> ebm.GatedCell:
    return ebm.GatedCell(1, 3, nn.Conv1d(3, 2, 1), dims=1)


def layer(head: nn.Module | None) -> ebm.GatedCell:
    return ebm.GatedCell(1, 3, head, dims=1)


def rival() -> nn.Module:
    from support.highway import Highway

    return Highway(layer, 3, nn.Conv1d(3, 2, 1))


def experiment() -> Any:
    from support.reasoning import Contender, Experiment, Trial

    rule = ebm.Progressive(TASK.loss, burn_in=(0, 4), steps=2)
    return Experiment(
        name="tried",
        title="Tried",
        tasks=(TASK,),
        contenders=(
            Contender("cell", cell, rule, Recipe(updates=4, batch=4, every=2)),
            Contender("rival", rival, Supervised(TASK.loss), Recipe(updates=4, batch=4, every=2), trials=1, seeds=1),
        ),
        looks=(Validation("6", TASK, 5, 4), Validation("12", PrefixSums(12), 5, 4)),
        choice="12",
        trials=(Trial("6 bits", TASK, 7, (1, 3, 5), batch=3), Trial("12 bits", PrefixSums(12), 5, (2, 4))),
    )


def test_scores_along_one_settling_are_those_of_calls_apart() -> None:
    from support.answering import answered

    torch.manual_seed(0)
    model, trial = cell(), replace(experiment().trials[0], score=lambda answer, y: (answer.argmax(1) == y).double())
    x, y = trial.problems()
    found = answered(model, trial).scores
    for count in trial.steps:
        answer = ebm.infer(model, x, steps=count, keep="last", adjoint=ebm.Detached()).answer
        assert found[str(count)] == pytest.approx(float((answer.argmax(1) == y).double().mean()))
    assert list(answered(rival(), trial).scores) == ["1"]


def test_a_highway_is_its_layers_each_stepped_once() -> None:
    torch.manual_seed(0)
    model, (x, _) = rival(), TASK.sample(4, torch.Generator().manual_seed(1))
    z = torch.zeros(4, 3, 6)
    for each in model.layers:  # type: ignore[union-attr]
        z = each(z, each.condition(x))
    assert torch.allclose(model(x), model.layers[-1].head(z))  # type: ignore[union-attr, index, operator]


def test_every_contender_is_trained_with_its_seeds_and_chosen_as_said() -> None:
    from support.answering import halted
    from support.reasoning import baselines, learned

    tried = experiment()
    outcomes = learned(tried, [0, 1], workers=1)
    assert [(each.contender, each.seed) for each in outcomes] == [("cell", 0), ("cell", 1), ("rival", 0)]
    assert list(outcomes[0].scores) == ["6 bits", "12 bits"] and list(outcomes[2].scores) == ["6 bits"]
    assert list(outcomes[0].apart) == ["last", "6", "12"] and not outcomes[2].apart
    again = learned(tried, [1], workers=1)[0]
    assert all(again.weights[name].equal(value) for name, value in outcomes[1].weights.items())
    assert set(baselines(tried)["6 bits"]) == {each.name for each in TASK.baselines()}
    model = cell()
    facts = halted(model, tried.trials[0], ebm.AtRest(1e9), repeats=1)
    assert facts["halted steps"] == 0.0 and facts["fixed steps"] == 5.0 and facts["halted flops"] < facts["fixed flops"]


def test_a_run_that_was_broken_off_goes_on_and_one_with_other_settings_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support import reasoning

    tried = experiment()
    first = reasoning.learned(tried, [0], 1, tmp_path)
    made: list[str] = []
    original = reasoning._made

    def counted(whole: Any, index: int, seed: int) -> Any:
        made.append(f"{whole.contenders[index].name} {seed}")
        return original(whole, index, seed)

    monkeypatch.setattr(reasoning, "_made", counted)
    again = reasoning.learned(tried, [0, 1], 1, tmp_path)
    assert made == ["cell 1"]
    assert [each.scores for each in again if each.seed == 0] == [each.scores for each in first]
    assert all(again[0].weights[name].equal(value) for name, value in first[0].weights.items())
    longer = replace(tried, trials=(replace(tried.trials[0], steps=(1, 4)), tried.trials[1]))
    assert list(reasoning.learned(longer, [0], 1, tmp_path)[0].scores["6 bits"]) == ["1", "4"]
    assert made == ["cell 1", "cell 0", "rival 0"]
    monkeypatch.setattr(reasoning, "_source", lambda build: "another example")
    reasoning.learned(longer, [0], 1, tmp_path)
    assert made == ["cell 1", "cell 0", "rival 0", "cell 0", "rival 0"]


def test_a_contender_without_a_rule_is_asked_as_it_is(tmp_path: Path) -> None:
    import reasoning

    from support.reasoning import Contender, learned

    tried = replace(experiment(), contenders=(Contender("cell", cell, None, None),))
    (found,) = learned(tried.small(), [0], 1, tmp_path)
    torch.manual_seed(0)
    for name, weight in cell().state_dict().items():
        assert torch.equal(found.weights[name], weight)
    assert (found.seconds, found.update, found.apart) == (0.0, 0, {})
    assert list(found.scores["6 bits"]) == ["1", "2", "4"]
    assert reasoning._apart({"outcomes": [{"contender": "cell", "apart": {}}], "choice": "12"}) is None


def test_the_page_shows_further_tables_and_the_exchange(tmp_path: Path) -> None:
    import reasoning

    note = json.loads((ROOT / "docs" / "reasoning" / "notes.json").read_text())[0]
    record = json.loads((ROOT / "docs" / "reasoning" / f"{note['name']}.json").read_text())
    record["tables"] = [{"title": "By givens.", "columns": ["givens", "8 steps"], "rows": [["24", "51.5"]]}]
    (tmp_path / f"{note['name']}.json").write_text(json.dumps(record))
    rows = [
        {"model": "kernel 3", "parameters": 986, "seed": 0, "seconds": 3.0, "needed": {"64 bits": 70, "128 bits": None}}
    ]
    law = {"64 bits": {"slope": -0.5, "offset": 1.0}}
    other = {"title": "Exchange", "facts": {"smoke": False}, "right": 0.95, "rows": rows, "laws": law}
    (tmp_path / "exchange.json").write_text(json.dumps(other))
    notes = [note, {"name": "exchange", "before": "Before.", "after": "After."}]
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    page = reasoning.page(tmp_path)
    assert "By givens.\n\n| givens | 8 steps |\n| --- | --- |\n| 24 | 51.5 |" in page
    assert "| kernel 3 | 986 | 0 | 3 | 70 | never |" in page and "64 bits: -0.50. After." in page


def test_errors_are_shown_as_they_are_and_the_largest_is_the_worst(tmp_path: Path) -> None:
    import reasoning

    from support import reasoning_report

    record = {
        "title": "Errors",
        "facts": {"smoke": False},
        "choice": "look",
        "metrics": {"easy": "mean squared error", "hard": "mean squared error"},
        "lower_is_better": True,
        "counts": {"easy": 5, "hard": 5},
        "outcomes": [
            {"contender": "energy", "seed": seed, "parameters": 1, "seconds": 2.0, "update": 3,
             "scores": {"easy": {"1": 0.5, "4": error}, "hard": {"4": 0.25}}, "apart": {"last": {"easy": error}}}
            for seed, error in ((0, 0.0123), (1, 0.04))
        ],
        "baselines": {"easy": {"the mean": 1.0}, "hard": {"the mean": 2.0}},
        "halting": {"rule": "AtRest", "trials": {}},
    }  # fmt: skip
    note = {"name": "errors", "before": "Before.", "after": "After.", "peers": []}
    (tmp_path / "errors.json").write_text(json.dumps(record))
    (tmp_path / "notes.json").write_text(json.dumps([note]))
    page = reasoning.page(tmp_path)
    assert "mean squared error. Before." in page and "%" not in page[page.index("## Errors") :]
    assert "| energy | 1 | 0 | 2 | 0.0123 | 0.25 |" in page and "| the mean | 0 | | | 1 | 2 |" in page
    assert "easy 0.0261 (worst 0.04)" in page
    assert reasoning_report._metric(record) == "mean squared error"
    assert [reasoning_report._figure(record, score) for score in (0.0123, None)] == ["0.0123", "-"]


def test_the_page_says_what_the_saved_results_say() -> None:
    import reasoning

    assert (ROOT / "docs" / "reasoning.md").read_text() == reasoning.page()


def test_a_smoke_run_is_no_result(tmp_path: Path) -> None:
    import reasoning

    name = json.loads((ROOT / "docs" / "reasoning" / "notes.json").read_text())[0]
    record = json.loads((ROOT / "docs" / "reasoning" / f"{name['name']}.json").read_text())
    record["facts"]["smoke"] = True
    (tmp_path / "notes.json").write_text(json.dumps([name]))
    (tmp_path / f"{name['name']}.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="holds a smoke run"):
        reasoning.page(tmp_path)
