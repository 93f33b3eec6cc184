"""Precomputed regions in the field's layout: `{stem}_ims.npy` (rows, R, F) beside `{stem}_caps.txt`.

A caption per line, the captions of an image on consecutive lines. An image has one row, or one row per caption.
The arrays are memory-mapped and never loaded whole. Where they are there, these are read too:

    {stem}_ids.txt         ids of the images, a line per image or caption; else an image is called {stem}/{row}
    {stem}_boxes.npy       (rows, R, 4) corners x1, y1, x2, y2 in pixels; only looked at
    {stem}_img_sizes.npy   (rows, 2) width and height in pixels; only looked at
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import CHUNK, check_range, open_array, read_header
from harness.data.cache import file_fact
from harness.data.content import Content, Kind, Place, Preview, first_twice, option, pairs_of, whole
from harness.data.regions import Ints, PaddedArray
from harness.errors import DataError, Location
from harness.files import has_file, lfs_hint, read_lines

VERSION = 1
AXES = ("rows", "regions", "width")
REGIONS, CAPTIONS, IDS, BOXES, SIZES = "ims.npy", "caps.txt", "ids.txt", "boxes.npy", "img_sizes.npy"


class Precomp:
    """Reader of the layout; the card's options name the files' stems and the captions per image."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.each = whole(place, "captions_each", least=1)

    @staticmethod
    def files(place: Place) -> list[str]:
        """Two or three a split, in the order of the card's splits; DataError where another release's are there."""
        stems = [option(place, split, split) for split in place.card.splits]
        for stem in stems:
            check_stem(place, stem)
        kinds = {stem: (REGIONS, CAPTIONS, *[IDS] * has_file(place.folder / f"{stem}_{IDS}")) for stem in stems}
        return [f"{stem}_{kind}" for stem in stems for kind in kinds[stem]]

    def read(self, split: str) -> Content:
        """One split; nothing of the regions is read but to check once that they are finite and that copies are."""
        stem = option(self.place, split, split)
        path, text = self._path(stem, REGIONS), self._path(stem, CAPTIONS)
        array, captions = open_regions(path), read_captions(text)
        step = rows_an_image(path, text, len(array), len(captions), self.each)
        images = len(array) // step
        if step > 1:
            file_fact(self.place.cache, path, f"alike by {step}", partial(check_copies, array=array, step=step))
        file_fact(self.place.cache, path, "in range", partial(check_range, array=array))
        at = np.arange(images) * step
        return Content(
            images=PaddedArray(array, at),
            captions=tuple(captions),
            pairs=pairs_of([self.each] * images),
            image_ids=self._ids(stem, images),
            boxes=self._boxes(stem, at, array.shape[:2]),
            sizes=self._sizes(split, images),
            location=partial(location, path.name, text.name, step),
        )

    def preview(self, image: str) -> Preview:
        if image not in self._places:
            return Preview()
        split, number = self._places[image]
        boxes, sizes = self._contents[split].boxes, self._contents[split].sizes
        size = None if sizes is None else (round(float(sizes[number, 0])), round(float(sizes[number, 1])))
        return Preview(size, boxes=tuple(map(tuple, boxes[number].tolist())) if boxes else ())

    @cached_property
    def _contents(self) -> dict[str, Content]:
        return {split: self.read(split) for split in self.place.card.splits}

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        ids = [(split, content.image_ids) for split, content in self._contents.items()]
        return {image: (split, number) for split, images in ids for number, image in enumerate(images)}

    def _sizes(self, split: str, images: int) -> NDArray[Any] | None:
        path = self._path(option(self.place, split, split), SIZES)
        if not has_file(path):
            return None
        array = open_numbers(path, 2)
        if array.shape[1] != 2:
            raise DataError(
                f"has the shape {array.shape}; a width and a height per image are needed: take it of the same release",
                Location(path),
            )
        sizes: NDArray[Any] = array[:: copies(path, len(array), images, self.each)]
        return sizes

    def _ids(self, stem: str, images: int) -> tuple[str, ...]:
        path = self._path(stem, IDS)
        if not has_file(path):
            return tuple(f"{stem}/{image}" for image in range(images))
        lines = read_lines(path, "is the id of an image")
        step = copies(path, len(lines), images, self.each)
        for line, one in enumerate(lines):
            if one != lines[line - line % step]:
                raise DataError(
                    f"the id is {one!r}, but the {step} lines of an image begin with {lines[line - line % step]!r}; "
                    "take ids and captions of one release",
                    Location(path, f"line {line + 1}"),
                )
        ids = lines[::step]
        second = first_twice(ids)
        if second is not None:
            message = f"image {ids[second]!r} stands there twice; give every image an id of its own"
            raise DataError(message, Location(path, f"line {second * step + 1}"))
        return tuple(ids)

    def _boxes(self, stem: str, at: Ints, shape: tuple[int, ...]) -> Corners | None:
        path = self._path(stem, BOXES)
        if not has_file(path):
            return None
        array = open_numbers(path, 3)
        if array.shape[1:] != (shape[1], 4):
            raise DataError(
                f"has the shape {array.shape}, but {stem}_{REGIONS} has {shape[1]} regions per image and a box four "
                "corners; take both of one release",
                Location(path),
            )
        return Corners(array, np.arange(len(at)) * copies(path, len(array), len(at), self.each))

    def _path(self, stem: str, kind: str) -> Path:
        return self.place.folder / f"{stem}_{kind}"


