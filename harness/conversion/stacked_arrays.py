"""Arrays whose rows are images: (N, F), (N, R, F) or maps (N, C, h, w), each beside a list of its N images' ids.

Beside `grid.npy` may lie, as `grid_NAME.npy`, or as `NAME.npy` where no other array of its folder is converted:

    boxes.npy    (N, R, 4) corners x1, y1, x2, y2 in pixels; (N, 4) where an image is one region
    sizes.npy    (N, 2) width and height of the pictures in pixels; the cells of a map get their boxes by them
    counts.npy   (N,) whole numbers: how many of an image's R regions are real, the first ones
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.conversion.image_ids import ImageIds, read_image_ids
from harness.conversion.maps import Channels, Grid, as_regions, cells, channels_of, grid_of
from harness.conversion.source import ImageRegions, LaidFiles, Size, from_corners
from harness.data.arrays import Header, checked_header, open_array
from harness.data.content import first_twice
from harness.data.region_writer import Dtype
from harness.errors import DataError, Location
from harness.files import unreadable

FORMS = (("images", "width"), ("images", "regions", "width"), ("images", "channels", "height", "width"))
PIECE = 1 << 22  # bytes read at a time
ADVICE = "; take it out of the folder where it belongs to another array"


class Stack(NamedTuple):
    """One array and what lies beside it."""

    path: Path
    header: Header
    ids: ImageIds
    channels: Channels
    files: Mapping[str, Path]  # what lies beside it, by the names of BESIDE
    arrays: Mapping[str, NDArray[Any]]  # boxes (N, R, 4), sizes (N, 2), counts (N,), as far as they are there

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, with an axis of regions."""
        return self.header.shape[1:] if len(self.header.shape) > 2 else (1, *self.header.shape[1:])

    @property
    def grid(self) -> Grid | None:
        return grid_of(self.shape, self.channels)

    @property
    def width(self) -> int:
        return self.shape[0 if self.channels == "first" else -1]

    @property
    def stride(self) -> int:
        """Bytes of one image."""
        return math.prod(self.shape) * self.header.dtype.itemsize

    @property
    def regions(self) -> int:
        """Of one image, padding included."""
        return math.prod(self.shape) // self.width

    def row_at(self, place: int) -> int:
        return max(0, place - self.header.start) // self.stride

    def place_of(self, row: int) -> int:
        return self.header.start + row * self.stride


class StackedArrays:
    """A source of regions; a place is the byte at which an image's row begins, all arrays laid end to end."""

    def __init__(self, arrays: Sequence[tuple[Path, Path]], channels: Channels | None = None) -> None:
        """Each array comes with the file of its ids."""
        folders = Counter(path.parent.resolve() for path, _ in arrays)
        self._stacks = [
            open_stack(path, read_image_ids(ids), folders[path.parent.resolve()] == 1, channels) for path, ids in arrays
        ]
        check_alike(self._stacks)
        beside = [file for stack in self._stacks for file in (stack.ids.path, *stack.files.values())]
        self.files = LaidFiles([stack.path for stack in self._stacks], beside)
        self.skipped = 0
        self.left_out: list[Path] = []
        self.types = {stack.header.dtype.name for stack in self._stacks}

    @property
    def origin(self) -> dict[str, Any]:
        beside = [file.name for stack in self._stacks for file in stack.files.values()]
        return {
            **{"kind": "arrays of many images", "files": [stack.path.name for stack in self._stacks]},
            "ids": [{"file": stack.ids.path.name, "sha256": stack.ids.sha256} for stack in self._stacks],
            "channels": [stack.channels for stack in self._stacks],
            **({"beside": beside} if beside else {}),
        }

    @property
    def extent(self) -> dict[str, Any]:
        return {"bytes": self.files.sizes}

    @property
    def dtype(self) -> Dtype:
        return "float16" if self.types == {"float16"} else "float32"

    @property
    def remarks(self) -> Iterator[str]:
        """What was taken for what, a line an array."""
        for stack in self._stacks:
            if stack.grid:
                rows, columns = stack.grid
                boxed = ", with its share of the picture as box" * ([*stack.arrays] == ["sizes"])
                what = f"maps of {stack.width:,} channels, {rows} x {columns} cells, each a region{boxed}"
            else:
                count = "one region" if stack.regions == 1 else f"{stack.regions:,} regions"
                what = f"{count} of {stack.width:,} numbers per image"
            files = ", ".join([stack.ids.path.name, *(file.name for file in stack.files.values())])
            yield f"{stack.path.name}: {what}; with {files}"
        yield from map(unused, self._unused)

    @property
    def _unused(self) -> list[Path]:
        """Boxes, sizes and counts of no array's own name that lie beside one and are not read."""
        used = {file.resolve() for stack in self._stacks for file in stack.files.values()}
        bare = [stack.path.with_name(name) for stack in self._stacks for name in BESIDE]
        return [file for file in dict.fromkeys(bare) if file.is_file() and file.resolve() not in used]

    def images(self, places: Mapping[str, int], at: int) -> Iterator[ImageRegions]:
        number, begin = self.files.find(at)
        for stack, start in list(zip(self._stacks, self.files.starts, strict=True))[number:]:
            for row, image in rows_from(stack, stack.row_at(begin)):
                if stack.ids.ids[row] not in places:
                    yield image_of(stack, row, image)._replace(at=start + stack.place_of(row))
            begin = 0

    def again(self, image: str, at: int) -> ImageRegions:
        """The image at a place; DataError where another one stands there."""
        number, begin = self.files.find(at)
        stack = self._stacks[number]
        row = stack.row_at(begin)
        if row >= len(stack.ids.ids) or stack.ids.ids[row] != image:
            raise DataError(f"image {image} stands there no longer", self.location(at))
        return image_of(stack, *next(rows_from(stack, row)))

    def location(self, at: int) -> Location:
        number, begin = self.files.find(at)
        return Location(self.files.paths[number], f"row {self._stacks[number].row_at(begin)}")


