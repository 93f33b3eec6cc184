"""The ids of the images in an array, in the order of its rows: a line each, a list in JSON, or an .npy of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.arrays import checked_header
from harness.data.content import first_twice
from harness.data.region_writer import is_image_id
from harness.errors import DataError, Location
from harness.files import read_json, read_lines

NAMES = ("ids", "image_ids", "filenames")
SUFFIXES = (".txt", ".json", ".npy")
FILES = tuple(f"{name}{suffix}" for name in NAMES for suffix in SUFFIXES)
WANTED = "their ids, one per line in the order of the rows"


class ImageIds(NamedTuple):
    path: Path
    ids: tuple[str, ...]
    unit: str  # of what an id is in its file

    def location(self, number: int) -> Location:
        return Location(self.path, f"{self.unit} {number + 1}")

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()


def find_image_ids(array: Path, is_alone: bool) -> Path | None:
    """The list beside an array: `<stem>_ids.*` or `<stem>.ids.*`, else `ids.*`, which is for one array `is_alone`."""
    own = [f"{array.stem}{mark}{name}{suffix}" for mark in "_." for name in NAMES for suffix in SUFFIXES]
    for names in (own, FILES if is_alone else ()):
        there = [array.with_name(name) for name in names if array.with_name(name).is_file()]
        if len(there) > 1:
            some = " and ".join(path.name for path in there)
            raise DataError(f"beside it are {some}; say by --ids which one has its images' ids", Location(array))
        if there:
            return there[0]
    return None


def read_image_ids(path: Path) -> ImageIds:
    """A list of ids; DataError names the one that is empty, stands twice or cannot be an id."""
    ids = READ.get(path.suffix.lower(), _lines)(path)
    for number, one in enumerate(ids.ids):
        if not is_image_id(one):
            message = f"{one!r} cannot be an image's id; a line of text without blanks at its ends can"
            raise DataError(message, ids.location(number))
    second = first_twice(ids.ids)
    if second is not None:
        first = ids.location(ids.ids.index(ids.ids[second])).entry
        message = f"image {ids.ids[second]!r} stands in {first} already; each row of the array is another image"
        raise DataError(message, ids.location(second))
    return ids


def _lines(path: Path) -> ImageIds:
    return ImageIds(path, tuple(read_lines(path, "is one image's id")), "line")


def _json(path: Path) -> ImageIds:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError("holds no list; a list of ids in the order of the rows is needed", Location(path))
    return ImageIds(path, tuple(_texts(content, path)), "entry")


def _npy(path: Path) -> ImageIds:
    checked_header(path, ("images",), kinds="USiu", any_order=True)
    return ImageIds(path, tuple(_texts(np.load(path, allow_pickle=False).tolist(), path)), "entry")


def _texts(values: Sequence[Any], path: Path) -> list[str]:
    texts = []
    for number, value in enumerate(values, start=1):
        try:
            text = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 ({error}); save texts", Location(path, f"entry {number}")) from error
        if not isinstance(text, str | int) or isinstance(text, bool):
            message = f"{text!r} is no id; texts or whole numbers are"
            raise DataError(message, Location(path, f"entry {number}"))
        texts.append(str(text))
    return texts


READ = {".json": _json, ".npy": _npy}
