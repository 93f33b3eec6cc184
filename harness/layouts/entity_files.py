"""Files of a Flickr30k Entities release: captions whose phrases are marked, and the boxes that the phrases mean.

    Sentences/<id>.txt     a caption per line, `[/EN#<chain>/<type>/<type> some words]` around each of its phrases
    Annotations/<id>.xml   <size>, and of every <object> its chains (<name>) and a <bndbox>, where it has one

A chain is what several phrases of an image's captions mean together; chain 0 is in no picture.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from harness.data.content import first_twice
from harness.data.pictures import read_picture
from harness.errors import DataError, Location
from harness.files import parse_xml, read_lines, read_text

TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other")
NOT_VISUAL = "notvisual"
NOWHERE = "0"  # the chain of what is not visual
OPENING = "[/EN#"
MARK = re.compile(r"\[/EN#([0-9]+)((?:/[a-z]+)+)")
PIXELS = re.compile(r"[0-9]{1,6}")
ID = re.compile(r"\w[\w-]*")  # an id is data: as the name of a file it leads to no other folder


class EntityPhrase(NamedTuple):
    words: tuple[str, ...]
    chain: str
    types: tuple[str, ...]


class Sentence(NamedTuple):
    text: str
    phrases: tuple[EntityPhrase, ...]


class EntityBox(NamedTuple):
    """An annotated box in pixels, counted from 0, and the chains that it belongs to."""

    x: int
    y: int
    width: int
    height: int
    chains: tuple[str, ...] = ()


class Annotation(NamedTuple):
    width: int
    height: int
    boxes: tuple[EntityBox, ...]


def read_sentences(path: Path) -> list[Sentence]:
    """The captions of an image; empty lines after the last one are no captions. DataError names a bad line."""
    lines = read_text(path).rstrip().split("\n")
    return [parse_sentence(line, Location(path, f"line {number}")) for number, line in enumerate(lines, start=1)]


def parse_sentence(line: str, location: Location) -> Sentence:
    """One marked caption; DataError where it is empty, or a phrase is not marked as the release does it."""
    words: list[str] = []
    phrases: list[EntityPhrase] = []
    begun: tuple[int, str, tuple[str, ...]] | None = None
    for token in line.split():
        if OPENING in token or (begun is None and token.startswith("[")):
            if begun is not None:
                break
            begun = (len(words), *_mark(token, location))
        elif begun is not None and token.endswith("]"):
            words += filter(None, [token[:-1]])
            first, chain, types = begun
            phrases += [EntityPhrase(tuple(words[first:]), chain, types)] if words[first:] else []
            begun = None
        else:
            words.append(token)
    if begun is not None:
        raise DataError(f"the phrase of chain {begun[1]} does not close; put a ] behind its last word", location)
    if not words:
        raise DataError("an empty caption; write it or take the line out", location)
    return Sentence(" ".join(words), tuple(phrases))


def _mark(token: str, location: Location) -> tuple[str, tuple[str, ...]]:
    mark = MARK.fullmatch(token)
    types = tuple(mark[2].split("/")[1:]) if mark else ()
    if mark is None or not set(types) <= {*TYPES, NOT_VISUAL}:
        raise DataError(
            f"{token[:80]!r} is no mark of a phrase; it is {OPENING}chain/type followed by a space, "
            f"the type one or more of {', '.join(TYPES)}, {NOT_VISUAL}",
            location,
        )
    return mark[1], types


def read_annotation(path: Path, cut: bool = False) -> Annotation:
    """Size and boxes of an image; DataError names a wrong object; `cut` cuts boxes at the image's edge instead."""
    return parse_annotation(read_text(path), Location(path), cut)


def parse_annotation(text: str, location: Location, cut: bool = False) -> Annotation:
    root = parse_xml(text, location)
    width, height = (_pixels(root, f"size/{side}", location) for side in ("width", "height"))
    if not width * height:
        raise DataError(f"an image of {width} x {height} pixels has no room for a box; get it again", location)
    boxes = [
        _box(item, place, (width, height), location.within(f"object {number}"), cut)
        for number, item in enumerate(root.iterfind("object"), start=1)
        for place in item.iterfind("bndbox")
    ]
    return Annotation(width, height, tuple(box for box in boxes if box.width > 0 and box.height > 0))


def _box(
    item: ElementTree.Element, place: ElementTree.Element, size: tuple[int, int], location: Location, cut: bool
) -> EntityBox:
    """A box of an object. The files count pixels from 1 and the last one belongs to the box; 0 is read as 1."""
    left, top, right, bottom = (_pixels(place, side, location) for side in ("xmin", "ymin", "xmax", "ymax"))
    if cut:
        right, bottom = min(right, size[0]), min(bottom, size[1])
    elif not (max(left, 1) <= right <= size[0] and max(top, 1) <= bottom <= size[1]):
        raise DataError(
            f"the box from {left}, {top} to {right}, {bottom} is inverted, has no size or leaves the image of "
            f'{size[0]} x {size[1]} pixels; correct it, or let wrong_boxes = "cut" in [options] cut it at the edges',
            location,
        )
    chains = tuple((name.text or "").strip() for name in item.iterfind("name"))
    if not all(chain.isdecimal() for chain in chains) or not chains:
        raise DataError(f"its names are {chains}; every box needs a chain, a whole number", location)
    x, y = max(left, 1) - 1, max(top, 1) - 1
    return EntityBox(x, y, right - x, bottom - y, chains)


def _pixels(element: ElementTree.Element, tag: str, location: Location) -> int:
    text = element.findtext(tag, "").strip()
    if not PIXELS.fullmatch(text):
        raise DataError(f"<{tag}> holds {text[:40]!r}; a whole number of pixels is needed", location)
    return int(text)


def read_ids(path: Path) -> tuple[str, ...]:
    """The image ids of a split file; DataError where a line is none, or an id stands twice."""
    ids = read_lines(path, "is one image's id")
    for number, one in enumerate(ids, start=1):
        if not ID.fullmatch(one):
            message = f"{one[:80]!r} is no image id; a line is the name of one image"
            raise DataError(message, Location(path, f"line {number}"))
    second = first_twice(ids)
    if second is not None:
        message = f"image {ids[second]} stands in line {ids.index(ids[second]) + 1} too; take one of the two out"
        raise DataError(message, Location(path, f"line {second + 1}"))
    return tuple(ids)


def read_pixels(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """A picture as (H, W, 3) uint8; DataError where it is none, or not of its annotation's size (W, H)."""
    pixels = np.asarray(read_picture(path))
    if pixels.shape[1::-1] != size:
        raise DataError(
            f"has {pixels.shape[1]} x {pixels.shape[0]} pixels, its annotation says {size[0]} x {size[1]}; "
            "boxes and pictures must be of one release",
            Location(path),
        )
    return pixels