def open_stack(path: Path, ids: ImageIds, is_alone: bool, channels: Channels | None) -> Stack:
    """An array with its ids and what lies beside it; DataError where they do not fit."""
    header = checked_header(path, *FORMS)
    images, *shape = header.shape
    if len(ids.ids) != images:
        raise DataError(
            f"has {len(ids.ids):,} ids, {path.name} {images:,} rows (its shape is {header.shape}); each row is one "
            f"image's and needs one id: take both of one extraction. The first ids are {list(ids.ids[:2])}",
            Location(ids.path),
        )
    try:
        channels = channels_of(tuple(shape), channels) if len(shape) > 1 else "last"
    except DataError as error:
        raise DataError(error.message, Location(path)) from None
    files = {name: file for name in READ if (file := beside(path, name, is_alone))}
    stack = Stack(path, header, ids, channels, files, {})
    return stack._replace(arrays={name: READ[name](file, stack) for name, file in files.items()})


def unused(path: Path) -> str:
    """What is said of a file that could be any array's."""
    whose = "as its name does not say to which array it belongs"
    return f"{path.name} is not read, {whose}; it is read as grid_{path.name} beside grid.npy"


def beside(path: Path, name: str, is_alone: bool) -> Path | None:
    names = [f"{path.stem}_{name}.npy", *[f"{name}.npy"] * is_alone]
    return next((file for each in names if (file := path.with_name(each)) != path and file.is_file()), None)


def read_boxes(path: Path, stack: Stack) -> NDArray[Any]:
    boxes = open_array(path, ("images", "corners"), ("images", "regions", "corners"), kinds="fiu")
    regions = stack.regions
    if boxes.size != stack.header.shape[0] * regions * 4 or boxes.shape[-1] != 4:
        wanted = (stack.header.shape[0], regions, 4)
        raise DataError(f"is of shape {boxes.shape}; for {stack.path.name} {wanted} is needed{ADVICE}", Location(path))
    return boxes.reshape(-1, regions, 4)


def read_sizes(path: Path, stack: Stack) -> NDArray[Any]:
    sizes = _whole_numbers(path, (stack.header.shape[0], 2), ("images", "width and height"), stack)
    _check_within(sizes, 1, np.iinfo(np.int32).max, path)
    return sizes


