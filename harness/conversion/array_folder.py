"""Folders of arrays: `<image id>.npy` or `<image id>.npz`, an image each, in sub-folders too.

An image is regions (R, F) or a map (C, h, w). An .npz holds them under one of the names of FEATURES. It may hold boxes
x1, y1, x2, y2 in pixels under one of BOXES, and the image's size as image_w and image_h; what else it holds is not
read. `<id>_info.npy` beside `<id>.npy`, as MMF writes it, is a pickle and never loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from harness.conversion.foreign_files import how_to_save, is_foreign
from harness.conversion.maps import MAP_FORM, REGIONS_FORM, Channels, as_regions, cells, channels_of, grid_of
from harness.conversion.source import ImageRegions, LaidFiles, Size, from_corners
from harness.data.arrays import BROKEN, Header, open_array, parse_header, read_header
from harness.data.content import is_unicode
from harness.data.region_store import FACTS, JOURNAL
from harness.data.region_writer import Dtype
from harness.errors import DataError, Location, UsageError
from harness.files import check_regular, has_file, listing

FEATURES = ("x", "features", "feat", "arr_0")
BOXES = ("bbox", "boxes", "bboxes")
SIZE = ("image_w", "image_h")
DAMAGED = (*BROKEN, OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
LARGEST_IMAGE = 1 << 28  # bytes of an array: a hundred times those of most


class ArrayFolder:
    """A source of regions; a place is the byte at which an image's file begins, all files laid end to end."""

    def __init__(self, folders: Sequence[Path], channels: Channels | None = None) -> None:
        self._folders = folders
        self._channels = channels
        self._paths: dict[str, Path] = {}  # by image
        self.left_out: list[Path] = []
        for path in [path for folder in folders for path in array_files(folder, self.left_out)]:
            if not is_unicode(path.stem):
                message = "that name is no UTF-8, and no image id can be; rename the file"
                raise DataError(message, Location(ascii(str(path))))
            if self._paths.setdefault(path.stem, path) != path:
                other = self._paths[path.stem]
                message = f"image {path.stem!r} has two files, this one and {other}; remove or rename one"
                raise DataError(message, Location(path))
        self.files = LaidFiles([*self._paths.values()])
        self.skipped = 0
        self.types: set[str] = set()  # of the numbers that were read

    @property
    def origin(self) -> dict[str, Any]:
        channels = {"channels": self._channels} if self._channels else {}
        folders = [folder.resolve().name for folder in self._folders]
        return {"kind": "folder of arrays", "folders": folders, **channels}

    @property
    def extent(self) -> dict[str, Any]:
        return {"files": len(self.files.paths), "bytes": self.files.total}

    @property
    def dtype(self) -> Dtype:
        """float16 where every array is; heads are read up to the first one that is not."""
        return "float16" if all(type_of(path) == np.float16 for path in self._paths.values()) else "float32"

    @property
    def remarks(self) -> Iterator[str]:
        yield from ()

    def images(self, places: Mapping[str, int], at: int) -> Iterator[ImageRegions]:
        for (image, path), start in zip(self._paths.items(), self.files.starts, strict=True):
            if image not in places:
                item = self._read(path)
                self.types.add(item.regions.dtype.name)
                yield item._replace(at=start)

    def _read(self, path: Path) -> ImageRegions:
        return READ[path.suffix.lower()](path, self._channels)

    def again(self, image: str, at: int) -> ImageRegions:
        """The image by its name, as other files may have come between; DataError where there is none."""
        if image not in self._paths:
            raise DataError(f"image {image} is in none of the folders")
        return self._read(self._paths[image])

    def location(self, at: int) -> Location:
        return Location(self.files.paths[self.files.find(at)[0]])


def array_files(folder: Path, left_out: list[Path]) -> list[Path]:
    """The arrays of a folder and those below it; what is none goes to `left_out`."""
    if has_file(folder / FACTS):
        raise UsageError(f"{folder} is a region store already; a card takes it as it is")
    files = [*files_below(folder, left_out)]
    paths = [path for path in files if is_array(path)]
    left_out += [path for path in files if not is_array(path)]
    if not paths:
        foreign = next((path for path in files if is_foreign(path)), None)
        hint = f"; {how_to_save(foreign, 'the array of each image')}" if foreign else ""
        message = f"has no .npy or .npz in it; give the folder that holds one for every image{hint}"
        raise DataError(message, Location(folder))
    return paths


def is_array(path: Path) -> bool:
    """Whether a file is one of regions: not of `<id>_info.npy` beside `<id>.npy`, nor what a Mac calls `._<id>.npy`."""
    beside = path.with_name(path.name.removesuffix("_info.npy") + ".npy")
    is_info = path.name.endswith("_info.npy") and beside.exists()
    return path.suffix.lower() in READ and not path.name.startswith(".") and not is_info


def files_below(folder: Path, left_out: list[Path]) -> Iterator[Path]:
    """Files of a folder, then of those below it; links to folders and region stores are left out."""
    folders = []
    for path in listing(folder):
        if not path.is_dir():
            yield path
        elif path.is_symlink() or any((path / name).exists() for name in (FACTS, JOURNAL)):
            left_out.append(path)
        else:
            folders.append(path)
    for path in folders:
        yield from files_below(path, left_out)


