"""Whether a folder holds one array of many images, or an array for each image; refused where that is not certain."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

from harness.conversion.array_folder import array_files
from harness.conversion.foreign_files import how_to_save
from harness.conversion.image_ids import FILES, WANTED, find_image_ids, read_image_ids
from harness.conversion.stacked_arrays import BESIDE
from harness.data.arrays import read_header
from harness.errors import DataError, Location, UsageError

OWN_LISTS = tuple(f"{mark}{name}" for mark in "_." for name in FILES)
OWN_BESIDE = tuple(f"_{name}" for name in BESIDE)
FEW = 10  # arrays in a folder: no data set has fewer images
MANY = 1000  # rows of an array: more than the regions of an image, as a rule


def array_in(folder: Path, has_ids: bool) -> Path | None:
    """The one array of a folder, of many images; None where the folder has a file for each image.

    DataError where neither is certain: one array lies there without a list of ids, or several with a list that names
    none of them, or a few that have as many rows as there are images.
    """
    others: list[Path] = []
    files = array_files(folder, others)
    there = {*files}
    lists = [path for path in (*files, *others) if _belongs(path, FILES, OWN_LISTS, there)]
    arrays = [path for path in files if path not in lists and not _belongs(path, BESIDE, OWN_BESIDE, there)]
    if len(arrays) == 1 or (lists and not arrays):
        return _only_array(folder, (arrays or files)[0], has_ids)
    if has_ids:
        raise UsageError(f"{folder} holds {len(arrays):,} arrays; name the one whose images' ids --ids has")
    if not any(_names(path, arrays) for path in lists):
        _check_each_is_one_image(folder, arrays, lists)
    return None


def _belongs(path: Path, names: Sequence[str], own: tuple[str, ...], arrays: set[Path]) -> bool:
    """Whether a file has one of the names, or that of one of the arrays with one of the endings."""
    if path.name in names or not path.name.endswith(own):
        return path.name in names
    return any(path.with_name(path.name.removesuffix(end) + ".npy") in arrays for end in own if path.name.endswith(end))


def _only_array(folder: Path, array: Path, has_ids: bool) -> Path | None:
    if array.suffix.lower() == ".npz":
        return _only_npz(folder, array)
    ids = find_image_ids(array, is_alone=True)
    if has_ids or (ids and not _is_one_image(ids, array)):
        return array
    if ids:
        return None
    raise DataError(
        f"holds one array, {array.name} of shape {read_header(array).shape}, and no list of ids. If it is of many "
        f"images, put {WANTED}, into {FILES[0]} beside it; if it is one image, put {array.stem!r} into {FILES[0]}",
        Location(folder),
    )


def _is_one_image(ids: Path, array: Path) -> bool:
    """Whether a list names an array, and not its rows."""
    return _names(ids, [array]) and read_header(array).shape[:1] != (len(read_image_ids(ids).ids),)


def _only_npz(folder: Path, array: Path) -> Path | None:
    ids = find_image_ids(array, is_alone=True)
    if ids and _names(ids, [array]):
        return None
    raise DataError(
        f"holds one .npz alone. If it is of many images: {how_to_save(array)}. If it is one image, put {array.stem!r} "
        f"into {FILES[0]}",
        Location(folder),
    )


def _check_each_is_one_image(folder: Path, arrays: Sequence[Path], lists: Sequence[Path]) -> None:
    """DataError where arrays seem to be of many images each: a list names none of them, or a few have many rows."""
    large = next((path for path in arrays if len(arrays) < FEW and _has_many_rows(path)), None)
    if not lists and large is None:
        return
    first = large or arrays[0]
    why = f"{lists[0].name}, which names none of them" if lists else f"{first.name} has {_rows(first):,} rows"
    own = f"{first.stem}_{FILES[0]}"
    raise DataError(
        f"holds {len(arrays):,} arrays, and {why}. If an array is of many images, name it, with {own} beside it: "
        f"harness data convert {shlex.quote(str(first))} --to FOLDER; if each is of one image, put their names "
        f"without .npy into {FILES[0]} there",
        Location(folder),
    )


def _rows(array: Path) -> int:
    return read_header(array).shape[0]


def _has_many_rows(array: Path) -> bool:
    """Whether an array has more rows than an image has regions; a map (C, h, w) is about as wide as it is high."""
    if array.suffix.lower() != ".npy":
        return False
    shape = read_header(array).shape
    return len(shape) > 1 and shape[0] > MANY and (len(shape) != 3 or shape[2] > 4 * shape[1])


def _names(ids: Path, arrays: Sequence[Path]) -> bool:
    """Whether a list of ids names one of the files, as a list of a folder's images does."""
    names = {name for image in read_image_ids(ids).ids for name in (image, PurePath(image).stem)}
    return any(path.stem in names for path in arrays)