def read_counts(path: Path, stack: Stack) -> NDArray[Any]:
    counts = _whole_numbers(path, (stack.header.shape[0],), ("images",), stack)
    if stack.grid:
        message = f"counts regions, and {stack.path.name} holds maps, of which every cell is one{ADVICE}"
        raise DataError(message, Location(path))
    _check_within(counts, 1, stack.regions, path)
    return counts


READ = {"boxes": read_boxes, "sizes": read_sizes, "counts": read_counts}
BESIDE = tuple(f"{name}.npy" for name in READ)


def _whole_numbers(path: Path, shape: tuple[int, ...], axes: tuple[str, ...], stack: Stack) -> NDArray[Any]:
    numbers = np.array(open_array(path, axes, kinds="iu"))
    if numbers.shape != shape:
        raise DataError(f"is of shape {numbers.shape}; for {stack.path.name} {shape} is needed{ADVICE}", Location(path))
    return numbers


def _check_within(numbers: NDArray[Any], least: int, most: int, path: Path) -> None:
    wrong = ((numbers < least) | (numbers > most)).reshape(len(numbers), -1).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        message = f"holds {numbers[row].tolist()}; whole numbers from {least} to {most:,} are needed"
        raise DataError(message, Location(path, f"row {row}"))


def check_alike(stacks: Sequence[Stack]) -> None:
    """DataError where arrays make no one store: of other widths, with and without boxes, with an id in two of them."""
    first = stacks[0]
    for stack in stacks:
        if stack.width != first.width:
            message = (
                f"has {stack.width:,} numbers per region, {first.path.name} {first.width:,}; take both of one model"
            )
            raise DataError(message, Location(stack.path))
        if _knows(stack) != _knows(first):
            message = f"and {first.path.name}: one has boxes or sizes, the other has none; give both of them, or none"
            raise DataError(message, Location(stack.path))
    places = [(stack.ids, number) for stack in stacks for number in range(len(stack.ids.ids))]
    second = first_twice([ids.ids[number] for ids, number in places])
    if second is not None:
        ids, number = places[second]
        image = ids.ids[number]
        other = next(stack.ids for stack in stacks if image in stack.ids.ids)
        where = other.location(other.ids.index(image))
        raise DataError(f"image {image!r} stands in {where} too; take one of the two out", ids.location(number))


def _knows(stack: Stack) -> tuple[bool, bool]:
    has_sizes = "sizes" in stack.arrays
    return "boxes" in stack.arrays or (has_sizes and stack.grid is not None), has_sizes


def rows_from(stack: Stack, first: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Rows of an array with their numbers, read in pieces: a mapped file would count as memory of the process."""
    images, each = stack.header.shape[0], max(1, PIECE // stack.stride)
    try:
        with stack.path.open("rb") as file:
            file.seek(stack.place_of(first))
            for begin in range(first, images, each):
                count = min(each, images - begin)
                numbers = np.fromfile(file, stack.header.dtype, count * math.prod(stack.shape))
                if numbers.size != count * math.prod(stack.shape):
                    raise DataError("was cut short while it was read; get it again", Location(stack.path))
                yield from enumerate(numbers.reshape(count, *stack.shape), start=begin)
    except OSError as error:
        raise unreadable(stack.path, error) from error


def image_of(stack: Stack, row: int, numbers: NDArray[Any]) -> ImageRegions:
    """One row as an image; DataError where its boxes cannot be boxes."""
    regions = as_regions(numbers, stack.channels)
    if "counts" in stack.arrays:
        regions = regions[: int(stack.arrays["counts"][row])]
    size = tuple(stack.arrays["sizes"][row].tolist()) if "sizes" in stack.arrays else None
    return ImageRegions(stack.ids.ids[row], regions, _boxes_of(stack, row, len(regions), size), size, at=0)


def _boxes_of(stack: Stack, row: int, count: int, size: Size | None) -> NDArray[np.float32] | None:
    if "boxes" not in stack.arrays:
        return cells(stack.grid, size) if stack.grid and size else None
    try:
        with np.errstate(over="ignore"):  # what overflows becomes inf, which is refused
            corners = stack.arrays["boxes"][row, :count].astype(np.float32)
        return from_corners(corners, size)
    except DataError as error:
        location = Location(stack.files["boxes"], f"row {row}")
        raise DataError(f"image {stack.ids.ids[row]!r}: {error.message}", location) from None
