"""Official MS-COCO annotations: a region is an annotated box, its category and its place. No pixels.

Of every region, 10 + K numbers (K categories, 80 in the official files):
    K     the category, one-hot, in the order of category ids
    4     x1/W, y1/H, x2/W, y2/H       the box in an image W wide and H high
    5     w/W, h/H, wh/WH, the box's centre over W and H
    1     W/H
Under the option boxless = "whole", an image without a box is one region: no category, and its box is the whole image.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.content import (
    Content,
    Kind,
    Labels,
    Place,
    Preview,
    is_allowed,
    option,
    pairs_of,
    whole,
)
from harness.data.regions import Ints, Ragged
from harness.errors import ConfigError, DataError, Location
from harness.layouts.box_features import geometry
from harness.layouts.coco_files import (
    CocoBox,
    CocoCategory,
    CocoImage,
    check_corners,
    listed,
    read_boxes,
    read_captions,
    read_object,
    read_split,
)

VERSION = 1  # of the numbers above; part of the fingerprint
WHOLE = -1  # in a category's place: the region is the whole image
SPLITS = ("train", "val", "test")  # the order in which a seed deals images out; further splits follow by name


class Annotations(NamedTuple):
    split: dict[str, list[int]]
    images: dict[int, CocoImage]
    captions: dict[int, list[str]]
    boxes: dict[int, list[CocoBox]]
    columns: dict[int, int]  # category id -> its column of the one-hot
    names: dict[int, str]  # category id -> its name


class Coco:
    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.captions_file, self.instances_file, *split = (place.folder / name for name in self.files(place))
        self.split_file = split[0] if split else place.card.path  # where the ids of a split, or their number, are said

    @staticmethod
    def files(place: Place) -> list[str]:
        names = [option(place, key) for key in ("captions", "instances")]
        return names if is_drawn(place) else [*names, option(place, "split")]

    @cached_property
    def annotations(self) -> Annotations:
        objects = read_object(self.instances_file)
        categories = listed(objects, "categories", self.instances_file, CocoCategory)
        columns = {category: column for column, category in enumerate(sorted(item.id for item in categories))}
        images = {image.id: image for image in listed(objects, "images", self.instances_file, CocoImage)}
        captions = read_captions(read_object(self.captions_file), self.captions_file)
        boxes = read_boxes(objects, self.instances_file, columns)
        check_corners(boxes, images, self.instances_file)
        whole_ones = whole_images(images) if is_allowed(self.place, "boxless", "whole") else {}
        return Annotations(
            split=self._split(list(captions)),
            images=images,
            captions=captions,
            boxes={**whole_ones, **boxes},
            columns=columns,
            names={WHOLE: "the whole image", **{category.id: category.name for category in categories}},
        )

    def _split(self, captioned: list[int]) -> dict[str, list[int]]:
        if not is_drawn(self.place):
            return read_split(self.split_file)
        sizes = {name: size.images for name, size in self.place.card.splits.items()}
        if sum(sizes.values()) != len(captioned):
            raise DataError(
                f"{len(captioned):,} images have captions, but the splits of {self.split_file} add up to "
                f"{sum(sizes.values()):,}; take the files the card names, or correct the card",
                Location(self.captions_file),
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
            sizes=np.array([(known.images[image].width, known.images[image].height) for image in ids]),
            location=partial(self._location, ids, np.cumsum([0, *map(len, captions)])),
            labels=labels_of([known.boxes[image] for image in ids], known),
        )

    def _location(self, ids: list[int], starts: Ints, kind: Kind, index: int) -> Location:
        if kind == "image":
            return Location(self.instances_file.name, f"image {ids[index]}")
        image = int(np.searchsorted(starts, index, side="right")) - 1
        return Location(self.captions_file.name, f"caption {index - int(starts[image]) + 1} of image {ids[image]}")

    def preview(self, image: str) -> Preview:
        """The boxes of an image id with the names of their categories; nothing where no image has that id."""
        known, number = self.annotations, int(image) if image.isdecimal() else -1
        if number not in known.images:
            return Preview()
        boxes = largest_first(known.boxes.get(number, []), self.place.card.max_regions)
        size = round(known.images[number].width), round(known.images[number].height)
        labels = tuple(known.names[box.category_id] for box in boxes)
        return Preview(size, boxes=tuple(box.bbox for box in boxes), labels=labels)

    def _ids(self, split: str) -> list[int]:
        known = self.annotations
        if split not in known.split:
            message = f"no split {split!r}; it holds {', '.join(sorted(known.split))}"
            raise DataError(message, Location(self.split_file))
        for place, file, what in (
            (known.images, self.instances_file, "not among the images"),
            (known.boxes, self.instances_file, 'without a box, which boxless = "whole" in [options] allows'),
            (known.captions, self.captions_file, "without a caption"),
        ):
            lacking = [image for image in known.split[split] if image not in place]
            if lacking:
                raise DataError(
                    f"{what}, but in {self.split_file.name} [{split}] ({len(lacking)} such images); "
                    "take them out of the split, or take the files the card names",
                    Location(file, f"image {lacking[0]}"),
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


def whole_images(images: dict[int, CocoImage]) -> dict[int, list[CocoBox]]:
    return {
        image.id: [CocoBox(id=0, image_id=image.id, category_id=WHOLE, bbox=(0.0, 0.0, image.width, image.height))]
        for image in images.values()
    }


def labels_of(boxes: list[list[CocoBox]], known: Annotations) -> Labels:
    """The categories of all boxes of each image, also of those beyond the card's max_regions."""
    table = np.zeros((len(boxes), len(known.columns)), dtype=np.bool_)
    for row, own in enumerate(boxes):
        table[row, [known.columns[box.category_id] for box in own if box.category_id != WHOLE]] = True
    return Labels(tuple(known.names[category] for category in known.columns), table)


def largest_first(boxes: list[CocoBox], most: int) -> list[CocoBox]:
    """The largest boxes by area, equals by annotation id."""
    return sorted(boxes, key=lambda box: (-box.bbox[2] * box.bbox[3], box.id))[:most]


def describe(boxes: list[CocoBox], image: CocoImage, columns: dict[int, int]) -> NDArray[np.float32]:
    """The regions of one image, (R, K + 10), as the head of this file says."""
    rows = {WHOLE: len(columns), **columns}  # the last row is of zeros
    category = np.eye(len(columns) + 1, len(columns))[[rows[box.category_id] for box in boxes]]
    places = geometry(np.array([box.bbox for box in boxes]), image.width, image.height)
    return np.concatenate([category, places], axis=1).astype(np.float32)
