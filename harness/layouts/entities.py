"""Flickr30k Entities folders: a region is an annotated box. What a box is called stands in the captions alone.

A region that had its name from a caption that is asked would give the answer away. So the card's `regions` says what
regions are made of, and none of the three can see a caption that is asked:
    geometry     10        place and size, as `coco` has them
    pixels      195 + 10   what `drawing` says of a crop of the picture, and the geometry
    names     K + 8 + 10   head words and types of the phrases that one held-out caption of the image has for the box,
                           multi-hot, and the geometry; the held-out captions are neither queries nor gallery
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import open_array
from harness.data.cache import cached, checked_sha256, file_fact, save_cached, text_array, text_of, writing
from harness.data.content import PICTURES, Content, Place, Preview, check_one_split, is_allowed, option, pairs_of, whole
from harness.data.regions import Ragged, offsets
from harness.errors import ConfigError, DataError, Location
from harness.files import listing, make_way, replacing, sha256
from harness.layouts.box_features import appearance, geometry
from harness.layouts.entity_files import (
    NOWHERE,
    TYPES,
    EntityBox,
    EntityPhrase,
    Sentence,
    read_annotation,
    read_ids,
    read_pixels,
    read_sentences,
)

VERSION = 1  # of the numbers above; part of the fingerprint
IMAGES = "images/"
NAMES = 256  # head words, where the card does not say how many
TRAIN = "train"  # its held-out captions give the names
LEAK = (
    "names of boxes are words of the captions, and a region that has them from a caption that is asked gives the "
    'answer away: regions = "geometry" or "pixels" use no words; regions = "names" takes them from the caption '
    "held_out = 1 (or another number) of every image, which is then neither query nor gallery"
)


class Options(NamedTuple):
    regions: str
    held_out: int = 0  # a caption's number from 1; 0: none is held out
    names: int = 0
    cut: bool = False  # boxes that leave the image at its edge, else they are refused


class EntityImage(NamedTuple):
    id: str
    size: tuple[int, int]
    boxes: tuple[EntityBox, ...]
    captions: tuple[str, ...]  # that are asked
    held_out: Sentence | None

    @property
    def corners(self) -> NDArray[np.int64]:
        """The boxes as (R, 4), x y w h."""
        return np.array([box[:4] for box in self.boxes], dtype=np.int64)


class Entities:
    """Reader of the layout: a split is parsed once, then read from the cache, its regions memory-mapped."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.options = read_options(place)
        self.sentences, self.annotations = (place.folder / name for name in _folders(place))

    @staticmethod
    def files(place: Place) -> list[str]:
        pictures = [IMAGES] if read_options(place).regions == "pixels" else []
        return [*_folders(place), *(_split_file(place, split) for split in place.card.splits), *pictures]

    def read(self, split: str) -> Content:
        rows, rest = (self.place.cache / "entities" / f"{self._key(split)}.{kind}" for kind in ("npy", "npz"))

        def parse(arrays: dict[str, NDArray[Any]]) -> Content:
            if text_of(arrays["rows_sha256"]) != file_fact(self.place.cache, rows, "sha256", sha256):
                raise ValueError("its rows are others")
            return _content(rows, arrays)

        def make() -> None:
            entries = [self._entry(image) for image in self._ids(split)]
            save_rows(rows, sum(len(entry.boxes) for entry in entries), map(self.describe, entries))
            save_cached(rest, {**tables(entries), "rows_sha256": text_array(sha256(rows))})

        return cached(rest, parse, make)

    def preview(self, image: str) -> Preview:
        """The boxes of an image id, each with what captions call it; nothing where no split has that id."""
        if not any(image in ids for ids in self.splits.values()):
            return Preview()
        entry = self._entry(image)
        phrases = [phrase for one in read_sentences(self.sentences / f"{image}.txt") for phrase in visual(one)]
        called = {phrase.chain: " ".join(phrase.words) for phrase in reversed(phrases)}
        labels = (" / ".join(dict.fromkeys(called.get(chain, "") for chain in box.chains)) for box in entry.boxes)
        boxes = tuple(tuple(map(float, box[:4])) for box in entry.boxes)
        return Preview(entry.size, boxes=boxes, labels=tuple(labels))

    def describe(self, entry: EntityImage) -> NDArray[np.float32]:
        places = geometry(entry.corners, *entry.size)
        return np.concatenate([BESIDE[self.options.regions](self, entry), places], axis=1).astype(np.float32)

    @cached_property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Image ids of every split; DataError where one stands in two."""
        files = {split: self.place.folder / _split_file(self.place, split) for split in self.place.card.splits}
        splits = {split: read_ids(file) for split, file in files.items()}
        check_one_split(
            (image, Location(files[split], f"line {line}"))
            for split, ids in splits.items()
            for line, image in enumerate(ids, start=1)
        )
        return splits

    @cached_property
    def names(self) -> dict[str, int]:
        """The commonest head words of the held-out captions of train, equals by the alphabet, and their columns."""
        heads: Counter[str] = Counter()
        for image in self._ids(TRAIN):
            _, held_out = self._captions(image)
            heads.update(head(phrase) for phrase in visual(held_out))
        commonest = sorted(heads, key=lambda word: (-heads[word], word))[: self.options.names]
        return {word: column for column, word in enumerate(commonest)}

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """Files of pictures by image id; of two with one id the first by the alphabet."""
        folder = self.place.folder / IMAGES
        return {path.stem: path for path in reversed(listing(folder)) if path.suffix.lower() in PICTURES}

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {name: checked_sha256(self.place, name) for name in self.files(self.place)}

    def _key(self, split: str) -> str:
        files = {name: _split_file(self.place, name) for name in self.place.card.splits}
        deciding = [VERSION, self.options, self.place.card.max_regions, files, self._hashes]
        return f"{split}-{hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]}"

    def _ids(self, split: str) -> tuple[str, ...]:
        ids = self.splits[split]
        for folder, suffix in ((self.sentences, ".txt"), (self.annotations, ".xml")):
            there = {path.name for path in listing(folder)}
            self._all_have(split, f"{folder.name}/", suffix, [image + suffix in there for image in ids])
        if self.options.regions == "pixels":
            self._all_have(split, IMAGES, " or ".join(PICTURES), [image in self.pictures for image in ids])
        return ids

    def _all_have(self, split: str, folder: str, suffix: str, there: list[bool]) -> None:
        if not all(there):
            line, path = there.index(False), self.place.folder / _split_file(self.place, split)
            image = self.splits[split][line]
            raise DataError(
                f"image {image} has no {folder}{image}{suffix} ({there.count(False):,} such images); get the whole "
                "release, or take them out of the split and the card",
                Location(path, f"line {line + 1}"),
            )

    def _entry(self, image: str) -> EntityImage:
        """One image; without any box its one region is the whole of it."""
        width, height, boxes = read_annotation(self.annotations / f"{image}.xml", self.options.cut)
        largest = sorted(boxes, key=lambda box: -box.width * box.height)[: self.place.card.max_regions]
        captions, held_out = self._captions(image)
        regions = tuple(largest) or (EntityBox(0, 0, width, height),)
        return EntityImage(image, (width, height), regions, captions, held_out)

    def _captions(self, image: str) -> tuple[tuple[str, ...], Sentence | None]:
        path, number = self.sentences / f"{image}.txt", self.options.held_out
        sentences = read_sentences(path)
        if number and len(sentences) < max(number, 2):
            raise DataError(
                f"its captions are {len(sentences)}; the card holds out number {number}, and one must be left "
                "to ask: set held_out to a caption that every image has",
                Location(path),
            )
        held_out = sentences.pop(number - 1) if number else None
        return tuple(sentence.text for sentence in sentences), held_out


def read_options(place: Place) -> Options:
    """What the card's options say of regions; ConfigError where a name could come from a caption that is asked."""
    options, where = place.card.options, f"{place.card.path}: 'options.regions'"
    regions = option(place, "regions", "geometry")
    if regions not in BESIDE:
        raise ConfigError(f"{where} is {regions!r}; it must be {', '.join(BESIDE)}: {LEAK}")
    if regions != "names":
        if idle := {"held_out", "names"} & set(options):
            raise ConfigError(f"{where} is {regions!r}, which has no use for {', '.join(sorted(idle))}: {LEAK}")
        return Options(regions, cut=is_allowed(place, "wrong_boxes", "cut"))
    held_out, names = whole(place, "held_out", 0), whole(place, "names", NAMES)
    if not held_out:
        raise ConfigError(f"{where} is 'names' and held_out names no caption: {LEAK}")
    if TRAIN not in place.card.splits:
        raise ConfigError(f"{where} is 'names', which are those of the split {TRAIN!r}; the card has none")
    return Options(regions, held_out, names, is_allowed(place, "wrong_boxes", "cut"))


