"""Two methods without a model, ranked under every protocol: one that knows the answers, one that knows nothing.

The one goes by words: it scores an image and a caption by whether one of the image's captions has these words, higher
the fewer images share them, else 0. The other draws numbers. What they reach is known beforehand, so whatever else they
reach is a fault of galleries, pairs or ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from harness.config.cards import DatasetCard, ProtocolCard
from harness.data.regions import Floats, Ints
from harness.data.split import Split
from harness.errors import Location
from harness.evaluation.measures import mean_measures
from harness.evaluation.protocols import Fold, expected_at_random, gallery, saturated_recalls, split_folds
from harness.evaluation.streaming import Rows, Source, rank_streamed
from harness.preparation.caption_checks import same
from harness.preparation.findings import Finding, Severity

BLOCK = 2**24  # scores held together
FAR = 6.0  # standard deviations of a recall
SEED = 0
SEEN = {"train": "which methods are trained on", "val": "on which epochs and settings are chosen"}
Advance = Callable[[int], object]


class Played(NamedTuple):
    protocol: ProtocolCard
    gallery: dict[str, int]
    oracle: dict[str, float]
    random: dict[str, float]
    expected: dict[str, float]  # of a random order
    shared: bool  # images share a text, so that nobody can tell their captions apart


def play(protocols: Sequence[ProtocolCard], split: Split, advance: Advance = lambda images: None) -> list[Played]:
    """Both under each of some protocols of one split; DataError as `protocols.folds`.

    `advance` is called with the number of images scored, four times each: two passes of two scorers.
    """
    parts = [split_folds(card, split) for card in protocols]
    flat = [fold for own in parts for fold in own]
    text, worth = texts(split)
    oracle, _ = rank_streamed(_source(split, lambda images: _answers(split, text, worth, images), advance), flat)
    random, _ = rank_streamed(_source(split, lambda images: _drawn(split, images), advance), flat)
    played, start = [], 0
    for card, own in zip(protocols, parts, strict=True):
        end = start + len(own)
        reached = [mean_measures(ranks[start:end]) for ranks in (oracle, random)]
        shared = any(_is_shared(fold, text) for fold in own)
        played.append(Played(card, gallery(own), reached[0], reached[1], expected_at_random(own), shared))
        start = end
    return played


def faults(played: Iterable[Played]) -> Iterator[Finding]:
    for one in played:
        first = {way: one.oracle[f"{way}_r1"] for way in ("i2t", "t2i")}
        reached = ", ".join(f"{way} R@1 {value:.2f}" for way, value in first.items())
        location = Location("", f"protocol {one.protocol.name}")
        if min(first.values()) < 100 and one.shared:
            message = f"a method that knows every answer reaches {reached}: images share texts, which tie"
            yield Finding(Severity.NOTE, "protocol-ceiling", message, location, split=one.protocol.split)
        elif min(first.values()) < 100:
            message = f"a method that knows every answer reaches {reached}, not 100; report this with the card"
            yield Finding(Severity.ERROR, "protocol-broken", message, location, split=one.protocol.split)
        for name, value in one.expected.items():
            level = one.random[name]
            if name != "rsum" and abs(level - value) > tolerance(one, name):
                message = f"a method that draws its scores reaches {name} {level:.2f}, {value:.2f} is expected"
                yield Finding(Severity.ERROR, "protocol-broken", message, location, split=one.protocol.split)


def of_selection(card: DatasetCard) -> Iterator[Finding]:
    """Protocols whose numbers are no results on test: methods learn of train, and epochs are chosen on val."""
    absent = [name for name in SEEN if name not in card.splits]
    if len(absent) == 1:
        message = f"there is no split {absent[0]!r}, {SEEN[absent[0]]}: nothing can be trained; give the card one"
        yield Finding(Severity.WARNING, "split-absent", message, Location("", "splits"), split=absent[0])
    counted = card.text.vocabulary_splits if not (card.text.vocabulary or card.text.encoder) else ()
    for protocol in card.protocols:
        location, code = Location("", f"protocol {protocol.name}"), "protocol-not-on-test"
        if protocol.split in SEEN:
            message = f"it scores split {protocol.split!r}, {SEEN[protocol.split]}; let it name test"
            yield Finding(Severity.WARNING, code, message, location, split=protocol.split)
        elif protocol.split in counted:
            message = f"split {protocol.split!r} is in vocabulary_splits: methods know its words; take it out there"
            yield Finding(Severity.WARNING, "vocabulary-of-test", message, location, split=protocol.split)


def of_saturation(one: Played) -> Iterator[Finding]:
    if names := saturated_recalls(one.gallery):
        message = (
            f"a gallery of {one.gallery['images']} images and {one.gallery['captions']} captions is too small for "
            f"{', '.join(names)}: any scores reach 100, and rsum holds them; take a larger one"
        )
        location = Location("", f"protocol {one.protocol.name}")
        yield Finding(Severity.WARNING, "recall-saturated", message, location, split=one.protocol.split)


def tolerance(one: Played, name: str) -> float:
    """How far from its expectation a recall may be drawn, in percent."""
    queries = one.gallery["images" if name.startswith("i2t") else "captions"] * one.gallery["folds"]
    share = one.expected[name] / 100
    return 100 * (FAR * float(np.sqrt(share * (1 - share) / queries)) + 2 / queries)


def _source(split: Split, score: Callable[[Ints], Floats], advance: Advance) -> Source:
    """The scores of all images, some at a time; the same both times they are asked for."""
    each = max(1, BLOCK // len(split.captions))

    def rows(_matching: bool) -> Iterator[Rows]:
        for start in range(0, len(split.images), each):
            images = np.arange(start, min(start + each, len(split.images)))
            yield Rows(images, score(images))
            advance(len(images))

    return rows


def texts(split: Split) -> tuple[Ints, Floats]:
    """Which text each caption (M,) is, and what each text (T,) is worth: less where more images have it."""
    _, text = np.unique([same(caption) for caption in split.captions], return_inverse=True)
    owners = np.unique(np.stack([split.pairs[:, 0], text[split.pairs[:, 1]]], axis=1), axis=0)
    return text, (1 / np.bincount(owners[:, 1])).astype(np.float32)


def _answers(split: Split, text: Ints, worth: Floats, images: Ints) -> Floats:
    has = np.zeros((len(images), len(worth)), dtype=np.float32)
    own = split.pairs[(split.pairs[:, 0] >= images[0]) & (split.pairs[:, 0] <= images[-1])]
    has[own[:, 0] - images[0], text[own[:, 1]]] = worth[text[own[:, 1]]]
    return has[:, text]


def _drawn(split: Split, images: Ints) -> Floats:
    rng = np.random.default_rng([SEED, int(images[0])])
    return rng.random((len(images), len(split.captions)), dtype=np.float32)


def _is_shared(fold: Fold, text: Ints) -> bool:
    pairs = np.stack([fold.pairs[:, 0], text[fold.captions[fold.pairs[:, 1]]]], axis=1)
    return bool(np.unique(np.unique(pairs, axis=0)[:, 1], return_counts=True)[1].max() > 1)
