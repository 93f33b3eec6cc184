"""Precomputed regions in the field's layout: `{split}_ims.npy` (rows, R, F) beside `{split}_caps.txt`.

A caption a line, the captions of an image on consecutive lines. An image has one row, or one row a caption.
The arrays are memory-mapped and never loaded whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.arrays import check_finite, open_array
from harness.errors import DataError
from harness.files import read_lines, remembered
from harness.regions import PaddedArray
from harness.splits import Content, Place, option, pairs_of, whole

VERSION = 1
AXES = ("rows", "regions", "width")


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
        array, captions = open_array(path, AXES), read_lines(text, "is one caption of one image")
        step = rows_an_image(path, text, len(array), len(captions), self.each)
        if step > 1:
            same_rows(path, array, step)
        remembered(self.place.cache, path, "finite", lambda path: check_finite(path, array))
        images = len(array) // step
        return Content(
            images=PaddedArray(array, np.arange(images) * step),
            captions=tuple(captions),
            pairs=pairs_of([self.each] * images),
            image_ids=tuple(f"{stem}/{image}" for image in range(images)),
        )


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