def type_of(path: Path) -> np.dtype[Any]:
    """The type of an image's numbers, of its file's head alone; DataError where it has none."""
    if path.suffix.lower() == ".npy":
        return read_header(path).dtype
    with _opened(path) as arrays:
        name = _name(arrays, FEATURES)
        return np.dtype(np.float32) if name is None else _header(arrays, name).dtype


def read_npy(path: Path, channels: Channels | None = None) -> ImageRegions:
    """An image of one array, of which no boxes are known; DataError where it cannot be understood."""
    header = read_header(path)
    if len(header.shape) == 1 and header.dtype.kind == "f":
        message = "is of one dimension; save its regions as (regions, width), and one region x as x[None]"
        raise DataError(message, Location(path))
    array = open_array(path, REGIONS_FORM, MAP_FORM, any_order=True)
    try:
        regions = as_regions(array, channels_of(array.shape, channels))
    except DataError as error:
        raise DataError(error.message, Location(path)) from None
    return ImageRegions(path.stem, regions, None, None, at=0)


def read_npz(path: Path, channels: Channels | None = None) -> ImageRegions:
    """Regions, and boxes and the image's size where they are known; DataError where they cannot be understood."""
    with _opened(path) as arrays:
        image, corners = _one(arrays, FEATURES, (2, 3)), _one(arrays, BOXES, (2,))
        size = _size(arrays)
        if image is None:
            raise DataError(f"no array in it is called {', '.join(FEATURES)}; save its regions as x")
        side = channels_of(image.shape, channels)
        regions, grid = as_regions(image, side), grid_of(image.shape, side)
        boxes = cells(grid, size) if grid and size else None
        if corners is not None:
            regions, corners = _boxed(regions, corners)
            boxes = from_corners(corners, size)
    return ImageRegions(path.stem, regions, boxes, size, at=0)


READ = {".npy": read_npy, ".npz": read_npz}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz as the archive that it is; what goes wrong with it becomes a DataError with its path."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as arrays:
            yield arrays
    except DAMAGED as error:
        raise DataError(f"damaged or no .npz of plain arrays ({error}); save it again", Location(path)) from error
    except DataError as error:
        raise DataError(error.message, Location(path)) from None


def _header(arrays: zipfile.ZipFile, name: str) -> Header:
    with arrays.open(f"{name}.npy") as file:
        return parse_header(cast(BinaryIO, file))


def _member(arrays: zipfile.ZipFile, name: str) -> NDArray[Any] | None:
    """An array of an .npz; None where it is not there, DataError where it is none or larger than an image can be."""
    if f"{name}.npy" not in arrays.namelist():
        return None
    size = arrays.getinfo(f"{name}.npy").file_size
    if size > LARGEST_IMAGE:
        raise DataError(f"{name} unpacks to {size:,} bytes, more than {LARGEST_IMAGE >> 20} MB; no image has as many")
    with arrays.open(f"{name}.npy") as file:
        header = parse_header(cast(BinaryIO, file))
        if header.dtype.hasobject:
            raise ValueError("Object arrays hold pickles, which are never loaded")
        if header.size != size or min(header.shape, default=0) < 0:
            raise ValueError(f"{name} has {size:,} bytes, its header says {header.dtype} of shape {header.shape}")
        order = "F" if header.fortran else "C"
        return np.frombuffer(file.read(), header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload,no-any-return]


def _name(arrays: zipfile.ZipFile, names: Sequence[str]) -> str | None:
    """Which of the names an array has, if any has; DataError where several have."""
    there = [name for name in names if f"{name}.npy" in arrays.namelist()]
    if len(there) > 1:
        raise DataError(f"it has arrays {' and '.join(there)}; which of them is meant is not known: keep one")
    return there[0] if there else None


def _one(arrays: zipfile.ZipFile, names: Sequence[str], dimensions: tuple[int, ...]) -> NDArray[Any] | None:
    """The array of floats that has one of the names, if any has."""
    name = _name(arrays, names)
    if name is None:
        return None
    array = _member(arrays, name)
    assert array is not None
    if array.dtype.kind != "f" or array.ndim not in dimensions:
        wanted = " or ".join({2: "two", 3: "three"}[number] for number in dimensions)
        raise DataError(f"{name} is {array.dtype} of shape {array.shape}; floats of {wanted} dimensions are needed")
    return np.asarray(array)


def _size(arrays: zipfile.ZipFile) -> Size | None:
    width, height = (_member(arrays, name) for name in SIZE)
    if width is None or height is None:
        return None
    if any(number.size != 1 or number.dtype.kind not in "iu" or number.item() < 1 for number in (width, height)):
        raise DataError(f"{' and '.join(SIZE)} are {width} and {height}; whole numbers from 1 are needed")
    return int(width.item()), int(height.item())


def _boxed(regions: NDArray[Any], corners: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Regions and boxes, as many of both; some releases have the regions as columns, which their boxes tell."""
    if corners.shape[1] != 4:
        raise DataError(f"its boxes are of shape {corners.shape}; (regions, 4) is needed")
    if len(regions) != len(corners) and regions.shape[1] == len(corners):
        regions = regions.T
    if len(regions) != len(corners):
        raise DataError(f"its regions are of shape {regions.shape}, its boxes of {corners.shape}; one box per region")
    return regions, corners
