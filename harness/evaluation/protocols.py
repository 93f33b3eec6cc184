"""Protocols: which queries meet which gallery. One score matrix serves them all; a fold is a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.cards import ProtocolCard
from harness.data.regions import Bools
from harness.data.split import Split
from harness.errors import DataError
from harness.evaluation.measures import CUTOFFS, RECALL, Measure
from harness.evaluation.ranks import DIRECTIONS, ON_HOST, Counting, Ints, Ranks, rank


@dataclass(frozen=True)
class Fold:
    """One gallery: its images and captions as numbers in the split, ascending, and the pairs between them."""

    images: Ints  # (n,)
    captions: Ints  # (m,)
    members: Ints  # (p,) rows of the split's pairs
    pairs: Ints  # (p, 2) numbers within the fold

    def own(self, images: Ints) -> tuple[Bools, Ints]:
        """Which of some images (k,) of the split are in the fold, and the numbers of these within it."""
        places = np.minimum(np.searchsorted(self.images, images), len(self.images) - 1)
        inside = self.images[places] == images
        return inside, places[inside]


def split_folds(card: ProtocolCard, split: Split, limited: bool = False) -> list[Fold]:
    return folds(card, len(split.images), split.pairs, limited, split.galleries.get(card.name))


def folds(
    card: ProtocolCard, n_images: int, pairs: Ints, limited: bool = False, gallery: Ints | None = None
) -> list[Fold]:
    """The protocol's folds: runs of images with the captions that belong to them.

    Runs of the whole split in its order, or of the images of a gallery (g,) in its order. DataError where they are not
    as many as the card declares; with `limited` (the first images only) any size goes.
    """
    images = np.arange(n_images) if gallery is None or limited else gallery
    if not limited:
        _check_sizes(card, len(images), len(np.unique(pairs[np.isin(pairs[:, 0], images), 1])))
    return [_fold(np.sort(run), pairs) for run in np.array_split(images, min(card.folds, len(images)))]


def rank_folds(scores: Any, parts: Sequence[Fold], by: Counting = ON_HOST) -> list[Ranks]:
    """The ranks of every fold, from the scores (N, M) of the whole split. Raises as `ranks.rank` does."""
    by.check_finite(scores)
    return [rank(block(scores, fold), fold.pairs, by) for fold in parts]


def block(scores: Any, fold: Fold) -> Any:
    return columns(scores[_slice(fold.images)], fold)


def columns(rows: Any, fold: Fold) -> Any:
    """Of some rows the fold's captions: a view where they lie together, as they do in every known release."""
    return rows[:, _slice(fold.captions)]


def gallery(parts: Sequence[Fold]) -> dict[str, int]:
    """What a query of any fold meets at least: images and captions of the smallest fold, and how many folds there are.

    Folds of one size may have captions in different numbers; the first images of a split, folds of different sizes.
    """
    images, captions = min((len(fold.images), len(fold.captions)) for fold in parts)
    return {"images": images, "captions": captions, "folds": len(parts)}


def saturated(gallery: Mapping[str, int], direction: str, k: int) -> bool:
    """Whether R@K says nothing: a query has fewer than K negatives in the gallery, so that any scores reach 100.

    `gallery` is that of `gallery()` and of results: images and captions of the smallest fold. Where captions do not
    divide evenly among images, an image is taken to have one.
    """
    images, captions = gallery["images"], gallery["captions"]
    if direction == "t2i":
        return k > images - 1
    return k > captions - (1 if captions % images else captions // images)


def saturated_recalls(gallery: Mapping[str, int]) -> list[str]:
    """The names of the R@K that say nothing in a gallery."""
    return [str(Measure(way, RECALL, k)) for way in DIRECTIONS for k in CUTOFFS if saturated(gallery, way, k)]


def expected_at_random(parts: Sequence[Fold]) -> dict[str, float]:
    """The six recalls and the rsum that a random order of every gallery is expected to reach, in percent."""
    recalls: dict[str, float] = {}
    for column, direction in enumerate(DIRECTIONS):
        for k in CUTOFFS:
            name = str(Measure(direction, RECALL, k))
            recalls[name] = float(np.mean([_expected(fold, column, k) for fold in parts]))
    return {**recalls, "rsum": sum(recalls.values())}


def _check_sizes(card: ProtocolCard, images: int, captions: int) -> None:
    place = f"{card.gallery} of split {card.split!r}" if card.gallery else f"split {card.split!r}"
    for kind, count, expected in (("images", images, card.images), ("captions", captions, card.captions)):
        if count != expected:
            raise DataError(
                f"protocol {card.name!r} expects {expected} {kind} in {place}, found {count}; "
                "check the files against the dataset's card"
            )
    if images % card.folds:
        raise DataError(f"protocol {card.name!r}: {images} images do not make {card.folds} folds of one size")


def _slice(numbers: Ints) -> slice | Ints:
    """Ascending numbers as a slice where they lie together: indexing by it copies nothing."""
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(first, last + 1) if last - first + 1 == len(numbers) else numbers


def _fold(images: Ints, pairs: Ints) -> Fold:
    members = np.flatnonzero(np.isin(pairs[:, 0], images))
    captions, local = np.unique(pairs[members, 1], return_inverse=True)
    return Fold(images, captions, members, np.stack([np.searchsorted(images, pairs[members, 0]), local], axis=1))


def _expected(fold: Fold, column: int, k: int) -> float:
    """100 (1 - C(G - p, k) / C(G, k)), the chance that a query with p positives in a gallery of G has one in K."""
    positives = np.bincount(fold.pairs[:, column])[:, None]
    size = len(fold.images) if column else len(fold.captions)
    draws = np.arange(min(k, size))
    missed = np.clip(1 - positives / (size - draws), 0, 1).prod(axis=1)
    return 100.0 * float(1 - missed.mean())
