"""Folders of arrays: `<image id>.npy` or `<image id>.npz`, an image's regions (R, F) each, in sub-folders too.

An .npz holds the regions under one of the names of FEATURES. It may hold boxes x1, y1, x2, y2 in pixels under one of
BOXES, and the image's size as image_w and image_h; what else it holds is not read. `<id>_info.npy` beside `<id>.npy`,
as MMF writes it, is a pickle and never loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import BROKEN, open_array, parse_header
from harness.data.content import is_unicode
from harness.data.region_store import FACTS, JOURNAL
from harness.errors import DataError, Location, UsageError
from harness.files import check_regular, has_file, listing
from harness.preparation.source import ImageRegions, LaidFiles, Size, from_corners

FEATURES = ("x", "features", "feat", "arr_0")
BOXES = ("bbox", "boxes", "bboxes")
SIZE = ("image_w", "image_h")
DAMAGED = (*BROKEN, OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
LARGEST_IMAGE = 1 << 28  # bytes of an array: a hundred times those of most


class ArrayFolder:
    """A source of regions; a place is the byte at which an image's file begins, all files laid end to end."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._paths: dict[str, Path] = {}  # by image
        self.left_out: list[Path] = []
        for path in [path for folder in folders for path in array_files(folder, self.left_out)]:
            if not is_unicode(path.stem):
                message = "that name is no UTF-8, and no image id can be; rename the file"
                raise DataError(message, Location(ascii(str(path))))
            if self._paths.setdefault(path.stem, path) != path:
                message = f"is one image with {self._paths[path.stem]}; take one of the two out"
                raise DataError(message, Location(path))
        self.files = LaidFiles([*self._paths.values()])
        self.skipped = 0

    @property
    def origin(self) -> dict[str, Any]:
        return {"kind": "folder of arrays", "folders": [folder.resolve().name for folder in self._folders]}

    @property
    def extent(self) -> dict[str, Any]:
        return {"files": len(self.files.paths), "bytes": self.files.total}

    def images(self, places: Mapping[str, int], at: int) -> Iterator[ImageRegions]:
        for (image, path), start in zip(self._paths.items(), self.files.starts, strict=True):
            if image not in places:
                yield READ[path.suffix.lower()](path)._replace(at=start)

    def again(self, image: str, at: int) -> ImageRegions:
        """The image by its name, as other files may have come between; DataError where there is none."""
        if image not in self._paths:
            raise DataError(f"image {image} is in none of the folders")
        return READ[self._paths[image].suffix.lower()](self._paths[image])

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
        message = "has no .npy or .npz in it; give the folder that holds one for every image"
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


def read_npy(path: Path) -> ImageRegions:
    return ImageRegions(path.stem, open_array(path, ("regions", "width")), None, None, at=0)


def read_npz(path: Path) -> ImageRegions:
    """Regions, and boxes and the image's size where they are known; DataError where they cannot be understood."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as arrays:
            regions, corners = _one(arrays, FEATURES), _one(arrays, BOXES)
            size = _size(arrays)
        if regions is None:
            raise DataError(f"no array in it is called {', '.join(FEATURES)}; save its regions as x")
        if corners is not None:
            regions, corners = _boxed(regions, corners)
        boxes = None if corners is None else from_corners(corners, size)
    except DAMAGED as error:
        raise DataError(f"damaged or no .npz of plain arrays ({error}); save it again", Location(path)) from error
    except DataError as error:
        raise DataError(error.message, Location(path)) from None
    return ImageRegions(path.stem, regions, boxes, size, at=0)


READ = {".npy": read_npy, ".npz": read_npz}


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


def _one(arrays: zipfile.ZipFile, names: Sequence[str]) -> NDArray[Any] | None:
    """The array of floats that has one of the names, if any has; DataError where several have."""
    there = [name for name in names if f"{name}.npy" in arrays.namelist()]
    if len(there) > 1:
        raise DataError(f"it has arrays {' and '.join(there)}; which of them is meant is not known: keep one")
    if not there:
        return None
    array = _member(arrays, there[0])
    assert array is not None
    if array.dtype.kind != "f" or array.ndim != 2:
        raise DataError(f"{there[0]} is {array.dtype} of shape {array.shape}; floats of two dimensions are needed")
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
        raise DataError(f"its regions are of shape {regions.shape}, its boxes of {corners.shape}; one box a region")
    return regions, corners
