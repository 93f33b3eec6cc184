"""Arrays of datasets in .npy files: opened memory-mapped, checked against their header, never a pickle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, Location
from harness.files import check_regular, lfs_hint, unreadable

CHUNK = 1 << 24  # bytes read at a time when a file is checked
BROKEN = (ValueError, KeyError, SyntaxError, TokenError)  # a header is Python's words for a dict
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in the encoding of names of fields, which no plain array has
}
KINDS = {"f": "floats", "iu": "whole numbers", "USiu": "texts or whole numbers"}  # NumPy's letters in words
SAVE_FLOATS = "; save array.astype(numpy.float32), times its scale where the features are quantised"
LARGEST = 1e15  # of a number: the squared length of a region stays a float32


class Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int  # bytes before the numbers

    @property
    def size(self) -> int:
        """Bytes that the whole file must have."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def open_array(path: Path, *forms: tuple[str, ...], kinds: str = "f", any_order: bool = False) -> NDArray[Any]:
    """An .npy file of numbers with the axes of one of these forms, memory-mapped.

    DataError where it is another thing, cut short, or of another kind of number than `kinds` (NumPy's letters); in
    Fortran order too, unless `any_order`.
    """
    header = checked_header(path, *forms, kinds=kinds, any_order=any_order)
    order: Literal["F", "C"] = "F" if header.fortran else "C"
    return np.memmap(path, dtype=header.dtype, mode="r", offset=header.start, shape=header.shape, order=order)


def checked_header(path: Path, *forms: tuple[str, ...], kinds: str = "f", any_order: bool = False) -> Header:
    """The header of a file that `open_array` would open; DataError where it would not."""
    header = read_header(path)
    size = path.stat().st_size
    if problem := _problem(header, forms, kinds) or _damage(header, size, any_order):
        raise DataError(problem, Location(path))
    return header


def _problem(header: Header, forms: Sequence[tuple[str, ...]], kinds: str) -> str:
    """Why a file is no array of such numbers with the axes of one of these forms; empty where it is one."""
    what = f"{header.dtype} of shape {header.shape}"
    if header.dtype.hasobject:
        return "holds pickled objects, which are never loaded; save it as a plain float32 array"
    if header.dtype.kind == "V":
        return f"holds {what}, no numbers that NumPy knows; of a bfloat16 tensor save tensor.float().numpy()"
    if len(header.shape) not in map(len, forms) or header.dtype.kind not in kinds:
        numbers = KINDS.get(kinds, "numbers")
        shapes = " or ".join(f"({', '.join(axes)}{',' * (len(axes) == 1)})" for axes in forms)
        advice = SAVE_FLOATS if kinds == "f" and header.dtype.kind in "iub" else ""
        return f"holds {what}; {numbers} of shape {shapes} are needed{advice}"
    return ""


def _damage(header: Header, size: int, any_order: bool) -> str:
    """What is wrong with the numbers of a file of so many bytes; empty where nothing is."""
    if header.fortran and not any_order:
        return "in Fortran order, in which an image's numbers are not side by side; save numpy.ascontiguousarray of it"
    if min(header.shape, default=0) < 0:
        return f"its header says the shape {header.shape}, which no array has; get it again"
    if header.size != size:
        what, bytes_ = f"{header.dtype} of shape {header.shape}", f"{header.size:,} bytes, but it has {size:,}"
        return f"its header promises {what}, {bytes_}; it was cut short or damaged: get it again"
    if not math.prod(header.shape):
        return f"holds no numbers, its shape is {header.shape}; get it again"
    return ""


def parse_header(file: BinaryIO) -> Header:
    """The header of an open .npy file; one of BROKEN where it has none."""
    shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    return Header(shape, dtype, fortran, file.tell())


def read_header(path: Path) -> Header:
    """The header of an .npy file; DataError where it has none."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            return parse_header(file)
    except OSError as error:
        raise unreadable(path, error) from error
    except BROKEN as error:
        hint = lfs_hint(path) or "a pickle is never loaded"
        raise DataError(f"no .npy file of numbers ({error}); {hint}", Location(path)) from error


def check_range(path: Path, array: NDArray[Any]) -> str:
    """DataError with the first row that holds NaN, inf or a number whose square float32 cannot hold; read in pieces."""
    each = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), each):
        piece = array[start : start + each]
        rows = piece.reshape(len(piece), -1)
        largest = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)  # NaN where there is one
        usable = largest <= LARGEST
        if not usable.all():
            row = int(usable.argmin())
            large = f"a number of size {largest[row]:.1e}, whose square overflows"
            what = large if np.isfinite(largest[row]) else "NaN or inf"
            raise DataError(f"holds {what}; extract or get it again", Location(path, f"row {start + row}"))
    return "yes"


def largest(numbers: NDArray[Any]) -> float:
    """The largest size of a number; NaN or inf where there is one."""
    if numbers.dtype == np.float16:  # its bits are ordered as its sizes are, and NumPy compares whole numbers faster
        bits = (numbers.view(np.uint16) & 0x7FFF).max().astype(np.uint16)
        return float(bits.view(np.float16))
    return float(np.maximum(numbers.max(), -numbers.min()))