def _called(reader: Entities, entry: EntityImage) -> NDArray[Any]:
    """What the held-out caption calls the boxes, multi-hot: (R, K + 8), zeros where it does not speak of one."""
    count, columns = reader.options.names, reader.names
    words, phrases = np.zeros((len(entry.boxes), count + len(TYPES))), visual(entry.held_out)
    for row, box in enumerate(entry.boxes):
        for phrase in phrases:
            if phrase.chain in box.chains:
                words[row, [count + TYPES.index(kind) for kind in phrase.types if kind in TYPES]] = 1
                words[row, [columns[word] for word in [head(phrase)] if word in columns]] = 1
    return words


BESIDE: dict[str, Callable[[Entities, EntityImage], NDArray[Any]]] = {
    "geometry": lambda _, entry: np.empty((len(entry.boxes), 0)),
    "pixels": lambda reader, entry: appearance(read_pixels(reader.pictures[entry.id], entry.size), entry.corners),
    "names": _called,
}


def head(phrase: EntityPhrase) -> str:
    """The word that a phrase is about, as English mostly has it: its last one."""
    return phrase.words[-1].lower()


def visual(sentence: Sentence | None) -> list[EntityPhrase]:
    return [phrase for phrase in sentence.phrases if phrase.chain != NOWHERE] if sentence else []


