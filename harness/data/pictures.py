"""Picture files of a folder by image id, and their pixels in RGB."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from harness.data.content import PICTURES
from harness.errors import DataError, Location, first_line, named
from harness.files import check_regular, has_folder, unreadable

MOST_PIXELS = 80_000_000  # below that of which Pillow warns
FORMATS = ("JPEG", "PNG", "WEBP")
SHOWN = 10  # pictures that a message names
TURN = 0x0112  # the tag of EXIF that says how a picture is turned
TURNS = range(1, 9)
TURNED = {  # what stands a picture upright, by what EXIF says
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORDER_MARK = "\ufeff"  # which readers of a text take off its beginning
DIGEST_BYTES = 8
BROKEN = (  # what Pillow raises for a file that is no whole picture, or whose head is damaged
    *(OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning),
    *(TypeError, AttributeError, LookupError, ArithmeticError, EOFError, RuntimeError, struct.error, zlib.error),
)


class PictureFiles(NamedTuple):
    files: dict[str, Path]  # by id, in the order of the ids
    others: int  # files of other kinds, which were left out


class PictureHead(NamedTuple):
    """What a file says before its pixels are read."""

    size: tuple[int, int]  # width and height as the file holds them, before it is turned
    frames: int  # of an animation, else 1
    orientation: int = 1  # of EXIF
    is_cmyk: bool = False
    is_16_bit: bool = False

    @property
    def unusual(self) -> str:
        """What it is that must be converted before a model sees it; empty of a still picture of 8-bit RGB or grey."""
        kinds = {"animated": self.frames > 1, "CMYK": self.is_cmyk, "16-bit": self.is_16_bit}
        return ", ".join(name for name, holds in kinds.items() if holds)


def find_pictures(folder: Path) -> PictureFiles:
    """The pictures below a folder but hidden ones, by file name without suffix; DataError where an id stands twice."""
    if not has_folder(folder):
        raise DataError("no folder; name the one that holds the pictures", Location(folder))
    paths = _files(folder)
    pictures = [path for path in paths if path.suffix.lower() in PICTURES]
    if not pictures:
        raise DataError(
            f"holds no picture ({', '.join(PICTURES)}) among {len(paths):,} files; name the folder that does",
            Location(folder),
        )
    files: dict[str, Path] = {}
    for path in pictures:
        if path.stem in files:
            message = f"image {path.stem!r} has two files, this one and {files[path.stem]}; remove or rename one"
            raise DataError(message, Location(path))
        files[_checked(path)] = path
    return PictureFiles(dict(sorted(files.items())), len(paths) - len(pictures))


def picture_paths(folder: Path) -> list[Path]:
    """The pictures below a folder but hidden ones, by place, whatever their ids; DataError where it cannot be read."""
    return [path for path in _files(folder) if path.suffix.lower() in PICTURES]


def _files(folder: Path) -> list[Path]:
    met: dict[Path, Path] = {}
    paths: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = Path(place).resolve()
        if real in met:
            raise DataError(f"leads to {met[real]}, which is read already; take that link out", Location(place))
        met[real] = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return paths


def _unreadable(error: OSError) -> None:
    raise unreadable(Path(error.filename), error) from error


def _checked(path: Path) -> str:
    """The id of a picture; DataError where it does not fit on one line of a UTF-8 text file, or is not read back."""
    name = path.stem
    if name.startswith(ORDER_MARK):
        message = "that name begins with a byte order mark, which is lost where a list of ids is read; rename it"
        raise DataError(message, Location(ascii(str(path))))
    if name.strip() != name or "\n" in name or name.encode(errors="replace").decode() != name:
        raise DataError("that name does not fit on one line of a UTF-8 text file; rename it", Location(repr(str(path))))
    return name


def read_picture(file: Path) -> Image.Image:
    """A JPEG, PNG or WebP file in RGB, turned as its EXIF says, transparency white; DataError where it is none.

    Of an animation it is the first frame; CMYK becomes RGB without a colour profile, 16 bits their upper eight.
    """
    with _opened(file) as picture:
        picture.load()  # of a PNG, EXIF may stand behind the pixels
        turn = TURNED.get(_orientation(picture))
        return as_rgb(picture if turn is None else picture.transpose(turn))


def _orientation(picture: Image.Image) -> int:
    """How EXIF says that a picture is turned; 1, not at all, where it says nothing that means a turn.

    Only this tag is read: Pillow's own turning writes all tags again, and fails where one is of an odd kind.
    """
    orientation = picture.getexif().get(TURN, 1)
    return int(orientation) if orientation in TURNS else 1


def digest_of(file: Path) -> str:
    """16 hex digits of a file's bytes, which tell whether it is the same; DataError where it cannot be read."""
    check_regular(file)
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
    except OSError as error:
        raise unreadable(file, error) from error


def read_head(file: Path, turned: bool = False) -> PictureHead:
    """What a picture is before its pixels are read, and if asked how it is turned; DataError where it is none."""
    with _opened(file) as picture:
        frames = getattr(picture, "n_frames", 1) if picture.format in ("PNG", "WEBP") else 1
        orientation = _orientation(picture) if turned else 1
        return PictureHead(picture.size, frames, orientation, picture.mode == "CMYK", is_16_bit(picture))


def is_16_bit(picture: Image.Image) -> bool:
    """Whether a file has 16 bits per channel, of which Pillow's mode says nothing where there are three."""
    tiles = getattr(picture, "tile", ())
    return picture.mode.startswith("I") or (picture.format == "PNG" and any("16" in str(tile[3]) for tile in tiles))


def check_usual(files: Mapping[str, Path], heads: Mapping[str, PictureHead], cure: str) -> None:
    """DataError that names the pictures that would have to be converted, where there are any."""
    if unusual := unusual_pictures(heads):
        names = named([f"{files[image].name} ({heads[image].unusual})" for image in unusual], SHOWN)
        message = f"no still pictures of 8 bits in RGB or grey: {names}; convert them, or {cure}"
        raise DataError(message, Location(files[unusual[0]].parent))


def unusual_pictures(heads: Mapping[str, PictureHead]) -> list[str]:
    """The ids of pictures that must be converted before a model sees them."""
    return [image for image, head in heads.items() if head.unusual]


def read_heads(files: Mapping[str, Path], turned: bool, tell: Callable[[int], object]) -> dict[str, PictureHead]:
    """What all pictures are, by id; `tell` is called with 1 for each. DataError for the first file that is none."""
    heads = {}
    for image, file in files.items():
        heads[image] = read_head(file, turned)
        tell(1)
    return heads


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture whose pixels are read when they are needed; DataError where they are none, or too many."""
    check_regular(file)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            check_pixels(file, picture.size)
            yield picture
    except BROKEN as error:
        message = f"no readable picture ({first_line(error)}); get it again or take it out"
        raise DataError(message, Location(file)) from error


def check_pixels(file: Path, size: tuple[int, int]) -> None:
    """DataError for a picture that would take gigabytes: a few kilobytes can hold one."""
    if size[0] * size[1] > MOST_PIXELS:
        message = f"{size[0]:,} x {size[1]:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million"
        raise DataError(f"{message}; scale it down, or take it out", Location(file))


def as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # Pillow would cut its values off at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")
