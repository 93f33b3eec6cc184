"""Official MS-COCO annotations: a region is an annotated box, its category and its place. No pixels.

Of every region, 10 + K numbers (K categories, 80 in the official files):
    K     the category, one-hot, in the order of category ids
    4     x1/W, y1/H, x2/W, y2/H       the box in an image W wide and H high
    5     w/W, h/H, wh/WH, the box's centre over W and H
    1     W/H
Under the option boxless = "whole", an image without a box is one region: no category, in the place of the whole image.
"""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, TypeAdapter, ValidationError

from harness.data.content import Content, Kind, Look, Place, Spot, first_twice, option, pairs_of, whole
from harness.data.regions import Ints, Ragged
from harness.errors import ConfigError, DataError
from harness.files import lfs_hint
from harness.layouts.box_features import geometry

VERSION = 1  # of the numbers above; part of the fingerprint
GEOMETRY = 10
WHOLE = -1  # in a category's place: the region is the whole image
SPLITS = ("train", "val", "test")  # the order in which a seed deals images out; further splits follow by name


class Record(BaseModel):
    """An entry of a file's list, as far as it is used."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: int


class Image(Record):
    """An image's size in pixels."""

    width: PositiveFloat
    height: PositiveFloat


class Box(Record):
    """An annotated box, x y w h in pixels."""

    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] = Field(strict=False)  # JSON has lists
    iscrowd: Annotated[int, Field(strict=False)] = 0


class Category(Record):
    """What a box can hold."""

    name: str = ""


class Caption(Record):
    """One caption of an image."""

    image_id: int
    caption: str


Entry = TypeVar("Entry", bound=Record)


class Annotations(NamedTuple):
    """The three files of a dataset, by image id."""

    split: dict[str, list[int]]
    images: dict[int, Image]
    captions: dict[int, list[str]]
    boxes: dict[int, list[Box]]
    columns: dict[int, int]  # category id -> its column of the one-hot
    names: dict[int, str]  # category id -> its name


