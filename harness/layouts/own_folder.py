"""A plain folder of your own.

captions.jsonl    a line per caption: {"id": its own, "image": whose, "text": "…"}; other keys are ignored
split.json        {"train": [image ids], "val": […], "test": […]}
regions/          a region store, made by `harness data convert` or `harness data extract`
images/           <image id>.jpg, .jpeg, .png or .webp, also in folders of its own; optional, only looked at

Images stand in the order of split.json, an image's captions in the order of their lines. An image may have any number
of captions; captions of images in no split are left out. Options of the card:
    split            the file of the splits, "split.json" if left out
    regions          the region store's folder, "regions" if left out
    train, val, …    what the file calls a split of the card, such as val = "dev"; else its own name
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from harness.data.content import Content, Kind, Place, Preview, check_one_split, option, same_as
from harness.errors import DataError, Location, named
from harness.files import parse_json, read_json, read_lines
from harness.layouts.stored_regions import (
    CaptionedImage,
    CaptionedImages,
    StoredRegions,
    cached_split,
    caption_of,
    id_of,
)

VERSION = 1
CAPTIONS, SPLIT = "captions.jsonl", "split.json"
Captions = dict[str, list[tuple[int, str]]]  # by image id, each with its line


class OwnFolder:
    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.split_file = option(place, "split", SPLIT)
        self.names = {split: option(place, split, split) for split in place.card.splits}  # in that file
        self._regions_by_id = StoredRegions(place)

    @staticmethod
    def files(place: Place) -> list[str]:
        return [CAPTIONS, option(place, "split", SPLIT), *StoredRegions.files(place)]

    def read(self, split: str) -> Content:
        known = cached_split(self.place, split, [CAPTIONS, self.split_file], [VERSION, self.names], self._parse)
        source = self._source(split)
        location = partial(_location, source._replace(file=self.split_file), known)
        return self._regions_by_id.content(known, location, source)

    def preview(self, image: str) -> Preview:
        return self._regions_by_id.preview(image)

    def _parse(self) -> dict[str, CaptionedImages]:
        path = self.place.folder / self.split_file
        splits, captions = read_split(path), read_captions(self.place.folder / CAPTIONS)
        for split, name in self.names.items():
            if not splits.get(name):
                raise DataError(self._without_images(split, splits), Location(path))
        return {
            split: CaptionedImages.of(_entries(self._source(split), splits[name], captions))
            for split, name in self.names.items()
        }

    def _without_images(self, split: str, splits: Mapping[str, Sequence[str]]) -> str:
        """What to do where the file has no images for a split of the card."""
        name = self.names[split]
        free = [other for other, ids in sorted(splits.items()) if ids and other not in self.names.values()]
        option = f"by the card's option, [options] {split} = {json.dumps(free[0], ensure_ascii=False)}" if free else ""
        if name in splits:
            return f"the split {name!r} is empty; give it images" + (option and f", or choose another one {option}")
        remedy = f"rename the one that is meant, or choose it {option}" if option else "add it"
        return f"no images in a split {name!r}; it holds {named(sorted(splits))}; {remedy}"

    def _source(self, split: str) -> Location:
        """Where the images of a split of the card stand."""
        return Location(self.place.folder / self.split_file, f"[{self.names[split]}]")


def read_split(path: Path) -> dict[str, list[str]]:
    """Image ids of every split; DataError where an id stands twice, in one split or in two."""
    content = read_json(path, unique=True)
    if not isinstance(content, dict):
        raise DataError(f'{{"train": [image ids], …}} is expected, found a {type(content).__name__}', Location(path))
    splits = {split: _ids(ids, Location(path, f"[{split}]")) for split, ids in content.items()}
    check_one_split(chain.from_iterable(splits.values()))
    return {split: [image for image, _ in ids] for split, ids in splits.items()}


def _ids(ids: Any, location: Location) -> list[tuple[str, Location]]:
    """The image ids of one split, each with where it stands."""
    if not isinstance(ids, list):
        raise DataError("no list; every split is a list of image ids", location)
    places = [location.within(f"entry {index}") for index in range(len(ids))]
    return [(id_of(image, "the id", place), place) for image, place in zip(ids, places, strict=True)]


def read_captions(path: Path) -> Captions:
    """Lines and captions by image id, in the order of the file; DataError names the line that is wrong."""
    captions: Captions = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path, "is one caption, as a JSON object"), start=1):
        location = Location(path, f"line {number}")
        caption, image, text = _caption(parse_json(line.removeprefix("\ufeff"), location, unique=True), location)
        if lines.setdefault(caption, number) != number:
            message = f"caption {caption!r} is in line {lines[caption]} already; give each an id of its own"
            raise DataError(message, location)
        captions.setdefault(image, []).append((number, text))
    return captions


def _caption(entry: Any, location: Location) -> tuple[str, str, str]:
    absent = [key for key in ("id", "image", "text") if not isinstance(entry, dict) or key not in entry]
    if absent:
        raise DataError(f'has no {absent[0]!r}; a line is {{"id": …, "image": …, "text": …}}', location)
    id_, image = (id_of(entry[key], f"its {key!r}", location) for key in ("id", "image"))
    return id_, image, caption_of(entry["text"], "text", location)


def _entries(source: Location, images: list[str], captions: Captions) -> list[CaptionedImage]:
    lacking = [image for image in images if image not in captions]
    if lacking:
        remedy = same_as(lacking[0], captions) or "write some, or take it out of the split"
        raise DataError(
            f"image {lacking[0]!r} has no caption in {CAPTIONS} ({len(lacking):,} such images); {remedy}",
            source.within(f"entry {images.index(lacking[0])}"),
        )
    return [CaptionedImage(image, index, captions[image]) for index, image in enumerate(images)]


def _location(source: Location, known: CaptionedImages, kind: Kind, index: int) -> Location:
    """The entry of an image in its split, from 0, or the line of a caption, from 1."""
    if kind == "image":
        return source.within(f"entry {known.images_at[index]}")
    return Location(CAPTIONS, f"line {known.captions_at[index]}")
