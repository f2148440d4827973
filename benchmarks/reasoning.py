"""The table of record of the reasoning suite: writes docs/reasoning.md from the saved results in docs/reasoning.

Run an example (`python examples/connectivity.py --out docs/reasoning`), then `python benchmarks/reasoning.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from ebm.files import write_text

DOCS = Path(__file__).parents[1] / "docs"

HEAD = """# Reasoning: what a small model reaches by settling longer

Every model here was trained on small or easy problems and is asked about larger or harder ones than it ever saw. The tables hold every seed that was run, the first model being the
one that settles; the last columns are the hardest. A figure is the score after the most steps of its trial, a fixed budget named in the file of results and not the best
step after the fact; weights were chosen on held-out problems somewhat larger than those trained on, at most about twice, and what other choices would have given
stands below each table. Seconds are processor seconds of training, on one core of a shared machine. Each table but the last has a feed-forward network of at least thirty times the parameters, with the same gates and
neighbours but weights of its own in every layer (for matrices, layers on all entries), trained on the same problems, and the answers that take no learning.

This page is written by `python benchmarks/reasoning.py` from the saved results in `docs/reasoning`, which the examples write.
"""


def page(folder: Path = DOCS / "reasoning") -> str:
    """The whole page."""
    parts = [HEAD]
    for note in json.loads((folder / "notes.json").read_text()):
        record = json.loads((folder / f"{note['name']}.json").read_text())
        if record["facts"]["smoke"]:
            raise SystemExit(f"{note['name']}.json holds a smoke run. Run the example without --smoke.")
        parts.append(_exchange(note, record) if "laws" in record else _section(note, record))
    return "\n".join(parts)


def _section(note: dict[str, Any], record: dict[str, Any]) -> str:
    trials = list(record["metrics"])
    lines = [
        f"## {record['title']}\n",
        f"`python examples/{note['name']}.py`; {next(iter(record['metrics'].values()))}{'' if record['lower_is_better'] else ', in %'}. {note['before']}\n",
        f"| model | parameters | seed | seconds | {' | '.join(trials)} |",
        "|---" * (4 + len(trials)) + "|",
    ]
    for each in _sorted(record):
        cells = " | ".join(
            _figure(record, list(each["scores"].get(trial, {"": None}).values())[-1]) for trial in trials
        )
        lines.append(
            f"| {each['contender']} | {each['parameters']:,} | {each['seed']} | {each['seconds']:.0f} | {cells} |"
        )
    for name in next(iter(record["baselines"].values())):
        cells = " | ".join(_figure(record, record["baselines"][trial].get(name)) for trial in trials)
        lines.append(f"| {name} | 0 | | | {cells} |")
    for peer in note["peers"]:
        cells = " | ".join(peer["figures"].get(trial, "-") for trial in trials)
        lines.append(f"| *{peer['name']}* | {peer['parameters']} | | | {cells} |")
    steps = ", ".join(f"{trial}: {list(_first(record)['scores'][trial])[-1]}" for trial in trials)
    counts = ", ".join(f"{trial}: {record['counts'][trial]}" for trial in trials)
    lines += [
        "",
        f"Steps: {steps}. Problems: {counts}.\n",
        _apart(record),
        _halting(record),
        _twins(record),
        *(_table(table) for table in record.get("tables", [])),
        note["after"],
    ]
    lines.append(f"\n![score against steps](images/reasoning_{note['name']}.png)\n")
    return "\n".join(line for line in lines if line is not None)


def _sorted(record: dict[str, Any]) -> list[dict[str, Any]]:
    order = list(dict.fromkeys(each["contender"] for each in record["outcomes"]))
    return sorted(record["outcomes"], key=lambda each: (order.index(each["contender"]), each["seed"]))


def _first(record: dict[str, Any]) -> dict[str, Any]:
    return record["outcomes"][0]


def _figure(record: dict[str, Any], score: float | None) -> str:
    """A share in per cent, or an error as it is."""
    if score is None:
        return "-"
    return f"{score:.3g}" if record["lower_is_better"] else f"{100 * score:.2f}"


def _apart(record: dict[str, Any]) -> str | None:
    """What other ways of choosing weights would have given, the mean over seeds of the first model; None where it has none to choose."""
    mine = [each for each in record["outcomes"] if each["contender"] == _first(record)["contender"]]
    if not mine[0]["apart"]:
        return None
    said, worst = [], max if record["lower_is_better"] else min
    for way in mine[0]["apart"]:
        figures = ", ".join(
            f"{trial} {_figure(record, mean(each['apart'][way][trial] for each in mine))} (worst {_figure(record, worst(each['apart'][way][trial] for each in mine))})"
            for trial in mine[0]["apart"][way]
        )
        name = "the last weights" if way == "last" else f"chosen on {way}"
        said.append(f"{name}: {figures}")
    return f"Of {mine[0]['contender']}, means over seeds on up to 20 problems, by the way of choosing weights (here: {record['choice']}): {'; '.join(said)}.\n"


def _halting(record: dict[str, Any]) -> str:
    """Leaving at rest beside a fixed number of steps."""
    lines = [
        f"Leaving when at rest (`{record['halting']['rule']}`, first seed), beside all steps for everybody:\n",
        "| | mean steps | of | share of the FLOPs | share of the time | score | with all steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for trial, facts in record["halting"]["trials"].items():
        flops, seconds = (facts[f"halted {what}"] / facts[f"fixed {what}"] for what in ("flops", "seconds"))
        lines.append(
            f"| {trial} | {facts['halted steps']:.1f} | {facts['most']:.0f} | {flops:.2f} | {seconds:.2f} | {_figure(record, facts['halted score'])} | {_figure(record, facts['fixed score'])} |"
        )
    return "\n".join(lines) + "\n"


def _exchange(note: dict[str, Any], record: dict[str, Any]) -> str:
    """Parameters against steps: what each model needs to be as right as the others, and the laws."""
    trials = list(record["rows"][0]["needed"])
    lines = [
        f"## {record['title']}\n",
        f"`python examples/{note['name']}.py`; steps until {100 * record['right']:.0f} % are right. {note['before']}\n",
        f"| model | parameters | seed | seconds | {' | '.join(trials)} |",
        "|---" * (4 + len(trials)) + "|",
    ]
    for row in record["rows"]:
        cells = " | ".join(str(row["needed"][trial] or "never") for trial in trials)
        lines.append(f"| {row['model']} | {row['parameters']:,} | {row['seed']} | {row['seconds']:.0f} | {cells} |")
    laws = ", ".join(f"{trial}: {law['slope']:.2f}" for trial, law in record["laws"].items())
    lines.append(
        f"\nSlope of log steps on log parameters, least squares over all models that get there: {laws}. {note['after']}"
    )
    lines.append(f"\n![steps against parameters](images/reasoning_{note['name']}.png)\n")
    return "\n".join(lines)


def _table(table: dict[str, Any]) -> str:
    """A table that only one task has."""
    lines = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    return f"{table['title']}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _twins(record: dict[str, Any]) -> str | None:
    """Who of update and energy won, and by how much."""

    def scores(name: str, trial: str) -> list[float]:
        return [
            list(each["scores"][trial].values())[-1]
            for each in record["outcomes"]
            if each["contender"] == name and trial in each["scores"]
        ]

    update, energy = _first(record)["contender"], "its energy twin"
    shared = [trial for trial in record["metrics"] if scores(energy, trial)]
    if not shared:
        return None
    said = ", ".join(
        f"{100 * (mean(scores(update, trial)) - mean(scores(energy, trial))):+.1f} points at {trial}"
        for trial in shared
    )
    return f"Update beside energy twin, equal parameters, means over seeds: {said} (positive: the update is ahead).\n"


def main(argv: list[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write docs/reasoning.md from the saved results.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    args = parser.parse_args(argv)
    text, path = page(), DOCS / "reasoning.md"
    if args.check:
        raise SystemExit(
            None if path.read_text() == text else f"{path} is not what the results say. Run without --check."
        )
    write_text(path, text)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
