"""The user's own CIFAR-10, in the binary or the Python layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.dataset import Dataset, Raw, divide
from support.folders import folder_at, locate
from support.unpickle import Array, load_bytes

__all__ = ["CLASSES", "LOOKED_FOR", "cifar_files", "find_cifar", "read_binary", "read_python"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LOOKED_FOR = (
    "CIFAR-10: data_batch_1.bin to data_batch_5.bin and test_batch.bin, here or in cifar-10-batches-bin, or the same "
    "without .bin, here or in cifar-10-batches-py"
)

_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS


def cifar_files(data_dir: str | os.PathLike[str], validation: int = 5_000, smoke: bool = False) -> Dataset:
    """The user's own CIFAR-10 from the six files of the binary or of the Python version, unpacked.

    Args:
        data_dir: the folder with the files, or the one that holds ``cifar-10-batches-bin`` or ``cifar-10-batches-py``.
            Where both are there, the binary files are read; the images are the same.
        validation: training images held out for choosing step counts and thresholds, stratified.
        smoke: a few hundred images only.

    Raises:
        OSError: the folder or one of the files is not there.
        ValueError: a file is not what its name says, or ``validation`` is not smaller than the training set.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".
    """
    folder = folder_at(data_dir)
    found = find_cifar(folder)
    if found is None:
        raise FileNotFoundError(
            f"{folder} holds no CIFAR-10 files; looked for {LOOKED_FOR}. Pass the folder that holds them."
        )
    layout, paths = found
    batches = [layout.read(path) for path in paths]
    train = Raw(np.concatenate([b.images for b in batches[:-1]]), np.concatenate([b.labels for b in batches[:-1]]))
    test = batches[-1]
    whole = (len(train.labels), len(test.labels)) == (50_000, 10_000)
    sizes = f"{len(train.labels):,} + {len(test.labels):,} images from {layout.name} files"
    name = f"CIFAR-10 ({sizes})" if whole else f"part of CIFAR-10 ({sizes})"
    dataset = divide(name, CLASSES, train, test, validation)
    return dataset.reduced() if smoke else dataset


def find_cifar(folder: Path) -> tuple[Layout, list[Path]] | None:
    """The layout, and the paths of five training batches and the test batch; ``None`` where there is none of them.

    Raises:
        FileNotFoundError: some of the six are there, but not all.
    """
    for layout in _LAYOUTS:
        stems = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
        paths = locate(folder, (".", layout.folder), [[stem + layout.ending] for stem in stems])
        if paths is not None:
            return layout, paths
    return None


def read_binary(path: Path) -> Raw:
    """One batch of the binary version: records of one byte for the class and 3,072 for red, green and blue, row by row.

    Raises:
        ValueError: the size is not a whole number of records, or a label is over 9.
    """
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % _RECORD:
        raise ValueError(
            f"{path.name} holds {content.size} bytes; whole records of {_RECORD} are wanted, at least one. It is "
            "truncated or not CIFAR-10: get it again."
        )
    records = content.reshape(-1, _RECORD)
    return _batch(path, records[:, 1:], records[:, 0])


def read_python(path: Path) -> Raw:
    """One batch of the Python version: a pickled dict with ``data``, (N, 3072) bytes, and ``labels``, N integers.

    Raises:
        ValueError: it is no whole pickle, asks for anything but an array of bytes, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = load_bytes(file)
    except Exception as error:  # a damaged pickle may raise anything at all
        raise ValueError(
            f"{path.name} could not be read ({type(error).__name__}: {error}); a pickle of the CIFAR-10 Python version "
            "is wanted. It is damaged or from an untrusted source: get it again."
        ) from error
    data, labels = _entry(content, "data"), _entry(content, "labels")
    pixels = data.array if isinstance(data, Array) else None
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if pixels is None or pixels.ndim != 2 or not len(pixels) or pixels.shape[1] != _PIXELS or not whole:
        raise ValueError(
            f"{path.name} holds {_described(content)}; `data`, bytes of shape (N, {_PIXELS}), and `labels`, a list of "
            "N integers, are wanted. It is not CIFAR-10 (CIFAR-100 has other keys): get it again."
        )
    return _batch(path, pixels, np.array(labels))


def _batch(path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> Raw:
    if len(labels) != len(pixels):
        raise ValueError(
            f"{path.name} holds {len(pixels)} images and {len(labels)} labels; as many are wanted. Get it again."
        )
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        worst = int(labels.min() if labels.min() < 0 else labels.max())
        raise ValueError(
            f"{path.name} holds the label {worst}; labels from 0 to {len(CLASSES) - 1} are wanted. It is damaged or "
            "not CIFAR-10: get it again."
        )
    return Raw(pixels.reshape(-1, 3, 32, 32), labels)


def _entry(content: Any, key: str) -> Any:
    """``content[key]``, where the key may be bytes, as in the published files, or a string, as in files saved anew."""
    return content.get(key.encode(), content.get(key)) if isinstance(content, dict) else None


def _described(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    entries = {str(key, "latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
    shapes = {k: getattr(getattr(v, "array", None), "shape", type(v).__name__) for k, v in entries.items()}
    return "a dict of " + (", ".join(f"`{key}` ({shape})" for key, shape in shapes.items()) or "nothing")


@dataclass(frozen=True)
class Layout:
    """One of the published versions: its name, its folder, how its files end, and what reads one."""

    name: str
    folder: str
    ending: str
    read: Callable[[Path], Raw]


_LAYOUTS = (
    Layout("binary", "cifar-10-batches-bin", ".bin", read_binary),
    Layout("Python", "cifar-10-batches-py", "", read_python),
)
