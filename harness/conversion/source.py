"""What a region store is made of: files laid end to end, and in them images with their regions and boxes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.regions import are_shares
from harness.errors import DataError

Size = tuple[int, int]  # width and height in pixels
TOLERANCE = 1.0  # pixels by which a box may pass the image's edge: detectors scale images and round


class ImageRegions(NamedTuple):
    """One image, as `RegionWriter.add` takes it."""

    image: str
    regions: NDArray[Any]  # (R, F)
    boxes: NDArray[Any] | None  # (R, 4): x, y, width, height in pixels
    size: Size | None
    at: int  # its place in its source, as LaidFiles has places


class LaidFiles:
    """Files laid end to end: one number, the bytes before, is a place in all of them."""

    def __init__(self, paths: Sequence[Path], beside: Sequence[Path] = ()) -> None:
        self.paths = tuple(paths)
        self.beside = tuple(beside)  # files without a place, from which images have something too: ids, boxes, sizes
        self.sizes = [path.stat().st_size for path in paths]
        self.starts = list(accumulate(self.sizes, initial=0))[:-1]
        self.total = sum(self.sizes)  # bytes

    def find(self, at: int) -> tuple[int, int]:
        """The number of the file that a place lies in, and the bytes before it there."""
        number = bisect_right(self.starts, at) - 1
        return number, at - self.starts[number]


def from_corners(corners: NDArray[Any], size: Size | None) -> NDArray[np.float32]:
    """Boxes x, y, width, height of boxes x1, y1, x2, y2, both (R, 4) in pixels; DataError where they cannot be that."""
    if not np.isfinite(corners).all():
        raise DataError("its boxes hold NaN or inf")
    low, high = corners[:, :2], corners[:, 2:]
    if (high < low).any():
        raise DataError("its boxes are no x1, y1, x2, y2: one ends before it begins")
    if are_shares(float(corners.max()), max(size) if size else np.inf):
        raise DataError("its boxes are shares of the image; pixels are needed")
    if not _inside(corners, size):
        turned = "; they are with width and height exchanged" if size and _inside(corners, size[::-1]) else ""
        raise DataError(
            f"its boxes are not within the image{f' of {size[0]} x {size[1]} pixels' if size else ''}{turned}"
        )
    with np.errstate(over="ignore"):  # what overflows becomes inf, which no store takes
        return np.concatenate([low, high - low], axis=1).astype(np.float32)


def _inside(corners: NDArray[Any], size: Size | None) -> bool:
    ends = np.add(size, TOLERANCE) if size else np.inf
    return bool((corners >= -TOLERANCE).all() and (corners[:, 2:] <= ends).all())
