"""A plain folder of your own.

captions.jsonl    a line a caption: {"id": its own, "image": whose, "text": "…"}; other keys are ignored
split.json        {"train": [image ids], "val": […], "test": […]}
regions/          a region store, made by `harness data convert` or `harness data extract`
images/           <image id>.jpg, .jpeg or .png; optional, only looked at

Images stand in the order of split.json, an image's captions in the order of their lines. An image may have any number
of captions; captions of images in no split are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from harness.data.content import Content, Kind, Look, Place, Spot
from harness.errors import DataError
from harness.files import read_json, read_lines, read_text
from harness.layouts.stored_regions import Captioned, Entry, Shelf, caption_of, id_of, kept

VERSION = 1
CAPTIONS, SPLIT = "captions.jsonl", "split.json"


class OwnFolder:
    """Reader of the layout: the files are parsed once, a split's captions are kept in the cache."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self._shelf = Shelf(place)

    @staticmethod
    def files(place: Place) -> list[str]:
        """The captions, the splits and the store's files."""
        return [CAPTIONS, SPLIT, *Shelf.files(place)]

    def read(self, split: str) -> Content:
        """One split; its regions are memory-mapped where they lie."""
        known = kept(self.place, split, [CAPTIONS, SPLIT], VERSION, self._parse)
        return self._shelf.content(known, partial(_spot, split, known), f"{self.place.folder / SPLIT} [{split}]")

    def look(self, image: str) -> Look:
        """Size and boxes, as the store has them."""
        return self._shelf.look(image)

    def _parse(self) -> dict[str, Captioned]:
        """Every split of the card; DataError names file and line."""
        path = self.place.folder / SPLIT
        splits, captions = read_split(path), read_captions(self.place.folder / CAPTIONS)
        for split in self.place.card.splits:
            if not splits.get(split):
                raise DataError(
                    f"{path}: no images in a split {split!r}; it holds {', '.join(sorted(splits)) or 'none'}"
                )
        return {split: Captioned.of(_entries(path, split, splits[split], captions)) for split in self.place.card.splits}


def read_split(path: Path) -> dict[str, list[str]]:
    """Image ids of every split; DataError where an id stands twice, in one split or in two."""
    content = read_json(read_text(path), path, str(path))
    if not isinstance(content, dict):
        raise DataError(f'{path}: {{"train": [image ids], …}} is expected, found a {type(content).__name__}')
    home: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, ids in content.items():
        if not isinstance(ids, list):
            raise DataError(f"{path}: [{split}] is no list; every split is a list of image ids")
        splits[split] = [id_of(one, f"{path}: [{split}], entry {index}") for index, one in enumerate(ids)]
        for image in splits[split]:
            if image in home:
                where = f"twice in [{split}]" if home[image] == split else f"in [{home[image]}] and in [{split}]"
                raise DataError(f"{path}: image {image!r} stands {where}; an image belongs to one split, once")
            home[image] = split
    return splits


def read_captions(path: Path) -> dict[str, list[tuple[int, str]]]:
    """Lines and captions by image id, in the order of the file; DataError names the line that is wrong."""
    captions: dict[str, list[tuple[int, str]]] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path, "is one caption, as a JSON object"), start=1):
        where = f"{path}, line {number}"
        caption, image, text = _caption(read_json(line.removeprefix("\ufeff"), path, where), where)
        if lines.setdefault(caption, number) != number:
            raise DataError(
                f"{where}: caption {caption!r} is in line {lines[caption]} already; give each an id of its own"
            )
        captions.setdefault(image, []).append((number, text))
    return captions


def left_out(splits: Mapping[str, list[str]], captions: Iterable[str]) -> list[str]:
    """Images that have captions and are in no split."""
    used = {image for images in splits.values() for image in images}
    return [image for image in captions if image not in used]


def _caption(entry: Any, where: str) -> tuple[str, str, str]:
    """Id, image and text of a line."""
    absent = [key for key in ("id", "image", "text") if not isinstance(entry, dict) or key not in entry]
    if absent:
        raise DataError(f'{where} has no {absent[0]!r}; a line is {{"id": …, "image": …, "text": …}}')
    id_, image = (id_of(entry[key], f"{where}: its {key!r}") for key in ("id", "image"))
    return id_, image, caption_of(entry["text"], f"{where}: its 'text'")


def _entries(path: Path, split: str, images: list[str], captions: Mapping[str, list[tuple[int, str]]]) -> list[Entry]:
    """A split's images with their captions; DataError where one has none."""
    lacking = [image for image in images if image not in captions]
    if lacking:
        raise DataError(
            f"{path}: image {lacking[0]!r} of [{split}] has no caption in {CAPTIONS} ({len(lacking):,} such images); "
            "write some, or take it out of the split"
        )
    return [Entry(image, index, captions[image]) for index, image in enumerate(images)]


def _spot(split: str, known: Captioned, kind: Kind, index: int) -> Spot:
    """The entry of an image in its split, from 0, or the line of a caption, from 1."""
    if kind == "image":
        return Spot(SPLIT, f"[{split}], entry {known.images_at[index]}")
    return Spot(CAPTIONS, f"line {known.captions_at[index]}")