def save_rows(path: Path, count: int, images: Iterable[NDArray[np.float32]]) -> None:
    """Write regions (count, F) into the cache image by image; StoreError where it cannot be written."""
    with writing(path):
        make_way(path)
    with writing(path), replacing(path) as part, part.open("wb") as file:
        for number, regions in enumerate(images):
            if not number:
                shape = (count, regions.shape[1])
                header = {"descr": regions.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(regions.tobytes())


def tables(entries: list[EntityImage]) -> dict[str, NDArray[Any]]:
    captions = "\n".join(caption for entry in entries for caption in entry.captions)
    return {
        "boxes": np.concatenate([entry.corners for entry in entries]).astype(np.float32),
        "offsets": offsets([len(entry.boxes) for entry in entries]),
        "captions_each": np.array([len(entry.captions) for entry in entries]),
        "captions": np.frombuffer(captions.encode(), dtype=np.uint8),
        "ids": np.frombuffer("\n".join(entry.id for entry in entries).encode(), dtype=np.uint8),
    }


def _content(rows: Path, arrays: dict[str, NDArray[Any]]) -> Content:
    ids, captions = (tuple(arrays[name].tobytes().decode().split("\n")) for name in ("ids", "captions"))
    return Content(
        images=Ragged(open_array(rows, ("regions", "width")), arrays["offsets"]),
        captions=captions,
        pairs=pairs_of(arrays["captions_each"].tolist()),
        image_ids=ids,
        boxes=Ragged(arrays["boxes"], arrays["offsets"]),
    )


def _folders(place: Place) -> list[str]:
    return [f"{option(place, key, key.capitalize()).rstrip('/')}/" for key in ("sentences", "annotations")]


def _split_file(place: Place, split: str) -> str:
    return option(place, split, f"{split}.txt")
