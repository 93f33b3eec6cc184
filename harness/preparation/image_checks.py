"""Checks of images: regions that are not finite or constant, images that stand twice, pictures."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.config.cards import DatasetCard
from harness.data.content import Content
from harness.data.regions import Bools, Floats, Ints, Regions
from harness.errors import DataError, Location
from harness.layouts.previews import FOLDER, Previews
from harness.preparation.findings import EXAMPLES, Finding, Severity, findings_of

PIECE = 2**25  # bytes of regions held together
DIGEST = 16
Copy = tuple[str, int]  # an image: the split and its number there


def of_regions(split: str, content: Content, seen: Scan) -> Iterator[Finding]:
    bad = [(content.location("image", image), "") for image in seen.bad.tolist()]
    message = "images have regions with NaN or inf; extract or get them again"
    yield from findings_of(Severity.ERROR, "not-finite", message, bad, split)
    dead = [(content.location("image", image), f"region {region}") for image, region in seen.dead[:EXAMPLES].tolist()]
    message = "regions hold one number throughout: they say nothing; extract them again, or leave them out"
    yield from findings_of(Severity.WARNING, "constant-region", message, dead, split, len(seen.dead))


def of_one_id(contents: Mapping[str, Content]) -> Iterator[Finding]:
    home: dict[str, str] = {}
    for split, content in contents.items():
        places = []
        for number, image in enumerate(content.image_ids):
            if home.setdefault(image, split) != split:
                places.append((content.location("image", number), f"{image!r} is in {home[image]} too"))
        message = "images of one id are in two splits; an image belongs to one"
        yield from findings_of(Severity.WARNING, "image-in-two-splits", message, places, split)


def of_copies(contents: Mapping[str, Content], groups: Iterable[list[Copy]]) -> Iterator[Finding]:
    apart: list[tuple[Location, str]] = []
    together: list[tuple[Location, str]] = []
    for (split, number), *others in groups:
        first = contents[split].location("image", number)
        for other, copy in others:
            location = contents[other].location("image", copy)
            (together if other == split else apart).append((location, f"as {first}, of {split}"))
    message = "images of two splits have the same regions to the last bit; take them out of one"
    yield from findings_of(Severity.WARNING, "image-in-two-splits", message, apart)
    message = "images have the same regions to the last bit as another one of their split: exact ties"
    yield from findings_of(Severity.NOTE, "images-alike", message, together)


def of_pictures(
    card: DatasetCard, data: Path, cache: Path, contents: Mapping[str, Content], advance: Callable[[int], object]
) -> Iterator[Finding]:
    looks = Previews(card, data, cache)
    for split, content in contents.items():
        broken: list[tuple[Location, str]] = []
        resized: list[tuple[Location, str]] = []
        absent: list[tuple[Location, str]] = []
        for image in content.image_ids:
            location = Location(FOLDER, image)
            try:
                look = looks.of(image)
            except DataError as error:
                broken.append((location, str(error)))
            else:
                if look.picture is None:
                    absent.append((location, ""))
                elif look.size != look.picture.size:
                    resized.append((location, f"{look.picture.size} pixels, the dataset says {look.size}"))
            advance(1)
        message = "pictures cannot be read; get them again or take them out"
        yield from findings_of(Severity.WARNING, "picture-unreadable", message, broken, split)
        message = "pictures have another size than the dataset says: boxes are drawn in the wrong places"
        yield from findings_of(Severity.WARNING, "picture-size", message, resized, split)
        message = "images have no picture; examples show them by number"
        yield from findings_of(Severity.NOTE, "picture-absent", message, absent, split)


class Scan(NamedTuple):
    """Faults and digests of N images, from one pass over their regions."""

    bad: Ints  # images with NaN or inf
    dead: Ints  # (D, 2) image and region whose numbers are all equal
    marks: list[bytes]  # N, of the first region of every image


def scan(images: Regions, advance: Callable[[int], object]) -> Scan:
    """Read every region once; `advance` is called with the number of images read."""
    each = max(1, PIECE // max(1, 4 * images.width * int(images.counts.max(initial=1))))
    bad, dead, marks = [], [], []
    for start in range(0, len(images), each):
        numbers = np.arange(start, min(start + each, len(images)))
        regions, mask = images.gather(numbers)
        is_bad, is_dead = faults(regions, mask)
        bad.append(numbers[is_bad.any(axis=1)])
        rows, places = np.nonzero(is_dead)
        dead.append(np.stack([start + rows, places], axis=1))
        marks += [digest(regions[row, :1]) for row in range(len(numbers))]
        advance(len(numbers))
    return Scan(np.concatenate([[], *bad]).astype(np.int64), np.concatenate([np.empty((0, 2), int), *dead]), marks)


def faults(regions: Floats, mask: Bools) -> tuple[Bools, Bools]:
    """Which regions (B, R) of a batch (B, R, F) hold NaN or inf, and which one number throughout."""
    low, high = regions.min(axis=-1), regions.max(axis=-1)
    finite = np.isfinite(low) & np.isfinite(high)
    return mask & ~finite, mask & finite & (low == high) & (regions.shape[-1] > 1)


def copies(images: Mapping[str, Regions], marks: Mapping[str, list[bytes]]) -> list[list[Copy]]:
    """Groups of images whose regions are the same to the last bit; only those of one first region are read again."""
    near = _groups(((split, number), mark) for split, own in marks.items() for number, mark in enumerate(own))
    return [
        group for likely in near for group in _groups((place, digest(images[place[0]][place[1]])) for place in likely)
    ]


def digest(regions: Floats) -> bytes:
    """A hash of regions; 0 and -0 differ, as their bits do."""
    return hashlib.blake2b(np.ascontiguousarray(regions).data, digest_size=DIGEST).digest()


def _groups(marked: Iterable[tuple[Copy, bytes]]) -> list[list[Copy]]:
    by_mark: dict[bytes, list[Copy]] = defaultdict(list)
    for place, mark in marked:
        by_mark[mark].append(place)
    return [places for places in by_mark.values() if len(places) > 1]
