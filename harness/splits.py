"""What a reader of a layout delivers (Content), and a split ready for training and evaluation (Split)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from harness.captions import Tokens
from harness.config.cards import DatasetCard, Known
from harness.config.sections import Scalar
from harness.errors import ConfigError, DataError
from harness.regions import Ints, Regions

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 60  # characters of a caption in a message
Kind = Literal["image", "caption"]


class Spot(NamedTuple):
    """Where something stands: a file of the dataset, and the line, row or entry in it."""

    file: str  # empty where the reader does not say
    entry: str

    def __str__(self) -> str:
        return ", ".join(filter(None, self))


NOWHERE = Spot("", "")


def by_number(kind: Kind, index: int) -> Spot:
    """Where an image or a caption stands when its reader does not say: its number in the split, from 0."""
    return Spot("", f"{kind} {index}")


@dataclass(frozen=True)
class Content:
    """One split as it lies on disk: N images, M captions, and who matches whom."""

    images: Regions
    captions: tuple[str, ...]
    pairs: Ints  # (P, 2) rows (image, caption)
    image_ids: tuple[str, ...]
    boxes: Regions | None = None  # of every region x, y, width, height in pixels, in the order of its image's regions
    where: Callable[[Kind, int], Spot] = by_number  # the file and line of an image or a caption, by its number

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
            where=lambda kind, index: self.where(kind, int(kept[index]) if kind == "caption" else index),
        )


@dataclass(frozen=True, kw_only=True)
class Split(Content):
    """One split, opened, held to its card, its captions encoded."""

    name: str
    tokens: Tokens
    galleries: Mapping[str, Ints] = field(default_factory=dict)  # of a protocol with a gallery of its own: its images


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


class Problem(NamedTuple):
    """One thing in which a split differs from its card."""

    code: str  # a stable name
    message: str  # with both numbers, and what to do
    spot: Spot = NOWHERE


def hold(card: DatasetCard, name: str, content: Content) -> None:
    """A split's content against its card: DataError with both numbers where they differ."""
    for problem in mismatches(card, name, content):
        told = not problem.spot.file or str(problem.spot) in problem.message
        raise DataError(f"{card.name} {name}: {'' if told else f'{problem.spot}: '}{problem.message}")


def mismatches(card: DatasetCard, name: str, content: Content) -> Iterator[Problem]:
    """Everything in which a split differs from its card."""
    yield from _sizes(card, name, content)
    counts = content.images.counts
    for wrong, what in (
        (counts == 0, "no region"),
        (counts > card.max_regions, f"more than {card.max_regions} regions"),
    ):
        if wrong.any():
            image = int(wrong.argmax())
            about = f"image {content.image_ids[image]} (index {image}) has {what}; correct the files"
            yield Problem("regions-differ", about, content.where("image", image))
    for number, caption in enumerate(content.captions):
        if not caption.strip():
            spot = content.where("caption", number)
            yield Problem("empty-caption", f"{spot} is empty; write it or take it out of the files and the card", spot)
    yield from _unmatched(content)
    yield from _disorder(card, name, content)


def _sizes(card: DatasetCard, name: str, content: Content) -> Iterator[Problem]:
    size, images, captions = card.splits[name], len(content.images), len(content.captions)
    counts = f"[splits] {name} = {{ images = {images}, captions = {captions} }} and its protocols"
    for what, expected, number, key in (
        ("images", size.images, images, counts),
        ("captions", size.captions, captions, counts),
        ("numbers a region", card.feature_width, content.images.width, f"feature_width = {content.images.width}"),
    ):
        if expected != number:
            about = f"the card says {expected} {what}, the files hold {number}; take the files the card names, or"
            yield Problem("size-differs", f"{about} write a card of your own for these, with {key}")
    if images != len(content.image_ids):
        yield Problem("size-differs", f"{len(content.image_ids)} ids for {images} images; correct the files")


def _unmatched(content: Content) -> Iterator[Problem]:
    """Images without a caption and captions without an image."""
    kinds: tuple[tuple[Kind, Kind, int], ...] = (
        ("image", "caption", len(content.images)),
        ("caption", "image", len(content.captions)),
    )
    for column, (kind, other, size) in enumerate(kinds):
        alone = np.flatnonzero(np.bincount(content.pairs[:, column], minlength=size) == 0)
        if len(alone):
            about = f"{kind} {alone[0]} has no {other} ({len(alone)} such {kind}s); correct the files"
            spot = content.where(kind, int(alone[0])) if alone[0] < size else NOWHERE
            yield Problem(f"{kind}-without-{other}", about, spot)


def _disorder(card: DatasetCard, name: str, content: Content) -> Iterator[Problem]:
    """The first known caption of the card that is not at its line: what is there, and where it is instead."""
    captions = content.captions
    for known in (one for one in card.order if one.split == name and one.line <= len(content.captions)):
        found = captions[known.line - 1].strip()
        if found != known.caption.strip():
            spot = content.where("caption", known.line - 1)
            about = f"{spot} is {found[:SHOWN]!r}, the card's [[order]] says {known.caption[:SHOWN]!r}"
            why = _whereabouts(card, known, found, captions)
            yield Problem("out-of-order", f"{about}; {why}; take the files the card names", spot)
            return


def _whereabouts(card: DatasetCard, known: Known, found: str, captions: tuple[str, ...]) -> str:
    """What a caption out of its place says of its file."""
    others = [one for one in card.order if one.split != known.split and one.caption.strip() == found]
    if others:
        return f"that is caption {others[0].line} of {others[0].split}: the files of two splits are exchanged"
    texts = [caption.strip() for caption in captions]
    for one in (known, *(one for one in card.order if one.split == known.split)):
        place = 1 + texts.index(one.caption.strip()) if one.caption.strip() in texts else one.line
        if place != one.line:
            off = f"caption {one.line} of the card is number {place}, {abs(place - one.line)} off"
            return f"{off}: lines are missing, added or moved"
    return "the card's caption is nowhere in the split: it is another release, or another split's file"
