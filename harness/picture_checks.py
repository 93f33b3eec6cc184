"""The pictures beside a dataset, where it has any: whether they can be read and are what the dataset says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.config.cards import DatasetCard
from harness.data.content import Content, Spot
from harness.errors import DataError
from harness.findings import Finding, Severity, found
from harness.layouts.previews import FOLDER, Looks


def has_pictures(folder: Path) -> bool:
    """Whether there is a folder of pictures."""
    return (folder / FOLDER).is_dir()


def of_pictures(
    card: DatasetCard, data: Path, cache: Path, contents: Mapping[str, Content], advance: Callable[[int], None]
) -> Iterator[Finding]:
    """Pictures that cannot be read, that are of another size than the dataset says, and images without one."""
    looks = Looks(card, data, cache)
    for split, content in contents.items():
        broken: list[tuple[Spot, str]] = []
        resized: list[tuple[Spot, str]] = []
        absent: list[tuple[Spot, str]] = []
        for image in content.image_ids:
            spot = Spot(FOLDER, image)
            try:
                look = looks.of(image)
            except DataError as error:
                broken.append((spot, str(error)))
            else:
                if look.picture is None:
                    absent.append((spot, ""))
                elif look.size != look.picture.size:
                    resized.append((spot, f"{look.picture.size} pixels, the dataset says {look.size}"))
            advance(1)
        message = "pictures cannot be read; get them again or take them out"
        yield from found(Severity.WARNING, "picture-unreadable", message, broken, split)
        message = "pictures have another size than the dataset says: boxes are drawn in the wrong places"
        yield from found(Severity.WARNING, "picture-size", message, resized, split)
        message = "images have no picture; examples show them by number"
        yield from found(Severity.NOTE, "picture-absent", message, absent, split)
