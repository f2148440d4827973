"""The data side of the jobs: every source behind one door, and the random shifts of training."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.nn import functional

from support import cifar, mnist
from support.cifar import cifar_files
from support.dataset import Dataset, Split
from support.folders import folder_at
from support.mnist import mnist_files, mnist_subset
from support.patches import photo_patches

__all__ = ["Dataset", "Split", "cifar_files", "mnist_files", "mnist_subset", "photo_patches", "read_images", "shift"]


def read_images(data_dir: str | os.PathLike[str], validation: int = 5_000, smoke: bool = False) -> Dataset:
    """The user's own MNIST or CIFAR-10, recognised by the names of the files: for ``--data-dir``.

    Args:
        data_dir: a folder, see ``mnist_files`` and ``cifar_files`` for where in it the files may lie.
        validation: training images held out for choosing step counts and thresholds, stratified.
        smoke: a few hundred images only.

    Raises:
        OSError: the folder or one of the files is not there, or nothing is recognised.
        ValueError: both are there, or a file is not what its name says.
    """
    folder = folder_at(data_dir)
    is_mnist, is_cifar = mnist.find_mnist(folder) is not None, cifar.find_cifar(folder) is not None
    if is_mnist and is_cifar:
        raise ValueError(
            f"{folder} holds both MNIST and CIFAR-10; one of them is wanted. Pass the folder of the one you mean."
        )
    if is_mnist:
        return mnist_files(folder, validation, smoke)
    if is_cifar:
        return cifar_files(folder, validation, smoke)
    raise FileNotFoundError(
        f"{folder} holds no images that are recognised. Looked for\n  {mnist.LOOKED_FOR};\n  {cifar.LOOKED_FOR}.\n"
        "Pass the folder that holds the files of one of these, archives unpacked."
    )


def shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by its own random offset, and zeros where it came from.

    Args:
        images: (N, C, H, W).
        pixels: the largest offset; rows and columns are each drawn evenly from ``-pixels`` to ``pixels``.
        generator: draws (2, N) integers.

    Returns:
        Tensor (N, C, H, W), a new one.

    Raises:
        ValueError: ``images`` has not four axes, or ``pixels`` is negative.
    """
    if images.ndim != 4:
        raise ValueError(
            f"`images` has shape {tuple(images.shape)}; (N, C, H, W) is wanted. Add the axes that are missing."
        )
    if pixels < 0:
        raise ValueError(f"`pixels` is {pixels}; 0 or more is wanted. Offsets go both ways, so pass the largest.")
    count, _, height, width = images.shape
    drawn = torch.randint(2 * pixels + 1, (2, count), generator=generator, device=generator.device)
    top, left = drawn.to(images.device)
    padded = functional.pad(images, (pixels, pixels, pixels, pixels))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, top, left]
