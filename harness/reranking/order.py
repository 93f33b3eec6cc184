"""The order of two stages as score matrices, one per direction, from the scores of both. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.outcome import SplitRanks, rank_scores
from harness.evaluation.positives import PositiveSet
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import BLOCK_ROWS, Floats, Ints
from harness.evaluation.shortlists import Shortlist, leading

Scores = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Candidates(NamedTuple):
    """What the first stage proposes within one fold, numbered as the fold does."""

    captions: Ints  # (n, k) of every image, best first
    images: Ints  # (m, k) of every caption

    @property
    def pairs(self) -> Bools:
        """(n, m), True where either side proposes the other."""
        pairs = np.zeros((len(self.captions), len(self.images)), dtype=np.bool_)
        np.put_along_axis(pairs, self.captions, True, axis=1)
        np.put_along_axis(pairs.T, self.images, True, axis=1)
        return pairs


class Ordered(NamedTuple):
    """Scores (N, M) whose order is that of both stages, for images that ask and for captions that ask."""

    i2t: Scores
    t2i: Scores


def candidates(first: Floats, k: int) -> Candidates:
    """The first k of every query by the scores (n, m) of a fold, all of a gallery that is smaller."""
    return Candidates(*(leading(of, min(k, of.shape[1])) for of in (first, np.ascontiguousarray(first.T))))


def proposed(first: Scores, folds: Sequence[Fold], k: int) -> list[Candidates]:
    return [candidates(first[np.ix_(fold.images, fold.captions)], k) for fold in folds]


def pairs_of(folds: Sequence[Fold], shortlists: Sequence[Candidates], shape: tuple[int, int]) -> Bools:
    """(N, M), True for the pairs that the second stage has to score."""
    pairs = np.zeros(shape, dtype=np.bool_)
    for fold, shortlist in zip(folds, shortlists, strict=True):
        pairs[np.ix_(fold.images, fold.captions)] = shortlist.pairs
    return pairs


def ordered(first: Scores, second: Scores, folds: Sequence[Fold], shortlists: Sequence[Candidates]) -> Ordered:
    """The order of both stages; `second` is looked at where a pair is a candidate alone."""
    i2t, t2i = np.zeros_like(first), np.zeros_like(first)
    for fold, shortlist in zip(folds, shortlists, strict=True):
        place = np.ix_(fold.images, fold.captions)
        i2t[place] = reordered(first[place], second[place], shortlist.captions)
        t2i[place] = reordered(first[place].T, second[place].T, shortlist.images).T
    return Ordered(i2t, t2i)


def reordered(first: Floats, second: Floats, candidates: Ints) -> Scores:
    """Scores (n, m) of queries in rows: candidates by the second stage, below them the others as the first has them.

    Equal scores of a stage stay equal, as ties count against a method.
    """
    scores = np.empty(first.shape, dtype=np.float32)
    for start in range(0, len(first), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        best = np.take_along_axis(second[rows], candidates[rows], axis=1)
        lowest = best.min(axis=1, keepdims=True).astype(np.float64)
        # steps that float32 can tell apart there
        step = np.maximum(1.0, 4 * np.spacing(np.abs(lowest).astype(np.float32)).astype(np.float64))
        scores[rows] = lowest - step * (1 + dense_places(first[rows]))
        np.put_along_axis(scores[rows], candidates[rows], best.astype(np.float32), axis=1)
    return scores


def dense_places(scores: Floats) -> Ints:
    """(n, m) places of scores in their rows, 0 the highest, equal ones at one place."""
    order = np.argsort(-scores, axis=1, kind="stable")
    descending = np.take_along_axis(scores, order, axis=1)
    is_lower = np.diff(descending, axis=1, prepend=descending[:, :1]) != 0
    places = np.empty(scores.shape, dtype=np.int64)
    np.put_along_axis(places, order, np.cumsum(is_lower, axis=1), axis=1)
    return places


def rank_ordered(scores: Ordered, folds: Sequence[Fold], sets: Sequence[PositiveSet] = ()) -> SplitRanks:
    """The ranks of both directions, each from the matrix of its own."""
    images, captions = (rank_scores(of, folds, sets) for of in scores)
    return SplitRanks(
        folds=[
            mine._replace(t2i=other.t2i, t2i_tied=other.t2i_tied)
            for mine, other in zip(images.folds, captions.folds, strict=True)
        ],
        shortlists=[joined(*pair) for pair in zip(images.shortlists, captions.shortlists, strict=True)],
        sets=[mine._replace(t2i=other.t2i) for mine, other in zip(images.sets, captions.sets, strict=True)],
    )


def joined(images: Shortlist, captions: Shortlist) -> Shortlist:
    """What images ask for of one list, what captions ask for of the other."""
    images.images, images.image_scores = captions.images, captions.image_scores
    return images
