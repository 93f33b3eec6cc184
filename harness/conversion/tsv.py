"""Bottom-up-attention TSV: a line per image, boxes and features as base64 of float32.

    image_id  image_w  image_h  num_boxes  boxes  features                          as first released
    img_id  img_h  img_w  objects_id  objects_conf  attrs_id  attrs_conf  num_boxes  boxes  features

The second form, with height before width, is that of LXMERT and of detectron2's version. Boxes are x1, y1, x2, y2 in
pixels. A release may come in parts, and one image may stand in two of them. Lines end with LF or CRLF. A first line of
names, whole numbers written as 36.0 and Python's b'…' around a cell are read as what they mean.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.conversion.source import ImageRegions, LaidFiles, from_corners
from harness.data.region_writer import Dtype
from harness.errors import DataError, Location
from harness.files import lfs_hint, unreadable

LONGEST = 1 << 26  # bytes of a line: ten times an image of 100 regions
LONGEST_ID = 1000  # bytes
PIECE = 1 << 20  # bytes read at a time
TAB = b"\t"
WHOLE = re.compile(rb"([0-9]{1,9})(?:\.0{1,9})?")
FLOAT_ID = re.compile(r"([0-9]{1,18})\.0")
NAMES = (("image_w", "img_w"), ("image_h", "img_h"), ("num_boxes",), ("boxes",), ("features",))  # as in Columns
IDS = (b"image_id", b"img_id")
FORMS = (
    "image_id image_w image_h num_boxes boxes features (6), or "
    "img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features (10)"
)
REPAIR = "get the file again, or repair the line; the same command then goes on from here"


Cell = TypeVar("Cell", bytes, memoryview)


class Columns(NamedTuple):
    width: int
    height: int
    number: int
    boxes: int
    features: int


COLUMNS = {6: Columns(1, 2, 3, 4, 5), 10: Columns(2, 1, 7, 8, 9)}


class ButdTsv:
    """A source of regions; a place is the byte at which an image's line begins.

    `origin` leaves the sizes of the files out: they may grow until they are whole.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = LaidFiles(paths)
        self.skipped = 0  # images that stand there once more, alike or cut
        self.left_out: list[Path] = []
        self._columns: dict[int, Columns | None] = {}  # of every file, as its first line names them
        for number, (path, size) in enumerate(zip(paths, self.files.sizes, strict=True)):
            if not size:
                raise DataError("an empty file; get it again", Location(path))
            if hint := lfs_hint(path):
                raise DataError(hint, Location(path, "line 1"))
            self._begin(number, path)

    def _begin(self, number: int, path: Path) -> None:
        """Read the first line of a file, and the second one where the first one names the columns."""
        start = self.files.starts[number]
        first = self._line(start)
        try:
            self._columns[number] = named_columns(first)
        except DataError as error:
            raise DataError(error.message, Location(path, "line 1")) from None
        if self._columns[number] is None:
            self._whole_or_skipped(start, first, {})
            return
        place, line = next((line for line in self._lines(start) if line[1] != first), (start, b""))
        if self.files.find(place)[0] != number or place == start:
            raise DataError("names its columns and holds no row; get it again", Location(path))
        self._parsed(place, line)

    @property
    def origin(self) -> dict[str, Any]:
        return {"kind": "bottom-up-attention TSV", "files": [path.name for path in self.files.paths]}

    @property
    def extent(self) -> dict[str, Any]:
        return {"bytes": self.files.sizes}

    @property
    def dtype(self) -> Dtype:
        return "float32"

    @property
    def types(self) -> set[str]:
        return {self.dtype}

    @property
    def remarks(self) -> Iterator[str]:
        yield from ()

    def images(self, places: Mapping[str, int], at: int) -> Iterator[ImageRegions]:
        """Line by line; an image that stands there once more is skipped if both lines are alike, else a DataError.

        A damaged line is skipped too where the image stands somewhere else in whole, as where parts overlap.
        """
        for place, line in self._lines(at):
            if self._names_columns(place, line):
                continue
            regions = self._whole_or_skipped(place, line, places)
            if regions is None:
                self.skipped += 1
                continue
            before = places.get(regions.image)
            if before is None:
                yield regions
            elif before != place:
                if self._line(before) != line:
                    raise DataError(
                        f"image {regions.image} stands in {self.location(before)} too, with other numbers; take one of "
                        "the two out, or convert files of one release only",
                        self.location(place),
                    )
                self.skipped += 1

    def again(self, image: str, at: int) -> ImageRegions:
        return self._parsed(at, self._line(at))

    def _names_columns(self, place: int, line: bytes) -> bool:
        number, begin = self.files.find(place)
        return not begin and self._columns[number] is not None and named_columns(line) is not None

    def _whole_or_skipped(self, place: int, line: bytes, places: Mapping[str, int]) -> ImageRegions | None:
        """A line's image; None where the line is damaged and another one has the image in whole."""
        try:
            return self._parsed(place, line)
        except DataError:
            if self._stands_elsewhere(place, line, places):
                return None
            raise

    def _stands_elsewhere(self, place: int, line: bytes, places: Mapping[str, int]) -> bool:
        """Whether the image of a damaged line stands in whole before or behind it."""
        cell = line[:LONGEST_ID].partition(TAB)[0]
        with suppress(DataError):
            image = _id(_unwrapped(memoryview(cell)))
            if image in places:
                return True
            begin = cell + TAB
            for later, other in self._lines(place if places else 0):
                if later != place and other.startswith(begin):
                    with suppress(DataError):
                        return self._parsed(later, other).image == image
        return False

    def location(self, at: int) -> Location:
        """File and line; lines are counted only now, for a message."""
        number, begin = self.files.find(at)
        path, before = self.files.paths[number], 0
        with path.open("rb") as file:
            while begin > 0 and (piece := file.read(min(PIECE, begin))):
                before += piece.count(b"\n")
                begin -= len(piece)
        return Location(path, f"line {before + 1}")

    def _parsed(self, at: int, line: bytes) -> ImageRegions:
        try:
            return parse(line, self._columns.get(self.files.find(at)[0]))._replace(at=at)
        except DataError as error:
            raise DataError(f"{error.message}; {REPAIR}", self.location(at)) from None

    def _line(self, at: int) -> bytes:
        return next(self._lines(at), (at, b""))[1]

    def _lines(self, at: int) -> Iterator[tuple[int, bytes]]:
        number, begin = self.files.find(at)
        for path, start in list(zip(self.files.paths, self.files.starts, strict=True))[number:]:
            try:
                with path.open("rb", buffering=PIECE) as file:
                    file.seek(begin)
                    yield from ((start + place, line) for place, line in _lines(file, begin) if line)
            except OSError as error:
                raise unreadable(path, error) from error
            begin = 0


