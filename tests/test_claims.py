"""What README prints of the reasoning suite is what the stored records say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# The "asked about" of each row, and the record and trial behind it.
ROWS = {
    "2,048 bits": ("prefix_sums", "2,048 bits"),
    "512 places": ("parity", "512 places"),
    "size 33": ("mazes", "size 33"),
    "size 59": ("mazes", "size 59"),
    "9 digits, 31 to 42 givens": ("sudoku", "9 digits, 31 to 42 givens"),
    "9 digits, 22 to 34 givens": ("sudoku", "9 digits, 17 to 34 givens"),
    "16 a side": ("planning_grid", "16 a side"),
    "24 a side": ("planning_grid", "24 a side"),
    "100 nodes, balanced accuracy": ("connectivity", "100 nodes, balanced"),
    "25 nodes": ("shortest_path", "25 nodes"),
}


def cells(asked: str) -> list[str]:
    """The cells of a row of README's second table."""
    (line,) = [line for line in README.splitlines() if f"| {asked} |" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_row_has_a_record() -> None:
    table = README[README.index("| task, as trained |") :].split("\n\n")[0].splitlines()[2:]
    assert {row.strip("|").split("|")[1].strip() for row in table} == set(ROWS)


@pytest.mark.parametrize("asked", ROWS)
def test_a_row_is_what_its_record_says(asked: str) -> None:
    from support.answering import interval

    name, trial = ROWS[asked]
    record = json.loads((ROOT / "docs" / "reasoning" / f"{name}.json").read_text())
    first = record["outcomes"][0]["contender"]
    outcomes = sorted(
        (each for each in record["outcomes"] if each["contender"] == first), key=lambda each: each["seed"]
    )
    scores = [list(each["scores"][trial].values())[-1] for each in outcomes]
    row, count = cells(asked), record["counts"][trial]
    assert int(row[3].replace(",", "")) == count
    assert [int(figure) for figure in row[4].split()] == [round(100 * score) for score in scores]
    if row[2]:
        assert int(row[2].replace(",", "")) == outcomes[0]["parameters"]
    if row[5]:
        right = round(min(scores) * count)
        low, high = interval(torch.tensor([1.0] * right + [0.0] * (count - right), dtype=torch.float64))
        shown = [float(end) for end in re.findall(r"[\d.]+", row[5])]
        assert shown == pytest.approx([100 * low, 100 * high], abs=0.5)


def test_answers_without_learning_are_those_of_the_records() -> None:
    for asked, baseline in (
        ("9 digits, 22 to 34 givens", "naked and hidden singles"),
        ("100 nodes, balanced accuracy", "paths of two links"),
        ("25 nodes", "the node with most links"),
    ):
        name, trial = ROWS[asked]
        record = json.loads((ROOT / "docs" / "reasoning" / f"{name}.json").read_text())
        if "balanced" in trial:  # the score of a trial is that of its baselines, too
            assert record["baselines"][trial]["the commoner answer"] == pytest.approx(0.5)
        shown = float(cells(asked)[6].split(",")[0])
        assert shown == pytest.approx(100 * record["baselines"][trial][baseline], abs=0.5)


def scores(name: str, trial: str, contender: str) -> list[float]:
    record = json.loads((ROOT / "docs" / "reasoning" / f"{name}.json").read_text())
    return [list(o["scores"][trial].values())[-1] for o in record["outcomes"] if o["contender"] == contender]


def test_what_is_said_of_rivals_is_what_the_records_say() -> None:
    words = " ".join(README.split())
    record = json.loads((ROOT / "docs" / "reasoning" / "prefix_sums.json").read_text())
    flops, parameters = {}, {}
    for outcome in record["outcomes"]:
        flops[outcome["contender"]] = outcome["flops"].get("2,048 bits")
        parameters[outcome["contender"]] = outcome["parameters"]
    ratio = round(flops["gated cell"] / flops["GRU"], -3)
    assert f"unit of {parameters['GRU']} parameters, tuned over six settings" in words
    assert f"for 1/{ratio:,.0f} of the FLOPs at 2,048 bits" in words
    assert len(record["tuning"]["GRU"]) == 6 and scores("prefix_sums", "2,048 bits", "GRU") == [1.0] * 5
    graph = scores("connectivity", "100 nodes, balanced", "graph net, 32 layers")
    assert "26,705 parameters has 98 % of the balanced pairs" in words and round(100 * sum(graph) / len(graph)) == 98
    for name, trial, cell in (
        ("prefix_sums", "128 bits", "gated cell"),
        ("connectivity", "100 nodes, balanced", "message cell, maximum"),
    ):
        twins = scores(name, trial, "its energy twin")
        assert len(twins) == 5 and max(twins) < min(scores(name, trial, cell))
