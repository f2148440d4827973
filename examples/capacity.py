"""
How much does a memory hold? Recall against load, with theory drawn in
======================================================================

Random patterns of +-1 are stored and asked for, and the network settles one unit after the other. A pattern counts as recalled if more than 0.9 of the
overlap is left when nothing wants to flip. Five questions, one picture:

- Hebb's rule forgets everything at once. Where, for several sizes up to 4,000 units, and where for infinite size? (Theory: 0.138.)
- How much more do Storkey's rule and the pseudo-inverse hold?
- From which loads does the pseudo-inverse recall queries with one unit in ten turned over? (One-step theory: 0.52.)
- How does the capacity of a dense memory with cubic energy grow with its size? (Theory: as the square.)
- How noisy may a query be for a modern Hopfield network with 10,000 patterns in 64 dimensions? (Ceiling: the nearest stored pattern.)
"""

# sphinx_gallery_thumbnail_path = "images/capacity.png"

import argparse
import time
from pathlib import Path

from support.capacity_report import picture, sentences, write_json
from support.loads import cubic, hebb_cliff, modern, projections, stores
from support.notebook import given


def main(argv: list[str] | None = None) -> None:
    """Sweep, extrapolate, draw."""
    parser = argparse.ArgumentParser(
        description="Recall against load, with theory drawn in.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=4_000, help="units of the largest Hebbian memory, at least 500")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for capacity.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    if args.largest < 500:
        parser.error(f"--largest must be at least 500; got {args.largest}")

    began = time.perf_counter()
    found = {}
    for part in (hebb_cliff, stores, projections, cubic, modern):
        found[part.__name__] = part(args.smoke, args.largest)
        print(f"{part.__name__}: done after {time.perf_counter() - began:.0f} seconds")
    said = sentences(found)
    write_json(args.out / "capacity.json", found, said, args.smoke)
    picture(args.out / "capacity.png", found)
    print("\n" + "\n".join(said))


if __name__ == "__main__":
    main()
