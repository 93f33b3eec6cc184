"""Files of given boxes: COCO's instances, a folder of VOC's XML, or JSON of lists by image id."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

from harness.data.content import whole_id
from harness.errors import DataError, Location
from harness.extraction.corners import Corners
from harness.files import has_folder, listing, parse_xml, read_json, read_text

FORMS = (
    "COCO's instances (annotations, images), a folder of VOC's XML files, or JSON of "
    '{"image id": [[x1, y1, x2, y2], ...]} or {"image id": [{"box": [x1, y1, x2, y2]}, ...]}'
)
Size = tuple[float, float]


class GivenBoxes(NamedTuple):
    """Boxes of images by id, in pixels of a picture as its file holds it, each image's in the order of the file."""

    file: Path
    boxes: dict[str, list[Corners]]
    sizes: dict[str, Size]  # width and height, where the file says them

    @property
    def sha256(self) -> str:
        """Of the boxes and their order alone, whatever the form of the file."""
        return hashlib.sha256(json.dumps(self.boxes, sort_keys=True).encode()).hexdigest()


def read_boxes(path: Path) -> GivenBoxes:
    """The boxes of a file or folder of any of the forms; DataError where it has none of them."""
    if has_folder(path):
        return _voc(path)
    content = read_json(path, unique=True)
    if isinstance(content, dict) and {"annotations", "images"} <= content.keys():
        return _coco(path, content)
    if not isinstance(content, dict) or not content:
        raise DataError(f"holds no boxes; {FORMS} are read", Location(path))
    return GivenBoxes(path, {image: list(_listed(path, image, own)) for image, own in content.items()}, {})


def _listed(path: Path, image: str, own: Any) -> Iterator[Corners]:
    if not isinstance(own, list):
        raise DataError(f"is no list of boxes; {FORMS} are read", Location(path, f"image {image!r}"))
    for number, one in enumerate(own, start=1):
        yield _corners(one.get("box") if isinstance(one, dict) else one, Location(path, _entry(image, number)))


def _coco(path: Path, content: Mapping[str, Any]) -> GivenBoxes:
    """bbox is x, y, width, height; an image's id is its file's name without the suffix. Crowds are left out."""
    names, sizes = _coco_images(path, content)
    boxes: dict[str, list[Corners]] = {}
    for number, one in enumerate(_objects(path, content, "annotations"), start=1):
        location = Location(path, f"annotations, entry {number}")
        image = names.get(_coco_id(one, "image_id", location))
        if image is None:
            raise DataError(f"is of image {one['image_id']!r}, which is not among the images", location)
        if not one.get("iscrowd"):
            x, y, width, height = _corners(one.get("bbox"), location.within(f"image {image!r}"))
            boxes.setdefault(image, []).append((x, y, x + width, y + height))
    return GivenBoxes(path, boxes, sizes)


def _coco_images(path: Path, content: Mapping[str, Any]) -> tuple[dict[int | str, str], dict[str, Size]]:
    """The names of images by their ids, and their sizes by name."""
    names: dict[int | str, str] = {}
    sizes: dict[str, Size] = {}
    for number, one in enumerate(_objects(path, content, "images"), start=1):
        location = Location(path, f"images, entry {number}")
        image, name = _coco_id(one, "id", location), PurePosixPath(_field(one, "file_name", str, location)).stem
        if name in sizes:
            raise DataError(f"a second image is called {name!r}; take one out", location)
        if image in names:
            raise DataError(f"a second image has the id {image!r}, as {names[image]!r} has; correct one", location)
        names[image] = name
        sizes[name] = (_field(one, "width", (int, float), location), _field(one, "height", (int, float), location))
    return names, sizes


def _coco_id(entry: Mapping[str, Any], key: str, location: Location) -> int | str:
    """An id, as a whole number where it is one, also as pandas writes it: 12.0 or "12"."""
    image = whole_id(entry.get(key))
    if image is not None:
        return image
    text: str = _field(entry, key, str, location)
    return text


def _voc(folder: Path) -> GivenBoxes:
    """A file per image: pixels count from 1 and the last one belongs to a box; 0, as many tools write, is read as 1.

    An object without a box has none.
    """
    files = [path for path in listing(folder) if path.suffix.lower() == ".xml"]
    if not files:
        raise DataError(f"holds no .xml file; {FORMS} are read", Location(folder))
    boxes: dict[str, list[Corners]] = {}
    sizes: dict[str, Size] = {}
    for path in files:
        root = parse_xml(read_text(path), Location(path))
        image = PurePosixPath(root.findtext("filename", "").strip() or path.name).stem
        if image in boxes:
            raise DataError(f"image {image!r} has another file too; take one out", Location(path))
        places = [place for item in root.iterfind("object") for place in item.iterfind("bndbox")]
        boxes[image] = [
            _inclusive(place, Location(path, _entry(image, at))) for at, place in enumerate(places, start=1)
        ]
        if root.find("size") is not None:
            width, height = (_number(root.findtext(f"size/{side}"), Location(path)) for side in ("width", "height"))
            sizes[image] = (width, height)
    return GivenBoxes(folder, boxes, sizes)


def _inclusive(place: ElementTree.Element, location: Location) -> Corners:
    left, top, right, bottom = (_number(place.findtext(name), location) for name in ("xmin", "ymin", "xmax", "ymax"))
    x, y = (max(side - 1, 0.0) if side >= 0 else side - 1 for side in (left, top))
    return (x, y, right, bottom)


def _number(text: str | None, location: Location) -> float:
    try:
        return _finite(float(text or ""), location)
    except ValueError as error:
        raise DataError(f"{text!r} is no number of pixels; correct it", location) from error


def _finite(number: Any, location: Location) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise DataError(f"{number!r} is no number of pixels; correct it", location)
    return float(number)


def _corners(box: Any, location: Location) -> Corners:
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
        raise DataError(f"{box!r} is no box of four numbers; correct it", location)
    first, second, third, fourth = (_finite(number, location) for number in box)
    return (first, second, third, fourth)


def _objects(path: Path, content: Mapping[str, Any], key: str) -> Iterable[dict[str, Any]]:
    entries = content[key]
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise DataError(f"its {key} are no list of objects; get the file again", Location(path))
    return entries


def _field(entry: Mapping[str, Any], key: str, kinds: type | tuple[type, ...], location: Location) -> Any:
    value = entry.get(key)
    if not isinstance(value, kinds):
        raise DataError(f"has no {key} as COCO has it, but {value!r}; correct it", location)
    return value


def _entry(image: str, number: int) -> str:
    return f"image {image!r}, box {number}"
