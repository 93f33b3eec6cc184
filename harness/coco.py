"""Official MS-COCO annotations: a region is an annotated box, its category and its place. No pixels.

Of every region, 10 + K numbers (K categories, 80 in the official files):
    K     the category, one-hot, in the order of category ids
    4     x1/W, y1/H, x2/W, y2/H       the box in an image W wide and H high
    5     w/W, h/H, wh/WH, the box's centre over W and H
    1     W/H
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, TypeAdapter, ValidationError

from harness.errors import DataError
from harness.regions import Ragged
from harness.splits import Content, Look, Place, first_twice, option, pairs_of

VERSION = 1  # of the numbers above; part of the fingerprint
GEOMETRY = 10


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
        self.captions_file, self.instances_file, self.split_file = (place.folder / name for name in self.files(place))

    @staticmethod
    def files(place: Place) -> list[str]:
        """Names of the files that this layout reads."""
        return [option(place, key) for key in ("captions", "instances", "split")]

    @cached_property
    def annotations(self) -> Annotations:
        """The files, checked."""
        objects = read_json(self.instances_file)
        categories = listed(objects, "categories", self.instances_file, Category)
        columns = {category: column for column, category in enumerate(sorted(item.id for item in categories))}
        return Annotations(
            split=read_split(self.split_file),
            images=read_images(objects, self.instances_file),
            captions=read_captions(read_json(self.captions_file), self.captions_file),
            boxes=read_boxes(objects, self.instances_file, columns),
            columns=columns,
            names={category.id: category.name for category in categories},
        )

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
        )

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
            (known.boxes, self.instances_file, "has no box"),
            (known.captions, self.captions_file, "has no caption"),
        ):
            lacking = [image for image in known.split[split] if image not in place]
            if lacking:
                raise DataError(
                    f"{file}: image {lacking[0]} of {self.split_file.name} [{split}] {what} "
                    f"({len(lacking)} such images); take them out of the split, or take the files the card names"
                )
        return known.split[split]


def largest_first(boxes: list[Box], most: int) -> list[Box]:
    """The largest boxes by area, equals by annotation id."""
    return sorted(boxes, key=lambda box: (-box.bbox[2] * box.bbox[3], box.id))[:most]


def describe(boxes: list[Box], image: Image, columns: dict[int, int]) -> NDArray[np.float32]:
    """The regions of one image, (R, K + 10), as the head of this file says."""
    width, height = image.width, image.height
    x, y, w, h = (np.array([box.bbox for box in boxes]) / [width, height, width, height]).T
    category = np.eye(len(columns))[[columns[box.category_id] for box in boxes]]
    geometry = np.stack(
        [x, y, x + w, y + h, w, h, w * h, x + w / 2, y + h / 2, np.full_like(x, width / height)], axis=1
    )
    return np.concatenate([category, geometry], axis=1).astype(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError with line and column where it does not parse."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not readable JSON ({error}); get the file again") from error
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
