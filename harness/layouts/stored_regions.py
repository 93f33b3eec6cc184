"""Images that captions name by id: the captions of a split, read once, and their regions out of a region store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.cache import cached, checked_sha256, save_cached
from harness.data.content import Content, Kind, Place, Preview, is_unicode, option, pairs_of, same_as, whole_id
from harness.data.region_store import FACTS, RegionStore, open_store, store_files
from harness.data.regions import Ints
from harness.errors import DataError, Location
from harness.files import has_folder

VERSION = 1  # of what is kept in the cache
NUMBERS = ("counts", "images_at", "captions_at")
SHOWN = 3  # ids of each side, where none of them meet


class CaptionedImage(NamedTuple):
    id: str
    at: int  # its place in the file
    captions: Sequence[tuple[int, str]]  # each with its own place


class CaptionedImages(NamedTuple):
    """The images of one split in their order, and image by image their captions."""

    ids: tuple[str, ...]  # N
    captions: tuple[str, ...]  # M
    counts: Ints  # captions of every image, (N,)
    images_at: Ints  # where images stand in their file, (N,)
    captions_at: Ints  # where captions stand in theirs, (M,)

    @classmethod
    def of(cls, entries: Sequence[CaptionedImage]) -> CaptionedImages:
        captions = list(chain.from_iterable(entry.captions for entry in entries))
        return cls(
            ids=tuple(entry.id for entry in entries),
            captions=tuple(text for _, text in captions),
            counts=np.array([len(entry.captions) for entry in entries], dtype=np.int64),
            images_at=np.array([entry.at for entry in entries], dtype=np.int64),
            captions_at=np.array([at for at, _ in captions], dtype=np.int64),
        )

    def image_of(self, caption: int) -> int:
        return int(np.searchsorted(np.cumsum(self.counts), caption, side="right"))


class StoredRegions:
    """The region store of a dataset: the card's option `regions`, a folder below the dataset's own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.folder / _folder(place)

    @staticmethod
    def files(place: Place) -> list[str]:
        """Names of the store's files relative to the dataset's folder, or of the one that is missing first."""
        name = _folder(place)
        files = store_files(place.folder / name) if has_folder(place.folder / name) else [FACTS]
        return [f"{name}/{file}" for file in files]

    def content(
        self,
        known: CaptionedImages,
        location: Callable[[Kind, int], Location],
        source: Location,
        hint: Callable[[], str] = str,
    ) -> Content:
        rows = self.rows_of(known.ids, source, hint)
        return Content(
            images=self._store.images.choose(rows),
            captions=known.captions,
            pairs=pairs_of(known.counts.tolist()),
            image_ids=known.ids,
            boxes=self._store.boxes.choose(rows) if self._store.boxes else None,
            sizes=None if self._store.sizes is None else self._store.sizes[rows],
            location=location,
        )

    def rows_of(self, ids: Sequence[str], source: Location, hint: Callable[[], str] = str) -> Ints:
        """The images' rows in the store (n,); `hint` says what to do where not one of them is there."""
        lacking = [one for one in ids if one not in self._rows]
        if len(lacking) == len(ids):
            remedy = hint() or same_as(lacking[0], self._store.ids)
            raise DataError(
                f"not one of its {len(ids):,} images is in the store {self.folder}. They are called "
                f"{_some(ids)}; there images are called {_some(self._store.ids)}. "
                f"{remedy or 'Both must name images alike: make the store again, or take other captions'}",
                source,
            )
        if lacking:
            remedy = same_as(lacking[0], self._store.ids)
            raise DataError(
                f"image {lacking[0]!r} is not in the store {self.folder} ({len(lacking):,} of {len(ids):,} "
                f"are not); {remedy or 'convert or extract them too, or take them out of the split'}",
                source,
            )
        return np.array([self._rows[one] for one in ids], dtype=np.int64)

    def has(self, ids: Sequence[str]) -> bool:
        return all(one in self._rows for one in ids)

    def preview(self, image: str) -> Preview:
        row = self._rows.get(image)
        if row is None:
            return Preview()
        boxes = self._store.boxes[row].tolist() if self._store.boxes else []
        width, height = (0, 0) if self._store.sizes is None else self._store.sizes[row].tolist()
        return Preview((width, height) if width else None, boxes=tuple(map(tuple, boxes)))

    @cached_property
    def _store(self) -> RegionStore:
        return open_store(self.folder, self.place.cache)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {one: row for row, one in enumerate(self._store.ids)}


def cached_split(
    place: Place, split: str, files: Sequence[str], deciding: Any, parse: Callable[[], dict[str, CaptionedImages]]
) -> CaptionedImages:
    """A split from the cache, where these files were read before; else all splits are parsed and saved there."""
    content = [VERSION, place.card.layout, sorted(place.card.splits), deciding]
    hashes = [checked_sha256(place, name) for name in files]
    digest = hashlib.sha256(json.dumps([*content, hashes]).encode()).hexdigest()[:16]
    folder = place.cache / place.card.layout

    def make() -> None:
        for name, known in parse().items():
            save_cached(folder / f"{name}-{digest}.npz", _packed(known))

    return cached(folder / f"{split}-{digest}.npz", _unpacked, make)


def caption_of(value: Any, key: str, location: Location) -> str:
    """A caption as one line, blanks and line feeds within it as one blank; DataError where it is none or empty."""
    if not isinstance(value, str):
        raise DataError(f"its {key!r} is {_short(value)}; a caption's text is needed", location)
    text = " ".join(value.split())
    if not text or not is_unicode(text):
        message = f"its {key!r} is {'no Unicode' if text else 'empty'}; write the caption, or take it out"
        raise DataError(message, location)
    return text


def id_of(value: Any, what: str, location: Location) -> str:
    """An id as text; DataError where it is neither a whole number nor one line of text. `what` names it."""
    if not isinstance(value, str) and (number := whole_id(value)) is not None:
        return str(number)
    if not isinstance(value, str) or not value or value != value.strip() or "\n" in value or not is_unicode(value):
        message = f"{what} is {_short(value)}; an id is a whole number, or text on one line without blanks around"
        raise DataError(message, location)
    return value


def _short(value: Any) -> str:
    return repr(value)[:60]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:SHOWN])) + ", …" * (len(ids) > SHOWN)


def _folder(place: Place) -> str:
    return option(place, "regions", "regions")


def _packed(known: CaptionedImages) -> dict[str, NDArray[Any]]:
    numbers = {name: getattr(known, name) for name in NUMBERS}
    return {"ids": _lines(known.ids), "captions": _lines(known.captions), **numbers}


def _unpacked(arrays: dict[str, NDArray[Any]]) -> CaptionedImages:
    ids, captions = (tuple(arrays[name].tobytes().decode().split("\n")) for name in ("ids", "captions"))
    return CaptionedImages(ids, captions, *(arrays[name] for name in NUMBERS))


def _lines(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)
