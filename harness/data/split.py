"""A split: content that is checked against its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from harness.config.cards import DatasetCard, KnownCaption
from harness.data.content import SHOWN, Content, Kind
from harness.data.regions import Ints
from harness.data.tokens import Tokens
from harness.errors import NOWHERE, DataError, Location

TRAIN, LEAST = "train", 2  # pairs to train on


@dataclass(frozen=True, kw_only=True)
class Split(Content):
    name: str
    tokens: Tokens
    galleries: Mapping[str, Ints] = field(default_factory=dict)  # of a protocol with a gallery of its own: its images


class Problem(NamedTuple):
    code: str  # a stable name
    message: str  # with both numbers, and what to do
    location: Location = NOWHERE


def check_split(card: DatasetCard, name: str, content: Content) -> None:
    """Check a split's content against its card: DataError with both numbers where they differ."""
    for problem in mismatches(card, name, content):
        raise DataError(f"{card.name} {name}: {problem.message}", problem.location)


def mismatches(card: DatasetCard, name: str, content: Content) -> Iterator[Problem]:
    yield from _sizes(card, name, content)
    counts = content.images.counts
    for wrong, what in (
        (counts == 0, "no region"),
        (counts > card.max_regions, f"more than {card.max_regions} regions"),
    ):
        if wrong.any():
            image = int(wrong.argmax())
            about = f"image {content.image_ids[image]} (index {image}) has {what}; correct the files"
            yield Problem("regions-differ", about, content.location("image", image))
    for number, caption in enumerate(content.captions):
        if not caption.strip():
            about = "an empty caption; write it or take it out of the files and the card"
            yield Problem("empty-caption", about, content.location("caption", number))
    yield from too_few(name, content)
    yield from _unmatched(content)
    yield from _disorder(card, name, content)


def too_few(name: str, content: Content) -> Iterator[Problem]:
    """What a split to train on lacks: a negative comes from another pair than the positive."""
    if name == TRAIN and len(content.pairs) < LEAST:
        about = (
            f"pairs to train on: {len(content.pairs)}, and {LEAST} are needed at least; take more images or captions"
        )
        yield Problem("too-few-pairs", about)


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
    kinds: tuple[tuple[Kind, Kind, int], ...] = (
        ("image", "caption", len(content.images)),
        ("caption", "image", len(content.captions)),
    )
    for column, (kind, other, size) in enumerate(kinds):
        alone = np.flatnonzero(np.bincount(content.pairs[:, column], minlength=size) == 0)
        if len(alone):
            about = f"{kind} {alone[0]} has no {other} ({len(alone)} such {kind}s); correct the files"
            location = content.location(kind, int(alone[0])) if alone[0] < size else NOWHERE
            yield Problem(f"{kind}-without-{other}", about, location)


def _disorder(card: DatasetCard, name: str, content: Content) -> Iterator[Problem]:
    captions = content.captions
    for known in (one for one in card.order if one.split == name and one.line <= len(content.captions)):
        caption = captions[known.line - 1].strip()
        if caption != known.caption.strip():
            about = f"the caption is {caption[:SHOWN]!r}, the card's [[order]] says {known.caption[:SHOWN]!r}"
            about = f"{about}; {_whereabouts(card, known, caption, captions)}; take the files the card names"
            yield Problem("out-of-order", about, content.location("caption", known.line - 1))
            return


def _whereabouts(card: DatasetCard, known: KnownCaption, caption: str, captions: tuple[str, ...]) -> str:
    others = [one for one in card.order if one.split != known.split and one.caption.strip() == caption]
    if others:
        return f"that is caption {others[0].line} of {others[0].split}: the files of two splits are exchanged"
    texts = [caption.strip() for caption in captions]
    for one in (known, *(one for one in card.order if one.split == known.split)):
        place = 1 + texts.index(one.caption.strip()) if one.caption.strip() in texts else one.line
        if place != one.line:
            off = f"caption {one.line} of the card is number {place}, {abs(place - one.line)} off"
            return f"{off}: lines are missing, added or moved"
    return "the card's caption is nowhere in the split: it is another release, or another split's file"
