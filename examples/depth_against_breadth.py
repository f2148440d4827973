"""
Depth against breadth: one long descent, or many short ones?
=============================================================

A budget of evaluations can settle one start for long, or several starts for a shorter time each. Three tasks with local minima
(waves over a bowl, phase retrieval, a relaxed spin glass whose ground states are known by enumeration) are settled with 1, 4, 16
and 64 starts a sample at *equal executed FLOPs*, with and without dropping the worse half every few steps (``ebm.Restarts``).
Beside them: Langevin noise as the other way out of a local minimum, and the best of as many random points as the budget can
evaluate. Every seed counts; the table and the picture say at which budget which width wins.
"""

# sphinx_gallery_thumbnail_path = "images/depth_against_breadth.png"

import argparse
import time
from pathlib import Path

from support.breadth import compare, picture, print_table, verdict, write_json
from support.landscapes import phases, spins, waves
from support.notebook import given


def main(argv: list[str] | None = None) -> None:
    """Settle, compare, and draw."""
    parser = argparse.ArgumentParser(
        description="Depth against breadth at equal FLOPs.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=24, help="problems of each task, at least 1")
    parser.add_argument("--seeds", type=int, default=5, help="how often each is settled from other starts, at least 1")
    parser.add_argument("--evals", type=int, default=4096, help="the largest budget, in evaluations; at least 128")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder for depth_against_breadth.json and .png"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    for name, least in (("instances", 1), ("seeds", 1), ("evals", 128)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}; got {getattr(args, name)}")
    instances, seeds, evals = (2, 2, 64) if args.smoke else (args.instances, args.seeds, args.evals)

    began = time.perf_counter()
    results = []
    for make in (waves, phases, spins):
        task = make(instances)
        results.append(compare(task, seeds, evals))
        print_table(results[-1])
    sentences = [verdict(result) for result in results]
    print()
    write_json(args.out / "depth_against_breadth.json", results, sentences, args.smoke)
    picture(args.out / "depth_against_breadth.png", results)
    print("\n" + "\n".join(sentences))
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
