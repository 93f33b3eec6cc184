"""What is odd about the images of a dataset: dead regions, no numbers, the same image twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.data.content import Content, Spot
from harness.findings import EXAMPLES, Finding, Severity, found
from harness.region_scan import Copy, Scan


def of_regions(split: str, content: Content, seen: Scan) -> Iterator[Finding]:
    """What a pass over a split's regions has seen."""
    bad = [(content.where("image", image), "") for image in seen.bad.tolist()]
    message = "images have regions with NaN or inf; extract or get them again"
    yield from found(Severity.ERROR, "not-finite", message, bad, split)
    dead = [(content.where("image", image), f"region {region}") for image, region in seen.dead[:EXAMPLES].tolist()]
    message = "regions hold one number throughout: they say nothing; extract them again, or leave them out"
    yield from found(Severity.WARNING, "constant-region", message, dead, split, len(seen.dead))


def of_one_id(contents: Mapping[str, Content]) -> Iterator[Finding]:
    """Images of two splits that have one id."""
    home: dict[str, str] = {}
    for split, content in contents.items():
        places = []
        for number, image in enumerate(content.image_ids):
            if home.setdefault(image, split) != split:
                places.append((content.where("image", number), f"{image!r} is in {home[image]} too"))
        message = "images of one id are in two splits; an image belongs to one"
        yield from found(Severity.WARNING, "image-in-two-splits", message, places, split)


def of_copies(contents: Mapping[str, Content], groups: Iterable[list[Copy]]) -> Iterator[Finding]:
    """Images that are the same to the last bit, in one split and in two."""
    apart: list[tuple[Spot, str]] = []
    together: list[tuple[Spot, str]] = []
    for (split, number), *others in groups:
        first = contents[split].where("image", number)
        for other, copy in others:
            spot = contents[other].where("image", copy)
            (together if other == split else apart).append((spot, f"as {first}, of {split}"))
    message = "images of two splits have the same regions to the last bit; take them out of one"
    yield from found(Severity.WARNING, "image-in-two-splits", message, apart)
    message = "images have the same regions to the last bit as another one of their split: exact ties"
    yield from found(Severity.NOTE, "images-alike", message, together)