class Coco:
    """Reader of the layout: the files are read once for all splits."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.captions_file, self.instances_file, *split = (place.folder / name for name in self.files(place))
        self.split_file = split[0] if split else place.card.path  # where the ids of a split, or their number, are said

    @staticmethod
    def files(place: Place) -> list[str]:
        """Names of the files that this layout reads."""
        names = [option(place, key) for key in ("captions", "instances")]
        return names if is_drawn(place) else [*names, option(place, "split")]

    @cached_property
    def annotations(self) -> Annotations:
        """The files, checked."""
        objects = read_json(self.instances_file)
        categories = listed(objects, "categories", self.instances_file, Category)
        columns = {category: column for column, category in enumerate(sorted(item.id for item in categories))}
        images = read_images(objects, self.instances_file)
        captions = read_captions(read_json(self.captions_file), self.captions_file)
        whole_ones = whole_images(images) if is_boxless_whole(self.place) else {}
        return Annotations(
            split=self._split(list(captions)),
            images=images,
            captions=captions,
            boxes={**whole_ones, **read_boxes(objects, self.instances_file, columns)},
            columns=columns,
            names={WHOLE: "the whole image", **{category.id: category.name for category in categories}},
        )

    def _split(self, captioned: list[int]) -> dict[str, list[int]]:
        """Image ids of every split: as its file lists them, or drawn from the images with captions."""
        if not is_drawn(self.place):
            return read_split(self.split_file)
        sizes = {name: size.images for name, size in self.place.card.splits.items()}
        if sum(sizes.values()) != len(captioned):
            raise DataError(
                f"{self.captions_file}: {len(captioned):,} images have captions, but the splits of {self.split_file} "
                f"add up to {sum(sizes.values()):,}; take the files the card names, or correct the card"
            )
        return drawn(captioned, sizes, whole(self.place, "split_seed"))

    def read(self, split: str) -> Content:
        """One split: images in the order of the split file, captions in the order of their ids."""
        known = self.annotations
        ids = self._ids(split)
        captions = [known.captions[image] for image in ids]
        boxes = [largest_first(known.boxes[image], self.place.card.max_regions) for image in ids]
        regions = [describe(own, known.images[image], known.columns) for image, own in zip(ids, boxes, strict=True)]
        return Content(
            images=Ragged.stack(regions),
            captions=tuple(caption for group in captions for caption in group),
            pairs=pairs_of([len(group) for group in captions]),
            image_ids=tuple(map(str, ids)),
            boxes=Ragged.stack([np.array([box.bbox for box in own]) for own in boxes]),
            where=partial(self._spot, ids, np.cumsum([0, *map(len, captions)])),
        )

    def _spot(self, ids: list[int], starts: Ints, kind: Kind, index: int) -> Spot:
        """An image or a caption by the image's id."""
        if kind == "image":
            return Spot(self.instances_file.name, f"image {ids[index]}")
        image = int(np.searchsorted(starts, index, side="right")) - 1
        return Spot(self.captions_file.name, f"caption {index - int(starts[image]) + 1} of image {ids[image]}")

    def look(self, image: str) -> Look:
        """The boxes of an image id with the names of their categories; nothing where no image has that id."""
        known, number = self.annotations, int(image) if image.isdecimal() else -1
        if number not in known.images:
            return Look()
        boxes = largest_first(known.boxes.get(number, []), self.place.card.max_regions)
        size = round(known.images[number].width), round(known.images[number].height)
        labels = tuple(known.names[box.category_id] for box in boxes)
        return Look(size, boxes=tuple(box.bbox for box in boxes), labels=labels)

    def _ids(self, split: str) -> list[int]:
        """The image ids of a split, every one of them known, boxed and captioned."""
        known = self.annotations
        if split not in known.split:
            raise DataError(f"{self.split_file}: no split {split!r}; it holds {', '.join(sorted(known.split))}")
        for place, file, what in (
            (known.images, self.instances_file, "is not among the images"),
            (known.boxes, self.instances_file, 'has no box, which boxless = "whole" in [options] allows'),
            (known.captions, self.captions_file, "has no caption"),
        ):
            lacking = [image for image in known.split[split] if image not in place]
            if lacking:
                raise DataError(
                    f"{file}: image {lacking[0]} of {self.split_file.name} [{split}] {what} "
                    f"({len(lacking)} such images); take them out of the split, or take the files the card names"
                )
        return known.split[split]


def is_drawn(place: Place) -> bool:
    """Whether a seed draws the splits, and no file lists them; ConfigError where the card says both."""
    is_listed, is_seeded = bool(option(place, "split", "")), "split_seed" in place.card.options
    if is_listed and is_seeded:
        raise ConfigError(f"{place.card.path}: 'options.split' and 'options.split_seed'; give one of them")
    return is_seeded


