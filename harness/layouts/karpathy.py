"""Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`, `dataset_flickr8k.json`, and regions by image id.

{"images": [{"filename", "split", "imgid", "cocoid" (COCO's alone), "sentences": [{"raw", …}]}]}

Images stand in the order of the file, an image's captions in the order of its `sentences`. A caption is the sentence's
`raw` text; its `tokens` are never used. Options of the card:
    annotations      the file
    regions          the region store's folder, "regions" if left out
    image_id         what the store calls an image: "stem" of its file name (the default), "filename", "cocoid", "imgid"
    most_captions    of an image: the first so many; all if left out
    train, val, …    the splits of the file that make up a split of the card, such as train = "train,restval"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from harness.data.content import Content, Kind, Place, Preview, option, whole
from harness.errors import ConfigError, DataError, Location
from harness.files import read_json
from harness.layouts.stored_regions import (
    CaptionedImage,
    CaptionedImages,
    StoredRegions,
    cached_split,
    caption_of,
    id_of,
)

VERSION = 1
KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "stem": lambda image: PurePosixPath(str(image["filename"])).stem,
    "filename": lambda image: image["filename"],
    "cocoid": lambda image: image["cocoid"],
    "imgid": lambda image: image["imgid"],
}
READ = frozenset(("images", "filename", "cocoid", "imgid", "split", "sentences", "raw"))
Images = list[dict[str, Any]]


class Karpathy:
    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.file = place.folder / option(place, "annotations")
        self.key = option(place, "image_id", "stem")
        if self.key not in KEYS:
            raise ConfigError(f"{place.card.path}: 'options.image_id' is {self.key!r}; it can be {', '.join(KEYS)}")
        self.most = whole(place, "most_captions", 0)
        self.parts = _parts(place)
        self._regions_by_id = StoredRegions(place)

    @staticmethod
    def files(place: Place) -> list[str]:
        return [option(place, "annotations"), *StoredRegions.files(place)]

    def read(self, split: str) -> Content:
        deciding = [VERSION, self.key, self.most, self.parts]
        known = cached_split(self.place, split, [option(self.place, "annotations")], deciding, self._parse)
        location, source = partial(_location, self.file.name, known), Location(self.file, f"[{split}]")
        return self._regions_by_id.content(known, location, source, lambda: self._other_key(split))

    def preview(self, image: str) -> Preview:
        return self._regions_by_id.preview(image)

    def _parse(self) -> dict[str, CaptionedImages]:
        images = read_images(self.file)
        _check_parts(self.file, self.parts, images)
        known: dict[str, list[CaptionedImage]] = {split: [] for split in self.parts}
        places: dict[str, int] = {}
        for index, split, image in _entries(self.parts, images):
            location = Location(self.file, f"images[{index}]")
            name = self._name(image, location)
            if places.setdefault(name, index) != index:
                message = f"image {name!r}, as images[{places[name]}] is; take one of the two out"
                raise DataError(message, location)
            known[split].append(CaptionedImage(name, index, _captions(image, location)[: self.most or None]))
        return {split: CaptionedImages.of(own) for split, own in known.items()}

    def _name(self, image: dict[str, Any], location: Location) -> str:
        try:
            return id_of(KEYS[self.key](image), f"its {self.key}", location)
        except KeyError as error:
            others = " or ".join(sorted(KEYS.keys() - {self.key}))
            message = f"has no {error}; options.image_id can be {others}, or get the file again"
            raise DataError(message, location) from None

    def _other_key(self, split: str) -> str:
        images = [image for _, own, image in _entries(self.parts, read_images(self.file)) if own == split]
        key = matching_key(images, self._regions_by_id)
        advice = f'{self.place.card.path} needs image_id = "{key}" in its [options]: all images are there by that id'
        return advice if key else ""


def matching_key(images: Images, stored: StoredRegions) -> str | None:
    for key, name in KEYS.items():
        try:
            if stored.has([str(name(image)) for image in images]):
                return key
        except KeyError:
            continue
    return None


def read_images(path: Path) -> Images:
    """The entries of the file, each with a split, without what is never used; DataError where it is another file."""
    content = read_json(path, _slim)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise DataError("no list 'images' with entries; this is none of Karpathy's files", Location(path))
    for index, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("split"), str):
            raise DataError("has no 'split'; get the file again", Location(path, f"images[{index}]"))
    return images


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    """Called for each object as soon as it is parsed: tokens are most of the file and would be most of its memory."""
    return {key: value for key, value in entry.items() if key in READ}


def _captions(image: dict[str, Any], location: Location) -> list[tuple[int, str]]:
    sentences = image.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        raise DataError("has no 'sentences'; take it out, or get the file again", location)
    raw = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in sentences]
    places = [location.within(f"sentences[{number}]") for number in range(len(raw))]
    return list(enumerate(caption_of(text, "raw", place) for text, place in zip(raw, places, strict=True)))


def _location(file: str, known: CaptionedImages, kind: Kind, index: int) -> Location:
    image = index if kind == "image" else known.image_of(index)
    location = Location(file, f"images[{known.images_at[image]}]")
    return location if kind == "image" else location.within(f"sentences[{known.captions_at[index]}]")


def _entries(parts: dict[str, tuple[str, ...]], images: Images) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Images of the card's splits: index in the file, split of the card, entry."""
    home = {part: split for split, own in parts.items() for part in own}
    for index, image in enumerate(images):
        if image["split"] in home:
            yield index, home[image["split"]], image


def _check_parts(path: Path, parts: dict[str, tuple[str, ...]], images: Images) -> None:
    there = {image["split"] for image in images}
    for part in chain.from_iterable(parts.values()):
        if part not in there:
            raise DataError(f"no image of a split {part!r}; it holds {', '.join(sorted(there))}", Location(path))


def _parts(place: Place) -> dict[str, tuple[str, ...]]:
    names = {split: option(place, split, split).split(",") for split in place.card.splits}
    parts = {split: tuple(map(str.strip, own)) for split, own in names.items()}
    part, count = Counter(chain.from_iterable(parts.values())).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{place.card.path}: [options] uses the file's split {part!r} twice; an image has one split")
    return parts