def named_columns(line: bytes) -> Columns | None:
    """The columns that a file's first line names; None where it is a row."""
    names = [_unwrapped(cell) for cell in line.removeprefix(codecs.BOM_UTF8).split(TAB, max(COLUMNS))]
    if names[0].strip() not in IDS:
        return None
    places = [next((names.index(name.encode()) for name in known if name.encode() in names), -1) for known in NAMES]
    if -1 in places:
        lacking = " or ".join(NAMES[places.index(-1)])
        raise DataError(f"its first line names no column {lacking}; {FORMS}")
    return Columns(*places)


def parse(line: bytes, columns: Columns | None = None) -> ImageRegions:
    """One line without its end; DataError where it is no row of the two forms. NaN is refused by the writer.

    Columns that the file names itself may stand in another order, the id first.
    """
    cells = [_unwrapped(cell) for cell in _cells(line)]
    known = COLUMNS.get(len(cells))
    columns = known and (columns or known)
    if len(line) > LONGEST or columns is None:
        raise DataError(f"columns: {line.count(TAB) + 1:,}, bytes: {len(line):,}; the columns of a row are {FORMS}")
    size = _whole(cells[columns.width], "image width"), _whole(cells[columns.height], "image height")
    count = _whole(cells[columns.number], "number of boxes")
    corners = _numbers(cells[columns.boxes], "boxes", count)
    if corners.shape[1] != 4:
        raise DataError(f"its boxes are of {corners.shape[1]} numbers each, 4 are needed")
    features = _numbers(cells[columns.features], "features", count)
    return ImageRegions(_id(cells[0]), features, from_corners(corners, size), size, at=0)


def _lines(file: BinaryIO, begin: int) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file without their ends, a longer one than can be only in part."""
    while line := file.readline(LONGEST + 2):
        yield begin, line.rstrip(b"\r\n")
        begin += len(line)


def _cells(line: bytes) -> list[memoryview]:
    """What stands between the tabs; nothing is copied, as the last cell is nearly all of the line."""
    cells: list[memoryview] = []
    whole, begin = memoryview(line), 0
    while (end := line.find(TAB, begin)) >= 0 and len(cells) <= max(COLUMNS):  # more of them are wrong anyway
        cells.append(whole[begin:end])
        begin = end + 1
    return [*cells, whole[begin:]]


def _unwrapped(cell: Cell) -> Cell:
    """A cell without Python's b'…' around it, which str() puts there."""
    is_wrapped = len(cell) > 2 and bytes(cell[:2]) in (b"b'", b'b"') and bytes(cell[-1:]) == bytes(cell[1:2])
    return cell[2:-1] if is_wrapped else cell


def _id(cell: memoryview) -> str:
    try:
        text = bytes(cell).decode("utf-8-sig").strip()
        return FLOAT_ID.sub(r"\1", text) if FLOAT_ID.fullmatch(text) else text
    except UnicodeDecodeError as error:
        raise DataError(f"its image id is not UTF-8 ({error})") from error


def _whole(cell: memoryview, what: str) -> int:
    text = bytes(cell[:20]).strip()
    whole = WHOLE.fullmatch(text)
    if not whole or not int(whole[1]):
        raise DataError(f"its {what} is {text.decode(errors='replace')!r}; a whole number from 1 is needed")
    return int(whole[1])


def _numbers(cell: memoryview, what: str, count: int) -> NDArray[Any]:
    """Float32 in base64, as many for each of so many boxes: (count, numbers)."""
    try:
        data = binascii.a2b_base64(cell, strict_mode=True)
    except binascii.Error as error:
        raise DataError(f"its {what} are no base64 ({error})") from error
    if not data or len(data) % (4 * count):
        raise DataError(f"its {what} are {len(data):,} bytes, no whole number of float32 for each of {count} boxes")
    return np.frombuffer(data, "<f4").reshape(count, -1)
