"""A split: content that is checked against its card, and the wrong pairs that it may be trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.config.cards import DatasetCard, KnownCaption
from harness.config.noise import Noise
from harness.data.arrays import open_array
from harness.data.content import SHOWN, Content, Kind, whole_id
from harness.data.regions import Bools, Ints
from harness.data.tokens import Tokens
from harness.errors import NOWHERE, DataError, Location
from harness.files import read_json

TRAIN, LEAST = "train", 2  # pairs to train on
VERSION = 1  # of the draw of wrong pairs; part of the fingerprint where there are any


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
        ("numbers per region", card.feature_width, content.images.width, f"feature_width = {content.images.width}"),
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


def drawn_pairs(split: Split, noise: Noise) -> Ints:
    """Pairs (P, 2) of which a share, rounded to whole pairs, have exchanged their images: none of these is right.

    The order of a seed is that of the numbers of PCG64, which NumPy promises to keep.
    """
    pairs, known = split.pairs.copy(), KnownPairs(split)
    order = np.argsort(np.random.PCG64(noise.seed).random_raw(len(pairs)), kind="stable")
    rows = np.sort(order[: round(noise.share * len(pairs))])
    source = np.random.PCG64([noise.seed, VERSION])
    images = pairs[rows, 0][np.argsort(source.random_raw(len(rows)), kind="stable")]
    captions = pairs[rows, 1]
    for row in np.flatnonzero(known.holds(images, captions)):
        if not known.holds(images[row], captions[row]):
            continue  # exchanged for the sake of an earlier one
        fitting = ~known.holds(images, captions[row]) & ~known.holds(images[row], captions)
        if not fitting.any():
            break
        other = np.flatnonzero(fitting)[source.random_raw() % int(fitting.sum())]
        images[[row, other]] = images[[other, row]]
    if not len(rows) or known.holds(images, captions).any():
        raise DataError(
            f"noise share {noise.share}: {len(rows)} of {len(pairs)} training pairs cannot exchange their images so "
            "that all are wrong; give another share or seed"
        )
    pairs[rows, 0] = images
    return pairs


class KnownPairs:
    """The true pairs of a split, to be asked for."""

    def __init__(self, split: Split) -> None:
        self._captions = len(split.captions)
        self._numbers = np.unique(split.pairs[:, 0] * self._captions + split.pairs[:, 1])

    def holds(self, images: Ints, captions: Ints) -> Bools:
        """Whether an image and a caption match, for arrays that broadcast."""
        return np.isin(images * self._captions + captions, self._numbers)


def read_noise(path: Path, split: Split) -> Ints:
    """Pairs of a file that says the number of the image of each caption, from 0; DataError where it does not fit."""
    if len(split.pairs) != len(split.captions):
        raise DataError(
            "the file gives one image per caption, and captions of this dataset have several", Location(path)
        )
    images = _image_numbers(path)
    if len(images) != len(split.captions):
        about = f"has {len(images):,} numbers, split train {len(split.captions):,} captions"
        raise DataError(f"{about}; take the file of this dataset and its whole training split", Location(path))
    wrong = np.flatnonzero((images < 0) | (images >= len(split.images)))
    if len(wrong):
        about = f"{images[wrong[0]]} is no number of an image, which count from 0 to {len(split.images) - 1:,}"
        raise DataError(
            f"{about}; where images were repeated for each caption, divide by that", Location(path, f"entry {wrong[0]}")
        )
    if not (~KnownPairs(split).holds(images, np.arange(len(images)))).any():
        raise DataError(
            "all its pairs are right; take the file with wrong ones, or leave the noise out", Location(path)
        )
    return np.stack([images, np.arange(len(images))], axis=1)


def _image_numbers(path: Path) -> Ints:
    """The whole numbers of a list in a .npy or .json file."""
    if path.suffix != ".json":
        numbers: Ints = np.array(open_array(path, ("captions",), kinds="iu"), dtype=np.int64)
        return numbers
    values: Any = read_json(path)
    whole = [whole_id(value) for value in values] if isinstance(values, list) else [None]
    if not whole or None in whole:
        place = Location(path, f"entry {whole.index(None)}") if isinstance(values, list) and whole else Location(path)
        raise DataError("a JSON list of whole numbers is needed, the image's number of each caption", place)
    return np.array(whole, dtype=np.int64)


def wrong_pairs(split: Split, trained: Split) -> list[dict[str, Any]]:
    """The pairs that are trained on and not true: number of the caption, id of the image given and of its own."""
    known, own = KnownPairs(split), dict(zip(split.pairs[:, 1].tolist(), split.pairs[:, 0].tolist(), strict=True))
    rows = np.flatnonzero(~known.holds(trained.pairs[:, 0], trained.pairs[:, 1]))
    ids = split.image_ids
    return [
        {"caption": caption, "image": ids[image], "own_image": ids[own[caption]]}
        for image, caption in trained.pairs[rows].tolist()
    ]
