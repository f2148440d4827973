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

Each model was trained on small or easy problems. The last columns of a table are larger or harder problems than it saw.

- A table holds every seed that was run. The first model is the one that settles.
- A figure is the score after the most steps of its trial. That number is fixed before the test and stands in the file of results; it is not the best step after the fact.
- Weights were chosen on held-out problems somewhat larger than those trained on. What other choices would have given stands below the table.
- Seconds are processor seconds of training on one core, looks at the held-out problems not counted.
- Beside the model stand a feed-forward network with the same gates and weights of its own in every layer, and the answers that take no learning.
- Published figures are of other groups' problems and protocols; the text above a table says where they differ in kind.

**Records without a line of origin are older than the examples.** They were made before the examples gained a rival that a sceptic would name for each
task, tuned over several settings, more problems and seeds, energy twins with as many updates as the cells, and Sudoku boards that singles do not solve.
A newer record also holds intervals of 95 % (Wilson's for shares of problems that are right), executed FLOPs, the tuning, and the command, commit and
date of its making, and its weights are in `docs/reasoning/weights`. So far these are prefix sums and connectivity.

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
        cells = " | ".join(_within(record, each, trial) for trial in trials)
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
        _work(record),
        _tuning(record),
        _apart(record),
        _halting(record),
        _twins(record),
        *(_table(table) for table in record.get("tables", [])),
        note["after"],
        _made(record),
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


def _within(record: dict[str, Any], outcome: dict[str, Any], trial: str) -> str:
    """The score at the most steps, with its interval where there is one."""
    figure = _figure(record, list(outcome["scores"].get(trial, {"": None}).values())[-1])
    ends = outcome.get("intervals", {}).get(trial)
    if ends is None:
        return figure
    low, high = (f"{end:.3g}" if record["lower_is_better"] else f"{100 * end:.1f}" for end in ends)
    return f"{figure} ({low} to {high})"


def _work(record: dict[str, Any]) -> str | None:
    """What each model executes; None where the record does not say."""
    trials = list(record["metrics"])
    firsts = {each["contender"]: each for each in reversed(_sorted(record)) if "flops" in each}
    if not firsts:
        return None
    rows = []
    for name in reversed(firsts):
        flops = firsts[name]["flops"]
        cells = [f"{flops[trial] / 1e6:,.3g}" if trial in flops else "-" for trial in trials]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(
        [
            "Executed a problem, in MFLOPs, at the steps above:\n",
            f"| model | {' | '.join(trials)} |",
            "|---" * (1 + len(trials)) + "|",
            *rows,
            "",
        ]
    )


def _tuning(record: dict[str, Any]) -> str | None:
    """The settings that rivals were tried with, and what each scored on the look that chooses weights."""
    said = []
    for name, tried in record.get("tuning", {}).items():
        each = ", ".join(
            f"{one['variant']} {_figure(record, one['score'])}{' (chosen)' if one.get('chosen') else ''}"
            for one in tried
        )
        said.append(f"{name}: {each}.")
    return f"Tuned on {record['choice']}, with a seed that is not reported. {' '.join(said)}\n" if said else None


def _made(record: dict[str, Any]) -> str | None:
    """The command, commit, date and processor; None where the record is older than these facts."""
    facts = record["facts"]
    if "commit" not in facts:
        return None
    return f"\nRecord: `{facts['command']}` at commit {facts['commit']}, {facts['date'][:10]}, {facts['processor']}, torch {facts['torch']}."


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
