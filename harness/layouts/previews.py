"""What the images of a dataset look like: drawn by their reader, from files of the user, or boxes with names alone."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from harness.config.cards import DatasetCard
from harness.data.content import Place, Preview
from harness.data.pictures import SUFFIXES, read_picture
from harness.files import has_file
from harness.layouts.opening import LAYOUTS

FOLDER = "images"  # below the dataset's own
DIGITS = 12  # of the file names in which COCO's pictures are released


@runtime_checkable
class Pictured(Protocol):
    """A reader that knows more of an image than its numbers."""

    def preview(self, image: str) -> Preview: ...


class Previews:
    def __init__(self, card: DatasetCard, data: Path, cache: Path) -> None:
        place = Place(card, (data / card.folder).resolve(), cache)
        self._reader = LAYOUTS[card.layout](place)
        self._folder = place.folder / FOLDER

    def of(self, image: str) -> Preview:
        """All that is known of an image; DataError where its file is no picture."""
        known = self._reader.preview(image) if isinstance(self._reader, Pictured) else Preview()
        if known.picture is None and (file := self._file(image)):
            picture = read_picture(file)
            known = known._replace(picture=picture, size=known.size or picture.size)
        return known

    def _file(self, image: str) -> Path | None:
        """`images/<id>` with a suffix of pictures, the id also filled up with zeros as COCO has it."""
        path = Path(image)
        if path.is_absolute() or ".." in path.parts or "\0" in image:  # an id is data: it leads nowhere else
            return None
        files = [self._folder / (name + suffix) for name in (image, image.zfill(DIGITS)) for suffix in SUFFIXES]
        return next((file for file in files if has_file(file)), None)


def thumbnail(picture: Image.Image, side: int) -> str:
    """A picture of at most `side` pixels a side as a data URI; WebP, which takes a tenth of PNG."""
    small, out = picture.copy(), io.BytesIO()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.save(out, "WEBP", quality=60, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
