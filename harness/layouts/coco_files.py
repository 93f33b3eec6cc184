"""COCO's official JSON files: images, categories, boxes, captions, ids of splits, as pandas writes them too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, TypeAdapter, ValidationError

from harness.data.content import check_one_split, first_twice, whole_id
from harness.data.regions import are_shares
from harness.errors import DataError, Location
from harness.files import read_json

Side = Annotated[float, Field(ge=0, allow_inf_nan=False)]
IDS = ("id", "image_id", "category_id")
EDGE = 1.0  # pixels by which a box may pass its picture's edge
MANY = 0.1  # the share of boxes beyond their pictures from which on the numbers mean something else


class CocoRecord(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: int


class CocoImage(CocoRecord):
    """An image's size in pixels."""

    width: PositiveFloat
    height: PositiveFloat


class CocoBox(CocoRecord):
    """An annotated box, x y w h in pixels."""

    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, Side, Side] = Field(strict=False)  # JSON has lists
    iscrowd: Annotated[int, Field(strict=False)] = 0


class CocoCategory(CocoRecord):
    name: str = ""


class CocoCaption(CocoRecord):
    image_id: int
    caption: str


AnyRecord = TypeVar("AnyRecord", bound=CocoRecord)


def read_object(path: Path, unique: bool = False) -> dict[str, Any]:
    content = read_json(path, unique=unique)
    if not isinstance(content, dict):
        raise DataError(f"a JSON object is expected, found a {type(content).__name__}", Location(path))
    return content


def listed(content: dict[str, Any], key: str, path: Path, kind: type[AnyRecord]) -> list[AnyRecord]:
    if not isinstance(content.get(key), list):
        raise DataError(f"no list {key!r}; this is not an official COCO file of that kind", Location(path))
    kinds: TypeAdapter[list[AnyRecord]] = TypeAdapter(list[kind])  # type: ignore[valid-type]
    try:
        try:
            entries = kinds.validate_python(content[key])
        except ValidationError:
            entries = kinds.validate_python([*map(with_whole_ids, content[key])])
    except ValidationError as error:
        index = int(error.errors()[0]["loc"][0])
        message = f"{problem(content[key][index], error)}; get the file again"
        raise DataError(message, Location(path, f"{key}[{index}]")) from None
    second = first_twice([str(entry.id) for entry in entries])
    if second is not None:
        message = f"id {entries[second].id} stands twice in {key!r}; take one of the two out"
        raise DataError(message, Location(path, f"{key}[{second}]"))
    return entries


def with_whole_ids(entry: Any) -> Any:
    """An entry whose ids are whole numbers, where pandas wrote them as 12.0 or "12"."""
    if not isinstance(entry, dict):
        return entry
    ids = {key: whole_id(entry[key]) for key in IDS if key in entry}
    return {**entry, **{key: value for key, value in ids.items() if value is not None}}


def problem(entry: Any, error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"][1:]))
    name = f"id {entry['id']}" if isinstance(entry, dict) and "id" in entry else ""
    if first["type"] == "missing":
        return f"{name or 'the entry'} has no {field!r}"
    about = ", ".join(filter(None, (name, field)))
    return f"{about}{': ' * bool(about)}{first['msg']} (got {first['input']!r})"


def read_split(path: Path) -> dict[str, list[int]]:
    """Image ids of every split; DataError where an id stands twice, in one split or in two, or a split does."""
    content = read_object(path, unique=True)
    splits = {name: ids for name, ids in content.items() if isinstance(ids, list)}
    known: dict[str, list[int]] = {name: [] for name in splits}
    places: list[tuple[int, Location]] = []
    for name, ids in splits.items():
        for number, one in enumerate(ids):
            image, location = whole_id(one), Location(path, f"[{name}], entry {number}")
            if image is None:
                raise DataError(f"{one!r:.60} is no image id; a whole number is needed", location)
            known[name].append(image)
            places.append((image, location))
    check_one_split(places)
    return known


def read_captions(content: dict[str, Any], path: Path) -> dict[int, list[str]]:
    """Captions by image id, in the order of their own ids."""
    captions: dict[int, list[str]] = {}
    for item in sorted(listed(content, "annotations", path, CocoCaption), key=lambda item: item.id):
        text = " ".join(item.caption.split())
        if not text:
            message = f"an empty caption, of image {item.image_id}; take it out"
            raise DataError(message, Location(path, f"caption {item.id}"))
        captions.setdefault(item.image_id, []).append(text)
    return captions


def check_corners(boxes: dict[int, list[CocoBox]], images: dict[int, CocoImage], path: Path) -> None:
    """DataError where boxes x, y, width, height are shares, or many leave their pictures, as corners do."""
    known = [(box, images[image]) for image, own in boxes.items() if image in images for box in own]
    check_in_pixels(known, path)
    beyond = [box for box, image in known if leaves(box.bbox, image)]
    if len(beyond) <= MANY * len(known):
        return
    are_corners = all(inside(box.bbox, image) for box, image in known)
    hint = (
        "corners x1, y1, x2, y2? bbox is x, y, width, height"
        if are_corners
        else "bbox is x, y, width, height in pixels"
    )
    first = beyond[0]
    raise DataError(
        f"{len(beyond):,} of {len(known):,} boxes leave their picture, {list(first.bbox)} of image {first.image_id} "
        f"first; {hint}: convert them, or get the file again",
        Location(path, f"annotation {first.id}"),
    )


def check_in_pixels(boxes: Sequence[tuple[CocoBox, CocoImage]], path: Path) -> None:
    """DataError where all boxes, with their images, lie in the first pixel: they are from 0 to 1."""
    end = max((max(box.bbox[0] + box.bbox[2], box.bbox[1] + box.bbox[3]) for box, _ in boxes), default=math.inf)
    if are_shares(end, max((max(image.width, image.height) for _, image in boxes), default=0)):
        first = boxes[0][0]
        raise DataError(
            f"no box ends beyond the first pixel, {list(first.bbox)} of image {first.image_id} first: they are shares "
            "of their pictures, and bbox is in pixels; multiply x by the width and y by the height",
            Location(path, f"annotation {first.id}"),
        )


def leaves(bbox: tuple[float, float, float, float], image: CocoImage) -> bool:
    x, y, width, height = bbox
    return min(x, y) < -EDGE or x + width > image.width + EDGE or y + height > image.height + EDGE


def inside(corners: tuple[float, float, float, float], image: CocoImage) -> bool:
    left, top, right, bottom = corners
    return left <= right <= image.width + EDGE and top <= bottom <= image.height + EDGE


def read_boxes(objects: dict[str, Any], path: Path, columns: dict[int, int]) -> dict[int, list[CocoBox]]:
    boxes: dict[int, list[CocoBox]] = {}
    for item in listed(objects, "annotations", path, CocoBox):
        if item.iscrowd:
            continue
        if item.category_id not in columns:
            message = f"has category {item.category_id}, which is not listed; get the file again"
            raise DataError(message, Location(path, f"annotation {item.id}"))
        boxes.setdefault(item.image_id, []).append(item)
    return boxes
