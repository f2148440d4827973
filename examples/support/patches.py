"""Which photograph is this patch from? Colour images for a machine without CIFAR and without a network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from support.dataset import Dataset, Raw, Split, dealt

__all__ = ["BLOCK", "PATCH", "PHOTOGRAPHS", "Corners", "corners", "photo_patches", "photograph"]

PATCH = 32
BLOCK = 64
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}
"""The colour photographs inside the scikit-image package, by class: nothing is downloaded."""

Corners = tuple[Tensor, Tensor, Tensor]
"""Top left corners of the train, validation and test patches of one photograph, each (n, 2), int64: row, column."""


def photo_patches(
    train: int = 500, validation: int = 100, test: int = 200, seed: int = 0, smoke: bool = False
) -> Dataset:
    """32 x 32 RGB patches of eight photographs; the class is the photograph.

    Each photograph is cut into blocks of 64 x 64 pixels; a quarter of the blocks, drawn by lot, is for the test, an
    eighth for validation, the rest for learning. A patch lies wholly within a block, so no two splits share a pixel.
    They do share photographs: that is the task. Neighbouring blocks may be in different splits and look alike, so the
    numbers say nothing about new photographs. Patches of one split may overlap.

    Args:
        train: patches of each photograph to learn from, all at different places.
        validation: the same, for choosing step counts and thresholds.
        test: the same, for the table.
        seed: of the blocks and the places.
        smoke: a few hundred patches only.

    Raises:
        ImportError: scikit-image is not installed.
        FileNotFoundError: this scikit-image does not ship one of the photographs.
        ValueError: a count is below 1, or over the number of places.

    Source: the photographs are those of scikit-image (van der Walt et al., 2014), which names the authors and licences.
    """
    generator = torch.Generator().manual_seed(seed)
    patches: list[list[NDArray[np.uint8]]] = [[], [], []]
    for name in PHOTOGRAPHS:
        picture = photograph(name)
        places = corners(picture.shape[0], picture.shape[1], (train, validation, test), generator)
        for part, at in zip(patches, places, strict=True):
            part.append(_cut(picture, at))
    learn, choose, report = map(_split, patches)
    dataset = Dataset("photo patches (scikit-image photographs)", learn, choose, report, tuple(PHOTOGRAPHS))
    return dataset.reduced() if smoke else dataset


def photograph(name: str) -> NDArray[np.uint8]:
    """One photograph, (height, width, 3), bytes, read from the installed package, never over the network.

    Args:
        name: a key of ``PHOTOGRAPHS``.

    Raises:
        ImportError: scikit-image is not installed.
        FileNotFoundError: this scikit-image does not ship it.
    """
    try:
        import skimage
        from skimage.io import imread
    except ImportError as error:
        raise ImportError(
            "scikit-image could not be imported, and the photographs are shipped with it. Run "
            "`pip install equilibrate[examples]`."
        ) from error
    # `skimage.data.coffee()` would do, but may download a file that the installed version lacks.
    path = Path(skimage.__file__).parent / "data" / PHOTOGRAPHS[name]
    if not path.is_file():
        raise FileNotFoundError(
            f"scikit-image {version('scikit-image')} does not ship {path.name}; a version that does is wanted. Run "
            "`pip install equilibrate[examples]` in a fresh environment."
        )
    return imread(path)


def corners(height: int, width: int, counts: tuple[int, int, int], generator: torch.Generator) -> Corners:
    """Places for the patches of one photograph, so that no two splits share a pixel.

    Args:
        height: of the photograph; what is left over beyond whole blocks is not used.
        width: likewise.
        counts: train, validation and test patches.
        generator: draws the blocks of each split, then the places in them without repetition.

    Raises:
        ValueError: there are too few blocks for three splits, or a count is below 1 or over the number of places.
    """
    down, across = height // BLOCK, width // BLOCK
    if down * across < 8:
        raise ValueError(
            f"A photograph of {height} x {width} pixels has {down * across} blocks of {BLOCK} x {BLOCK}; at least 8 "
            "are wanted, to be divided between three splits. Use a larger one."
        )
    order = torch.randperm(down * across, generator=generator)
    blocks = torch.stack([order // across, order % across], 1) * BLOCK
    test, validation = len(blocks) // 4, len(blocks) // 8
    train = len(blocks) - test - validation
    parts = blocks.split([train, validation, test])
    chosen = [_places(part, count, generator) for part, count in zip(parts, counts, strict=True)]
    return chosen[0], chosen[1], chosen[2]


def _places(blocks: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Corners (count, 2) of different patches, each wholly within one of the blocks, given by their corners (K, 2)."""
    side = BLOCK - PATCH + 1
    total = len(blocks) * side**2
    if not 0 < count <= total:
        raise ValueError(
            f"{count} patches of a photograph are asked for; from 1 to {total}, the places in the {len(blocks)} blocks "
            "of this split, are wanted. Change `train`, `validation` or `test`."
        )
    places = torch.randperm(total, generator=generator)[:count]
    within = places % side**2
    return blocks[places // side**2] + torch.stack([within // side, within % side], 1)


def _cut(picture: NDArray[np.uint8], at: Tensor) -> NDArray[np.uint8]:
    """The patches (n, 3, 32, 32) of a picture (height, width, 3) with their top left corners at (n, 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (PATCH, PATCH), axis=(0, 1))
    return windows[at[:, 0].numpy(), at[:, 1].numpy()]


def _split(parts: list[NDArray[np.uint8]]) -> Split:
    """The patches of each class in one split, dealt one class after the other."""
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Raw(np.concatenate(parts), labels).scaled(dealt(torch.from_numpy(labels)))
