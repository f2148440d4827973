"""Reading a pickle of nothing but containers, numbers, text and arrays of bytes, without running what is in it."""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "load_bytes"]


def load_bytes(file: BinaryIO) -> Any:
    """What the pickle holds, text of Python 2 as bytes, each array of bytes as an ``Array``.

    Raises:
        pickle.UnpicklingError: it asks for any name but those that arrays of bytes need, or is no pickle.
        Exception: a damaged pickle may raise anything.
    """
    return _BytesOnly(file, encoding="bytes").load()


class _DType:
    """Stands in for ``numpy.dtype`` in a pickle; only bytes are admitted."""

    def __init__(self, name: bytes | str, *_: Any) -> None:
        if name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"an array of dtype {name!r}, where unsigned bytes, u1, are wanted")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which a byte does not have."""


class Array:
    """Stands in for ``numpy.ndarray`` in a pickle, so that none of numpy's own unpickling runs on foreign data.

    Attributes:
        array: bytes of any shape, read-only; ``None`` where the pickle made an array and never filled it.
    """

    array: NDArray[np.uint8] | None = None

    def __init__(self, *_: Any) -> None:
        """The kind, shape and dtype of an empty array; what counts comes with the state."""

    def __setstate__(self, state: Any) -> None:
        _, shape, _, fortran, data = state
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for ``_codecs.encode``: how Python 3 writes bytes into a pickle of protocol 2 or lower."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r}, where latin1 is wanted")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _BytesOnly(pickle.Unpickler):
    """Builds plain containers and arrays of bytes, each by our own code; any other name in the pickle is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for `{module_name}.{global_name}`, which no CIFAR-10 file needs"
            ) from None
