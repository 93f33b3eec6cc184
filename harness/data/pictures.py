"""Picture files of a folder: found by id, and read as people see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from harness.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")


class Found(NamedTuple):
    """The pictures of a folder."""

    files: dict[str, Path]  # by id, in the order of the ids
    others: int  # files of other kinds, which were left out


def find_pictures(folder: Path) -> Found:
    """The pictures of a folder and of the folders in it; the id of one is its file's name without the suffix.

    Hidden files are passed over. DataError where there is none, an id stands twice or is no line of text, a folder
    cannot be read, or a link leads back to a folder that was met already.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name the one that holds the pictures")
    paths = _files(folder)
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError(f"{folder} holds no picture ({', '.join(SUFFIXES)}) among {len(paths):,} files")
    files: dict[str, Path] = {}
    for path in pictures:
        if path.stem in files:
            raise DataError(f"{path} and {files[path.stem]} are both image {path.stem!r}; take one out or rename it")
        files[_checked(path)] = path
    return Found(dict(sorted(files.items())), len(paths) - len(pictures))


def _files(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones, links to folders followed."""
    met: dict[Path, Path] = {}
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = Path(place).resolve()
        if real in met:
            raise DataError(f"{place} leads to {met[real]}, which is read already; take that link out")
        met[real] = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error}); see to the folder and its rights") from error


def _checked(path: Path) -> str:
    """The id of a picture; DataError where it is no line of a UTF-8 text file."""
    name = path.stem
    if name.strip() != name or "\n" in name or name.encode(errors="replace").decode() != name:
        raise DataError(f"{str(path)!r}: that name is no line of a text file; give it another")
    return name


def read_picture(file: Path) -> Image.Image:
    """A JPEG, PNG or WebP file in RGB, turned as its EXIF says; DataError where it is none or was cut short.

    What is transparent becomes white; 16 bits of grey are scaled to 8. Colour profiles are left out of account.
    """
    try:
        with Image.open(file, formats=FORMATS) as found:
            return as_rgb(ImageOps.exif_transpose(found))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} is no readable picture ({error}); get it again or take it out") from error


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode in RGB."""
    if picture.mode.startswith("I"):  # Pillow would cut its values off at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")
