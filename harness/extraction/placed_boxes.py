"""Given boxes on the pictures that they are of: cut at the edges, turned as the picture is, at most so many each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

from harness.data.content import BareId, same_as
from harness.data.pictures import PictureHead
from harness.data.regions import are_shares
from harness.errors import DataError, Location, named
from harness.extraction.box_files import GivenBoxes
from harness.extraction.corners import Corners, whole

EDGE = 0.01  # pixels; by less a box does not leave its picture, but was rounded
MANY = 0.1  # of all boxes: where more leave their pictures, they are boxes of something else
SHOWN = 3  # images that a message names
SIDEWAYS = 5  # the values of EXIF from here on exchange width and height
RESIZED = "take the pictures that the boxes were drawn on, or scale the boxes"
TURNED = (
    "its EXIF turns it, and the boxes were drawn on it as it is shown; they are read in pixels of the file: save the "
    "picture turned, as `mogrify -auto-orient` of ImageMagick does, or turn its boxes back"
)
Boxless = Literal["refuse", "whole"]


@dataclass(frozen=True)
class BoxRules:
    """Which of the given boxes are regions."""

    most: int | None = None  # of a picture, the first of the file; beside the whole one
    whole: bool = False  # the picture itself is its first region
    boxless: Boxless = "refuse"  # what becomes of a picture without a box


class PlacedBoxes(NamedTuple):
    """The regions of every picture in its own pixels, as the model sees it, and what was done to the boxes."""

    corners: dict[str, tuple[Corners, ...]]
    facts: dict[str, Any]  # what decides them
    cut: int  # boxes that left their picture
    total: int  # boxes of these pictures
    boxless: int  # pictures that are one region for that
    unused: int  # images of the file that have no picture here


def place_boxes(given: GivenBoxes, heads: Mapping[str, PictureHead], rules: BoxRules) -> PlacedBoxes:
    """The regions of pictures; DataError where a box is empty, or boxes are of pictures of other sizes."""
    check_of_these(given, heads)
    boxless = [image for image in heads if not given.boxes.get(image)]
    check_names(given, heads, boxless)
    if boxless and rules.boxless == "refuse":
        raise DataError(
            f"{len(boxless):,} of {len(heads):,} pictures have no box in it, image {boxless[0]!r} first; take them "
            "out, or give --boxless whole, which makes each one region",
            Location(given.file),
        )
    check_sizes(given, heads)
    beyond = check_edges(given, heads)
    corners = {image: regions(given, image, head, rules) for image, head in heads.items()}
    facts = {"sha256": given.sha256, "most": rules.most, "whole": rules.whole, "boxless": rules.boxless}
    total = sum(len(given.boxes.get(image, ())) for image in heads)
    unused = sum(image not in heads for image in given.boxes)
    return PlacedBoxes(corners, facts, beyond, total, len(boxless), unused)


def check_of_these(given: GivenBoxes, heads: Mapping[str, PictureHead]) -> None:
    """DataError where not one picture has a box: the file is of other pictures, or names them otherwise."""
    if not any(given.boxes.get(image) for image in heads):
        boxed = [image for image, boxes in given.boxes.items() if boxes]
        names, others = (named([*map(repr, images)], SHOWN) for images in (heads, boxed))
        remedy = same_as(next(iter(heads)), boxed) or "take the file of these pictures, or give its images their names"
        raise DataError(
            f"not one of {len(heads):,} pictures has a box in it: its boxes are of {others}, the pictures are {names}; "
            f"{remedy}",
            Location(given.file),
        )


def check_names(given: GivenBoxes, heads: Mapping[str, PictureHead], boxless: Sequence[str]) -> None:
    """DataError for a picture without a box where the file has boxes of one that is here under a like name alone."""
    unused = [image for image, boxes in given.boxes.items() if boxes and image not in heads] if boxless else []
    others = {BareId.of(image).name: image for image in unused}
    for image in boxless if others else ():
        if other := others.get(BareId.of(image).name):
            message = f"picture {image!r} has no box in it; {same_as(image, [other])}"
            raise DataError(message, Location(given.file))


def check_sizes(given: GivenBoxes, heads: Mapping[str, PictureHead]) -> None:
    """DataError for a picture of another size than the file of boxes says."""
    for image, head in heads.items():
        said = given.sizes.get(image)
        if said is not None and said != head.size and given.boxes.get(image):
            is_turned = head.orientation >= SIDEWAYS and said == head.size[::-1]
            remedy = TURNED if is_turned else RESIZED
            raise DataError(
                f"boxes are of a picture of {said[0]:g} x {said[1]:g} pixels, and it has {head.size[0]} x "
                f"{head.size[1]}: {remedy}",
                Location(given.file, f"image {image!r}"),
            )


def check_edges(given: GivenBoxes, heads: Mapping[str, PictureHead]) -> int:
    """The number of boxes that leave their picture; DataError where they are many, or where all are shares of it."""
    known = [(image, box) for image in heads for box in given.boxes.get(image, ())]
    check_in_pixels(given, known, max(max(heads[image].size) for image, _ in known))
    beyond = [(image, box) for image, box in known if leaves(box, heads[image].size)]
    if len(beyond) > MANY * len(known):
        image, box = beyond[0]
        width, height = heads[image].size
        raise DataError(
            f"{len(beyond):,} of {len(known):,} boxes leave their picture, {_shown(box)} of image {image!r} "
            f"({width} x {height} pixels) first: they are of pictures of another size, or not x1, y1, x2, y2 (in "
            "COCO's files x, y, width, height); take the pictures that they were drawn on, or convert them",
            Location(given.file),
        )
    return len(beyond)


def check_in_pixels(given: GivenBoxes, known: Sequence[tuple[str, Corners]], side: int) -> None:
    """DataError where all boxes, with their images, lie in the first pixel: they are from 0 to 1."""
    if are_shares(max(max(box) for _, box in known), side):
        image, box = known[0]
        raise DataError(
            f"no box ends beyond the first pixel, {_shown(box)} of image {image!r} first: they are shares of their "
            "pictures, and pixels are needed; multiply x by the width and y by the height",
            Location(given.file),
        )


def leaves(box: Corners, size: tuple[int, int]) -> bool:
    return min(box) < -EDGE or max(box[0], box[2]) > size[0] + EDGE or max(box[1], box[3]) > size[1] + EDGE


def regions(given: GivenBoxes, image: str, head: PictureHead, rules: BoxRules) -> tuple[Corners, ...]:
    boxes = given.boxes.get(image, [])
    inside = [
        cut(box, head.size, Location(given.file, f"image {image!r}, box {at}")) for at, box in enumerate(boxes, 1)
    ]
    first = [whole(head.size)] if rules.whole or not boxes else []
    return tuple(turned(box, head) for box in chain(first, inside[: rules.most]))


def cut(box: Corners, size: tuple[int, int], location: Location) -> Corners:
    """A box without what lies beyond the edges; DataError where nothing is left."""
    x1, y1, x2, y2 = box
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1])))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        why = "is inverted or has no size" if x1 >= x2 or y1 >= y2 else "lies outside the picture"
        raise DataError(f"the box {_shown(box)} {why}, {size[0]} x {size[1]} pixels; correct or remove it", location)
    return inside


def turned(box: Corners, head: PictureHead) -> Corners:
    """A box in pixels of the file, in those of the picture turned as its EXIF says."""
    width, height = head.size
    mirrored = {
        2: (True, False),
        3: (True, True),
        4: (False, True),
        6: (False, True),
        7: (True, True),
        8: (True, False),
    }
    across, down = mirrored.get(head.orientation, (False, False))
    x1, y1, x2, y2 = box
    xs = (width - x2, width - x1) if across else (x1, x2)
    ys = (height - y2, height - y1) if down else (y1, y2)
    if head.orientation >= SIDEWAYS:
        xs, ys = ys, xs
    return (xs[0], ys[0], xs[1], ys[1])


def _shown(box: Sequence[float]) -> str:
    return "({})".format(", ".join(f"{number:g}" for number in box))