def drawn(images: list[int], sizes: dict[str, int], seed: int) -> dict[str, list[int]]:
    """Images dealt out to splits of these sizes, whatever the order of either: it is in no fingerprint."""
    names = sorted(sizes, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    order = np.random.default_rng(seed).permutation(sorted(images))
    parts = np.split(order, np.cumsum([sizes[name] for name in names])[:-1])
    return {name: part.tolist() for name, part in zip(names, parts, strict=True)}


def is_boxless_whole(place: Place) -> bool:
    """Whether an image without a box is one region, or refused; ConfigError where the option says neither."""
    choice = option(place, "boxless", "refuse")
    if choice not in ("refuse", "whole"):
        raise ConfigError(f"{place.card.path}: 'options.boxless' is {choice!r}; it can be 'refuse' or 'whole'")
    return choice == "whole"


def whole_images(images: dict[int, Image]) -> dict[int, list[Box]]:
    """Of every image one box that is all of it, of no category."""
    return {
        image.id: [Box(id=0, image_id=image.id, category_id=WHOLE, bbox=(0.0, 0.0, image.width, image.height))]
        for image in images.values()
    }


def largest_first(boxes: list[Box], most: int) -> list[Box]:
    """The largest boxes by area, equals by annotation id."""
    return sorted(boxes, key=lambda box: (-box.bbox[2] * box.bbox[3], box.id))[:most]


def describe(boxes: list[Box], image: Image, columns: dict[int, int]) -> NDArray[np.float32]:
    """The regions of one image, (R, K + 10), as the head of this file says."""
    rows = {WHOLE: len(columns), **columns}  # the last row is of zeros
    category = np.eye(len(columns) + 1, len(columns))[[rows[box.category_id] for box in boxes]]
    places = geometry(np.array([box.bbox for box in boxes]), image.width, image.height)
    return np.concatenate([category, places], axis=1).astype(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError with line and column where it does not parse."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); see to the file and its rights") from error
    except (ValueError, RecursionError) as error:
        hint = lfs_hint(path) or "get the file again"
        raise DataError(f"{path} is not readable JSON ({error}); {hint}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON object is expected, found a {type(content).__name__}")
    return content


def listed(content: dict[str, Any], key: str, path: Path, kind: type[Entry]) -> list[Entry]:
    """A list of entries with ids of their own; DataError names the file, the entry and its field."""
    if not isinstance(content.get(key), list):
        raise DataError(f"{path}: no list {key!r}; this is not an official COCO file of that kind")
    try:
        entries: list[Entry] = TypeAdapter(list[kind]).validate_python(content[key])  # type: ignore[valid-type]
    except ValidationError as error:
        raise DataError(f"{path}: {problem(key, content[key], error)}; get the file again") from None
    twice = first_twice([str(entry.id) for entry in entries])
    if twice is not None:
        raise DataError(f"{path}: id {twice} stands twice in {key!r}; take one of the two out")
    return entries


def problem(key: str, entries: list[Any], error: ValidationError) -> str:
    """The first thing wrong with a list, for people: entry by index and, where it has one, by id."""
    first = error.errors()[0]
    index, *inner = first["loc"]
    field = ".".join(map(str, inner))
    entry = entries[int(index)]
    name = f" (id {entry['id']})" if isinstance(entry, dict) and "id" in entry else ""
    place = f"{key}[{index}]{name}"
    if first["type"] == "missing":
        return f"{place} has no {field!r}"
    return f"{place}: {field}{': ' * bool(field)}{first['msg']} (got {first['input']!r})"


def read_split(path: Path) -> dict[str, list[int]]:
    """Image ids of every split; DataError where an id stands twice, in one split or in two."""
    content = read_json(path)
    splits = {name: ids for name, ids in content.items() if isinstance(ids, list)}
    home: dict[int, str] = {}
    for name, ids in splits.items():
        for image in ids:
            if not isinstance(image, int):
                raise DataError(f"{path}: [{name}] holds {image!r}, which is no image id")
            if image in home:
                where = f"twice in [{name}]" if home[image] == name else f"in [{home[image]}] and in [{name}]"
                raise DataError(f"{path}: image {image} stands {where}; an image belongs to one split, once")
            home[image] = name
    return splits


def read_images(objects: dict[str, Any], path: Path) -> dict[int, Image]:
    """Images by id."""
    return {image.id: image for image in listed(objects, "images", path, Image)}


def read_captions(content: dict[str, Any], path: Path) -> dict[int, list[str]]:
    """Captions by image id, in the order of their own ids."""
    captions: dict[int, list[str]] = {}
    for item in sorted(listed(content, "annotations", path, Caption), key=lambda item: item.id):
        text = " ".join(item.caption.split())
        if not text:
            raise DataError(f"{path}: caption {item.id} of image {item.image_id} is empty; take it out")
        captions.setdefault(item.image_id, []).append(text)
    return captions


def read_boxes(objects: dict[str, Any], path: Path, columns: dict[int, int]) -> dict[int, list[Box]]:
    """Boxes by image id, without those around crowds."""
    boxes: dict[int, list[Box]] = {}
    for item in listed(objects, "annotations", path, Box):
        if item.iscrowd:
            continue
        if item.category_id not in columns:
            raise DataError(f"{path}: annotation {item.id} has category {item.category_id}, which is not listed")
        boxes.setdefault(item.image_id, []).append(item)
    return boxes
