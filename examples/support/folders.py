"""Finding the files of a dataset in the folder that the user names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["folder_at", "locate"]


def folder_at(data_dir: str | os.PathLike[str]) -> Path:
    """The folder as a path, ``~`` expanded.

    Raises:
        FileNotFoundError: nothing is there.
        NotADirectoryError: it is a file.
    """
    folder = Path(data_dir).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"`data_dir` is {folder}, where nothing is; a folder is wanted. Check the spelling.")
    if not folder.is_dir():
        raise NotADirectoryError(
            f"`data_dir` is {folder}, a file; a folder is wanted. Pass the folder that holds it, archives unpacked."
        )
    return folder


def locate(folder: Path, places: Sequence[str], wanted: Sequence[Sequence[str]]) -> list[Path] | None:
    """One path for each wanted file, from the first place that holds them all; ``None`` where no place holds any.

    Args:
        folder: where to look.
        places: folders in it, ``"."`` for itself, in order of preference.
        wanted: for each file its possible names, in order of preference.

    Raises:
        FileNotFoundError: a place holds some of the files, but none holds all.
    """
    found = [[_first(folder / place, names) for names in wanted] for place in places]
    for paths in found:
        if None not in paths:
            return [path for path in paths if path is not None]
    for place, paths in zip(places, found, strict=True):
        if any(paths):
            missing = ", ".join(names[0] for names, path in zip(wanted, paths, strict=True) if path is None)
            raise FileNotFoundError(
                f"{folder / place} lacks {missing}; all {len(wanted)} files are wanted. Put the missing ones beside "
                "the others."
            )
    return None


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
