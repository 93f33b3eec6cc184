"""What a reader of a layout delivers (Content), and a split ready for training and evaluation (Split)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import DatasetCard
from harness.config.sections import Scalar
from harness.data.regions import Ints, Regions
from harness.data.tokens import plain
from harness.errors import ConfigError, DataError, Location

if TYPE_CHECKING:
    from PIL import Image

PICTURES = (".jpg", ".jpeg", ".png", ".webp")  # suffixes of their files
SHOWN = 60  # characters of a caption in a message
DIGITS = 19  # of a whole number, and fewer
WHOLE = re.compile(r"-?[0-9]{1,18}(?:\.0+)?")
Kind = Literal["image", "caption"]


def by_number(kind: Kind, index: int) -> Location:
    return Location("", f"{kind} {index}")


class Labels(NamedTuple):
    """Categories of things, and which of them each image shows."""

    names: tuple[str, ...]
    of_images: NDArray[np.bool_]  # (N, C)


@dataclass(frozen=True)
class Content:
    """One split as it lies on disk: N images, M captions, and who matches whom."""

    images: Regions
    captions: tuple[str, ...]
    pairs: Ints  # (P, 2) rows (image, caption)
    image_ids: tuple[str, ...]
    boxes: Regions | None = None  # of every region x, y, width, height in pixels, in the order of its image's regions
    sizes: NDArray[Any] | None = None  # (N, 2) width and height of the images in pixels, where they are known
    location: Callable[[Kind, int], Location] = by_number  # of an image or a caption, by its number
    labels: Labels | None = None  # where the files say which things an image shows

    def first(self, images: int) -> Content:
        pairs = self.pairs[self.pairs[:, 0] < images]
        rows, column = np.unique(pairs[:, 1], return_inverse=True)
        return replace(
            self,
            images=self.images.first(images),
            captions=tuple(self.captions[row] for row in rows),
            pairs=np.stack([pairs[:, 0], column], axis=1),
            image_ids=self.image_ids[:images],
            boxes=self.boxes.first(images) if self.boxes else None,
            sizes=None if self.sizes is None else self.sizes[:images],
            labels=self.labels._replace(of_images=self.labels.of_images[:images]) if self.labels else None,
            location=lambda kind, index: self.location(kind, int(rows[index]) if kind == "caption" else index),
        )


class Preview(NamedTuple):
    """What can be shown of one image, as far as its dataset has it; all empty where an image is numbers alone."""

    size: tuple[int, int] | None = None  # width and height in pixels
    picture: Image.Image | None = None
    boxes: tuple[tuple[float, ...], ...] = ()  # of every region x, y, width, height in pixels
    labels: tuple[str, ...] = ()  # of every region
    original: tuple[int, int] | None = None  # width and height before its file was squeezed to another shape

    @property
    def shape(self) -> tuple[int, int] | None:
        """Width and height of the right proportion, whatever pixels its boxes are counted in."""
        return self.original or (self.picture.size if self.picture is not None else self.size)


class Place(NamedTuple):
    card: DatasetCard
    folder: Path
    cache: Path


class Reader(Protocol):
    """A layout's reader: a split of the card's name -> its content; DataError where the files are wrong."""

    version: ClassVar[int]  # of the numbers it makes of the files; part of the fingerprint

    def __init__(self, place: Place) -> None: ...

    @staticmethod
    def files(place: Place) -> list[str]: ...

    def read(self, split: str) -> Content: ...


def option(place: Place, name: str, default: Scalar | None = None) -> str:
    """An option of the card, as text; ConfigError where it has neither it nor a default."""
    value = place.card.options.get(name, default)
    if value is None:
        raise ConfigError(f"{place.card.path}: the layout {place.card.layout!r} needs the key 'options.{name}'")
    return str(value)


def whole(place: Place, name: str, default: int | None = None, least: int = 0) -> int:
    """A whole number among the options of the card; ConfigError where it is none, or below the least."""
    text = option(place, name, default)
    if not (text.isdecimal() and len(text) < DIGITS and int(text) >= least):
        kind = f"a whole number from {least} on" if least else "a whole number"
        raise ConfigError(f"{place.card.path}: 'options.{name}' is {text!r}; {kind} is needed")
    return int(text)


def is_allowed(place: Place, name: str, other: str) -> bool:
    """Whether an option is `other` and not 'refuse', its default; ConfigError where it is neither."""
    choice = option(place, name, "refuse")
    if choice not in ("refuse", other):
        raise ConfigError(f"{place.card.path}: 'options.{name}' is {choice!r}; it can be 'refuse' or {other!r}")
    return choice == other


def pairs_of(counts: list[int]) -> Ints:
    """Pairs where the captions stand image by image, `counts` of them an image: (M, 2)."""
    image = np.repeat(np.arange(len(counts)), counts)
    return np.stack([image, np.arange(len(image))], axis=1).astype(np.int64)


def whole_id(value: object) -> int | None:
    """The whole number that an id is, also where pandas wrote it as 12.0 or "12"; None where it is another thing."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    return value if type(value) is int else None  # true and false are none


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON and names of files can hold halves of characters."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def look_alike(image: str) -> str:
    """What ids share that differ in case, in the form of their letters or in zeros before a number alone."""
    text = plain(image).casefold()
    return (text.lstrip("0") or "0") if text.isdecimal() else text


class BareId(NamedTuple):
    """What ids share that look alike, but for the suffix of a picture behind them."""

    folder: str
    name: str

    @classmethod
    def of(cls, image: str) -> BareId:
        path = PureWindowsPath(image)  # which takes both slashes
        name = path.stem if path.suffix.lower() in PICTURES else path.name
        return cls(look_alike(path.parent.as_posix()), look_alike(name))

    def fits(self, other: BareId) -> bool:
        """Whether both may mean one image: of two folders they may not."""
        return self.name == other.name and (self.folder == other.folder or "." in (self.folder, other.folder))


def same_as(image: str, others: Iterable[str]) -> str:
    """Which of some ids seems to mean the same image, and what to do; empty where none does."""
    own = BareId.of(image)
    other = next((one for one in others if own.fits(BareId.of(one))), None)
    return f"{image!a} seems to be {other!a} there: name images alike in both, to the letter" if other else ""


def first_twice(ids: Sequence[str]) -> int | None:
    """The place of the first id that stands in a list for the second time, or None."""
    seen: set[str] = set()
    for place, one in enumerate(ids):
        if one in seen:
            return place
        seen.add(one)
    return None


def check_one_split(images: Iterable[tuple[str | int, Location]]) -> None:
    """DataError where an image id stands twice, in one split or in two; every id comes with where it stands."""
    first: dict[str | int, Location] = {}
    for image, location in images:
        if image in first:
            other = first[image]
            place = other.entry if other.file == location.file else other
            raise DataError(f"image {image!r} stands in {place} already; an image belongs to one split, once", location)
        first[image] = location
