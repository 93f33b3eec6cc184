"""The answers to every query of a run: rankings with ids, best first, from its ranks and the heads of its rankings.

A ranking here is pessimistic as ranks are: each positive stands at its rank, so that cutting it at K gives our R@K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.ranks import Direction, Ints, group, sides
from harness.evaluation.records import Bools, TopResults, TrialRankings, TrialRanks

Floats = NDArray[np.float32]


class JudgedResults(NamedTuple):
    top: TopResults
    is_positive: Bools  # (Q, L)


class QueryAnswers(NamedTuple):
    """The queries of one direction in order of fold and number, and where their positives stand."""

    folds: Ints  # (Q,)
    queries: Ints  # (Q,)
    ranks: list[NDArray[np.int32]]  # of all positives of each query, smallest first
    tied: Bools  # (Q,) its best positive ties with a negative


class SplitIds(NamedTuple):
    """Ids by number, without blanks, so that they fit into any form."""

    images: NDArray[np.object_]
    captions: NDArray[np.object_]

    def of(self, direction: Direction) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        return (self.images, self.captions) if direction == "i2t" else (self.captions, self.images)


@dataclass(frozen=True)
class StoredRun:
    key: str
    method: str
    recipe: str
    seed: int
    dataset: str
    protocol: str
    data: str  # what its queries are, shortly: runs that share it answered the same ones
    ranks: TrialRanks  # with ties
    rankings: TrialRankings | None  # None where the store has none

    @cached_property
    def ids(self) -> SplitIds:
        return ids_of(self.ranks, self.rankings)

    @property
    def folds(self) -> int:
        return 1 + int(self.ranks.folds.max())


def judged(direction: Direction, ranks: TrialRanks, top: TopResults) -> JudgedResults:
    queries, positives = sides(ranks.pairs, direction)
    row = rows_of(ranks.folds, queries, top)
    size = 1 + max(int(top.results.max()), int(positives.max()))
    codes = np.arange(len(top.results))[:, None] * size + top.results  # (Q, L) of row and result
    is_right = (top.results >= 0) & np.isin(codes, row * size + positives)
    results, scores = np.full_like(top.results, -1), np.full_like(top.scores, np.nan)
    rank = ranks.ranks[direction].astype(np.int64)
    near = rank <= results.shape[1]
    at = row[near], rank[near] - 1
    results[at] = positives[near]
    scores[at] = scores_of(top, row[near], positives[near])
    is_positive = results >= 0
    fill(results, scores, top, (top.results >= 0) & ~is_right)
    return JudgedResults(top._replace(results=results, scores=scores), is_positive)


def rows_of(folds: Ints, queries: Ints, top: TopResults) -> Ints:
    size = 1 + int(top.queries.max())
    return np.searchsorted(top.folds * size + top.queries, folds * size + queries)


def scores_of(top: TopResults, row: Ints, positives: Ints) -> Floats:
    """The scores of positives (P,) of some rows; of one that equals pushed out of the head, the head's last."""
    place = top.results[row] == positives[:, None]
    scores: Floats = top.scores[row, np.where(place.any(axis=1), place.argmax(axis=1), -1)]
    return scores


def fill(results: Ints, scores: Floats, top: TopResults, is_negative: Bools) -> None:
    """Put the negatives of each row of `top` into the free places of `results` and `scores`, in their order."""
    free = results < 0
    places = np.argsort(~free, axis=1, kind="stable")  # the free ones first
    row, column = np.nonzero(is_negative)
    turn = (np.cumsum(is_negative, axis=1) - 1)[row, column]
    fits = turn < free.sum(axis=1)[row]
    row, column, turn = row[fits], column[fits], turn[fits]
    at = row, places[row, turn]
    results[at], scores[at] = top.results[row, column], top.scores[row, column]


def answers_of(direction: Direction, ranks: TrialRanks) -> QueryAnswers:
    queries, _ = sides(ranks.pairs, direction)
    groups = group(ranks.folds, queries, by=ranks.ranks[direction])
    each = np.split(ranks.ranks[direction][groups.order], groups.starts[1:])
    first = groups.first
    return QueryAnswers(ranks.folds[first], queries[first], each, ranks.tied[direction][first])


def ids_of(ranks: TrialRanks, rankings: TrialRankings | None) -> SplitIds:
    """Ids of images as the dataset has them, of captions IMAGE#K: the K-th caption of its first image, from 0.

    Blanks and marks are written as in a URL. Images have their numbers where the ids are not kept or not unique.
    """
    count = 1 + int(ranks.pairs[:, 0].max())
    ids = rankings.image_ids if rankings else ()
    is_usable = all(ids) and len(set(ids)) == len(ids) >= count
    images = (
        [quote(one, safe="/", errors="backslashreplace") for one in ids]
        if is_usable
        else [str(number) for number in range(count)]
    )
    return SplitIds(np.array(images, dtype=object), np.array(caption_ids(ranks.pairs, images), dtype=object))


def caption_ids(pairs: Ints, images: Sequence[str]) -> list[str]:
    captions, first = np.unique(pairs[:, 1], return_index=True)
    ids = [""] * (1 + int(captions.max()))
    counts = dict.fromkeys(range(len(images)), 0)
    for caption, image in zip(captions.tolist(), pairs[first, 0].tolist(), strict=True):
        ids[caption] = f"{images[image]}#{counts[image]}"
        counts[image] += 1
    return ids


def falling(scores: Floats) -> Floats:
    """The scores (Q, L) of rankings, lowered where they must be so that each is below the one before it.

    By the smallest step that float32 has, which is what TREC's tools read scores as: they sort by score alone.
    """
    scores = scores.copy()
    for place in range(1, scores.shape[1]):
        below = np.nextafter(scores[:, place - 1], np.float32(-np.inf))
        scores[:, place] = np.fmin(scores[:, place], below)
    return scores
