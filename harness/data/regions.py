"""Regions of many images, of any number per image: gathered into padded batches, never copied as a whole.

A region has a place: its number when the images are laid out one after the other. Where each image begins is worked
out from the counts; what lies at a place is fetched from the file. So a batch is decided first and read once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
FIRST_PIXEL = 1.5  # pixels: boxes of which none ends beyond it are of no thing


class Regions(ABC):
    """The regions of N images: F numbers per region, one or more regions per image."""

    rows: NDArray[Any]  # (S, F), as they lie in the file
    offsets: Ints  # (N + 1,): the place where each image's regions begin, and the end

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `fetch` gives: float16 where the file holds it, else float32."""
        return np.dtype(np.float16 if self.rows.dtype == np.float16 else np.float32)

    @property
    def counts(self) -> Ints:
        """Regions of every image, (N,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Floats:
        """One image's regions, (R, F) float32."""
        regions: Floats = self.gather([index])[0][0]
        return regions

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Floats, Bools]:
        """A batch: regions (B, R, F) padded with zeros, and mask (B, R), R the batch's largest count."""
        places, mask = padded_places(self.offsets, indices)
        regions = np.empty((*places.shape, self.width), dtype=self.dtype)
        self.fetch(places, regions)
        return regions.astype(np.float32, copy=False), mask

    @abstractmethod
    def fetch(self, places: Ints, out: NDArray[Any]) -> None:
        """Write the regions at some places (...) into `out` (..., F) of `dtype`; zeros where a place is -1."""

    @abstractmethod
    def choose(self, images: Ints) -> Regions:
        """The regions of some images, by their numbers (n,) and in that order; nothing is copied."""

    def first(self, images: int) -> Regions:
        return self.choose(np.arange(min(images, len(self))))


class Ragged(Regions):
    """Regions of many images one below the other, rows (S, F) float; those of image i begin at row `starts[i]`."""

    def __init__(
        self, rows: NDArray[Any], offsets: NDArray[np.integer[Any]], starts: NDArray[np.integer[Any]] | None = None
    ) -> None:
        self.rows = rows
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.starts = self.offsets[:-1] if starts is None else np.asarray(starts, dtype=np.int64)
        self._in_order = bool((self.starts == self.offsets[:-1]).all())

    @classmethod
    def stack(cls, images: Sequence[NDArray[Any]]) -> Ragged:
        return cls(np.concatenate(images).astype(np.float32, copy=False), offsets([len(image) for image in images]))

    def fetch(self, places: Ints, out: NDArray[Any]) -> None:
        take(self.rows, places if self._in_order else self._rows_at(places), out)

    def choose(self, images: Ints) -> Ragged:
        return Ragged(self.rows, offsets(self.counts[images]), self.starts[images])

    def _rows_at(self, places: Ints) -> Ints:
        image = np.searchsorted(self.offsets, places, side="right") - 1
        rows: Ints = np.where(places < 0, -1, self.starts[image] + places - self.offsets[image])
        return rows


class PaddedArray(Regions):
    """Regions as one array (rows, R, F) in C order, usually memory-mapped; `at` (N,) tells the row of each image."""

    def __init__(self, array: NDArray[Any], at: Ints) -> None:
        self.array = array
        self.rows = array.reshape(-1, array.shape[2])
        self.at = np.asarray(at, dtype=np.int64)
        self.offsets = np.arange(len(at) + 1) * array.shape[1]

    def fetch(self, places: Ints, out: NDArray[Any]) -> None:
        """Whole images are read in one run each."""
        each = self.array.shape[1]
        if self._whole(places):
            take(self.array, self.at[places[:, 0] // each], out)
        else:
            rows = self.at[places // each] * each + places % each
            take(self.rows, np.where(places < 0, -1, rows), out)

    def choose(self, images: Ints) -> PaddedArray:
        return PaddedArray(self.array, self.at[images])

    def _whole(self, places: Ints) -> bool:
        each = self.array.shape[1]
        if places.ndim != 2 or places.shape[1] != each or (places[:, 0] % each).any():
            return False
        return bool((places == places[:, :1] + np.arange(each)).all())


def offsets(counts: Sequence[int] | NDArray[np.integer[Any]]) -> Ints:
    """Where each of the parts begins in their concatenation, and its end: (N + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def padded_places(starts: Ints, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Ints, Bools]:
    """For parts of a concatenation: the places they take, (B, longest), -1 behind each part's end, and the mask."""
    parts = np.asarray(indices, dtype=np.int64)
    first, end = starts[:-1][parts][:, None], starts[1:][parts][:, None]
    places = first + np.arange((end - first).max(initial=0))
    mask = places < end
    return np.where(mask, places, -1), mask


def take(rows: NDArray[Any], places: Ints, out: NDArray[Any]) -> None:
    """Write some rows (S, ...) into `out`, converted to its type; zeros where a place is below 0."""
    # "clip" alone writes into `out` directly; the other modes copy through a buffer
    if rows.dtype == out.dtype:
        np.take(rows, places, axis=0, out=out, mode="clip")
    else:
        out[...] = np.take(rows, places, axis=0, mode="clip")
    out[places < 0] = 0


def are_shares(end: float, side: float) -> bool:
    """Whether boxes, none of which ends beyond `end`, are shares of pictures with a longest side, and no pixels."""
    return end <= FIRST_PIXEL and side > 2


def grid_boxes(rows: NDArray[np.floating[Any]], columns: NDArray[np.floating[Any]]) -> Floats:
    """The boxes x, y, width, height of a grid's cells, row by row from the top left: (R x C, 4).

    rows (R, 2), columns (C, 2): where each begins and how far it goes.
    """
    (y, height), (x, width) = rows.T, columns.T
    boxes = [np.tile(x, len(rows)), np.repeat(y, len(columns)), np.tile(width, len(rows))]
    return np.stack([*boxes, np.repeat(height, len(columns))], axis=1).astype(np.float32)
