"""Precomputed regions in the field's layout: `{split}_ims.npy` (rows, R, F) beside `{split}_caps.txt`.

A caption a line, the captions of an image on consecutive lines. An image has one row, or one row a caption.
The arrays are memory-mapped and never loaded whole.
"""

from __future__ import annotations

import math
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.files import remembered
from harness.regions import PaddedArray
from harness.splits import Content, Place, option, pairs_of, whole

VERSION = 1
ROWS = 64  # read at a time when a file is checked: 19 MB of 36 x 2048 numbers

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Precomp:
    """Reader of the layout; the card's options name the files' stems and the captions an image."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.each = whole(place, "captions_each")

    @staticmethod
    def files(place: Place) -> list[str]:
        """Two a split, in the order of the card's splits."""
        stems = [option(place, split, split) for split in place.card.splits]
        return [f"{stem}_{kind}" for stem in stems for kind in ("ims.npy", "caps.txt")]

    def read(self, split: str) -> Content:
        """One split; nothing of the regions is read but to check once that they are finite."""
        stem = option(self.place, split, split)
        path, text = (self.place.folder / f"{stem}_{kind}" for kind in ("ims.npy", "caps.txt"))
        array, captions = open_array(path), read_lines(text)
        step = rows_an_image(path, text, len(array), len(captions), self.each)
        if step > 1:
            same_rows(path, array, step)
        remembered(self.place.cache, path, "finite", lambda path: check_finite(path, array))
        images = len(array) // step
        return Content(
            images=PaddedArray(array, images, step),
            captions=tuple(captions),
            pairs=pairs_of([self.each] * images),
            image_ids=tuple(f"{stem}/{image}" for image in range(images)),
        )


def open_array(path: Path) -> NDArray[Any]:
    """An .npy file of float (rows, R, F), memory-mapped; DataError where it is another thing or cut short."""
    with path.open("rb") as file:
        try:
            shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError, SyntaxError, TokenError) as error:  # the header is Python's words for a dict
            raise DataError(f"{path} is no .npy file of numbers ({error}); a pickle is never loaded") from error
        start = file.tell()
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled objects, which are never loaded; save it as a plain float32 array")
    if len(shape) != 3 or dtype.kind != "f":
        raise DataError(f"{path} holds {dtype} of shape {shape}; floats of shape (rows, regions, width) are needed")
    if fortran:
        raise DataError(f"{path} is in Fortran order, an image's numbers far apart; save numpy.ascontiguousarray of it")
    expected, found = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if expected != found:
        raise DataError(
            f"{path}: its header promises {shape} {dtype}, {expected:,} bytes, but it has {found:,}; "
            "it was cut short or damaged: get it again"
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape)


def read_lines(path: Path) -> list[str]:
    """The captions of a text file, one a line, with or without a last line feed; DataError names a bad line."""
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    captions = []
    for number, line in enumerate(lines, start=1):
        try:
            caption = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number} is not UTF-8 ({error}); convert the file") from error
        if not caption:
            raise DataError(f"{path}, line {number} is empty; every line is one caption of one image")
        captions.append(caption)
    return captions


def rows_an_image(path: Path, text: Path, rows: int, lines: int, each: int) -> int:
    """1 where every image has one row, `each` where it has one row a caption; DataError where neither fits."""
    if rows * each == lines:
        return 1
    if rows == lines and rows % each == 0:
        return each
    raise DataError(
        f"{path.name} has {rows:,} rows and {text.name} {lines:,} lines in {path.parent}; with {each} captions an "
        f"image there must be {lines / each:,g} rows, or {lines:,} where images are repeated: take both of one release"
    )


def same_rows(path: Path, array: NDArray[Any], step: int) -> None:
    """The first and the last image's rows must be copies, else the file does not repeat its images."""
    for start in (0, len(array) - step):
        rows = array[start : start + step]
        if not (rows == rows[:1]).all():
            raise DataError(
                f"{path}: rows {start} to {start + step - 1} should repeat one image, but differ; "
                "the card's captions_each is wrong, or features and captions are of different releases"
            )


def check_finite(path: Path, array: NDArray[Any]) -> str:
    """DataError with the first row that holds NaN or inf; read in pieces."""
    for start in range(0, len(array), ROWS):
        finite = np.isfinite(array[start : start + ROWS]).all(axis=(1, 2))
        if not finite.all():
            raise DataError(f"{path}: row {start + int(finite.argmin())} holds NaN or inf; extract or get it again")
    return "yes"
