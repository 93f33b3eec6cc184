"""Which form the sources of a region store have: TSV files, arrays of many images with their ids, folders of arrays."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.conversion.array_folder import ArrayFolder
from harness.conversion.folder_form import array_in
from harness.conversion.foreign_files import how_to_save, is_foreign
from harness.conversion.image_ids import FILES, NAMES, SUFFIXES, WANTED, find_image_ids
from harness.conversion.maps import Channels
from harness.conversion.stacked_arrays import StackedArrays
from harness.conversion.tsv import ButdTsv
from harness.data.arrays import read_header
from harness.data.content import first_twice, is_unicode
from harness.data.region_store import FACTS
from harness.errors import DataError, Location, UsageError
from harness.files import has_file, unreadable

RegionSource = ArrayFolder | ButdTsv | StackedArrays  # a place is a number of bytes: where an image stands in the files
MAGIC = b"\x93NUMPY"  # the first bytes of an .npy file


class ArrayOptions(NamedTuple):
    """What the command line says of arrays."""

    ids: tuple[Path, ...] = ()  # a list for each array of many images
    channels: Channels | None = None


AS_FOUND = ArrayOptions()


def open_source(paths: Sequence[Path], options: ArrayOptions = AS_FOUND) -> RegionSource:
    """The images of some files or folders; UsageError where these are not there or of several kinds."""
    are_folders = _check_given(paths)
    _check_names([*paths, *options.ids])
    try:
        arrays = _arrays_in(paths, options) if are_folders else _array_files(paths)
        if arrays:
            return StackedArrays(_with_ids(arrays, options.ids), options.channels)
        if options.ids:
            raise UsageError("--ids is for an .npy of many images; images of a TSV, or of a file each, have their ids")
        if are_folders:
            return ArrayFolder(paths, options.channels)
        if options.channels:
            raise UsageError("--channels is for arrays; a TSV has no maps")
        return ButdTsv(paths)
    except OSError as error:
        raise DataError(f"a source cannot be read ({error}); see to the file and its rights") from error


def _check_given(paths: Sequence[Path]) -> bool:
    """Whether the sources are folders; UsageError where one is neither file nor folder, or stands there twice."""
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is no file and no folder; give TSV files, an .npy, or a folder of .npy or .npz")
    kinds = {path.is_dir() for path in paths}
    if len(kinds) > 1:
        raise UsageError("files and folders together make no store; give files, or folders of .npy or .npz files")
    second = first_twice([str(path.resolve()) for path in paths])
    if second is not None:
        raise UsageError(f"{paths[second].resolve()} is given twice; once is enough")
    return kinds == {True}


def _check_names(paths: Sequence[Path]) -> None:
    """DataError where a name could not be written into store.json."""
    for path in paths:
        if not is_unicode(path.resolve().name):
            raise DataError("that name is no UTF-8; rename it", Location(ascii(str(path))))


def _array_files(paths: Sequence[Path]) -> list[Path]:
    """The files, if they are arrays; UsageError where only some are, DataError where one is of another kind."""
    for path in paths:
        if is_foreign(path):
            raise DataError(how_to_save(path), Location(path))
    arrays = [path for path in paths if is_array(path)]
    if arrays and len(arrays) < len(paths):
        other = next(path for path in paths if path not in arrays)
        raise UsageError(
            f"{other} is no .npy, and beside {arrays[0]} only such are sources; where it lists the images' ids, give "
            f"it with --ids {shlex.quote(str(other))}"
        )
    for path in arrays:
        if has_file(path.with_name(FACTS)):
            raise UsageError(f"{path.parent} is a region store already; a card takes it as it is")
    return arrays


def is_array(path: Path) -> bool:
    """Whether a file is an .npy, by its name or by its first bytes."""
    if path.suffix.lower() == ".npy":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise unreadable(path, error) from error


def _arrays_in(folders: Sequence[Path], options: ArrayOptions) -> list[Path]:
    """The array of many images of each folder; none where the folders have a file for each image."""
    arrays = [array_in(folder, bool(options.ids)) for folder in folders]
    stacked = [array for array in arrays if array]
    if stacked and len(stacked) < len(arrays):
        other = folders[arrays.index(None)]
        raise UsageError(f"{stacked[0]} is an array of many images, {other} has a file for each; make two stores")
    return stacked


def _with_ids(arrays: Sequence[Path], given: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each array with the file of its ids; UsageError where --ids are not as many, DataError where one has none."""
    if given and len(given) != len(arrays):
        raise UsageError(f"--ids is given {len(given)} times for {len(arrays)} arrays; give it once for each, in order")
    absent = next((path for path in given if not path.is_file()), None)
    if absent:
        raise UsageError(f"--ids {absent} is no file; give the list of ids, one per line in the order of the rows")
    if given:
        return list(zip(arrays, given, strict=True))
    folders = Counter(path.parent.resolve() for path in arrays)
    return [(path, _ids_of(path, folders[path.parent.resolve()] == 1)) for path in arrays]


def _ids_of(array: Path, is_alone: bool) -> Path:
    ids = find_image_ids(array, is_alone)
    if ids is None:
        names = [*[FILES[0]] * is_alone, f"{array.stem}_{FILES[0]}"]
        held = read_header(array)
        raise DataError(
            f"holds {held.dtype} of shape {held.shape}, and no list of its images' ids is beside it: put {WANTED}, "
            f"into {' or '.join(names)} there, or name it with --ids. Lists are looked for by the names "
            f"{', '.join(NAMES)} with {', '.join(SUFFIXES)}",
            Location(array),
        )
    return ids
