"""What the images of a dataset look like: drawn by their reader, from files of the user, or boxes with names alone."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from unicodedata import normalize

from PIL import Image

from harness.config.cards import DatasetCard
from harness.data.content import PICTURES, SHOWN, Preview
from harness.data.dataset import place_of
from harness.data.pictures import picture_paths, read_picture
from harness.errors import DataError, Location
from harness.files import has_file, has_folder, read_json
from harness.layouts.opening import LAYOUTS

FOLDER = "images"  # below the dataset's own
ORIGINALS = "original_sizes.json"  # in the dataset's folder: {image id: [width, height]} before pictures were squeezed
QUALITY = 60  # of WebP
Sizes = dict[str, tuple[int, int]]
DIGITS = 12  # of the file names in which COCO's pictures are released
MOST_NOTES = 10  # of pictures that cannot be read, one each
PicturesById = dict[str, list[Path]]


@runtime_checkable
class Pictured(Protocol):
    """A reader that knows more of an image than its numbers."""

    def preview(self, image: str) -> Preview: ...


class Previews:
    """DataError where the file of original sizes is wrong."""

    def __init__(self, card: DatasetCard, data: Path, cache: Path) -> None:
        place = place_of(card, data, cache)
        self._reader = LAYOUTS[card.layout](place)
        self._folder = place.folder / FOLDER
        self._originals = original_sizes(place.folder / ORIGINALS) if card.folder else {}
        self._unreadable: dict[str, str] = {}  # why, by image

    def of(self, image: str) -> Preview:
        """All that is known of an image; DataError where its file is no picture."""
        known = self._reader.preview(image) if isinstance(self._reader, Pictured) else Preview()
        if known.picture is None and (file := self._file(image)):
            picture = read_picture(file)
            known = known._replace(picture=picture, size=known.size or picture.size)
        return known._replace(original=self._originals.get(image))

    def of_many(self, image: str) -> Preview:
        """All that is known of one image among others; nothing where its picture cannot be read: `notes` say why."""
        try:
            return self.of(image)
        except DataError as error:
            self._unreadable[image] = str(error)
            return Preview()

    @property
    def notes(self) -> Iterator[str]:
        """A line for each picture that `of_many` could not read, with the reason; how many more there are."""
        for image, reason in list(self._unreadable.items())[:MOST_NOTES]:
            yield f"{image} is shown by its id alone: {reason}"
        if (more := len(self._unreadable) - MOST_NOTES) > 0:
            yield f"{more:,} more images are shown by their ids alone; `harness validate` names them"

    def _file(self, image: str) -> Path | None:
        """The picture of an id, also of the id filled up with zeros as COCO has it; DataError where there are two.

        `images/<id>` with a suffix in small letters comes first: for it no folder is listed.
        """
        path = Path(image)
        if path.is_absolute() or ".." in path.parts or "\0" in image:  # an id is data: it leads nowhere else
            return None
        names = (image, image.zfill(DIGITS))
        files = [self._folder / (name + suffix) for name in names for suffix in PICTURES]
        return next((file for file in files if has_file(file)), None) or self._listed(names)

    def _listed(self, names: tuple[str, ...]) -> Path | None:
        if isinstance(self._pictures, DataError):
            raise self._pictures
        files = next((self._pictures[name] for name in names if name in self._pictures), [])
        files = files or self._composed.get(normalize("NFC", names[0]), [])
        if len(files) > 1:
            message = f"image {files[0].stem!r} has two files, this one and {files[0]}; remove or rename one"
            raise DataError(message, Location(files[1]))
        return files[0] if files else None

    @cached_property
    def _composed(self) -> PicturesById:
        """The same by names in one form of letters: a Mac writes file names in another one than most texts have."""
        composed: PicturesById = defaultdict(list)
        for name, files in self._pictures.items() if isinstance(self._pictures, dict) else ():
            composed[normalize("NFC", name)] += files
        return composed

    @cached_property
    def _pictures(self) -> PicturesById | DataError:
        """The pictures below the folder; why they cannot be listed, so that this is tried once."""
        try:
            return pictures_by_id(self._folder) if has_folder(self._folder) else {}
        except DataError as error:
            return error


def pictures_by_id(folder: Path) -> PicturesById:
    """The pictures below a folder by file name without suffix, those in sub-folders also with their folders' names."""
    pictures: PicturesById = defaultdict(list)
    for path in picture_paths(folder):
        for name in {path.stem, path.relative_to(folder).with_suffix("").as_posix()}:
            pictures[name].append(path)
    return dict(pictures)


def original_sizes(file: Path) -> Sizes:
    """Width and height that pictures had before they were squeezed, by image id; empty where there is no such file."""
    if not has_file(file):
        return {}
    content = read_json(file, unique=True)
    if not isinstance(content, dict):
        message = f"{{image id: [width, height], …}} is expected, found a {type(content).__name__}"
        raise DataError(message, Location(file))
    return {image: _size(size, Location(file, f"image {image!r}")) for image, size in content.items()}


def _size(value: Any, location: Location) -> tuple[int, int]:
    is_size = isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)
    if not is_size:
        message = f"{str(value)[:SHOWN]} is no [width, height] in pixels; correct it, or take the entry out"
        raise DataError(message, location)
    return value[0], value[1]


def thumbnail(picture: Image.Image, side: int, shape: tuple[int, int], quality: int = QUALITY) -> str:
    """A picture in the proportion of `shape`, of at most `side` pixels a side, as a data URI.

    WebP, which takes a tenth of PNG. A picture is not enlarged, but where its file was squeezed.
    """
    scale = min(side / max(shape), max(own / whole for own, whole in zip(picture.size, shape, strict=True)))
    width, height = (max(1, round(scale * one)) for one in shape)
    out = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(out, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
