"""What a reader of a layout delivers (Content), and a split ready for training and evaluation (Split)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from harness.captions import Tokens
from harness.cards import DatasetCard
from harness.errors import ConfigError, DataError
from harness.regions import Ints, Regions
from harness.sections import Scalar

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Content:
    """One split as it lies on disk: N images, M captions, and who matches whom."""

    images: Regions
    captions: tuple[str, ...]
    pairs: Ints  # (P, 2) rows (image, caption)
    image_ids: tuple[str, ...]
    boxes: Regions | None = None  # of every region x, y, width, height in pixels, in the order of its image's regions

    def first(self, images: int) -> Content:
        """The first images only, and the captions that match them."""
        pairs = self.pairs[self.pairs[:, 0] < images]
        kept, column = np.unique(pairs[:, 1], return_inverse=True)
        return replace(
            self,
            images=self.images.first(images),
            captions=tuple(self.captions[caption] for caption in kept),
            pairs=np.stack([pairs[:, 0], column], axis=1),
            image_ids=self.image_ids[:images],
            boxes=self.boxes.first(images) if self.boxes else None,
        )


@dataclass(frozen=True, kw_only=True)
class Split(Content):
    """One split, opened, held to its card, its captions encoded."""

    name: str
    tokens: Tokens


class Look(NamedTuple):
    """What people see of one image, as far as its dataset has it; nothing of an image that is numbers alone."""

    size: tuple[int, int] | None = None  # width and height in pixels
    picture: Image.Image | None = None
    boxes: tuple[tuple[float, ...], ...] = ()  # of every region x, y, width, height in pixels
    labels: tuple[str, ...] = ()  # of every region


class Place(NamedTuple):
    """Where one dataset lies: its card, its own folder, and a folder to keep what was worked out once."""

    card: DatasetCard
    folder: Path
    cache: Path


class Reader(Protocol):
    """A layout's reader: a split of the card's name -> its content; DataError where the files are wrong."""

    version: ClassVar[int]  # of the numbers it makes of the files; part of the fingerprint

    def __init__(self, place: Place) -> None: ...

    @staticmethod
    def files(place: Place) -> list[str]:
        """Names of the files that it reads, relative to the folder."""

    def read(self, split: str) -> Content:
        """One split."""


def option(place: Place, name: str, default: Scalar | None = None) -> str:
    """An option of the card, as text; ConfigError where it has neither it nor a default."""
    value = place.card.options.get(name, default)
    if value is None:
        raise ConfigError(f"{place.card.path}: the layout {place.card.layout!r} needs the key 'options.{name}'")
    return str(value)


def whole(place: Place, name: str, default: int | None = None) -> int:
    """A whole number among the options of the card; ConfigError where it is none."""
    text = option(place, name, default)
    if not text.isdigit():
        raise ConfigError(f"{place.card.path}: 'options.{name}' is {text!r}; a whole number is needed")
    return int(text)


def pairs_of(counts: list[int]) -> Ints:
    """Pairs where the captions stand image by image, `counts` of them an image: (M, 2)."""
    image = np.repeat(np.arange(len(counts)), counts)
    return np.stack([image, np.arange(len(image))], axis=1).astype(np.int64)


def first_twice(ids: list[str]) -> str | None:
    """The first id that stands in a list for the second time, or None."""
    seen: set[str] = set()
    return next((one for one in ids if one in seen or seen.add(one)), None)  # type: ignore[func-returns-value]


def hold(card: DatasetCard, name: str, content: Content) -> None:
    """A split's content against its card: DataError with both numbers where they differ."""
    where = f"{card.name} {name}"
    size = card.splits[name]
    _same(where, "images", size.images, len(content.images))
    _same(where, "captions", size.captions, len(content.captions))
    _same(where, "numbers a region", card.feature_width, content.images.width)
    _same(where, "image ids", len(content.images), len(content.image_ids))
    counts = content.images.counts
    for wrong, what in (
        (counts == 0, "no region"),
        (counts > card.max_regions, f"more than {card.max_regions} regions"),
    ):
        if wrong.any():
            image = int(wrong.argmax())
            raise DataError(f"{where}: image {content.image_ids[image]} (index {image}) has {what}; correct the files")
    for number, caption in enumerate(content.captions):
        if not caption.strip():
            raise DataError(f"{where}: caption {number} is empty; write it or take it out of the files and the card")
    _all_matched(where, content)


def _same(where: str, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise DataError(
            f"{where}: the card says {expected} {what}, the files hold {found}; "
            "take the files the card names, or correct the card"
        )


def _all_matched(where: str, content: Content) -> None:
    """Every image has a caption and every caption an image."""
    for column, what, other, size in (
        (0, "image", "caption", len(content.images)),
        (1, "caption", "image", len(content.captions)),
    ):
        alone = np.bincount(content.pairs[:, column], minlength=size) == 0
        if alone.any():
            raise DataError(f"{where}: {what} {int(alone.argmax())} has no {other}; correct the files")
