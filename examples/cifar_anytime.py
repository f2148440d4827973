"""
Anytime colour images: the same job on CIFAR-10 files or photo patches
======================================================================

The job of ``mnist_anytime.py`` in colour. With ``--data-dir`` it reads CIFAR-10 from your own files, in the binary or the
Python layout. By default the images are 32 x 32 patches cut from the photographs that scikit-image ships, and the question is
which photograph a patch comes from; training, validation and test patches come from regions that share no pixel.
"""

import argparse

from support.data import Dataset, photo_patches, read_images
from support.job import arguments, run


def load(args: argparse.Namespace) -> Dataset:
    """The user's own files where a folder is given, or photo patches."""
    return photo_patches(smoke=args.smoke) if args.data_dir is None else read_images(args.data_dir, smoke=args.smoke)


def main(argv: list[str] | None = None) -> None:
    """Train, compare, and draw."""
    run(
        "cifar_anytime",
        arguments("A small model that settles, against larger ones that do not.", "cifar_anytime"),
        argv,
        load,
    )


if __name__ == "__main__":
    main()
