"""Files that are whole or not there: written beside and put in place at once; what is damaged is refused when it is read."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch

__all__ = ["FileError", "load", "replacing", "save", "write_figure", "write_text"]


class FileError(ValueError):
    """A file that is damaged, or that something else wrote: what is wrong with it, what is wanted, and what to do.

    Example:
        >>> import ebm, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "answer.pt"
        >>> _ = path.write_text("not a solution")
        >>> try:
        ...     ebm.Solution.load(path)
        ... except ebm.FileError as error:
        ...     print("refused")
        refused
    """


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into, which takes the place of ``path`` at the end, all at once.

    Whatever goes wrong on the way (an exception, a full disk, a killed process), ``path`` holds what it held. The file is written
    beside it, under a name that no other thread or process uses, and forced to the disk before it takes the place. A process that is
    killed leaves that file behind, ``path.<process>-<random>.part``.

    Args:
        path: the file. A link is followed, permissions are kept, and what is no regular file (a pipe, a device) is written in place.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from ebm.files import replacing
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.txt"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"1 2 3")
        >>> path.read_text()
        '1 2 3'

    Source: Pillai et al. (2014), All file systems are not created equal, the update by rename.
    """
    place = os.path.realpath(os.fspath(path))
    if os.path.exists(place) and not os.path.isfile(place):
        with open(place, "wb") as file:
            yield file
        return
    beside = f"{place}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(place):
            os.chmod(beside, os.stat(place).st_mode & 0o7777)
        os.replace(beside, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(beside)
        raise
    _keep_name(os.path.dirname(place))


def _keep_name(folder: str) -> None:
    """Force the folder's entry to the disk too; some systems cannot open a folder, and do not need it."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write words, in UTF-8; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def write_figure(path: str | os.PathLike[str], figure: Any, dpi: int, bbox_inches: str | None = None) -> None:
    """Write a matplotlib figure, in the format of the path's ending; see `replacing`."""
    ending = os.path.splitext(path)[1][1:]
    with replacing(path if ending else f"{os.fspath(path)}.png") as file:
        figure.savefig(file, format=ending or "png", dpi=dpi, bbox_inches=bbox_inches)


def save(path: str | os.PathLike[str], plain: Mapping[str, Any]) -> None:
    """Write tensors and plain values, with a checksum of each part; see `replacing`.

    Raises:
        OSError: the file cannot be written; an old one is as it was.
    """
    with replacing(path) as file, _checksums():
        try:
            torch.save(dict(plain), file)
        except RuntimeError as error:  # torch's writer hides what stopped it
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


@contextlib.contextmanager
def _checksums() -> Iterator[None]:
    """Torch writes a checksum of every part, unless it was told not to."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def load(
    path: str | os.PathLike[str], what: str, version: int, names: tuple[str, ...], place: Any = None
) -> dict[str, Any]:
    """What `save` wrote, every part of it compared with its checksum. No code in the file is run.

    Args:
        path: the file.
        what: what wrote it, for messages.
        version: the file's entry ``"version"``.
        names: its other entries.
        place: `torch.load`'s ``map_location``.

    Raises:
        FileError: the file is damaged, or of something else.
        OSError: there is no such file, or it cannot be read.
    """
    with open(path, "rb") as file:  # once: another process may replace it between two looks
        _verify(file, path, what)
        file.seek(0)
        try:
            plain = torch.load(file, weights_only=True, map_location=place)
        except pickle.UnpicklingError as error:
            raise FileError(
                f"A file written by {what} holds tensors and plain values; {os.fspath(path)} holds something else, which was not run. "
                "Check where it comes from."
            ) from error
        except Exception as error:
            raise FileError(
                f"A file written by {what} is wanted; {os.fspath(path)} cannot be read: {error}. "
                'Check the path, and pass `map_location="cpu"` if its device is missing here.'
            ) from error
    if not isinstance(plain, dict) or not {"version", *names} & set(plain):
        raise FileError(f"A file written by {what} is wanted; {os.fspath(path)} is another. Check the path.")
    missing = [name for name in names if name not in plain]
    if plain.get("version") != version or missing:
        wrong = f"it lacks {', '.join(missing)}" if missing else f"it is of version {plain.get('version')!r}"
        raise FileError(
            f"A file written by {what} (version {version}) is wanted; of {os.fspath(path)}, {wrong}. Write it anew with this version."
        )
    return plain


def _verify(file: BinaryIO, path: str | os.PathLike[str], what: str) -> None:
    """Compare every part with the checksum beside it: torch stores them, and never looks at them again."""
    try:
        with zipfile.ZipFile(file) as parts:
            damaged = parts.testzip()
    except Exception as error:
        raise FileError(
            f"A file written by {what} is wanted; {os.fspath(path)} is none, or a part of one ({error}). Check the path, or write it anew."
        ) from error
    if damaged is not None:
        raise FileError(
            f"{os.fspath(path)} is damaged: its part {damaged} differs from its checksum. Take a copy, or write it anew with {what}."
        )
