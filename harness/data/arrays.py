"""Arrays of datasets in .npy files: opened memory-mapped, held to their header, never a pickle."""

from __future__ import annotations

import math
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.files import lfs_hint

CHUNK = 1 << 24  # bytes read at a time when a file is checked
BROKEN = (ValueError, KeyError, SyntaxError, TokenError)  # a header is Python's words for a dict
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Header(NamedTuple):
    """What an .npy file promises."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int  # bytes before the numbers

    @property
    def size(self) -> int:
        """Bytes that the whole file must have."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def open_array(path: Path, axes: tuple[str, ...]) -> NDArray[Any]:
    """An .npy file of floats with these axes, memory-mapped; DataError where it is another thing or cut short."""
    header = read_header(path)
    if header.dtype.hasobject:
        raise DataError(f"{path} holds pickled objects, which are never loaded; save it as a plain float32 array")
    if len(header.shape) != len(axes) or header.dtype.kind != "f":
        needed = f"floats of shape ({', '.join(axes)}) are needed"
        raise DataError(f"{path} holds {header.dtype} of shape {header.shape}; {needed}")
    if header.fortran:
        raise DataError(f"{path} is in Fortran order, an image's numbers far apart; save numpy.ascontiguousarray of it")
    expected, found = header.size, path.stat().st_size
    if expected != found:
        raise DataError(
            f"{path}: its header promises {header.shape} {header.dtype}, {expected:,} bytes, but it has {found:,}; "
            "it was cut short or damaged: get it again"
        )
    if not math.prod(header.shape):
        raise DataError(f"{path} holds no numbers, its shape is {header.shape}; get it again")
    return np.memmap(path, dtype=header.dtype, mode="r", offset=header.start, shape=header.shape)


def parse_header(file: BinaryIO) -> Header:
    """The header of an open .npy file; one of BROKEN where it has none."""
    shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    return Header(shape, dtype, fortran, file.tell())


def read_header(path: Path) -> Header:
    """The header of an .npy file; DataError where it has none."""
    try:
        with path.open("rb") as file:
            return parse_header(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); see to the file and its rights") from error
    except BROKEN as error:
        hint = lfs_hint(path) or "a pickle is never loaded"
        raise DataError(f"{path} is no .npy file of numbers ({error}); {hint}") from error


def check_finite(path: Path, array: NDArray[Any]) -> str:
    """DataError with the first row that holds NaN or inf; read in pieces."""
    each = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), each):
        piece = array[start : start + each]
        finite = np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{path}: row {start + int(finite.argmin())} holds NaN or inf; extract or get it again")
    return "yes"