class Corners(PaddedArray):
    """Boxes stored as corners, given as x, y, width, height."""

    def fetch(self, places: Ints, out: NDArray[Any]) -> None:
        super().fetch(places, out)
        out[..., 2:] -= out[..., :2]

    def choose(self, images: Ints) -> Corners:
        return Corners(self.array, self.at[images])


def location(regions: str, captions: str, step: int, kind: Kind, index: int) -> Location:
    """The row of an image, from 0, or the line of a caption, from 1."""
    return Location(regions, f"row {index * step}") if kind == "image" else Location(captions, f"line {index + 1}")


def read_captions(path: Path) -> list[str]:
    if has_file(path) and (hint := lfs_hint(path)):
        raise DataError(f"holds no captions; {hint}", Location(path))
    return read_lines(path, "is one caption of one image")


def open_regions(path: Path) -> NDArray[Any]:
    """The regions of a split, memory-mapped; DataError where they are not float32 or float16."""
    array = open_array(path, AXES)
    if array.dtype not in (np.float32, np.float16):
        raise DataError(
            f"holds {array.dtype.str} numbers; regions are float32 or float16: save array.astype(numpy.float32)",
            Location(path),
        )
    return array


def open_numbers(path: Path, axes: int) -> NDArray[Any]:
    """An array beside the regions, of real numbers with so many axes, memory-mapped; DataError where it is not one."""
    header = read_header(path)
    if header.dtype.kind not in "fiu" or len(header.shape) != axes:
        message = f"holds {header.dtype} of shape {header.shape}; numbers with {axes} axes are needed, or no such file"
        raise DataError(message, Location(path))
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError(f"cut short or damaged ({error}); get it again, or take it away", Location(path)) from error
    return array


def check_stem(place: Place, stem: str) -> None:
    """DataError where a stem's captions are absent and those of the field's smaller test set are there."""
    small = place.folder / f"test_{CAPTIONS}"
    if stem != "testall" or has_file(place.folder / f"{stem}_{CAPTIONS}") or not has_file(small):
        return
    lines = len(read_captions(small))
    images = lines // whole(place, "captions_each", least=1)
    raise DataError(
        f"there is no {stem}_{CAPTIONS}, but {small.name} with {lines:,} lines. In the field's release "
        f"that is the first fold of the 5,000 test images alone, neither 5K nor the mean of five folds. Get the {stem} "
        f'files from {place.card.origin}; or write a card of your own with test = "test", [splits] test = '
        f"{{ images = {images}, captions = {lines} }} and a protocol of that size",
        Location(place.folder),
    )


def rows_an_image(path: Path, text: Path, rows: int, lines: int, each: int) -> int:
    """1 where every image has one row, `each` where it has one row per caption; DataError where neither fits."""
    if rows * each == lines:
        return 1
    if rows == lines and rows % each == 0:
        return each
    raise DataError(
        f"has {rows:,} rows and {text.name} {lines:,} lines; with {each} captions per image there must be "
        f"{lines / each:,g} rows, or {lines:,} where images are repeated: take both of one release",
        Location(path),
    )


def copies(path: Path, rows: int, images: int, each: int) -> int:
    """Rows per image in a file beside the regions: one, or one per caption; DataError where neither fits."""
    if rows == images:
        return 1
    if rows == images * each:
        return each
    raise DataError(
        f"has {rows:,} rows for {images:,} images; there must be one per image or, with {each} captions per "
        f"image, {images * each:,}: take it of the same release",
        Location(path),
    )


def check_copies(path: Path, array: NDArray[Any], step: int) -> str:
    """DataError where the rows of one image are not copies of each other; read in pieces."""
    each = max(1, CHUNK // (step * array[:1].nbytes))
    for start in range(0, len(array), each * step):
        rows = array[start : start + each * step].reshape(-1, step, array[0].size)
        alike = (rows == rows[:, :1]).all(axis=(1, 2))
        if not alike.all():
            first = start + step * int(alike.argmin())
            raise DataError(
                "they should repeat one image, but differ; the card's captions_each is wrong, or features and captions "
                "are of different releases",
                Location(path, f"rows {first} to {first + step - 1}"),
            )
    return "yes"
