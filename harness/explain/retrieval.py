"""The first images of a gallery for a text, or its first captions for an image, by a trained method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import SELECTION, DatasetCard
from harness.data.regions import Ints
from harness.errors import DataError, NonFiniteError, UsageError, unknown
from harness.evaluation.ranks import Direction
from harness.explain.encoding import on_one_line
from harness.explain.gallery import Gallery, GalleryItems
from harness.trial.results import TrialSpec

LEAST, MOST = 1, 10  # of k; where none is given


class GalleryChoice(NamedTuple):
    """What is searched: a split, and within it the images of a protocol with a gallery of its own."""

    split: str
    protocol: str = ""


class Hit(NamedTuple):
    rank: int
    item: str  # the id of an image, or a caption
    image: str  # the id of the image, or of the caption's
    caption: str  # the caption, or the image's own first one
    score: float
    is_match: bool | None  # None where nothing is known of the query


@dataclass(frozen=True)
class Retrieval:
    """The first items for one query."""

    query: str  # a text, an image's id or a picture's file
    direction: Direction
    hits: tuple[Hit, ...]
    unknown: tuple[str, ...] = ()  # words of the text that the vocabulary lacks


def gallery_choice(spec: TrialSpec, card: DatasetCard, split: str = "", protocol: str = "") -> GalleryChoice:
    """A split by its name, or that of a protocol, else of the trial's own; UsageError for an unknown name."""
    if split and protocol:
        raise UsageError("give --split or --protocol: a protocol names its split itself")
    if split:
        if split not in card.splits:
            raise UsageError(f"--split: {unknown('split', split, card.splits)}")
        return GalleryChoice(split)
    if not protocol and spec.protocol == SELECTION:
        return GalleryChoice(SELECTION)
    card_protocol = card.protocol(protocol or spec.protocol)
    return GalleryChoice(card_protocol.split, card_protocol.name)


class Retriever:
    """A gallery that is searched with texts and images."""

    def __init__(self, gallery: Gallery, protocol: str = "") -> None:
        """protocol: one whose own gallery bounds what is searched; the whole split where it has none."""
        self.gallery = gallery
        items = gallery.items
        images = items.galleries.get(protocol)
        self._images = np.arange(len(items.image_ids)) if images is None else np.sort(np.array(images, dtype=np.int64))
        self._captions = captions_of(items, self._images)

    @property
    def images(self) -> int:
        """Images that are searched."""
        return len(self._images)

    @property
    def captions(self) -> int:
        """Captions that are searched."""
        return len(self._captions)

    def of_texts(self, texts: Sequence[str], k: int | None = None) -> list[Retrieval]:
        """The first k images for each text; UsageError for k, for an empty text, and for one of unknown words alone."""
        texts = [spoken(text) for text in texts]
        k = checked_k(k, self.images, "images")
        unknown_words = [self.gallery.encoder.unknown_words(text) for text in texts]
        queries = self.gallery.encoder.captions(texts)
        scores = finite(self.gallery.encoder.score(self.gallery.images, queries), self.gallery.encoder.spec)
        return [
            Retrieval(text, "t2i", self._image_hits(text, scores[:, column], k), unknown_words[column])
            for column, text in enumerate(texts)
        ]

    def of_image(self, name: str, k: int | None = None, regions: NDArray[np.float32] | None = None) -> Retrieval:
        """The first k captions for the image with an id, or for one of other regions (R, F); UsageError for either.

        DataError for regions that are not finite.
        """
        if regions is not None and not np.isfinite(regions).all():
            raise DataError(f"{name}: its regions have numbers that are not finite; make them again, or take another")
        k = checked_k(k, self.captions, "captions")
        encoder = self.gallery.encoder
        row: int | None = None
        if regions is None:
            row = self.row_of(name)
            query = self.gallery.image(row)
        else:
            query = encoder.image(name, regions)
        scores = finite(encoder.score(query, self.gallery.captions), encoder.spec)[0]
        return Retrieval(name, "i2t", self._caption_hits(row, scores, k))

    def row_of(self, image: str) -> int:
        """The row of an image by its id; UsageError with the nearest ids."""
        ids = self.gallery.items.image_ids
        if image not in ids:
            raise UsageError(f"{unknown('image', image, ids)} (of the split {self.gallery.split})")
        return ids.index(image)

    def _image_hits(self, text: str, scores: NDArray[np.float32], k: int) -> tuple[Hit, ...]:
        items = self.gallery.items
        own = {
            row
            for number, caption in enumerate(items.captions)
            if caption == text
            for row in partners(items, 1, number)
        }
        hits = []
        for place, row in enumerate(first_of(scores, self._images, k).tolist(), start=1):
            image, caption = items.image_ids[row], items.captions[partners(items, 0, row)[0]]
            hits.append(Hit(place, image, image, caption, float(scores[row]), row in own if own else None))
        return tuple(hits)

    def _caption_hits(self, image: int | None, scores: NDArray[np.float32], k: int) -> tuple[Hit, ...]:
        items = self.gallery.items
        own = set() if image is None else {*partners(items, 0, image)}
        hits = []
        for place, row in enumerate(first_of(scores, self._captions, k).tolist(), start=1):
            caption, owner = items.captions[row], items.image_ids[partners(items, 1, row)[0]]
            hits.append(Hit(place, caption, owner, caption, float(scores[row]), None if image is None else row in own))
        return tuple(hits)


def partners(items: GalleryItems, side: int, number: int) -> list[int]:
    """The captions of an image (side 0), or the images of a caption (side 1)."""
    rows: list[int] = items.pairs[items.pairs[:, side] == number, 1 - side].tolist()
    return rows


def captions_of(items: GalleryItems, images: Ints) -> Ints:
    """The captions that belong to some images, ascending."""
    is_searched, belongs = np.zeros(len(items.image_ids), dtype=bool), np.zeros(len(items.captions), dtype=bool)
    is_searched[images] = True
    belongs[items.pairs[is_searched[items.pairs[:, 0]], 1]] = True
    return np.flatnonzero(belongs)


def checked_k(k: int | None, size: int, kind: str) -> int:
    """A number of results, at most MOST where none is given; UsageError for one that the gallery does not have."""
    if k is None:
        return min(MOST, size)
    if not LEAST <= k <= size:
        raise UsageError(f"k {k}: give a number from {LEAST} to {size:,}, the {kind} of the gallery")
    return k


def spoken(text: str) -> str:
    """A query as readers of files take captions; UsageError where nothing is left."""
    line = on_one_line(text)
    if not line:
        raise UsageError('the text to search for is empty; give words, such as "two dogs on a beach"')
    return line


def finite(scores: NDArray[np.float32], spec: TrialSpec) -> NDArray[np.float32]:
    """Scores as they are; NonFiniteError where one is NaN or infinite."""
    if not np.isfinite(scores).all():
        problem = f"{spec.label} gives scores that are not finite"
        raise NonFiniteError(f"{problem}: see that regions are as the dataset has them, else run it again with --force")
    return scores


def first_of(scores: NDArray[np.float32], rows: Ints, k: int) -> Ints:
    """Of some rows those of the k highest scores, the first among equals."""
    first: Ints = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return first
