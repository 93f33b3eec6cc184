"""Regions of many images, of any number an image: gathered into padded batches, never copied as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Regions(Protocol):
    """The regions of N images: F numbers a region, one or more regions an image."""

    @property
    def width(self) -> int:
        """F."""

    @property
    def counts(self) -> Ints:
        """Regions of every image, (N,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Floats:
        """One image's regions, (R, F) float32."""

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Floats, Bools]:
        """A batch: regions (B, R, F) padded with zeros, and mask (B, R), R the batch's largest count."""

    def first(self, images: int) -> Regions:
        """The same, of the first images only."""


class Ragged:
    """Regions of all images one below the other, (S, F) float, and where each image's begin, (N + 1,)."""

    def __init__(self, rows: NDArray[Any], offsets: NDArray[np.integer[Any]]) -> None:
        self.rows = rows
        self.offsets = np.asarray(offsets, dtype=np.int64)

    @classmethod
    def stack(cls, images: Sequence[NDArray[Any]]) -> Ragged:
        """Of one (R, F) array an image."""
        return cls(np.concatenate(images).astype(np.float32, copy=False), offsets([len(image) for image in images]))

    @property
    def width(self) -> int:
        """F."""
        return int(self.rows.shape[1])

    @property
    def counts(self) -> Ints:
        """Regions of every image, (N,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Floats:
        """One image's regions, (R, F) float32."""
        start, end = self.offsets[:-1][index], self.offsets[1:][index]
        return np.asarray(self.rows[start:end], dtype=np.float32)

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Floats, Bools]:
        """A batch: regions (B, R, F) padded with zeros, and mask (B, R), R the batch's largest count."""
        places, mask = padded_places(self.offsets, indices)
        regions = np.zeros((*mask.shape, self.width), dtype=np.float32)
        regions[mask] = self.rows[places]
        return regions, mask

    def first(self, images: int) -> Ragged:
        """The same, of the first images only."""
        return Ragged(self.rows, self.offsets[: images + 1])


class PaddedArray:
    """Regions as one array (rows, R, F), usually memory-mapped; image i lies in row i * step.

    Some releases repeat an image once a caption: their step is the number of captions an image.
    """

    def __init__(self, array: NDArray[Any], images: int, step: int = 1) -> None:
        self.array = array
        self.images = images
        self.step = step

    @property
    def width(self) -> int:
        """F."""
        return int(self.array.shape[2])

    @property
    def counts(self) -> Ints:
        """Regions of every image, (N,): the same for all."""
        return np.full(self.images, self.array.shape[1], dtype=np.int64)

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Floats:
        """One image's regions, (R, F) float32, copied from the file."""
        return np.array(self.array[range(self.images)[index] * self.step], dtype=np.float32)

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Floats, Bools]:
        """A batch: regions (B, R, F) and mask (B, R), all True; only its rows are read from the file."""
        rows = np.arange(self.images)[np.asarray(indices, dtype=np.int64)] * self.step
        regions = np.array(self.array[rows], dtype=np.float32)
        return regions, np.ones(regions.shape[:2], dtype=np.bool_)

    def first(self, images: int) -> PaddedArray:
        """The same, of the first images only."""
        return PaddedArray(self.array, min(images, self.images), self.step)


def offsets(counts: Sequence[int] | NDArray[np.integer[Any]]) -> Ints:
    """Where each of the parts begins in their concatenation, and its end: (N + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def padded_places(starts: Ints, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Ints, Bools]:
    """For parts of a concatenation: the rows they take, in order, and the mask (B, longest) that they fill."""
    chosen = np.asarray(indices, dtype=np.int64)
    counts = np.diff(starts)[chosen]
    columns = np.arange(counts.max(initial=0))
    mask = columns < counts[:, None]
    return (starts[:-1][chosen][:, None] + columns)[mask], mask
